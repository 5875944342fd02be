/* vm.h: a VM as it is, whatever drives it: its state, what can be asked of it, how its last run ended. Everything here
 * is called in the loop and never blocks. What a VM should be (its spec) and its row are the daemon's.
 *
 * An ask that returns 0 will call its done(arg, e) exactly once, later, from the loop, never inside the ask; e is NULL
 * on success. An ask that is refused returns -errno with @e filled, and never calls done. Every ask has a deadline.
 * done may call anything here, vm_free too. on_change may not free the VM. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>
#include "buf.h"
#include "err.h"

struct hot_step;
struct vm_spec;

/* ---- the table of states (vm_states.c) ---- */

/* state, its name in the API, alive: a process may stand behind it, what it means */
#define VM_STATES(X) \
	X(OFF,       "off",       0, "nothing runs; the last end says why") \
	X(SUSPENDED, "suspended", 0, "nothing runs; the guest's memory stands in the VM's folder, and a start goes on from there") \
	X(STARTING,  "starting",  1, "asked to start; the guest has not run yet") \
	X(ATTACHING, "attaching", 1, "found running when croftd started; its monitor has not answered yet") \
	X(RUNNING,   "running",   1, "the guest runs") \
	X(PAUSED,    "paused",    1, "the guest is stopped and can go on") \
	X(STOPPING,  "stopping",  1, "the guest was told to shut down and has not done so yet") \
	X(SUSPENDING, "suspending", 1, "the guest stands still while its memory is saved") \
	X(DEGRADED,  "degraded",  1, "the process is alive, its monitor does not answer") \
	X(LOST,      "lost",      1, "something holds its lock, and it is not known what: neither started nor killed") \
	X(ENDING,    "ending",    1, "killed, or shut down by the guest; the process is not gone yet")

/* event, its name, asked: somebody wants it (and may be refused) rather than it was seen */
#define VM_EVENTS(X) \
	X(ASK_START,       "start",      1) \
	X(ASK_ATTACH,      "attach",     1) \
	X(ASK_SHUTDOWN,    "shutdown",   1) \
	X(ASK_RESET,       "reset",      1) \
	X(ASK_PAUSE,       "pause",      1) \
	X(ASK_RESUME,      "resume",     1) \
	X(ASK_SCREEN,      "screen",     1) \
	X(ASK_CHANGE,      "change",     1) \
	X(ASK_SUSPEND,     "suspend",    1) \
	X(ASK_DISCARD,     "discard",    1) \
	X(ASK_POWEROFF,    "poweroff",   1) \
	X(SAW_RUNNING,     "runs",       0) \
	X(SAW_PAUSED,      "is paused",  0) \
	X(SAW_TOLD,        "was told to shut down", 0) \
	X(SAW_IGNORED,     "ignored that", 0) \
	X(SAW_RESET,       "was reset",  0) \
	X(SAW_SAVING,      "is being saved", 0) \
	X(SAW_SAVED,       "memory on disk", 0) \
	X(SAW_SILENCE,     "monitor silent", 0) \
	X(SAW_LOST,        "process unknown", 0) \
	X(SAW_GUEST_END,   "guest ended", 0) \
	X(SAW_END,         "process gone", 0)

enum vm_state {
#define X(id, name, alive, help) VM_##id,
	VM_STATES(X)
#undef X
	VM_NSTATES
};
enum vm_event {
#define X(id, name, asked) VM_##id,
	VM_EVENTS(X)
#undef X
	VM_NEVENTS
};

extern const char *const vm_state_names[];		/* NULL-terminated, indexed by vm_state: fits F_ENUM */
const char *vm_event_name(enum vm_event ev);
bool vm_state_alive(enum vm_state s);
bool vm_event_asked(enum vm_event ev);
enum vm_state vm_state_next(enum vm_state s, enum vm_event ev);	/* VM_NSTATES: refused (asked events only) */
void vm_states_markdown(struct buf *out);		/* the table for the docs */

/* ---- how a run ended ---- */

#define VM_WHYS(X) \
	X(NEVER,           "never",            "it has not run yet") \
	X(GUEST_SHUTDOWN,  "guest-shutdown",   "the guest shut itself down") \
	X(GUEST_RESET,     "guest-reset",      "the guest reset itself, and that ends it") \
	X(GUEST_PANIC,     "guest-panic",      "the guest's kernel panicked") \
	X(POWEROFF,        "poweroff",         "it was powered off") \
	X(SUSPENDED,       "suspended",        "its memory was saved, and it was put away") \
	X(QUIT,            "quit",             "QEMU was told to quit") \
	X(KILLED,          "killed",           "something on the host killed its process") \
	X(CRASHED,         "crashed",          "its process failed") \
	X(START_FAILED,    "start-failed",     "it did not come up") \
	X(CROFTD_RESTARTED, "croftd-restarted", "it was simulated, and croftd was restarted") \
	X(HOST_RESTARTED,  "host-restarted",   "the host was restarted") \
	X(UNKNOWN,         "unknown",          "it ended while nobody watched")

