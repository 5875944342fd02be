#include <stdio.h>
#include <string.h>
#include "launch.h"
#include "log.h"
#include "machine_hot.h"
#include "machine_plan.h"
#include "maintenance.h"
#include "mem.h"
#include "memfile.h"
#include "saved_disks.h"
#include "stores.h"
#include "suspend.h"
#include "task.h"
#include "tasks_vm.h"
#include "text.h"

static void step_done(void *arg, const struct err *e) { task_step_end(arg, e); }
static bool is_alive(const struct task *t) { return vm_state_alive(vm_state(t->vm->vm)); }
static bool is_sim(const struct task *t) { return t->vm->spec.engine == VM_ENGINE_SIM; }

static int file_of(const struct machine *m, struct datastore **ds, struct dspath *p, struct err *e)
{
	AUTO_FREE char *text = xasprintf("%s/" MACHINE_MEMORY_FILE, m->folder);

	return stores_path(m->c, text, ds, p, e);
}

/* ---- the row */

struct row_change {
	char id[37];
	char *text;			/* NULL: it has none from now on */
	struct machine_memory *memory;	/* what the text says */
	void (*done)(void *arg, const struct err *e);
	void *arg;
};

static int row_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	struct row_change *rc = ch->arg;
	int r = db_exec(tx, e, "UPDATE vms SET memory = ?, started_config = coalesce(started_config, config) WHERE id = ?", "ss",
			rc->text, rc->id);

	if (r == 0)
		return fail(e, ERR_NOT_FOUND, "the VM is gone");
	if (r > 0 && !rc->text)		/* whoever suspends it next is not the host's end (drain.c) */
		r = db_exec(tx, e, "DELETE FROM settings WHERE key = 'resume ' || ?", "s", rc->id);
	return r;
}

static void row_apply(struct change *ch)
{
	struct row_change *rc = ch->arg;
	struct machine *m = inventory_get(ch->c->inv, rc->id);

	if (!m)
		return;
	machine_forget_memory(m);
	m->memory = TAKE(rc->memory);
	machine_changed(m);
	if (m->memory && vm_state(m->vm) == VM_OFF)
		vm_saved(m->vm, m->memory->saved_usec);	/* QEMU was faster */
}

static void row_fini(struct change *ch, const struct err *e)
{
	struct row_change *rc = ch->arg;

	rc->done(rc->arg, e);
	if (rc->memory)
		fields_fini(&machine_memory_fields, rc->memory);
	free(rc->memory);
	free(rc->text);
	free(rc);
}

/* @memory is taken; NULL: none. */
static void row_write(struct machine *m, struct machine_memory *memory, void (*done)(void *arg, const struct err *e), void *arg)
{
	struct row_change *rc = xnew(row_change);
	struct change *ch = change_new(m->c, NULL);
	struct buf b = BUF_INIT(MACHINE_MEMORY_MAX);
	struct jw w = JW(&b);

	memcpy(rc->id, m->id, sizeof rc->id);
	if (memory) {
		fields_encode(&machine_memory_fields, memory, &w, NULL);
		rc->text = buf_take(&b);
	}
	rc->memory = memory;
	rc->done = done;
	rc->arg = arg;
	ch->arg = rc;
	ch->work = row_work;
	ch->apply = row_apply;
	ch->fini = row_fini;
	change_run(ch);
}

void suspend_forget(struct machine *m, void (*done)(void *arg, const struct err *e), void *arg)
{
	row_write(m, NULL, done, arg);
}

void suspend_remove(struct machine *m, bool anyones, void (*done)(void *arg, const struct err *e), void *arg)
{
	struct datastore *ds;
	struct dspath p;
	struct err e = {};

	if (!m->folder || !*m->folder)
		done(arg, NULL);
	else if (file_of(m, &ds, &p, &e) < 0)
		done(arg, &e);
	else
		memfile_remove(ds, p.path, anyones ? NULL : m->c->home_id, done, arg);
}

struct checking { struct machine *m; void (*done)(void *arg, const struct err *e); void *arg; };

