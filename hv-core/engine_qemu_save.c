/* engine_qemu_save.c: a guest's memory and devices into a file and back, by QEMU's own migration. The guest stands
 * still meanwhile, so that each page is written once. */
#include <stdio.h>
#include <string.h>
#include "engine_qemu.h"
#include "launch.h"
#include "text.h"

enum {
	LOOK_USEC = 500000,		/* between two looks at the progress */
	STUCK_USEC = 60000000,		/* the file takes nothing for so long */
	CANCEL_USEC = 5000000,		/* QEMU may hang in a write: then the guest goes on without its answer */
};
#define FD "memory"

void guest_saw(struct guest *g, enum vm_event seen)
{
	bool held = g->saving || g->load == LOADING || g->load == LOADED;

	if (held && (seen == VM_SAW_PAUSED || seen == VM_SAW_RUNNING))
		return;
	vm_saw(g->vm, seen, NULL);
}

/* ---- save */

static json_t *with_events(void)	/* QEMU tells of each change by the event MIGRATION */
{
	return json_pack("{s:[{s:s, s:b}]}", "capabilities", "capability", "events", "state", 1);
}

static json_t *as_fast_as_it_can(void)
{
	return json_pack("{s:I}", "max-bandwidth", (json_int_t)1 << 40);
}

static json_t *fd_args(void) { return json_pack("{s:s}", "fdname", FD); }
static json_t *uri_args(void) { return json_pack("{s:s}", "uri", "fd:" FD); }

static const struct { const char *name; json_t *(*args)(void); bool fd; } save_commands[] = {
	{ "stop" },
	{ "migrate-set-capabilities", with_events },
	{ "migrate-set-parameters", as_fast_as_it_can },
	{ "getfd", fd_args, true },
	{ "migrate", uri_args },
};

void guest_save_end(struct guest *g, const struct err *e)
{
	struct vm_op *op = g->saving;

	if (!op)
		return;
	g->saving = NULL;
	timer_disarm(&g->saved);
	close_at(&g->save_fd);
	vm_op_end(op, e);
}

static void save_next(struct guest *g);
static void on_look(void *arg);

static void on_save_command(void *arg, json_t *result, const struct err *e)
{
	struct guest *g = arg;

	if (!g->saving)
		return;
	if (e) {
		struct err silent = *e;

		guest_save_end(g, e);
		if (e->code == ERR_TIMEOUT)
			guest_silent(g, silent.msg);
		return;
	}
	if (g->save_at == 0)		/* it stands still */
		vm_saw(g->vm, VM_SAW_SAVING, NULL);
	if (!g->saving)
		return;
	g->save_at++;
	save_next(g);
}

static void cancelled(struct guest *g)
{
	struct err e;

	fail(&e, ERR_CANCELLED, "saving the memory of VM \"%s\" was cancelled", g->vm->name);
	guest_save_end(g, &e);
}

static void save_next(struct guest *g)
{
	unsigned i = g->save_at;

	if (g->cancelled) {
		cancelled(g);
	} else if (i == COUNT(save_commands)) {
		g->moved_usec = mono_usec();
		timer_arm(&g->saved, g->vm->vms->how.ev, LOOK_USEC, on_look, g);
	} else {
		qmp_call(g->qmp, save_commands[i].name, save_commands[i].args ? save_commands[i].args() : NULL,
			 save_commands[i].fd ? TAKE_FD(g->save_fd) : -1, g->vm->vms->how.answer_usec, on_save_command, g);
	}
}

void guest_save(struct guest *g, struct vm_op *op, int fd)
{
	struct err e;

	if (g->saving) {
		close_at(&fd);
		fail(&e, ERR_BUSY, "the memory of VM \"%s\" is being saved already", g->vm->name);
		vm_op_end(op, &e);
		return;
	}
	g->saving = op;
	g->save_fd = fd;
	g->save_at = 0;
	g->moved_bytes = 0;
	g->cancelled = false;
	save_next(g);
}

static uint64_t bytes_of(json_t *ram, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(ram, key));

	return n > 0 ? (uint64_t)n : 0;
}

/* What QEMU says of a migration that has ended; "active" and the like: it goes on. */
static void save_status(struct guest *g, const char *status, json_t *info)
{
	const char *why = json_string_value(json_object_get(info, "error-desc"));
	struct err e;

	if (!strcmp(status, "completed")) {
		guest_save_end(g, NULL);
	} else if (!strcmp(status, "cancelled")) {
		cancelled(g);
	} else if (!strcmp(status, "failed")) {
		fail(&e, ERR_UNAVAILABLE, "the memory of VM \"%s\" cannot be saved: %.200s", g->vm->name,
		     why ? why : "QEMU does not say why");
		err_hint(&e, "look at the free space of the datastore of its folder");
		guest_save_end(g, &e);
	}
}