enum vm_why {
#define X(id, name, help) VM_WHY_##id,
	VM_WHYS(X)
#undef X
	VM_NWHYS
};
extern const char *const vm_why_names[];		/* NULL-terminated */
const char *vm_why_help(enum vm_why why);

struct vm_last {			/* of the last run */
	enum vm_why why;
	int64_t when_usec;		/* 0 for NEVER */
	int exit_code, signal;		/* of the process: -1 / 0 when not known or none */
	char message[512];		/* the last of its stderr, or ""; printable UTF-8 */
};

/* A disk is full or failing, and the guest stands still until somebody answers: resume (it tries again) or poweroff. */
struct vm_question {
	uint64_t id;			/* another one for each question */
	int64_t since_usec;
	bool full;			/* it is full, not failing */
	char device[64];		/* the disk's name */
	char text[160];
};

struct vm_plugged {			/* a USB device of the host */
	char name[64];			/* in the VM's config */
	uint64_t bus, address;		/* on the host, when it was plugged in */
};

struct vm_status {
	enum vm_state state;
	int64_t since_usec;		/* when this state began, as well as it is known */
	int64_t as_of_usec;		/* when the engine was last heard; 0 when off */
	const char *engine;		/* "qemu", "sim" */
	const char *accel;		/* "kvm", "tcg", "sim"; NULL while off */
	pid_t pid;			/* 0: none. To be shown, never to be signalled */
	int64_t began_usec;		/* when that process began; 0: there is none */
	const char *note;		/* why it is paused or degraded, or NULL; borrowed until the next change */
	enum vm_why crashed;		/* GUEST_PANIC, CRASHED: it stands still, and cannot go on; NEVER: it can */
	const struct vm_question *question;	/* NULL: none; borrowed until the next change */
	const char *host_cpus;		/* those that it may run on, "4-7", or NULL; borrowed until the next change */
	uint64_t memory_boot_bytes, memory_bytes;	/* started with, the guest has now; 0: not known, or off */
	int64_t memory_as_of_usec;
	bool has_usb;			/* USB devices of the host can be plugged in */
	const struct vm_plugged *plugged;	/* nplugged of them, borrowed until the next change */
	size_t nplugged;
	const struct vm_last *last;	/* never NULL; borrowed until the next change */
};

/* ---- the set of VMs ---- */

struct vms;
struct vm;
struct engine;
extern const struct engine engine_qemu, engine_sim;

struct keeper_house;			/* keeper.h */
struct run_folder;			/* run.h */
struct vms_how {
	sd_event *ev;
	const struct keeper_house *house;	/* borrowed, outlives the VMs; NULL: only simulated ones */
	void (*on_change)(struct vm *vm, void *owner);	/* state or status is another now */
	/* Something that is shown but is no event (what a guest's file systems hold) is newer now. May be NULL. */
	void (*on_newer)(struct vm *vm, void *owner);
	/* The guest has let go of a device that it was not, or no more, waited for. May be NULL. */
	void (*on_unplugged)(struct vm *vm, void *owner, const char *device);
	/* croft-vm (process @shim) waits to be moved into its scope: then, or when that can't be had, vm_go(). May be
	 * NULL: nothing is to be done. */
	void (*on_parked)(struct vm *vm, void *owner, pid_t shim);
	/* A guest's saved memory has been loaded, and it stands still: see to it that this memory is never loaded again,
	 * then vm_go(). May be NULL: nothing is to be done. */
	void (*on_loaded)(struct vm *vm, void *owner);
	uint64_t round_usec;		/* 0: 30 s; between two looks at silent monitors */
	uint64_t look_usec;		/* 0: 4 s; between two looks at stopped processes, which ask nobody anything */
	uint64_t answer_usec;		/* 0: 5 s; a monitor that takes longer is silent */
	uint64_t start_usec;		/* 0: 60 s; a start that takes longer has failed */
};
struct vms *vms_new(const struct vms_how *how);
void vms_free(struct vms *v);				/* every VM was freed before; NULL is fine */

/* ---- one VM ---- */

typedef void (*vm_done)(void *arg, const struct err *e);

/* @uuid canonical text; @name copied (for messages); @owner is handed to on_change. It begins as
 * off, whatever runs: see vm_attach. */
