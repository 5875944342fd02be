/* confine.h: giving up privileges, for croft-front, croft-vm and the child that becomes QEMU. Every call ends the
 * attempt with -errno and a reason; nothing is confined by half: the caller exits when one fails that it needs.
 * To be called before any thread is made: namespaces, bounding set and no_new_privs belong to a thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "err.h"

int confine_mounts(struct err *e);	/* own mount namespace; what is mounted in it is seen by nobody else */
int confine_empty_root(struct err *e);			/* own mount namespace, / an empty read-only tmpfs */
int confine_user(uid_t uid, gid_t gid, struct err *e);	/* no groups, ids, all capability sets and the bounding set
							 * empty, securebits, no_new_privs, non-dumpable */
int confine_cpus(const char *list, struct err *e);	/* "4-7"; of them, those that are there. NULL: where it may now */
/* Allow only these system calls (libseccomp names, NULL-terminated); any other kills the process, but those in
 * @denied (may be NULL), which fail with EPERM. A sanitizer build adds its one named list.
 * CONFINE_THREADS in @allowed stands for making threads, but no processes (which fail with EPERM). */
#define CONFINE_THREADS "+threads"
int confine_syscalls(const char *const *allowed, const char *const *denied, struct err *e);
/* Close every descriptor from @first on except @keep[]. close_range(2). */
int confine_close_from(int first, const int *keep, size_t n);
