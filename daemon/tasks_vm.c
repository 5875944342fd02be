/* tasks_vm.c: the kinds of tasks on VMs that drive them: start, shutdown, reboot, reset, poweroff, pause, resume, and what
 * the agent in the guest is asked. */
#include <string.h>
#include "agent.h"
#include "launch.h"
#include "log.h"
#include "machine_plan.h"
#include "maintenance.h"
#include "mem.h"
#include "startup.h"
#include "suspend.h"
#include "task.h"
#include "tasks_disk.h"
#include "tasks_vm.h"
#include "text.h"

#define ENDING_USEC	10000000	/* between the end of a monitor and that of its process, at most */
#define SHUTDOWN_S	120	/* the guest's time, unless the request says another */

static void step_done(void *arg, const struct err *e) { task_step_end(arg, e); }

/* An ask either says no at once, or calls @done later. */
static void ask(struct task *t, int (*fn)(struct vm *, vm_done, void *, struct err *), vm_done done)
{
	struct err e = {};

	if (fn(t->vm->vm, done, t, &e) < 0)
		task_step_end(t, &e);
}

/* ---- start */

static int was_cancelled(const struct task *t, struct err *e)
{
	return fail(e, ERR_CANCELLED, "the start of %s was cancelled", t->target_name);
}

/* Until it has come up; with the process the step ends. (croftd that ends breaks steps off, too: the guest goes on.) */
static void start_cancelled(struct task *t)
{
	struct err e = {};

	if (t->cancel && vm_state(t->vm->vm) == VM_STARTING && vm_poweroff(t->vm->vm, NULL, NULL, &e) < 0)
		log_error("%s: %s", t->vm->name, e.msg);
}

static void started(void *arg, const struct err *e)
{
	struct task *t = arg;
	struct err err = {};

	if (e && t->cancel) {
		was_cancelled(t, &err);
		e = &err;
	}
	if (!e)
		t->cancel = false;	/* too late */
	task_step_end(t, e);
}

void task_launch(struct task *t, struct vm_launch *l)
{
	struct err e = {};

	if (t->cancel)
		was_cancelled(t, &e);
	else
		host_may_start(t->c, &e);
	if (e.code) {
		vm_launch_free(l);
		task_step_end(t, &e);
		return;
	}
	t->cancelled = start_cancelled;
	if (vm_start(t->vm->vm, l, started, t, &e) < 0)
		task_step_end(t, &e);
}

static void planned(void *arg, struct vm_launch *l, const struct err *e)
{
	if (e)
		task_step_end(arg, e);
	else
		task_launch(arg, l);
}

/* The croftd before has started it, and it has ended since: it is not started twice. */
static bool has_run(const struct task *t, struct err *e)
{
	struct vm_status st;

	/* A reboot's: the end that it waited for. Else the one before the task. That it is another one is what counts, not
	 * that it is later: the clock may have been set meanwhile. (On disk an end has milliseconds.) */
	const json_t *before = json_object_get(t->data, "end_usec") ?: json_object_get(t->args, "end_usec");

	vm_status(t->vm->vm, &st);
	if (!t->redone || st.last->when_usec / 1000 == json_integer_value(before) / 1000 || (st.last->exit_code < 0 && !st.last->signal))
		return false;
	fail(e, ERR_INTERRUPTED, "%s was started, and has ended while croftd was away: %s", t->vm->name, vm_why_help(st.last->why));
	if (*st.last->message)
		err_hint(e, "QEMU said: %s", st.last->message);
	return true;
}

static void start_run(struct task *t)
{
	struct err e = {};

	/* After a crash of croftd the step is done again: it may have come up all the same. */
	if (vm_state(t->vm->vm) == VM_LOST) {
		fail(&e, ERR_STATE, "something holds the lock of %s, and it is not known what", t->vm->name);
		task_step_end(t, &e);
	} else if (t->vm->memory) {		/* its disks belong to that memory */
		fail(&e, ERR_STATE, "%s is suspended: it goes on, or its memory is discarded first", t->vm->name);
		task_step_end(t, &e);
	} else if (vm_state_alive(vm_state(t->vm->vm)))
		task_step_end(t, NULL);
	else if (has_run(t, &e))
		task_step_end(t, &e);
	else if (t->vm->spec.engine == VM_ENGINE_SIM)
		planned(t, NULL, NULL);
	else
		machine_plan(t->vm, planned, t);
}