struct vm *vm_new(struct vms *v, const struct engine *engine, const char *uuid, const char *name, void *owner);
/* Lets go; never ends a guest. What was asked ends with ERR_INTERRUPTED. NULL is fine. */
void vm_free(struct vm *vm);
void vm_rename(struct vm *vm, const char *name);
const char *vm_name(const struct vm *vm);
void vm_uuid(const struct vm *vm, char out[37]);
void *vm_owner(const struct vm *vm);
enum vm_state vm_state(const struct vm *vm);
void vm_status(const struct vm *vm, struct vm_status *ret);
bool vm_can(const struct vm *vm, enum vm_event ask);	/* would it be taken right now? */
/* It is known to have been in this state since then: if that is what it is, or becomes next, that is when it began; never
 * before its process, though. */
void vm_was(struct vm *vm, enum vm_state s, int64_t since_usec);
/* What is known of a run that ended before this croftd began (end.json, the database). Only while off. */
void vm_set_last(struct vm *vm, const struct vm_last *last);
/* A run that ended unseen (run_scan found RUN_ENDED or RUN_HISTORY) -> what there is to know about it. */
const char *vm_last_words(const char *message);	/* the part of what QEMU said that is for people */
void vm_last_from_run(const struct run_folder *r, struct vm_last *ret);

struct vm_launch;			/* launch.h; the sim needs none: NULL */
/* done: it runs. @l is taken, always. */
int vm_start(struct vm *vm, struct vm_launch *l, vm_done done, void *arg, struct err *e);
void vm_go(struct vm *vm);		/* after on_parked and on_loaded; nothing happens when the start is no more */
/* Take up a VM that outlived a croftd: run_scan found RUN_RUNNING in its folder. Then done(NULL) when its monitor has
 * answered; with an error it is degraded, and tried again every round. */
int vm_attach(struct vm *vm, vm_done done, void *arg, struct err *e);
/* done: the guest was told. Its end is a change of state. */
int vm_shutdown(struct vm *vm, vm_done done, void *arg, struct err *e);
int vm_reset(struct vm *vm, vm_done done, void *arg, struct err *e);
int vm_pause(struct vm *vm, vm_done done, void *arg, struct err *e);
int vm_resume(struct vm *vm, vm_done done, void *arg, struct err *e);
int vm_poweroff(struct vm *vm, vm_done done, void *arg, struct err *e);	/* done: it is gone */
int vm_end_crashed(struct vm *vm, vm_done done, void *arg, struct err *e);	/* the same; it ends by what .crashed says */
/* Stop the guest and write its memory and devices to @fd, a new file (owned, also on failure; -1 for the sim). done:
 * all is written, nothing of it synced, and the guest stands still: suspending. Then make it durable and vm_put_away(),
 * or vm_suspend_cancel() and vm_resume(). The host's USB devices are unplugged before. */
struct field_vec;
struct vm_saver {
	/* Right before the guest is stopped: the devices that its machine has (reshape.h). Not 0: it runs on, and done gets
	 * the error. Not for the sim. */
	int (*devices)(void *arg, const struct field_vec *devices, struct err *e);
	void (*progress)(void *arg, uint64_t done, uint64_t all);	/* bytes written of so many, now and then */
};
int vm_suspend(struct vm *vm, int fd, const struct vm_saver *saver, vm_done done, void *arg, struct err *e);
void vm_suspend_cancel(struct vm *vm);	/* it ends with ERR_CANCELLED, soon; fine when nothing is being saved */
int vm_put_away(struct vm *vm, vm_done done, void *arg, struct err *e);	/* done: QEMU is gone */
void vm_saved(struct vm *vm, int64_t usec);	/* its memory stands on disk since then: one that is off is suspended */
int vm_discard(struct vm *vm, struct err *e);	/* its memory is gone: it is off, at once */

/* What QEMU says of its user-mode network (usernet.h). @text is NULL on failure, and borrowed; done is called exactly once
 * when this returns 0, never inside. */
int vm_usernet(struct vm *vm, void (*done)(void *arg, const char *text, const struct err *e), void *arg, struct err *e);

/* Do one step of @is (what runs) to @wanted to the guest (hot.h); both borrowed during the call. @fd: what hot_file() names,
 * opened afresh; owned from now on; -1: none. One at a time. done: it is so; also when it was so before. */
int vm_change(struct vm *vm, const struct hot_step *s, const struct vm_spec *is, const struct vm_spec *wanted, int fd,
	      vm_done done, void *arg, struct err *e);

/* A viewer is one end of a stream socket, owned from now on (closed on failure too). The serial line takes viewers at
 * any time: they get the history (of the last run, while the VM is off), and wait for the next power-on. */
int vm_serial_viewer(struct vm *vm, int fd, struct err *e);
int vm_screen_viewer(struct vm *vm, int fd, vm_done done, void *arg, struct err *e);	/* RFB; done: connected */
