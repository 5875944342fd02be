/* vm.c: the VM object: asks in, completions and changes out. What drives the guest is behind engine.h. */
#include <string.h>
#include "agent.h"
#include "engine.h"
#include "file.h"
#include "launch.h"
#include "log.h"
#include "text.h"

enum {
	POWEROFF_USEC = 15000000,	/* SIGKILL to gone; longer means that the kernel holds it (D state) */
	ATTACH_USEC = 30000000,		/* the engine has tighter ones for each of its steps */
	LOAD_BYTES_PER_USEC = 20,	/* of a saved memory; a slower disk is too slow */
	IGNORED_USEC = 180000000,	/* a guest that did not shut down within this is called running again */
};

struct vm *vm_new(struct vms *v, const struct engine *engine, const char *uuid, const char *name, void *owner)
{
	struct vm *vm = xnew(vm);

	vm->vms = v;
	vm->engine = engine;
	vm->name = xstrdup(name);
	vm->owner = owner;
	if (text_uuid(uuid, vm->uuid))
		log_error("\"%s\" is no UUID", uuid);	/* the daemon made it or checked it */
	list_init(&vm->ops);
	vm->since_usec = now_usec();
	v->nvms++;
	return vm;
}

void vm_free(struct vm *vm)
{
	struct err e;

	if (!vm)
		return;
	if (vm->run)
		vm->engine->detach(vm);
	fail(&e, ERR_INTERRUPTED, "croftd lets go of VM \"%s\"", vm->name);
	while (!list_empty(&vm->ops))
		vm_op_end(LIST_ENTRY(vm->ops.next, struct vm_op, in_vm), &e);
	vm_viewers_free(vm);
	vms_leave(vm);
	timer_disarm(&vm->patience);
	vm->vms->nvms--;
	free(vm->last);
	free(vm->name);
	free(vm);
}

void vm_rename(struct vm *vm, const char *name)
{
	free(vm->name);
	vm->name = xstrdup(name);
}

const char *vm_name(const struct vm *vm) { return vm->name; }
void vm_uuid(const struct vm *vm, char out[37]) { text_uuid_format(vm->uuid, out); }
void *vm_owner(const struct vm *vm) { return vm->owner; }
enum vm_state vm_state(const struct vm *vm) { return vm->state; }

bool vm_can(const struct vm *vm, enum vm_event ask)
{
	return vm_event_asked(ask) && vm_state_next(vm->state, ask) != VM_NSTATES;
}

void vm_status(const struct vm *vm, struct vm_status *ret)
{
	static const struct vm_last never = { .exit_code = -1 };

	*ret = (struct vm_status){
		.state = vm->state,
		.since_usec = vm->since_usec,
		.engine = vm->engine->name,
		.last = vm->last ? vm->last : &never,
	};
	if (vm->run)
		vm->engine->status(vm, ret);
}

/* A clock that was set since makes of the past a time before its process, or one to come. */
static int64_t began(const struct vm *vm, enum vm_state s)
{
	int64_t now = now_usec(), usec = s == vm->was ? vm->was_usec : 0;
	struct vm_status st;

	vm_status(vm, &st);
	if (vm->state == VM_ATTACHING && usec < st.began_usec)
		usec = s == VM_RUNNING ? st.began_usec : 0;
	return usec && usec < now ? usec : now;
}

static void become(struct vm *vm, enum vm_state s)
{
	vm->since_usec = began(vm, s);
	vm->was_usec = 0;
	vm->state = s;
}

void vm_set_last(struct vm *vm, const struct vm_last *last)
{
	if (!vm->last)
		vm->last = xnew(vm_last);
	*vm->last = *last;
	vm_was(vm, VM_OFF, last->when_usec);
}

void vm_was(struct vm *vm, enum vm_state s, int64_t since_usec)
{
	vm->was = s;
	vm->was_usec = since_usec;
	if (vm->state == s)
		become(vm, s);
}

/* ---- what was asked ---- */