static int start_commit(struct change *ch, struct db_tx *tx, struct task *t, struct err *e)
{
	return db_exec(tx, e, "UPDATE vms SET started_config = config WHERE id = ? AND started_config IS NOT config", "s", t->target);
}

static const struct step start_steps[] = {
	{ "start the guest", start_run, NULL, 1, STEP_REDO },
	{}
};
const struct task_kind task_vm_start = { "vm.start", start_steps, .cancellable = true, .commit = start_commit };

/* ---- shutdown, reboot */

static bool is_off(const struct task *t) { return !vm_state_alive(vm_state(t->vm->vm)); }

/* What ended by itself while it was asked to is what was wanted. */
static void shutdown_asked(void *arg, const struct err *e)
{
	const struct task *t = arg;

	task_step_end(arg, !t->c->stopping && is_off(t) ? NULL : e);
}

/* As it was wished, perhaps while croftd was away: its row, too, says from now on that it shall not run. */
static void off_already(struct task *t)
{
	inventory_publish(t->vm);
	task_step_end(t, NULL);
}

static void shutdown_now(struct task *t)
{
	t->vm_changed = NULL;
	timer_disarm(&t->deadline);
	if (is_off(t))
		off_already(t);
	else
		ask(t, vm_shutdown, shutdown_asked);
}

static void shutdown_changed(struct task *t)
{
	if (vm_state(t->vm->vm) != VM_DEGRADED)
		shutdown_now(t);
}

static void shutdown_late(void *arg) { shutdown_now(arg); }

/* What the croftd before has asked may be ending right now: its monitor goes before its process does. */
static void shutdown_ask(struct task *t)
{
	if (!t->redone || vm_state(t->vm->vm) != VM_DEGRADED) {
		shutdown_now(t);
		return;
	}
	t->vm_changed = shutdown_changed;
	timer_arm(&t->deadline, t->c->ev, ENDING_USEC, shutdown_late, t);
}

static void wait_changed(struct task *t)
{
	struct vm_status st;

	if (!is_off(t))
		return;
	vm_status(t->vm->vm, &st);
	json_object_set_new(t->data, "end_usec", json_integer(st.last->when_usec));
	task_step_end(t, NULL);
}

static uint64_t patience_s(const struct task *t)
{
	json_int_t s = json_integer_value(json_object_get(t->args, "timeout_s"));

	return s > 0 ? (uint64_t)s : SHUTDOWN_S;
}

static void wait_over(void *arg)
{
	struct task *t = arg;
	struct err e = {};

	fail(&e, ERR_TIMEOUT, "the guest %s was asked to shut down and has not done so within %llu s", t->vm->name,
	     (unsigned long long)patience_s(t));
	err_hint(&e, "it may ignore the power button; vmctl poweroff %s ends it at once", t->vm->name);
	task_step_end(t, &e);
}

/* It has ignored the power button for half of its time: its agent can do better, where there is one. */
static void wait_half(void *arg)
{
	struct task *t = arg;

	if (vm_agent_answers(t->vm->vm))
		vm_agent_shutdown(t->vm->vm, NULL, NULL, NULL);
	timer_arm(&t->deadline, t->c->ev, patience_s(t) * 500000, wait_over, t);
}

static void wait_cancelled(struct task *t)
{
	struct err e = {};

	fail(&e, ERR_CANCELLED, "waiting for the shutdown of %s was cancelled; the guest may still do it", t->vm->name);
	task_step_end(t, &e);
}

static void wait_off(struct task *t)
{
	if (is_off(t)) {
		inventory_publish(t->vm);
		wait_changed(t);
		return;
	}
	t->vm_changed = wait_changed;
	t->cancelled = wait_cancelled;
	timer_arm(&t->deadline, t->c->ev, patience_s(t) * 500000, wait_half, t);
}