static void checked(void *arg, const struct err *e)
{
	struct checking *ck = arg;
	struct machine *m = ck->m;
	struct err err = {};

	if (e && e->code == ERR_STATE) {
		fail(&err, ERR_STATE, "%s is suspended by another Croft that has its datastore, too:"
		     " its memory is in %s/" MACHINE_MEMORY_FILE ", and would be lost", m->name, m->folder);
		err_hint(&err, "start it there, and it goes on; or lose the memory: vmctl file rm '%s/" MACHINE_MEMORY_FILE "'", m->folder);
		e = &err;
	}
	ck->done(ck->arg, e);
	free(ck);
}

void suspend_check(struct machine *m, void (*done)(void *arg, const struct err *e), void *arg)
{
	struct checking *ck = xnew(checking);
	struct datastore *ds;
	struct dspath p;
	struct err e = {};

	*ck = (struct checking){ m, done, arg };
	if (m->memory)
		checked(ck, NULL);
	else if (file_of(m, &ds, &p, &e) < 0)
		checked(ck, &e);
	else
		memfile_check(ds, p.path, m->c->home_id, checked, ck);
}

/* ---- suspend: save, record, end QEMU */

/* The machine is built anew when it wakes: what could not be is not taken apart. It is kept with the task: a croftd may die
 * between the save and the row. */
static int save_devices(void *arg, const struct field_vec *devices, struct err *e)
{
	struct task *t = arg;
	const struct vm_spec *s = machine_built(t->vm);
	struct vm_status st;
	json_t *list;

	for (size_t i = 0; i < s->disks.n; i++)
		if (VM_DISKS(s)[i].bus == VM_BUS_NVME) {
			fail(e, ERR_STATE, "%s cannot be suspended: QEMU cannot save its disk %s, which is on the bus nvme", t->vm->name,
			     VM_DISKS(s)[i].name);
			return err_hint(e, "a disk on the bus virtio or scsi can be saved");
		}
	vm_status(t->vm->vm, &st);
	list = json_array();
	for (size_t i = 0; i < devices->n; i++)
		json_array_append_new(list, json_string(((char **)devices->items)[i]));
	json_object_set_new(t->data, "devices", list);
	json_object_set_new(t->data, "boot_bytes", json_integer((json_int_t)st.memory_boot_bytes));
	return machine_fits(t->vm, devices, st.memory_boot_bytes, e) == 0 ? 0
	     : err_hint(e, "shut %s down and start it: then it can be suspended", t->vm->name);
}

static void save_progress(void *arg, uint64_t done, uint64_t all)
{
	task_share(arg, all ? (double)done / (double)all : 0);
}

static void save_cancelled(struct task *t)
{
	vm_suspend_cancel(t->vm->vm);
}

static void save_opened(void *arg, int *fd, const struct err *e)
{
	static const struct vm_saver saver = { .devices = save_devices, .progress = save_progress };
	struct task *t = arg;
	struct err err = {};

	if (!e && t->cancel)
		fail(&err, ERR_CANCELLED, "cancelled before the memory of %s was saved", t->vm->name);
	if (e || err.code)
		task_step_end(t, e ?: &err);
	else if (vm_suspend(t->vm->vm, TAKE_FD(*fd), &saver, step_done, t, &err) < 0)
		task_step_end(t, &err);
}

static void save_begin(struct task *t)
{
	struct datastore *ds;
	struct dspath p;
	struct err e = {};
	int none = -1;

	t->vm_changed = NULL;
	t->cancelled = save_cancelled;
	if (is_sim(t))
		save_opened(t, &none, NULL);
	else if (file_of(t->vm, &ds, &p, &e) < 0)
		task_step_end(t, &e);
	else
		memfile_create(ds, p.path, save_opened, t);
}

/* A disk or NIC that is being plugged in or out comes first. */
static void save_changed(struct task *t)
{
	if (!machine_hot_busy(t->vm))
		save_begin(t);
}

static void save_given_up(struct task *t)
{
	struct err e = {};

	fail(&e, ERR_CANCELLED, "cancelled before the memory of %s was saved", t->vm->name);
	task_step_end(t, &e);
}

