/* engine_qemu.h: the inside of a guest in QEMU, shared by engine_qemu.c (the keeper, what is asked) and
 * engine_qemu_monitor.c (what the monitor tells). */
#pragma once
#include "engine.h"
#include "keeper.h"
#include "memory.h"
#include "qmp.h"
#include "spec.h"

enum { AGAIN_USEC = 1000000 };		/* something of it was lost: the process is about to end, or we try again */

struct guest {
	struct vm *vm;
	struct keeper *keeper;		/* owned; NULL: could not be kept, the next round tries again */
	struct qmp *qmp;		/* owned; NULL: not connected */
	struct timer again;		/* to connect again, or the deadline of the monitor's first answer */
	enum vm_why why;		/* what the end will have been; NEVER: not known */
	bool want_kvm;
	bool found;			/* QEMU ran: from now on a failing keeper is no end */
	bool serves;			/* croft-vm takes viewers */
	bool killed;			/* and that is repeated when it could not be done at once */
	const char *accel;
	const char *reason;		/* why we ended a start, for last.message; or NULL */
	struct vm_op *saving;		/* the suspend that is under way */
	struct timer saved;		/* when its progress is asked for again */
	unsigned save_at;		/* which of its commands is next */
	unsigned looks;			/* at its devices, that are not answered yet */
	struct field_vec devices;	/* of char *, owned: what was found */
	struct err looks_err;		/* of the first that failed */
	uint64_t moved_bytes;		/* what was written when it was asked last */
	int64_t moved_usec;		/* (monotonic) when that became more */
	int save_fd;			/* until QEMU has it */
	bool cancelled;
	int load_fd;			/* owned: a saved memory that is still to be loaded; -1: none */
	char load_problem[200];
	enum { NOT_LOADING, LOADING, LOADED, GOING, GONE_ON } load;
	char *note;			/* owned; NULL: nothing to say */
	struct hot_run *hot;		/* owned: a change under way, or NULL; engine_qemu_hot.c */
	enum vm_why crashed;		/* as in vm_status */
	struct vm_question question;	/* id 0: none */
	struct vm_plugged plugged[VM_MAX_USB];	/* USB devices of the host; engine_qemu_usb.c */
	size_t nplugged;
	bool has_usb;			/* it has a controller for them */
	struct memory memory;
	int64_t memory_usec;		/* when current_bytes was heard */
	struct timer memory_tell;	/* armed: told a moment ago */
	bool memory_news;		/* something is to be told when that is over */
	char *cpus;			/* owned: of the host, where it was seen to run; NULL: not known */
};

void guest_keep(struct guest *g);		/* find its keeper again */
void guest_kill(struct guest *g, enum vm_why why);
/* The monitor may be connected: do so, unless it is. What it says becomes events of the VM. */
void guest_connect(struct guest *g);
void guest_ask_status(struct guest *g);
void guest_on_again(void *arg);	/* of the timer again: find, connect or give up what is missing */
void guest_silent(struct guest *g, const char *why);
/* engine_qemu_hot.c */
void guest_change(struct vm *vm, struct vm_op *op, const struct hot_step *s, const struct vm_spec *is,
		  const struct vm_spec *wanted, int fd);
void guest_unplugged(struct guest *g, json_t *data);	/* DEVICE_DELETED */
void guest_change_end(struct guest *g);			/* the guest is let go: what is under way ends as interrupted */
/* Its memory to a file and back (engine_qemu_save.c). */
void guest_save(struct guest *g, struct vm_op *op, int fd);		/* @fd owned */
void guest_save_cancel(struct guest *g);
void guest_save_end(struct guest *g, const struct err *e);	/* NULL: it was written; nothing happens when none is under way */
void guest_load(struct guest *g);			/* the monitor is up, and it has a memory to load */
void guest_go_on(struct guest *g);			/* ... which may go on now */
void guest_migration(struct guest *g, const char *status);	/* what QEMU's event MIGRATION says */
void guest_saw(struct guest *g, enum vm_event seen);	/* for what cannot be told from what is being done to it */
void guest_lost(struct guest *g, const char *why);	/* something runs, and it is not known what */
/* engine_qemu_memory.c */
void guest_memory_ask(struct guest *g);
void guest_memory_ballooned(struct guest *g, json_t *data);	/* BALLOON_CHANGE */
void guest_memory_plugged(struct guest *g, json_t *data);	/* MEMORY_DEVICE_SIZE_CHANGE */
/* engine_qemu_usb.c */
void guest_usb_ask(struct guest *g);
void guest_usb_gone(struct guest *g, const char *id);		/* DEVICE_DELETED */