static void on_deadline(void *arg)
{
	struct vm_op *op = arg;
	struct vm *vm = op->vm;

	switch (op->ask) {
	case VM_ASK_START:
		if (vm->state == VM_STARTING) {		/* it never ran, and it was us who started it just now */
			fail(&op->err, ERR_TIMEOUT, "VM \"%s\" did not come up within %u s", vm->name,
			     (unsigned)(vm->vms->how.start_usec / 1000000));
			timer_arm(&op->deadline, vm->vms->how.ev, POWEROFF_USEC, on_deadline, op);
			vm->engine->kill(vm, VM_WHY_START_FAILED);
			vm_saw(vm, VM_ASK_POWEROFF, NULL);
			return;
		}
		break;
	case VM_ASK_ATTACH:
		vm_saw(vm, VM_SAW_SILENCE, NULL);
		return;
	default:
		break;
	}
	fail(&op->err, ERR_TIMEOUT, "VM \"%s\" was killed, but its process is not gone after %u s", vm->name,
	     POWEROFF_USEC / 1000000);
	err_hint(&op->err, "the kernel holds it, most often because of storage that does not answer");
	vm_op_end(op, &op->err);
}

static struct vm_op *op_new(struct vm *vm, enum vm_event ask, vm_done done, void *arg, uint64_t deadline_usec)
{
	struct vm_op *op = xnew(vm_op);

	op->vm = vm;
	op->ask = ask;
	op->done = done;
	op->arg = arg;
	if (deadline_usec)
		timer_arm(&op->deadline, vm->vms->how.ev, deadline_usec, on_deadline, op);
	list_append(&vm->ops, &op->in_vm);
	return op;
}

struct vm_op *vm_op_agent(struct vm *vm, vm_done done, void *arg)
{
	return op_new(vm, VM_NEVENTS, done, arg, 0);
}

static const char *way_out(enum vm_state s)
{
	switch (s) {
	case VM_OFF:
		return "start it first";
	case VM_PAUSED:
		return "resume it first";
	case VM_STARTING:
	case VM_ATTACHING:
		return "wait until it runs, or power it off";
	case VM_DEGRADED:
		return "its monitor does not answer: wait until it does, or power it off";
	case VM_LOST:
		return "find what holds the file alive in its run folder, and end that; it is off when the lock is free";
	case VM_SUSPENDED:
		return "start it: it goes on where it was; or discard what it had in memory";
	case VM_SUSPENDING:
		return "wait until it is suspended, or cancel that task";
	case VM_ENDING:
		return "wait until it is off";
	case VM_RUNNING:
	case VM_STOPPING:
	case VM_NSTATES:
		break;
	}
	return "";
}

static int refused(const struct vm *vm, enum vm_event ask, struct err *e)
{
	fail(e, ERR_STATE, "%s is not possible: VM \"%s\" is %s", vm_event_name(ask), vm->name,
	     vm_state_names[vm->state]);
	return err_hint(e, "%s", way_out(vm->state));
}

/* What the engine answers, with a deadline of its own: shutdown, reset, pause, resume, screen. */
static int ask(struct vm *vm, enum vm_event what, int fd, vm_done done, void *arg, struct err *e)
{
	if (!vm_can(vm, what)) {
		close_at(&fd);
		return refused(vm, what, e);
	}
	vm->engine->ask(vm, op_new(vm, what, done, arg, 0), fd);
	return 0;
}

int vm_shutdown(struct vm *vm, vm_done done, void *arg, struct err *e)
{
	if (vm_agent_facts(vm)->frozen)		/* it could not write what it has to */
		vm_agent_thaw(vm, NULL, NULL, NULL);
	return ask(vm, VM_ASK_SHUTDOWN, -1, done, arg, e);
}

int vm_reset(struct vm *vm, vm_done done, void *arg, struct err *e)
{
	return ask(vm, VM_ASK_RESET, -1, done, arg, e);
}

int vm_pause(struct vm *vm, vm_done done, void *arg, struct err *e)
{
	return ask(vm, VM_ASK_PAUSE, -1, done, arg, e);
}

int vm_resume(struct vm *vm, vm_done done, void *arg, struct err *e)
{
	return ask(vm, VM_ASK_RESUME, -1, done, arg, e);
}

int vm_screen_viewer(struct vm *vm, int fd, vm_done done, void *arg, struct err *e)
{
	return ask(vm, VM_ASK_SCREEN, fd, done, arg, e);
}

int vm_change(struct vm *vm, const struct hot_step *s, const struct vm_spec *is, const struct vm_spec *wanted, int fd,
	      vm_done done, void *arg, struct err *e)
{
	if (!vm_can(vm, VM_ASK_CHANGE)) {
		close_at(&fd);
		return refused(vm, VM_ASK_CHANGE, e);
	}
	vm->engine->change(vm, op_new(vm, VM_ASK_CHANGE, done, arg, 0), s, is, wanted, fd);
	return 0;
}

