/* keeper.h: croftd's side of croft-vm. One keeper stands for one VM's croft-vm and QEMU: it starts them, or attaches to
 * what runs already, replaces a croft-vm that died or hangs, and tells how it ended. Everything runs in the loop and
 * nothing waits; each step has a deadline. A keeper never ends a VM unless keeper_kill is called.
 *
 *	keeper_start -> parked() -> keeper_go -> running() -> ... -> ended()
 *	             \-> failed()            \-> failed()
 *	keeper_attach -> running() | ended() | failed()
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>
#include "err.h"
#include "run.h"

/* What all keepers of a croftd share; filled once, outlives them. */
struct keeper_house {
	sd_event *ev;
	int run_fd;			/* the folder <run>/vm, root 0700 */
	const char *shim;		/* absolute path of croft-vm */
	const char *version;		/* of this croftd, goes into launch.json */
	uid_t shim_uid;			/* what croft-vm becomes after the start */
	gid_t shim_gid;
};

struct keeper_launch {
	const char *uuid;
	const char *const *argv;	/* NULL-terminated; argv[0] is QEMU's absolute path */
	const struct keeper_fd { int fd; unsigned number; } *fds;	/* fd becomes number in QEMU, from 10 on */
	size_t nfds;			/* fds stay the caller's: it closes its copies when keeper_start returned */
	unsigned qmp, serial, agent;	/* the numbers of the listening sockets that croft-vm makes; 0: none */
	uid_t uid;			/* of the VM */
	gid_t gid;
	const char *qemu_version;	/* or NULL */
	size_t console_bytes;		/* of the serial console's history; 0: 256 KiB */
	bool private_root;		/* its own mount namespace, where it can be had */
	const char *const *devices;	/* nodes that QEMU opens by path ("/dev/kvm"); NULL-terminated or NULL */
	const char *const *binds;	/* further paths to be seen read-only ("/sys"); NULL-terminated or NULL */
	uint64_t memlock_bytes;		/* RLIMIT_MEMLOCK; 0: 64 KiB; UINT64_MAX: no limit (VFIO) */
	const char *cpus;		/* of the host, that QEMU may run on: "4-7"; NULL: any */
};

struct keeper_ops {
	/* croft-vm waits (pid @shim, in its own session): move it into its scope, then keeper_go(). */
	void (*parked)(void *arg, pid_t shim);
	/* QEMU was executed, or found again. The QMP socket listens already: keeper_qmp_connect() works, the greeting
	 * comes when QEMU is ready. Called again after a croft-vm was replaced (proc->adopted). */
	void (*running)(void *arg, const struct vm_proc *proc);
	/* croft-vm died or hangs; QEMU runs on and another croft-vm is on its way. May be NULL. */
	void (*degraded)(void *arg, const struct err *why);
	void (*ended)(void *arg, const struct vm_end *end);	/* the last call: QEMU is gone */
	/* The last call. Of keeper_start: nothing runs, unless keeper_left. Of keeper_attach, or after running(): the VM runs on as far as
	 * can be told, but cannot be kept (show it as degraded, try keeper_attach again later, never kill it). */
	void (*failed)(void *arg, const struct err *e);
};

struct keeper;
/* Start a VM; never twice: ERR_BUSY while the folder's lock is held. The run folder is made anew: end.json and the
 * console's history of the last run go. NULL on failure, and then no callback comes. */
struct keeper *keeper_start(const struct keeper_house *h, const struct keeper_launch *l, const struct keeper_ops *ops,
			    void *arg, struct err *e);
/* Take up a VM whose folder run_scan found RUN_RUNNING. NULL on failure, and then no callback comes. */
struct keeper *keeper_attach(const struct keeper_house *h, const char *uuid, const struct keeper_ops *ops, void *arg,
			     struct err *e);
void keeper_free(struct keeper *k);		/* detaches, ends nothing; allowed in callbacks; NULL is fine */

void keeper_go(struct keeper *k);		/* after parked(): execute QEMU now */
/* One end of a stream socketpair: it gets the console's history, then live bytes; what comes from it goes to the
 * guest's serial line. @fd is taken, also on failure. */
int keeper_viewer(struct keeper *k, int fd, struct err *e);
/* Ask croft-vm whether it lives: one that does not answer within 5 s is replaced. For the round that is made anyway. */
void keeper_probe(struct keeper *k);
/* Is croft-vm stopped? It reads the guest's console, so the guest soon stands still: let it go on; found so again by the next
 * look, it is replaced. Asks nobody anything. */
void keeper_look(struct keeper *k);
/* A non-blocking socket connected to QEMU's QMP socket. Caller owns. -errno. */
int keeper_qmp_connect(struct keeper *k, struct err *e);
int keeper_agent_connect(struct keeper *k, struct err *e);	/* the same, to the guest agent's port */
int keeper_kill(struct keeper *k, struct err *e);	/* SIGKILL to QEMU; ended() follows. Parked: gives the start up */
const struct vm_proc *keeper_proc(const struct keeper *k);	/* pid 0 before running() */
bool keeper_left(const struct keeper *k);	/* when it has failed: something runs, or holds the lock, all the same */
bool keeper_knows(const struct keeper *k);		/* QEMU's process; when it has failed without: who holds the lock, nobody knows */
