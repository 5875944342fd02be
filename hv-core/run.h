/* run.h: run folders, <run>/vm/UUID/. What stands in one is written by croft-vm (see base/ctl.h) and read here as
 * untrusted input: bounded, and believed only as far as the kernel confirms it (lock, start time, boot id). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "err.h"

#define RUN_FORMAT	1		/* of launch.json; a higher one is read all the same, unknown fields ignored */

/* How a VM's QEMU ended: from end.json, or from croft-vm's last message. */
struct vm_end {
	enum { VM_END_UNKNOWN, VM_END_EXITED, VM_END_KILLED } how;	/* unknown: nobody was there to see it */
	int code;			/* exit status, or the signal's number */
	int64_t at_usec;
	char said[2048];		/* the end of QEMU's stderr, or "" */
};

/* The process of a VM as launch.json and croft-vm tell it. */
struct vm_proc {
	pid_t pid;			/* QEMU */
	uint64_t start_time;		/* field 22 of its /proc/PID/stat */
	pid_t shim;			/* its croft-vm; 0 when there is none */
	uint64_t shim_start_time;
	uid_t uid;
	bool adopted;			/* croft-vm is not its parent: the way it ends will not be known */
	char confinement[256];		/* what was had: "root dev proc uid caps", and what was not, for `vmctl host` */
};

enum run_state {
	RUN_RUNNING,	/* somebody holds `alive`: a QEMU, or a croft-vm that is parked */
	RUN_ENDED,	/* of this boot, and nothing holds it */
	RUN_HISTORY,	/* of another boot */
	RUN_UNKNOWN,	/* cannot be read; see why */
};

struct run_folder {
	char uuid[37];
	enum run_state state;
	struct vm_proc proc;		/* zero when there is no readable launch.json */
	bool has_end;
	struct vm_end end;
	char version[64], qemu_version[64], boot_id[37];	/* from launch.json, or "" */
	char **argv;			/* NULL-terminated, owned; NULL without launch.json */
	struct err why;			/* of RUN_UNKNOWN, or what was wrong in launch.json */
};

/* All of these block on small files of a tmpfs. @run_fd is the folder <run>/vm. */
int run_read(int run_fd, const char *uuid, struct run_folder *ret, struct err *e);	/* run_folder_fini it */
void run_folder_fini(struct run_folder *r);
/* Walk all folders; those whose name is no UUID are skipped. @fn borrows. */
int run_scan(int run_fd, void (*fn)(void *arg, const struct run_folder *r), void *arg, struct err *e);
/* Is the lock of this folder held? A folder that is not there is free. -errno when it cannot be told. */
int run_alive(int run_fd, const char *uuid, bool *ret);
/* The serial console's history of a VM that is off, at most its ring's size. Owned by the caller; "" when none. */
int run_history(int run_fd, const char *uuid, char **ret, size_t *ret_len, struct err *e);
/* Remove the folder of a VM that does not run; refuses one whose lock is held. Nothing there is success. */
int run_remove(int run_fd, const char *uuid, struct err *e);