static void save_run(struct task *t)
{
	t->vm_changed = save_changed;
	t->cancelled = save_given_up;
	save_changed(t);
}

/* What it was to become meanwhile it may become now. */
static void save_removed(void *arg, const struct err *e)
{
	struct task *t = arg;

	machine_hot(t->vm, false);
	task_step_end(t, e);
}

static void save_resumed(void *arg, const struct err *e)
{
	struct task *t = arg;

	if (e)
		log_warn("%s stands still since it could not be suspended: %s", t->vm->name, e->msg);
	suspend_remove(t->vm, false, save_removed, t);
}

/* From here on it may run: nothing that was saved can come back. */
static void save_forgot(void *arg, const struct err *e)
{
	struct task *t = arg;
	struct err err = {};

	if (e) {
		task_step_end(t, e);
		return;
	}
	if (is_alive(t))
		vm_suspend_cancel(t->vm->vm);
	if (!is_alive(t) || json_is_true(json_object_get(t->args, "paused")) || vm_state(t->vm->vm) == VM_RUNNING)
		save_resumed(t, NULL);
	else if (vm_resume(t->vm->vm, save_resumed, t, &err) < 0)
		save_resumed(t, &err);
}

static void save_undo(struct task *t)
{
	if (!is_alive(t) && t->vm->memory)
		task_step_end(t, NULL);		/* QEMU is gone, but all was saved: it is suspended all the same */
	else
		suspend_forget(t->vm, save_forgot, t);
}

static void record(struct task *t, uint64_t bytes, const char *sha256, struct field_vec *disks)
{
	struct machine_memory *memory = xnew(machine_memory);
	struct vm_status st;
	json_t *device;
	size_t i;

	vm_status(t->vm->vm, &st);
	*memory = (struct machine_memory){ .bytes = bytes, .saved_usec = now_usec(), .sha256 = xstrdup(sha256) };
	memory->qemu = is_sim(t) || !t->c->host.qemu.version ? NULL : xstrdup(t->c->host.qemu.version);
	memory->accel = st.accel ? xstrdup(st.accel) : NULL;
	memory->boot_bytes = (uint64_t)json_integer_value(json_object_get(t->data, "boot_bytes"));
	json_array_foreach(json_object_get(t->data, "devices"), i, device)
		*(char **)field_vec_add(&memory->devices, sizeof(char *)) = xstrdup(json_string_value(device) ?: "@");
	memory->disks = TAKE_VEC(*disks);
	row_write(t->vm, memory, step_done, t);
}

struct recording { struct task *t; uint64_t bytes; char *sha256; };

static void looked(void *arg, struct field_vec *disks, const struct err *e)
{
	struct recording *r = arg;

	if (e)
		task_step_end(r->t, e);
	else
		record(r->t, r->bytes, r->sha256, disks);
	free(r->sha256);
	free(r);
}

static void published(void *arg, uint64_t bytes, const char *sha256, const struct err *e)
{
	struct recording *r;

	if (e) {
		task_step_end(arg, e);
		return;
	}
	r = xnew(recording);
	*r = (struct recording){ arg, bytes, xstrdup(sha256) };
	saved_disks_look(r->t->vm, looked, r);
}

static void record_run(struct task *t)
{
	struct datastore *ds;
	struct dspath p;
	struct err e = {};

	if (t->vm->memory) {
		task_step_end(t, NULL);
	} else if (!is_alive(t)) {
		fail(&e, ERR_INTERRUPTED, "%s has ended before its memory was safe", t->vm->name);
		task_step_end(t, &e);
	} else if (is_sim(t)) {
		record(t, 0, "", &(struct field_vec){});
	} else if (file_of(t->vm, &ds, &p, &e) < 0) {
		task_step_end(t, &e);
	} else {
		memfile_publish(ds, p.path, t->c->home_id, published, t);
	}
}

/* It is suspended whatever happens now: a process that the kernel holds is gone some day. */
static void away_done(void *arg, const struct err *e)
{
	struct task *t = arg;

	if (e)
		log_warn("%s is suspended, but its process is not gone: %s", t->vm->name, e->msg);
	task_step_end(t, NULL);
}