int vm_start(struct vm *vm, struct vm_launch *launch, vm_done done, void *arg, struct err *e)
{
	AUTO(vm_launch) l = launch;
	int r;

	if (!vm_can(vm, VM_ASK_START))
		return refused(vm, VM_ASK_START, e);
	r = vm->engine->start(vm, l, e);
	if (r < 0)
		return r;
	op_new(vm, VM_ASK_START, done, arg,
	       vm->vms->how.start_usec + (l && l->resumes ? l->memory_bytes / LOAD_BYTES_PER_USEC : 0));
	vm_saw(vm, VM_ASK_START, NULL);
	return 0;
}

void vm_go(struct vm *vm)
{
	if (vm->state == VM_STARTING && vm->engine->go)
		vm->engine->go(vm);
}

int vm_attach(struct vm *vm, vm_done done, void *arg, struct err *e)
{
	int r;

	if (!vm_can(vm, VM_ASK_ATTACH))
		return refused(vm, VM_ASK_ATTACH, e);
	if (!vm->engine->attach)
		return fail(e, ERR_UNSUPPORTED, "VM \"%s\" is simulated: it does not outlive croftd", vm->name);
	r = vm->engine->attach(vm, e);
	if (r < 0)
		return r;
	op_new(vm, VM_ASK_ATTACH, done, arg, ATTACH_USEC);
	vm_saw(vm, VM_ASK_ATTACH, NULL);
	return 0;
}

static int end(struct vm *vm, enum vm_why why, vm_done done, void *arg, struct err *e)
{
	if (!vm_can(vm, VM_ASK_POWEROFF))
		return refused(vm, VM_ASK_POWEROFF, e);
	op_new(vm, VM_ASK_POWEROFF, done, arg, POWEROFF_USEC);
	vm->engine->kill(vm, why);
	vm_saw(vm, VM_ASK_POWEROFF, NULL);
	return 0;
}

int vm_usernet(struct vm *vm, void (*done)(void *arg, const char *text, const struct err *e), void *arg, struct err *e)
{
	if (!vm->run || !vm->engine->usernet)
		return fail(e, ERR_STATE, "VM \"%s\" has no user-mode network right now", vm->name);
	return vm->engine->usernet(vm, done, arg, e);
}

int vm_poweroff(struct vm *vm, vm_done done, void *arg, struct err *e)
{
	return end(vm, VM_WHY_POWEROFF, done, arg, e);
}

int vm_end_crashed(struct vm *vm, vm_done done, void *arg, struct err *e)
{
	struct vm_status st;

	vm_status(vm, &st);
	return end(vm, st.crashed, done, arg, e);
}

int vm_suspend(struct vm *vm, int fd, const struct vm_saver *saver, vm_done done, void *arg, struct err *e)
{
	struct vm_op *op;

	if (!vm_can(vm, VM_ASK_SUSPEND)) {
		close_at(&fd);
		return refused(vm, VM_ASK_SUSPEND, e);
	}
	op = op_new(vm, VM_ASK_SUSPEND, done, arg, 0);
	op->saver = saver;
	vm->engine->ask(vm, op, fd);
	return 0;
}

void vm_suspend_cancel(struct vm *vm)
{
	if (vm->run && vm->engine->cancel)
		vm->engine->cancel(vm);
}

int vm_put_away(struct vm *vm, vm_done done, void *arg, struct err *e)
{
	return end(vm, VM_WHY_SUSPENDED, done, arg, e);
}

void vm_saved(struct vm *vm, int64_t usec)
{
	struct vm_last last = { .when_usec = usec, .exit_code = -1 };

	/* Whoever ended the process, and whatever its run folder says of that: the guest had been put away before. */
	if (vm->last && vm->last->why != VM_WHY_NEVER)
		last = *vm->last;
	last.why = VM_WHY_SUSPENDED;
	if (vm->state == VM_OFF)
		vm_set_last(vm, &last);
	vm_was(vm, VM_SUSPENDED, usec);
	vm_saw(vm, VM_SAW_SAVED, NULL);
}

int vm_discard(struct vm *vm, struct err *e)
{
	if (!vm_can(vm, VM_ASK_DISCARD))
		return refused(vm, VM_ASK_DISCARD, e);
	vm_saw(vm, VM_ASK_DISCARD, NULL);
	return 0;
}

