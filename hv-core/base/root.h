/* root.h: a private root for a program that must open files by path: its own mount namespace with a read-only /usr and
 * what else is listed, /proc of itself, and its own device nodes. For what needs no path: confine_empty_root. */
#pragma once
#include <sys/types.h>
#include "err.h"

struct root_plan {
	char *const *binds;	/* absolute paths, seen read-only; what does not exist is skipped; NULL-terminated or NULL */
	char *const *devices;	/* character devices below /dev, made to belong to uid; likewise */
	uid_t uid;
	gid_t gid;
};
/* @on: an existing folder that the new root is mounted on, seen by us only. *got_proc: "own", or "host" where the kernel
 * refuses a fresh proc. After a failure the caller stands in a mount namespace of its own and sees the host as before,
 * but for @on. Needs root; the process must have one thread. */
int root_private(const char *on, const struct root_plan *p, const char **got_proc, struct err *e);