static void away_run(struct task *t)
{
	struct err e = {};

	if (!is_alive(t))
		task_step_end(t, NULL);
	else if (vm_put_away(t->vm->vm, away_done, t, &e) < 0)
		away_done(t, &e);
}

static const struct step suspend_steps[] = {
	{ "save the guest's memory", save_run, save_undo, 8, STEP_UNDO },
	{ "make it durable", record_run, NULL, 3, STEP_REDO },
	{ "end QEMU", away_run, NULL, 1, STEP_REDO },
	{}
};
const struct task_kind task_vm_suspend = { "vm.suspend", suspend_steps, .cancellable = true };

/* ---- wake: what a start of a suspended VM is */

struct waking { struct task *t; int fd; };

static void wake_run(struct task *t);

static void wake_planned(void *arg, struct vm_launch *l, const struct err *e)
{
	struct waking *w = arg;
	struct task *t = w->t;

	if (e) {
		struct err err = *e;

		if (!*err.hint && e->code != ERR_CANCELLED)
			err_hint(&err, "vmctl discard %s throws the saved memory away; then it starts anew", t->vm->name);
		close_at(&w->fd);
		task_step_end(t, &err);
	} else {
		l->resumes = true;
		l->memory = TAKE_FD(w->fd);
		l->memory_bytes = t->vm->memory->bytes;
		task_launch(t, l);
	}
	free(w);
}

static void wake_looked(void *arg, struct field_vec *disks, const struct err *e)
{
	struct waking *w = arg;
	struct err err = e ? *e : (struct err){};

	if (!e && saved_disks_same(w->t->vm, disks, &err) == 0) {
		machine_plan(w->t->vm, wake_planned, w);
		return;
	}
	close_at(&w->fd);
	task_step_end(w->t, &err);
	free(w);
}

static void wake_opened(void *arg, int *fd, const struct err *e)
{
	struct task *t = arg;
	struct err err;

	if (e) {
		err = *e;
		err_hint(&err, "vmctl discard %s throws the saved memory away; then it starts anew", t->vm->name);
		task_step_end(t, &err);
		return;
	}
	struct waking *w = xnew(waking);

	*w = (struct waking){ t, TAKE_FD(*fd) };
	saved_disks_look(t->vm, wake_looked, w);
}

/* QEMU loads only what the same QEMU has saved: anything else may seem to work. */
static int check(const struct machine *m, struct err *e)
{
	const struct host *h = &m->c->host;
	const char *accel = vm_spec_accel(machine_built(m), h) == VM_ACCEL_KVM ? "kvm" : "tcg";

	if (!m->memory->qemu || !m->memory->accel || !m->memory->sha256)
		return fail(e, ERR_STATE, "nothing is known of the saved memory of %s", m->name);
	if (!h->qemu.version || strcmp(m->memory->qemu, h->qemu.version) != 0)
		fail(e, ERR_STATE, "the memory of %s was saved by QEMU %s, and this host has %s now", m->name, m->memory->qemu,
		     h->qemu.version ?: "none");
	else if (strcmp(m->memory->accel, accel) != 0)
		fail(e, ERR_STATE, "the memory of %s was saved by %s, and it would be run by %s now", m->name, m->memory->accel, accel);
	else
		return 0;
	return err_hint(e, "bring that back, or throw the memory away: vmctl discard %s", m->name);
}

static void wake_sim(void *arg, const struct err *e)
{
	struct task *t = arg;
	struct err err = {};

	if (e)
		task_step_end(t, e);
	else if (vm_start(t->vm->vm, NULL, step_done, t, &err) < 0)
		task_step_end(t, &err);
}

static void wake_anew(void *arg, const struct err *e)
{
	if (e)
		task_step_end(arg, e);
	else
		wake_run(arg);
}

/* Found alive after a crash of croftd. While the row has the memory, nothing of the guest has run. */
static void wake_found(struct task *t)
{
	enum vm_state s = vm_state(t->vm->vm);
	struct err e = {};
	int r = 0;

	if (t->vm->memory)
		r = vm_poweroff(t->vm->vm, wake_anew, t, &e);
	else if (s == VM_PAUSED)
		r = vm_resume(t->vm->vm, step_done, t, &e);
	else
		task_step_end(t, NULL);
	if (r < 0)
		task_step_end(t, &e);
}