int vm_serial_viewer(struct vm *vm, int fd, struct err *e)
{
	int r = fd_nonblock(fd);

	if (r < 0) {
		close_at(&fd);
		return fail_errno(e, r, "a viewer of VM \"%s\"", vm->name);
	}
	if (vm->run && vm->engine->serial(vm, fd) == 0)
		return 0;
	return vm_viewers_park(vm, fd, e);
}

/* ---- the state ---- */

void vm_noted(struct vm *vm)
{
	if (vm->vms->how.on_change)
		vm->vms->how.on_change(vm, vm->owner);
}

static void on_patience(void *arg)
{
	vm_saw(arg, VM_SAW_IGNORED, NULL);
}

static void enter(struct vm *vm, enum vm_state s)
{
	log_debug("VM %s: %s -> %s", vm->name, vm_state_names[vm->state], vm_state_names[s]);
	become(vm, s);
	timer_disarm(&vm->patience);
	if (s == VM_STOPPING)
		timer_arm(&vm->patience, vm->vms->how.ev, IGNORED_USEC, on_patience, vm);
	if (!vm_state_alive(s))
		vms_leave(vm);
	else if (vm->engine->probe)
		vms_join(vm);
}

static void say_ended(struct vm_op *op)
{
	const struct vm *vm = op->vm;
	const char *words = vm_last_words(vm->last->message), *how = op->ask == VM_ASK_START ? "did not start" : "has ended";

	if (!op->err.code && strstr(words, "lock") && strstr(words, "ailed to get")) {
		fail(&op->err, ERR_BUSY, "VM \"%s\" %s: something else has opened one of its disks (%s)", vm->name, how, words);
		err_hint(&op->err, "a disk belongs to one VM; shut the other one down");
	} else if (!op->err.code && strstr(words, "host forwarding rule")) {
		fail(&op->err, ERR_BUSY, "VM \"%s\" %s: a port of this host that leads to it is in use (%s)", vm->name, how, words);
		err_hint(&op->err, "ss -lntup shows what has the port: end that, and start the VM again");
	} else if (!op->err.code && strstr(words, "No space left")) {
		fail(&op->err, ERR_NO_SPACE, "VM \"%s\" %s: a disk of this host is full (%s)", vm->name, how, words);
	} else if (!op->err.code) {
		fail(&op->err, ERR_INTERNAL, "VM \"%s\" %s: %s", vm->name, how, vm_why_help(vm->last->why));
		if (*words)
			err_hint(&op->err, "QEMU said: %s", words);
	}
}

/* What a start, an attach and a poweroff wait for is a state. */
static bool is_settled(struct vm_op *op)
{
	const struct vm *vm = op->vm;

	if (op->ask == VM_ASK_POWEROFF && vm->state != VM_LOST)
		return vm->state == VM_OFF;
	if (op->ask != VM_ASK_START && op->ask != VM_ASK_ATTACH && op->ask != VM_ASK_POWEROFF)
		return false;
	if (vm->state == VM_DEGRADED)
		fail(&op->err, ERR_TIMEOUT, "VM \"%s\" runs, but its monitor does not answer", vm->name);
	if (vm->state == VM_LOST)
		fail(&op->err, ERR_UNAVAILABLE, "something holds the lock of VM \"%s\", and it is not known what", vm->name);
	if (vm->state == VM_OFF)
		say_ended(op);
	return vm->state != VM_STARTING && vm->state != VM_ATTACHING && vm->state != VM_ENDING;
}

void vm_saw(struct vm *vm, enum vm_event seen, const struct vm_last *last)
{
	enum vm_state s = vm_state_next(vm->state, seen), was = vm->state;
	int64_t since = vm->since_usec;

	if (s == was || s == VM_NSTATES)	/* it is so already, or was asked too late */
		return;
	if (seen == VM_SAW_END) {
		vm_set_last(vm, last);
		vm->engine->detach(vm);
	}
	enter(vm, s);
	if (was == VM_PAUSED && s == VM_RUNNING)
		vm_agent_resumed(vm, vm->since_usec - since);
	LIST_FOR(op, &vm->ops, struct vm_op, in_vm) {
		if (is_settled(op))
			vm_op_end(op, op->err.code ? &op->err : NULL);
	}
	vm_noted(vm);
}
