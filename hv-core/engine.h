/* engine.h: what drives guests, behind one small interface, and the inside of struct vm, for vm*.c and the engines.
 * An engine tells what it sees by vm_saw() and ends what it was asked by vm_op_end(). vm_saw(SAW_END) frees the
 * run-time part by detach(): it is the last thing that an engine does in a callback. */
#pragma once
#include "list.h"
#include "loop.h"
#include "mem.h"
#include "vm.h"

struct vm_op {			/* something asked, until its done was called */
	struct list in_vm;				/* then in vms.over */
	struct vm *vm;					/* may be gone once it is over */
	enum vm_event ask;
	vm_done done;
	void *arg;
	const struct vm_saver *saver;	/* borrowed: of a suspend; else NULL */
	struct timer deadline;
	struct err err;
};

struct engine {
	const char *name;
	/* ASK_START: off -> starting. @l stays the caller's. On failure there is no run-time part. */
	int (*start)(struct vm *vm, const struct vm_launch *l, struct err *e);
	void (*go)(struct vm *vm);			/* may be NULL */
	int (*attach)(struct vm *vm, struct err *e);	/* ASK_ATTACH; NULL: it has nothing that outlives croftd */
	/* ASK_SHUTDOWN, ASK_RESET, ASK_PAUSE, ASK_RESUME, ASK_SCREEN and ASK_SUSPEND (@fd owned; else -1): ends with
	 * vm_op_end. */
	void (*ask)(struct vm *vm, struct vm_op *op, int fd);
	/* ASK_CHANGE: vm_change's, @fd owned (-1: none); ends with vm_op_end. */
	void (*change)(struct vm *vm, struct vm_op *op, const struct hot_step *s, const struct vm_spec *is,
		       const struct vm_spec *wanted, int fd);
	void (*cancel)(struct vm *vm);			/* an ASK_SUSPEND, if there is one. May be NULL */
	void (*kill)(struct vm *vm, enum vm_why why);	/* at once; SAW_END follows */
	/* vm_usernet of a live VM; NULL: it has none. */
	int (*usernet)(struct vm *vm, void (*done)(void *arg, const char *text, const struct err *e), void *arg, struct err *e);
	/* A viewer of a live VM. 0: @fd was taken. -EAGAIN: not yet; it is parked until vm_viewers_hand_over(). */
	int (*serial)(struct vm *vm, int fd);
	/* A socket to the port of the guest's agent; NULL: it has none. */
	int (*agent_connect)(struct vm *vm, struct err *e);
	void (*probe)(struct vm *vm);			/* once a round: does it still answer? May be NULL */
	void (*look)(struct vm *vm);			/* much more often: are its processes stopped? May be NULL */
	void (*detach)(struct vm *vm);			/* free the run-time part; a real guest goes on */
	void (*status)(const struct vm *vm, struct vm_status *s);	/* accel, pid, as_of, note of a live VM */
};

struct vms {
	struct vms_how how;				/* with the defaults filled in */
	struct list live;				/* VMs that are not off and whose engine can be probed */
	struct timer round, look;			/* armed while live is not empty */
	struct list over;				/* vm_ops whose done is due */
	sd_event_source *deliver;			/* enabled while over is not empty */
	size_t nvms;
};

struct vm {			/* a large host defines 5,000: what only a running one needs is in run */
	struct vms *vms;				/* borrowed */
	const struct engine *engine;
	char *name;					/* owned */
	void *owner, *run;				/* run: the engine's, while alive */
	struct vm_last *last;				/* owned; NULL: never ran */
	struct vm_viewers *parked;			/* owned; NULL: nobody waits at the serial line */
	struct vm_agent *agent;				/* owned; NULL: off, or its machine has no port for one */
	struct list ops, in_live;
	struct timer patience;				/* armed while stopping */
	int64_t since_usec;
	int64_t was_usec;				/* see vm_was */
	uint8_t was;					/* enum vm_state */
	uint8_t uuid[16];
	uint8_t state;					/* enum vm_state; changed by vm_saw only */
};

/* Something was seen. @last goes with SAW_END: how it ended (copied). */
void vm_saw(struct vm *vm, enum vm_event seen, const struct vm_last *last);
void vm_noted(struct vm *vm);				/* status changed, state did not */
/* An op that waits for the agent: it ends as the others do, by vm_op_end or with the VM. */
struct vm_op *vm_op_agent(struct vm *vm, vm_done done, void *arg);
/* Takes @op: done is called soon, from the loop. @e NULL: success. */
void vm_op_end(struct vm_op *op, const struct err *e);

/* agent.c: what an engine tells of the port. */
void vm_agent_port(struct vm *vm, bool open);		/* there is one; the guest has it open, or not (as an event tells) */
void vm_agent_port_is(struct vm *vm, bool open);	/* the same as an answer tells: nothing has happened if it was so */
void vm_agent_round(struct vm *vm);			/* once a round of a VM that runs */
void vm_agent_resumed(struct vm *vm, int64_t paused_usec);
void vm_agent_woke(struct vm *vm);			/* it goes on from a saved memory: its clock is of then */
void vm_agent_free(struct vm *vm);			/* with the run-time part */

/* vm_last.c */
struct vm_end;						/* run.h */
void vm_last_from_end(const struct vm_end *end, struct vm_last *ret);
enum vm_why vm_why_from_qemu(const char *reason);	/* of a SHUTDOWN event; UNKNOWN for one that we don't know */

/* vms.c */
void vms_join(struct vm *vm);				/* take part in the rounds; calling it again is fine */
void vms_leave(struct vm *vm);

/* vm_viewers.c: viewers of the serial line of a VM that is off: they get the last run's history and wait. */
int vm_viewers_park(struct vm *vm, int fd, struct err *e);	/* @fd owned */
void vm_viewers_hand_over(struct vm *vm);		/* the engine takes viewers now */
void vm_viewers_free(struct vm *vm);