static void wake_run(struct task *t)
{
	struct machine *m = t->vm;
	struct datastore *ds;
	struct dspath p;
	struct vm_status st;
	struct err e = {};

	if (is_alive(t)) {
		wake_found(t);
	} else if (!m->memory) {
		vm_status(m->vm, &st);
		fail(&e, ERR_INTERRUPTED, "%s went on, and has ended since: %s", m->name, vm_why_help(st.last->why));
		task_step_end(t, &e);
	} else if (is_sim(t)) {
		suspend_forget(m, wake_sim, t);
	} else if (check(m, &e) < 0 || file_of(m, &ds, &p, &e) < 0) {
		task_step_end(t, &e);
	} else {
		memfile_open(ds, p.path, m->memory->bytes, m->memory->sha256, wake_opened, t);
	}
}

struct loaded { struct croft *c; char id[37]; struct machine_memory *memory; };

static void loaded_kept(void *arg, const struct err *e)
{
	if (e)
		log_error("what was saved of a VM that could not go on is not in its row any more: %s", e->msg);
}

static void loaded_forgot(void *arg, const struct err *e)
{
	struct loaded *l = arg;
	struct machine *m = inventory_get(l->c->inv, l->id);
	struct err err;

	if (m && !e && vm_state(m->vm) == VM_STARTING)
		vm_go(m->vm);
	else if (m && !e && !vm_state_alive(vm_state(m->vm)))	/* it has ended meanwhile, and has not run */
		row_write(m, TAKE(l->memory), loaded_kept, NULL);
	else if (m && e) {
		log_error("%s does not go on, since its row cannot be written: %s", m->name, e->msg);
		vm_poweroff(m->vm, NULL, NULL, &err);
	}
	if (l->memory)
		fields_fini(&machine_memory_fields, l->memory);
	free(l->memory);
	free(l);
}

void suspend_loaded(struct machine *m)
{
	struct loaded *l = xnew(loaded);

	if (m->task)
		m->task->cancelled = NULL;	/* from here on that would lose the memory */
	l->c = m->c;
	memcpy(l->id, m->id, sizeof l->id);
	l->memory = xnew(machine_memory);
	if (m->memory)
		fields_copy(&machine_memory_fields, m->memory, l->memory);
	suspend_forget(m, loaded_forgot, l);
}

/* What is left of it is overwritten by the next suspend, and goes with the VM. */
static void removed(void *arg, const struct err *e)
{
	struct task *t = arg;

	if (e)
		log_warn("the file " MACHINE_MEMORY_FILE " of %s stays: %s", t->vm->name, e->msg);
	task_step_end(t, NULL);
}

static void remove_run(struct task *t) { suspend_remove(t->vm, false, removed, t); }

static const struct step wake_steps[] = {
	{ "load the guest's memory", wake_run, NULL, 9, STEP_REDO, .up = true },
	{ "remove the saved memory", remove_run, NULL, 1, STEP_REDO },
	{}
};
const struct task_kind task_vm_wake = { "vm.wake", wake_steps, .cancellable = true };

const struct task_kind *task_start_kind(const struct machine *m)
{
	return m && m->memory ? &task_vm_wake : &task_vm_start;
}

/* ---- discard */

static void discarded(void *arg, const struct err *e)
{
	struct task *t = arg;
	struct err err = {};

	if (!e && vm_state(t->vm->vm) == VM_SUSPENDED && vm_discard(t->vm->vm, &err) < 0)
		e = &err;
	task_step_end(t, e);
}

static void discard_run(struct task *t)
{
	if (t->vm->memory)
		suspend_forget(t->vm, discarded, t);
	else
		discarded(t, NULL);
}

static const struct step discard_steps[] = {
	{ "forget the saved memory", discard_run, NULL, 1, STEP_REDO },
	{ "remove the saved memory", remove_run, NULL, 1, STEP_REDO },
	{}
};
const struct task_kind task_vm_discard = { "vm.discard", discard_steps };
