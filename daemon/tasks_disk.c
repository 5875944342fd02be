/* tasks_disk.c: the kinds of tasks on one disk of a VM. The row says first what is wanted; what runs follows it
 * (machine_hot). args: name; of disk-add: disk, id; of disk-remove: disk; of disk-grow: size_bytes, was_bytes. */
#include <stdio.h>
#include <string.h>
#include "image.h"
#include "machine_hot.h"
#include "machine_row.h"
#include "mem.h"
#include "tasks_disk.h"

#define LET_GO_USEC	30000000	/* the guest's time to let go of a disk; it is asked again at half of it */

static const char *arg_text(const struct task *t, const char *key) { return json_string_value(json_object_get(t->args, key)) ?: ""; }
static uint64_t arg_u64(const struct task *t, const char *key) { return (uint64_t)json_integer_value(json_object_get(t->args, key)); }
static bool is_real(const struct task *t) { return t->vm->spec.engine != VM_ENGINE_SIM; }
static void step_done(void *arg, const struct err *e) { task_step_end(arg, e); }

static struct vm_disk *disk_in(const struct vm_spec *s, const struct task *t)
{
	return field_vec_find(&s->disks, sizeof(struct vm_disk), arg_text(t, "name"));
}

static bool runs(const struct task *t) { return t->vm->vm && vm_state_alive(vm_state(t->vm->vm)); }

/* As the guest that runs has it. */
static const struct vm_disk *disk_now(const struct task *t) { return disk_in(t->vm->started ?: &t->vm->spec, t); }

/* The runner is busy, or will be when the VM that croftd has found running, or is starting, has come so far. */
static bool at_work(const struct task *t)
{
	enum vm_state s = t->vm->vm ? vm_state(t->vm->vm) : VM_OFF;

	return machine_hot_busy(t->vm) || s == VM_ATTACHING || s == VM_STARTING;
}

/* The disk as the request said it, or as it was. */
static int disk_arg(const struct task *t, struct vm_disk *ret, struct err *e)
{
	return fields_decode(&vm_disk_fields, json_object_get(t->args, "disk"), FIELDS_STORED, ret, e);
}

/* Its place: the file, on its datastore. A path that the row has, else NAME.qcow2 in the VM's folder. */
static int place(const struct task *t, const struct vm_disk *d, struct datastore **ds, struct dspath *p, struct err *e)
{
	AUTO_FREE char *text = d && d->path ? xstrdup(d->path) : xasprintf("%s/%s.qcow2", t->vm->folder, arg_text(t, "name"));

	return stores_path(t->c, text, ds, p, e);
}

/* ---- making one */

static bool is_raw(const char *path)
{
	size_t n = strlen(path);

	return n > 4 && (strcmp(path + n - 4, ".raw") == 0 || strcmp(path + n - 4, ".img") == 0);
}

int disk_make(struct croft *c, struct datastore *ds, const struct volume_new *v, const char *source,
	      void (*progress)(void *arg, unsigned permille), storage_done done, void *arg, struct volume_copy **ret_copy,
	      struct err *e)
{
	struct volume_source from = {};
	struct dspath p;
	int r;

	*ret_copy = NULL;
	if (!source) {
		volume_create(ds, v, done, arg);
		return 0;
	}
	r = stores_path(c, source, &from.ds, &p, e);
	if (r < 0)
		return r;
	from.path = p.path;
	from.format = is_raw(p.path) ? IMAGE_RAW : IMAGE_QCOW2;
	*ret_copy = volume_copy(ds, v, &from, progress, done, arg);
	return 0;
}

static void on_progress(void *arg, unsigned permille) { task_share(arg, permille / 1000.0); }

static void on_measured(void *arg, const struct image_info *info, const struct err *e)
{
	struct task *t = arg;

	if (!e)
		json_object_set_new(t->data, "size_bytes", json_integer((json_int_t)info->virtual_bytes));
	task_step_end(t, e);
}

static void on_made(void *arg, const struct err *e)
{
	struct task *t = arg;
	struct datastore *ds;
	struct dspath p;
	struct err err = {};

	t->run = NULL;
	t->cancelled = NULL;
	if (e)
		task_step_end(t, e);
	else if (place(t, NULL, &ds, &p, &err) < 0)
		task_step_end(t, &err);
	else
		volume_inspect(ds, p.path, IMAGE_QCOW2, on_measured, t);	/* as large as its source */
}

static void cancel_copy(struct task *t)
{
	if (t->run)
		volume_copy_cancel(t->run);
}