static void on_progress(void *arg, json_t *result, const struct err *e)
{
	const char *status = json_string_value(json_object_get(result, "status"));
	struct guest *g = arg;
	json_t *ram = json_object_get(result, "ram");
	struct err stuck;

	if (!g->saving)
		return;
	if (ram && bytes_of(ram, "transferred") != g->moved_bytes) {
		g->moved_bytes = bytes_of(ram, "transferred");
		g->moved_usec = mono_usec();
		if (g->saving->progress)
			g->saving->progress(g->saving->arg, bytes_of(ram, "total") - bytes_of(ram, "remaining"), bytes_of(ram, "total"));
	}
	if (e && e->code == ERR_TIMEOUT) {
		stuck = *e;
		guest_save_end(g, e);
		guest_silent(g, stuck.msg);
		return;
	}
	if (status)
		save_status(g, status, result);
	if (g->saving && mono_usec() - g->moved_usec > STUCK_USEC) {
		fail(&stuck, ERR_TIMEOUT, "the file for the memory of VM \"%s\" has taken nothing for %d s", g->vm->name,
		     STUCK_USEC / 1000000);
		err_hint(&stuck, "the datastore of its folder does not answer");
		guest_save_end(g, &stuck);
	}
}

static void on_look(void *arg)
{
	struct guest *g = arg;

	if (g->cancelled) {		/* the deadline of the cancel */
		cancelled(g);
		return;
	}
	timer_arm(&g->saved, g->vm->vms->how.ev, LOOK_USEC, on_look, g);
	qmp_ask(g->qmp, "query-migrate", NULL, g->vm->vms->how.answer_usec, on_progress, g);
}

void guest_save_cancel(struct guest *g)
{
	if (g->qmp)			/* also one that a croftd before has begun */
		qmp_call(g->qmp, "migrate_cancel", NULL, -1, g->vm->vms->how.answer_usec, NULL, NULL);
	if (g->qmp && !g->saving)
		guest_ask_status(g);
	if (!g->saving || g->cancelled)
		return;
	g->cancelled = true;
	if (g->save_at == COUNT(save_commands))
		timer_arm(&g->saved, g->vm->vms->how.ev, CANCEL_USEC, on_look, g);
}

/* ---- load */

static void load_failed(struct guest *g, const char *why)
{
	if (g->load == NOT_LOADING || g->vm->state != VM_STARTING)
		return;
	snprintf(g->load_problem, sizeof(g->load_problem), "its saved memory cannot be loaded: %.150s", why);
	g->reason = g->load_problem;
	guest_kill(g, VM_WHY_START_FAILED);
	vm_saw(g->vm, VM_ASK_POWEROFF, NULL);
}

static void on_load_command(void *arg, json_t *result, const struct err *e)
{
	if (e && e->code != ERR_INTERRUPTED && e->code != ERR_UNAVAILABLE)	/* (a lost monitor: QEMU says why by its end) */
		load_failed(arg, e->msg);
}

void guest_load(struct guest *g)
{
	uint64_t deadline = g->vm->vms->how.answer_usec;

	qmp_call(g->qmp, "migrate-set-capabilities", with_events(), -1, deadline, on_load_command, g);
	qmp_call(g->qmp, "getfd", fd_args(), TAKE_FD(g->load_fd), deadline, on_load_command, g);
	qmp_call(g->qmp, "migrate-incoming", uri_args(), -1, deadline, on_load_command, g);
}

static void on_gone_on(void *arg, json_t *result, const struct err *e)
{
	struct guest *g = arg;

	if (e && e->code == ERR_STATE) {	/* QEMU says no: it has not run */
		g->load = LOADED;
		load_failed(g, e->msg);
	}
}

void guest_go_on(struct guest *g)
{
	if (!g->qmp) {
		load_failed(g, "QEMU's monitor is lost");
		return;
	}
	g->load = GONE_ON;
	qmp_call(g->qmp, "cont", NULL, -1, g->vm->vms->how.answer_usec, on_gone_on, g);
}

void guest_migration(struct guest *g, const char *status)
{
	struct vms *vms = g->vm->vms;

	if (g->saving && strcmp(status, "failed")) {	/* why it failed the next look brings */
		save_status(g, status, NULL);
	} else if (g->load == LOADING && !strcmp(status, "completed")) {
		g->load = LOADED;
		if (vms->how.on_loaded)
			vms->how.on_loaded(g->vm, g->vm->owner);
		else
			guest_go_on(g);
	}
}
