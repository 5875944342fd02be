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
	if (g->load == GOING && seen == VM_SAW_PAUSED)	/* asked before it was told to go on: it has not come up by that */
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

static void forget_devices(struct guest *g)
{
	for (size_t i = 0; i < g->devices.n; i++)
		free(((char **)g->devices.items)[i]);
	free(g->devices.items);
	g->devices = (struct field_vec){};
}

void guest_save_end(struct guest *g, const struct err *e)
{
	struct vm_op *op = g->saving;

	if (!op)
		return;
	g->saving = NULL;
	timer_disarm(&g->saved);
	close_at(&g->save_fd);
	forget_devices(g);
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

/* ---- what it consists of: only a machine of just these devices, at these places, loads what is saved ---- */

struct look { struct guest *g; char id[80]; };		/* at one of them */

static void look_done(struct guest *g, const struct err *e)
{
	if (e && !g->looks_err.code)
		g->looks_err = *e;
	if (--g->looks || !g->saving)
		return;
	if (!g->looks_err.code && !g->cancelled && g->saving->saver && g->saving->saver->devices)
		g->saving->saver->devices(g->saving->arg, &g->devices, &g->looks_err);
	if (g->looks_err.code) {
		struct err err = g->looks_err;

		guest_save_end(g, &err);
		if (err.code == ERR_TIMEOUT)
			guest_silent(g, err.msg);
	} else {
		save_next(g);
	}
}

static void on_bus(void *arg, json_t *result, const struct err *e)
{
	AUTO_FREE struct look *l = arg;
	const char *path = json_string_value(result), *bus = path ? strrchr(path, '/') : NULL;

	if (bus && l->g->saving)
		*(char **)field_vec_add(&l->g->devices, sizeof(char *)) = xasprintf("%s@%s", l->id, bus + 1);
	look_done(l->g, e);
}

/* Pulled out, it comes back as soon as the guest runs. */
static void on_usb_out(void *arg, json_t *result, const struct err *e)
{
	AUTO_FREE struct look *l = arg;

	if (!e) {
		guest_usb_gone(l->g, l->id);
		vm_noted(l->g->vm);
	}
	look_done(l->g, e && e->code == ERR_NOT_FOUND ? NULL : e);
}

static void look_at(struct guest *g, const char *id, const char *type)
{
	uint64_t deadline = g->vm->vms->how.answer_usec;
	struct look *l = xnew(look);

	l->g = g;
	snprintf(l->id, sizeof(l->id), "%s", id);
	g->looks++;
	if (strstr(type, "usb-host"))
		qmp_call(g->qmp, "device_del", json_pack("{s:s}", "id", id), -1, deadline, on_usb_out, l);
	else
		qmp_call(g->qmp, "qom-get", json_pack("{s:o, s:s}", "path", json_sprintf("/machine/peripheral/%s", id), "property",
			 "parent_bus"), -1, deadline, on_bus, l);
}

static void on_devices(void *arg, json_t *result, const struct err *e)
{
	struct guest *g = arg;
	json_t *item;
	size_t i;

	json_array_foreach(result, i, item) {
		const char *id = json_string_value(json_object_get(item, "name"));
		const char *type = json_string_value(json_object_get(item, "type"));

		if (id && type && g->qmp && !strncmp(type, "child<", strlen("child<")))
			look_at(g, id, type);
	}
	look_done(g, e);
}

void guest_save(struct guest *g, struct vm_op *op, int fd)
{
	struct err e = {};

	if (g->saving)
		fail(&e, ERR_BUSY, "the memory of VM \"%s\" is being saved already", g->vm->name);
	else if (g->looks || g->hot)		/* (of a save that was given up a moment ago) */
		fail(&e, ERR_BUSY, "VM \"%s\" is being changed: try again in a moment", g->vm->name);
	if (e.code) {
		close_at(&fd);
		vm_op_end(op, &e);
		return;
	}
	g->saving = op;
	g->save_fd = fd;
	g->save_at = 0;
	g->moved_bytes = 0;
	g->cancelled = false;
	g->looks_err.code = ERR_NONE;
	g->looks = 1;
	qmp_call(g->qmp, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"), -1, g->vm->vms->how.answer_usec, on_devices, g);
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
		if (g->saving->saver && g->saving->saver->progress)
			g->saving->saver->progress(g->saving->arg, bytes_of(ram, "total") - bytes_of(ram, "remaining"),
						   bytes_of(ram, "total"));
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

	g->load = GONE_ON;
	if (e && e->code == ERR_STATE) {	/* QEMU says no: it has not run */
		g->load = LOADED;
		load_failed(g, e->msg);
	} else if (!e) {
		vm_agent_woke(g->vm);
	}
}

void guest_go_on(struct guest *g)
{
	if (!g->qmp) {
		load_failed(g, "QEMU's monitor is lost");
		return;
	}
	g->load = GOING;
	qmp_call(g->qmp, "cont", NULL, -1, g->vm->vms->how.answer_usec, on_gone_on, g);
}

void guest_migration(struct guest *g, const char *status)
{
	struct vms *vms = g->vm->vms;

	if (g->saving && strcmp(status, "failed")) {	/* why it failed the next look brings */
		save_status(g, status, NULL);
	} else if (g->load == LOADING && !strcmp(status, "completed")) {
		g->load = LOADED;
		guest_memory_ask(g);	/* what is plugged in came with what was loaded, and no event tells it */
		if (vms->how.on_loaded)
			vms->how.on_loaded(g->vm, g->vm->owner);
		else
			guest_go_on(g);
	}
}