static void make_run(struct task *t)
{
	struct vm_disk d = {};
	struct datastore *ds;
	struct dspath p;
	struct volume_copy *copy = NULL;
	struct err e = {};

	if (disk_arg(t, &d, &e) == 0 && place(t, NULL, &ds, &p, &e) == 0) {
		struct volume_new v = { .path = p.path, .id = arg_text(t, "id"), .bytes = d.size_bytes };

		disk_make(t->c, ds, &v, d.source, on_progress, on_made, t, &copy, &e);
		t->run = copy;
		t->cancelled = copy ? cancel_copy : NULL;
	}
	fields_fini(&vm_disk_fields, &d);
	if (e.code)
		task_step_end(t, &e);
}

/* What the row or the guest has, or is given right now, is not deleted: rather a file too many. */
static void make_undo_changed(struct task *t)
{
	struct datastore *ds;
	struct dspath p;
	struct err e = {};

	if (at_work(t))
		return;
	t->vm_changed = NULL;
	if (disk_in(&t->vm->spec, t) || (runs(t) && disk_now(t)))
		fail(&e, ERR_BUSY, "%s has the disk %s: its file stays", t->vm->name, arg_text(t, "name"));
	if (e.code || place(t, NULL, &ds, &p, &e) < 0)
		task_step_end(t, &e);
	else
		volume_undo(ds, p.path, arg_text(t, "id"), step_done, t);
}

static void make_undo(struct task *t)
{
	t->vm_changed = make_undo_changed;
	make_undo_changed(t);
}

/* ---- the row */

static void put_disk(struct task *t, bool made)
{
	struct machine as;
	struct vm_disk d = {};
	struct err e = {};

	if (disk_in(&t->vm->spec, t)) {		/* the croftd before came so far */
		task_step_end(t, NULL);
		return;
	}
	if (disk_arg(t, &d, &e) < 0) {
		task_step_end(t, &e);
		return;
	}
	if (made && is_real(t)) {
		free(d.path);
		d.path = xasprintf("%s/%s.qcow2", t->vm->folder, d.name);
		d.size_bytes = (uint64_t)json_integer_value(json_object_get(t->data, "size_bytes"));
	}
	if (made) {
		free(d.source);			/* from now on it is a disk that exists */
		d.source = NULL;
	}
	machine_row_copy(t->vm, &as);
	*(struct vm_disk *)field_vec_add(&as.spec.disks, sizeof(d)) = d;
	vm_spec_freeze(&as.spec, &t->c->host, t->vm->id);
	machine_row_change(t->vm, &as, NULL, step_done, t);
}

static void take_disk(struct task *t)
{
	AUTO_FREE char *pointer = xasprintf("/disks/%s", arg_text(t, "name"));
	const struct vm_spec without = {};
	struct machine as;

	if (!disk_in(&t->vm->spec, t)) {
		task_step_end(t, NULL);
		return;
	}
	machine_row_copy(t->vm, &as);
	fields_adopt(&vm_spec_fields, &as.spec, &without, pointer);
	machine_row_change(t->vm, &as, NULL, step_done, t);
}

static void put_new(struct task *t) { put_disk(t, true); }
static void put_back(struct task *t) { put_disk(t, false); }

/* ---- what runs: it follows the row by itself, and a task only waits for that */

static const struct hot_reason *why_not(const struct task *t, const char *row)
{
	AUTO_FREE char *pointer = xasprintf("/disks/%s%s", arg_text(t, "name"), row);

	return machine_hot_reason(t->vm, pointer);
}

/* Plugged in or pending, with its reason in the VM: the VM has the disk either way. */
static void plug_changed(struct task *t)
{
	if (!at_work(t))
		task_step_end(t, NULL);
}

static void plug_run(struct task *t)
{
	t->vm_changed = plug_changed;
	machine_hot(t->vm, false);
	plug_changed(t);
}

static const struct step add_steps[] = {
	{ "make the disk", make_run, make_undo, 20, STEP_REDO, is_real },
	{ "write it down", put_new, take_disk, 1, STEP_REDO, .final = true },	/* what runs follows the row at once */
	{ "plug it in", plug_run, NULL, 2, STEP_REDO, runs },
	{}
};
const struct task_kind task_vm_disk_add = { "vm.disk-add", add_steps, .cancellable = true };

