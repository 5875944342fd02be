/* tasks_files.c: creating a VM (its folder, disks, UEFI variables, descriptor) and deleting it again. */
#include <stdio.h>
#include <string.h>
#include "image.h"
#include "log.h"
#include "mem.h"
#include "run.h"
#include "stores.h"
#include "suspend.h"
#include "tasks_disk.h"
#include "tasks_vm.h"
#include "text.h"
#include "vmfolder.h"
#include "volume.h"

#define VARS "uefi-vars.qcow2"

static const char *text_of(const json_t *o, const char *key) { return json_string_value(json_object_get(o, key)) ?: ""; }

json_t *task_vm_create_args(const struct machine *m, bool start)
{
	json_t *args = json_object(), *ids = json_object();
	char id[37];

	for (size_t i = 0; i < m->spec.disks.n; i++) {
		text_uuid_random(id);
		json_object_set_new(ids, VM_DISKS(&m->spec)[i].name, json_string(id));
	}
	text_uuid_random(id);
	json_object_set_new(args, "vars", json_string(id));
	json_object_set_new(args, "disks", ids);
	json_object_set_new(args, "start", json_boolean(start));
	return args;
}

static bool is_real(const struct task *t) { return t->vm->spec.engine != VM_ENGINE_SIM; }
static bool has_disks(const struct task *t) { return is_real(t) && t->vm->spec.disks.n > 0; }
static bool has_vars(const struct task *t) { return is_real(t) && t->vm->spec.firmware == VM_FIRMWARE_UEFI; }

/* The folder is on the datastore of the first disk that was said, else on the first datastore. */
static struct datastore *home_of(const struct task *t)
{
	const char *folder = text_of(t->data, "datastore");
	struct store *s = *folder ? stores_get(t->c, folder) : NULL;

	return (s ?: stores_at(t->c, 0))->ds;
}

static void file_of(const struct task *t, const char *name, char out[DSPATH_MAX + 1])
{
	snprintf(out, DSPATH_MAX + 1, "%s/%s", text_of(t->data, "folder"), name);
}

static void step_done(void *arg, const struct err *e) { task_step_end(arg, e); }

/* ---- folder */

static void folder_made(void *arg, const char *folder, const struct err *e)
{
	struct task *t = arg;

	if (!e) {
		json_object_set_new(t->data, "folder", json_string(folder));
		json_object_set_new(t->data, "datastore", json_string(home_of(t)->name));
	}
	task_step_end(t, e);
}
static void folder_make(struct task *t) { vmfolder_create(home_of(t), t->target_name, t->target, folder_made, t); }
static void folder_undo(struct task *t)
{
	if (*text_of(t->data, "folder"))
		vmfolder_remove(home_of(t), text_of(t->data, "folder"), t->target, step_done, t);
	else
		task_step_end(t, NULL);
}

/* ---- disks, one after the other */

struct walk {
	struct task *t;
	size_t at;
	struct volume_copy *copy;
	uint64_t copied, total;		/* bytes: of the copies before; of this one */
};

static void disk_next(struct walk *w);
static void walk_end(struct walk *w, const struct err *e)
{
	struct task *t = w->t;

	free(w);
	task_step_end(t, e);
}

static const struct vm_disk *disk_at(const struct walk *w) { return &VM_DISKS(&w->t->vm->spec)[w->at]; }

static void disk_path(const struct walk *w, char out[DSPATH_MAX + 1])
{
	char name[80];

	snprintf(name, sizeof name, "%s.qcow2", disk_at(w)->name);
	file_of(w->t, name, out);
}

/* As large as its source: now that is known, and the row shall say it. */
static void disk_measured(void *arg, const struct image_info *info, const struct err *e)
{
	struct walk *w = arg;
	json_t *data = w->t->data;

	if (e) {
		walk_end(w, e);
		return;
	}
	if (!json_object_get(data, "sizes"))
		json_object_set_new(data, "sizes", json_object());
	json_object_set_new(json_object_get(data, "sizes"), disk_at(w)->name, json_integer((json_int_t)info->virtual_bytes));
	w->at++;
	disk_next(w);
}

static void disk_made(void *arg, const struct err *e)
{
	struct walk *w = arg;
	char path[DSPATH_MAX + 1];

	w->copy = NULL;
	w->copied += w->total;
	w->total = 0;
	w->t->cancelled = NULL;
	if (e) {
		walk_end(w, e);
	} else if (!disk_at(w)->size_bytes) {
		disk_path(w, path);
		volume_inspect(home_of(w->t), path, IMAGE_QCOW2, disk_measured, w);
	} else {
		w->at++;
		disk_next(w);
	}
}

static void disk_progress(void *arg, unsigned permille)
{
	struct walk *w = arg;

	if (!w->copy)
		return;
	w->total = volume_copy_total(w->copy);
	task_bytes(w->t, w->copied + w->total / 1000 * permille, w->copied + w->total);
	task_share(w->t, ((double)w->at + permille / 1000.0) / (double)w->t->vm->spec.disks.n);
}