static const struct step shutdown_steps[] = {
	{ "ask the guest to shut down", shutdown_ask, NULL, 1, STEP_REDO },
	{ "wait for the guest to end", wait_off, NULL, 9, STEP_REDO },
	{}
};
const struct task_kind task_vm_shutdown = { "vm.shutdown", shutdown_steps, .cancellable = true };

static const struct step reboot_steps[] = {
	{ "ask the guest to shut down", shutdown_ask, NULL, 1, STEP_REDO },
	{ "wait for the guest to end", wait_off, NULL, 7, STEP_REDO },
	{ "start the guest", start_run, NULL, 2, STEP_REDO },
	{}
};
const struct task_kind task_vm_reboot = { "vm.reboot", reboot_steps, .cancellable = true, .commit = start_commit };

/* ---- at once */

static void poweroff_run(struct task *t)
{
	if (is_off(t))
		off_already(t);
	else
		ask(t, vm_poweroff, step_done);
}
static void reset_run(struct task *t) { ask(t, vm_reset, step_done); }
static void pause_run(struct task *t) { ask(t, vm_pause, step_done); }

static void resume_forgot(void *arg, const struct err *e)
{
	if (e)
		task_step_end(arg, e);
	else
		ask(arg, vm_resume, step_done);
}

/* One whose suspend has failed half-way: what was saved of it is nothing any more, and then it runs. */
static void resume_run(struct task *t)
{
	if (t->vm->memory || vm_state(t->vm->vm) == VM_SUSPENDING)
		suspend_forget(t->vm, resume_forgot, t);
	else
		ask(t, vm_resume, step_done);
}

static const struct step poweroff_steps[] = { { "power off", poweroff_run, NULL, 1, STEP_REDO }, {} };
static const struct step reset_steps[] = { { "reset", reset_run, NULL, 1, STEP_INTERRUPT }, {} };
static const struct step pause_steps[] = { { "pause", pause_run, NULL, 1, STEP_INTERRUPT }, {} };
static const struct step resume_steps[] = { { "resume", resume_run, NULL, 1, STEP_INTERRUPT }, {} };
const struct task_kind task_vm_poweroff = { "vm.poweroff", poweroff_steps };
const struct task_kind task_vm_reset = { "vm.reset", reset_steps };
const struct task_kind task_vm_pause = { "vm.pause", pause_steps };
const struct task_kind task_vm_resume = { "vm.resume", resume_steps };

/* ---- the agent */

static void freeze_run(struct task *t)
{
	struct err e = {};
	json_int_t s = json_integer_value(json_object_get(t->args, "timeout_s"));

	if (vm_agent_freeze(t->vm->vm, (unsigned)s, step_done, t, &e) < 0)
		task_step_end(t, &e);
}
static void thaw_run(struct task *t) { ask(t, vm_agent_thaw, step_done); }
static void set_time_run(struct task *t) { ask(t, vm_agent_set_time, step_done); }

/* When croftd dies while a guest is frozen, the next one thaws it: what was asked for is over. */
static const struct step freeze_steps[] = { { "freeze the guest's file systems", freeze_run, NULL, 1, STEP_INTERRUPT }, {} };
static const struct step thaw_steps[] = { { "thaw the guest's file systems", thaw_run, NULL, 1, STEP_REDO }, {} };
static const struct step set_time_steps[] = { { "set the guest's clock", set_time_run, NULL, 1, STEP_REDO }, {} };
const struct task_kind task_vm_freeze = { "vm.freeze", freeze_steps };
const struct task_kind task_vm_thaw = { "vm.thaw", thaw_steps };
const struct task_kind task_vm_set_time = { "vm.set-time", set_time_steps };

const struct task_kind *const task_kinds[] = {
	&task_vm_create, &task_vm_delete, &task_vm_start, &task_vm_shutdown, &task_vm_reboot, &task_vm_poweroff, &task_vm_reset,
	&task_vm_pause, &task_vm_resume, &task_vm_suspend, &task_vm_wake, &task_vm_discard, &task_vm_freeze, &task_vm_thaw,
	&task_vm_set_time, &task_vm_disk_add, &task_vm_disk_remove, &task_vm_disk_grow, &task_host_autostart,
	&task_host_maintenance, &task_host_restore, NULL
};