static void let_go_changed(struct task *t)
{
	const struct hot_reason *r = why_not(t, "");
	struct err e = {};

	if (!runs(t) || !disk_now(t)) {
		task_step_end(t, NULL);
	} else if (!at_work(t) && (!r || r->code != ERR_TIMEOUT)) {
		fail(&e, ERR_STATE, "%s keeps the disk %s: %s", t->vm->name, arg_text(t, "name"),
		     r ? r->text : "it cannot be changed in its state");
		err_hint(&e, "shut %s down, and remove the disk then", t->vm->name);
		task_step_end(t, &e);
	}
}

static void let_go_late(void *arg)
{
	struct task *t = arg;
	struct err e = {};

	if (!json_object_get(t->data, "asked")) {
		json_object_set_new(t->data, "asked", json_true());
		timer_arm(&t->deadline, t->c->ev, LET_GO_USEC / 2, let_go_late, t);
		machine_hot(t->vm, false);
		return;
	}
	fail(&e, ERR_STATE, "the guest %s did not let go of the disk %s within %u s", t->vm->name, arg_text(t, "name"),
	     LET_GO_USEC / 1000000);
	err_hint(&e, "it may be mounted there: unmount it, or shut %s down, and remove the disk then", t->vm->name);
	task_step_end(t, &e);
}

static void let_go(struct task *t)
{
	t->vm_changed = let_go_changed;
	timer_arm(&t->deadline, t->c->ev, LET_GO_USEC / 2, let_go_late, t);
	machine_hot(t->vm, false);
	let_go_changed(t);
}

static void delete_run(struct task *t)
{
	struct vm_disk d = {};
	struct datastore *ds;
	struct dspath p;
	struct err e = {};

	if (disk_arg(t, &d, &e) == 0 && place(t, &d, &ds, &p, &e) == 0)
		volume_delete(ds, p.path, step_done, t);
	fields_fini(&vm_disk_fields, &d);
	if (e.code)
		task_step_end(t, &e);
}

static const struct step remove_steps[] = {
	{ "take it out of the configuration", take_disk, put_back, 1, STEP_REDO },
	{ "wait until the guest has let go of it", let_go, NULL, 5, STEP_REDO },
	{ "delete its file", delete_run, NULL, 2, STEP_REDO, is_real },
	{}
};
const struct task_kind task_vm_disk_remove = { "vm.disk-remove", remove_steps };

/* ---- growing */

static void set_size(struct task *t, uint64_t bytes)
{
	struct machine as;

	if (!disk_in(&t->vm->spec, t) || disk_in(&t->vm->spec, t)->size_bytes == bytes) {
		task_step_end(t, NULL);
		return;
	}
	machine_row_copy(t->vm, &as);
	disk_in(&as.spec, t)->size_bytes = bytes;
	machine_row_change(t->vm, &as, NULL, step_done, t);
}

static void size_run(struct task *t) { set_size(t, arg_u64(t, "size_bytes")); }
static void size_undo(struct task *t) { set_size(t, arg_u64(t, "was_bytes")); }

static void grow_file(struct task *t)
{
	const struct vm_disk *d = disk_in(&t->vm->spec, t);
	struct datastore *ds;
	struct dspath p;
	struct err e = {};

	t->vm_changed = NULL;
	if (place(t, d, &ds, &p, &e) < 0)
		task_step_end(t, &e);
	else
		volume_grow(ds, p.path, arg_u64(t, "size_bytes"), step_done, t);
}

static void grow_changed(struct task *t)
{
	const struct vm_disk *d = disk_now(t);
	const struct hot_reason *r = why_not(t, "/size_bytes");
	struct err e = {};

	if (!runs(t) || !d) {
		grow_file(t);
	} else if (d->size_bytes == arg_u64(t, "size_bytes")) {
		task_step_end(t, NULL);
	} else if (!at_work(t)) {
		fail(&e, ERR_STATE, "the disk %s did not grow: %s", arg_text(t, "name"),
		     r ? r->text : "the VM cannot be changed in its state");
		err_hint(&e, "try again, or with %s shut down", t->vm->name);
		task_step_end(t, &e);
	}
}

static void grow_run(struct task *t)
{
	if (!is_real(t)) {
		task_step_end(t, NULL);
		return;
	}
	t->vm_changed = grow_changed;
	machine_hot(t->vm, false);
	grow_changed(t);
}

static const struct step grow_steps[] = {
	{ "write the size down", size_run, size_undo, 1, STEP_REDO },
	{ "grow the disk", grow_run, NULL, 5, STEP_REDO },
	{}
};
const struct task_kind task_vm_disk_grow = { "vm.disk-grow", grow_steps };