static void disk_cancelled(struct task *t)
{
	struct walk *w = t->run;

	if (w && w->copy)
		volume_copy_cancel(w->copy);
}

static void disk_next(struct walk *w)
{
	struct task *t = w->t;
	const struct vm_disk *d = disk_at(w);
	char path[DSPATH_MAX + 1];
	struct err e = {};

	if (w->at == t->vm->spec.disks.n) {
		walk_end(w, NULL);
		return;
	}
	disk_path(w, path);
	struct volume_new v = { .path = path, .id = text_of(json_object_get(t->args, "disks"), d->name), .bytes = d->size_bytes };

	if (disk_make(t->c, home_of(t), &v, d->source, disk_progress, disk_made, w, &w->copy, &e) < 0)
		walk_end(w, &e);
	else if (w->copy)
		t->cancelled = disk_cancelled;
}

static void disks_make(struct task *t)
{
	struct walk *w = t->run = xnew(walk);

	w->t = t;
	disk_next(w);
}

static void disk_undone(void *arg, const struct err *e);
static void disk_undo_next(struct walk *w)
{
	struct task *t = w->t;
	char path[DSPATH_MAX + 1];

	if (w->at == t->vm->spec.disks.n) {
		walk_end(w, NULL);
		return;
	}
	disk_path(w, path);
	volume_undo(home_of(t), path, text_of(json_object_get(t->args, "disks"), disk_at(w)->name), disk_undone, w);
}
static void disk_undone(void *arg, const struct err *e)
{
	struct walk *w = arg;

	w->at++;
	disk_undo_next(w);
}
static void disks_undo(struct task *t)
{
	struct walk *w = xnew(walk);

	w->t = t;
	disk_undo_next(w);
}

/* ---- UEFI variables */

static void vars_make(struct task *t)
{
	char path[DSPATH_MAX + 1];
	struct volume_new v = { .path = path, .id = text_of(t->args, "vars"), .bytes = t->c->host.firmware.vars_bytes };

	file_of(t, VARS, path);
	volume_create_vars(home_of(t), &v, t->c->host.firmware.vars, step_done, t);
}
static void vars_undo(struct task *t)
{
	char path[DSPATH_MAX + 1];

	file_of(t, VARS, path);
	volume_undo(home_of(t), path, text_of(t->args, "vars"), step_done, t);
}

/* ---- descriptor: the row as it will be */

static void fill_paths(struct task *t, struct vm_spec *s)
{
	char name[80];
	struct dspath p = {};

	snprintf(p.datastore, sizeof p.datastore, "%s", text_of(t->data, "datastore"));
	for (size_t i = 0; i < s->disks.n; i++) {
		struct vm_disk *d = &VM_DISKS(s)[i];
		char text[DSPATH_TEXT];

		snprintf(name, sizeof name, "%s.qcow2", d->name);
		file_of(t, name, p.path);
		dspath_format(&p, text);
		free(d->path);
		d->path = xstrdup(text);
		if (!d->size_bytes)
			d->size_bytes = (uint64_t)json_integer_value(json_object_get(json_object_get(t->data, "sizes"), d->name));
		free(d->source);		/* from now on it is a disk that exists */
		d->source = NULL;
	}
}

/* Memory has the paths from now on; the row gets them with the task's end, whose event tells them. */
static void described(void *arg, const struct err *e)
{
	struct task *t = arg;

	if (!e) {
		fill_paths(t, &t->vm->spec);
		free(t->vm->folder);
		t->vm->folder = xstrdup(text_of(t->data, "path"));
		machine_changed(t->vm);
	}
	task_step_end(t, e);
}

static void describe(struct task *t)
{
	struct machine row = *t->vm;
	struct buf b AUTO_BUF = BUF_INIT(1024 * 1024), config AUTO_BUF = BUF_INIT(1024 * 1024);
	struct jw w = JW(&config);
	char folder[DSPATH_TEXT];
	struct dspath p = {};

	snprintf(p.datastore, sizeof p.datastore, "%s", text_of(t->data, "datastore"));
	snprintf(p.path, sizeof p.path, "%s", text_of(t->data, "folder"));
	dspath_format(&p, folder);
	row.spec = (struct vm_spec){};
	fields_copy(&vm_spec_fields, &t->vm->spec, &row.spec);
	fill_paths(t, &row.spec);
	row.folder = folder;
	fields_encode(&vm_spec_fields, &row.spec, &w, NULL);
	json_object_set_new(t->data, "config", json_string(config.data));
	json_object_set_new(t->data, "path", json_string(folder));
	machine_write_row(&row, &b);
	fields_fini(&vm_spec_fields, &row.spec);
	vmfolder_describe(home_of(t), p.path, t->target, b.data, b.len, described, t);
}

static int create_commit(struct change *ch, struct db_tx *tx, struct task *t, struct err *e)
{
	const char *config = json_string_value(json_object_get(t->data, "config"));
	int r = !config ? 0 : db_exec(tx, e, "UPDATE vms SET config = ?, folder = ? WHERE id = ?", "sss", config,
				      text_of(t->data, "path"), t->target);

	return r >= 0 && json_is_true(json_object_get(t->args, "start")) ? task_follow(ch, tx, t, &task_vm_start, e) : r;
}

static int remove_commit(struct change *ch, struct db_tx *tx, struct task *t, struct err *e)
{
	buf_adds(change_event(ch, "vm.deleted", t->target), "");
	return db_exec(tx, e, "DELETE FROM vms WHERE id = ?", "s", t->target);
}

static void remove_apply(struct task *t)
{
	struct machine *m = TAKE(t->vm);

	m->task = NULL;
	inventory_remove(t->c->inv, m);
}

static const struct step create_steps[] = {
	{ "make the folder", folder_make, folder_undo, 1, STEP_REDO, is_real },
	{ "make the disks", disks_make, disks_undo, 20, STEP_REDO, has_disks },
	{ "make the UEFI variables", vars_make, vars_undo, 2, STEP_REDO, has_vars },
	{ "write the descriptor", describe, NULL, 1, STEP_REDO, is_real },
	{}
};
const struct task_kind task_vm_create = {
	"vm.create", create_steps, .cancellable = true, .created = true, .commit = create_commit,
	.fail_commit = remove_commit, .fail_apply = remove_apply,
};

/* ---- delete */

static void split_folder(struct task *t)
{
	struct dspath p;
	struct err e;

	if (t->vm->folder && dspath_parse(t->vm->folder, &p, &e) == 0) {
		json_object_set_new(t->data, "folder", json_string(p.path));
		json_object_set_new(t->data, "datastore", json_string(p.datastore));
	}
}

static bool has_folder(const struct task *t) { return t->vm->folder && *t->vm->folder; }

static void disk_deleted(void *arg, const struct err *e)
{
	struct walk *w = arg;
	char path[DSPATH_MAX + 1];

	if (e) {
		walk_end(w, e);
		return;
	}
	if (w->at > w->t->vm->spec.disks.n) {
		walk_end(w, NULL);
	} else if (w->at == w->t->vm->spec.disks.n) {
		w->at++;
		file_of(w->t, VARS, path);
		volume_delete(home_of(w->t), path, disk_deleted, w);
	} else {
		const struct vm_disk *d = &VM_DISKS(&w->t->vm->spec)[w->at++];
		struct datastore *ds;
		struct dspath p;
		struct err err = {};

		if (!d->path)
			disk_deleted(w, NULL);
		else if (stores_path(w->t->c, d->path, &ds, &p, &err) < 0)
			walk_end(w, &err);
		else
			volume_delete(ds, p.path, disk_deleted, w);
	}
}

static void disks_delete(struct task *t)
{
	struct walk *w = xnew(walk);
	struct err e = {};

	split_folder(t);
	w->t = t;
	if (datastore_usable(home_of(t), &e) < 0)
		walk_end(w, &e);
	else
		disk_deleted(w, NULL);
}

static void folder_delete(struct task *t)
{
	split_folder(t);
	vmfolder_remove(home_of(t), text_of(t->data, "folder"), t->target, step_done, t);
}

/* What the last run left behind goes too, or the next croftd would find a folder without a row. */
struct clearing { struct job job; struct task *t; int run_fd; };

static int clear_work(struct job *j, struct err *e)
{
	struct clearing *cl = (struct clearing *)j;

	return run_remove(cl->run_fd, cl->t->target, e);
}

static void clear_done(struct job *j, const struct err *e)
{
	task_step_end(((struct clearing *)j)->t, e);
	free(j);		/* @e is in it */
}

static void run_clear(struct task *t)
{
	struct clearing *cl = xnew(clearing);

	cl->t = t;
	cl->run_fd = inventory_run_fd(t->c->inv);
	lane_run(stores_at(t->c, 0)->ds->lane, &cl->job, clear_work, clear_done);
}

static void memory_delete(struct task *t) { suspend_remove(t->vm, true, step_done, t); }

static const struct step delete_steps[] = {
	{ "clear the run folder", run_clear, NULL, 1, STEP_REDO, is_real },
	{ "delete a saved memory", memory_delete, NULL, 1, STEP_REDO, has_folder },
	{ "delete the disks", disks_delete, NULL, 5, STEP_REDO, has_folder },
	{ "delete the folder", folder_delete, NULL, 1, STEP_REDO, has_folder },
	{}
};
const struct task_kind task_vm_delete = {
	"vm.delete", delete_steps, .gone = true, .commit = remove_commit, .apply = remove_apply,
};
