/* doctor_stores.c: what the doctor sees on datastores: files that rows name and that are missing, folders and temporary
 * files that no row stands for, room that runs out. */
#include <stdio.h>
#include <string.h>
#include "doctor.h"
#include "lane.h"
#include "log.h"
#include "mem.h"
#include "survey.h"
#include "text.h"

#define STUCK_USEC	5000000
#define FRESH_USEC	(600 * 1000000ll)	/* a temporary file may be in use for so long without being written to */
#define SWEEP_USEC	(3600 * 1000000ll)
#define VARS		"uefi-vars.qcow2"

struct visit {
	struct exam_part *part;
	const struct store *s;
	char *after;			/* name of the VM that was looked at last */
};

static char *path_on(const struct datastore *ds, const char *path)
{
	AUTO_FREE char *whole = xasprintf("%s/%s", ds->path, path);

	return shell_quote(whole);
}

static void visit_end(struct visit *v)
{
	struct exam_part *part = v->part;

	free(v->after);
	free(v);
	exam_part_end(part);
}

/* ---- what a VM's row names */

static void want(struct survey_vm *vm, const struct croft *c, const struct store *s, const char *text, const char *name)
{
	char whole[DSPATH_TEXT + 64];
	struct dspath p;
	struct err e;

	if (!text || !*text)
		return;
	snprintf(whole, sizeof whole, "%s%s%s", text, name ? "/" : "", name ?: "");
	if (dspath_parse(whole, &p, &e) == 0 && stores_get(c, p.datastore) == s)
		*(char **)field_vec_add(&vm->files, sizeof(char *)) = xstrdup(p.path);
}

static struct survey_vm *wanted(const struct machine *m, const struct store *s)
{
	const struct vm_spec *spec = &m->spec;
	struct survey_vm *vm = xnew(survey_vm);
	struct dspath p;
	struct err e;

	memcpy(vm->uuid, m->id, sizeof vm->uuid);
	vm->revision = m->revision;
	if (m->folder && dspath_parse(m->folder, &p, &e) == 0 && stores_get(m->c, p.datastore) == s)
		vm->folder = xstrdup(p.path);
	for (size_t i = 0; i < spec->disks.n; i++)
		want(vm, m->c, s, VM_DISKS(spec)[i].path, NULL);
	for (size_t i = 0; i < spec->cdroms.n; i++)
		want(vm, m->c, s, VM_CDROMS(spec)[i].iso, NULL);
	if (spec->firmware == VM_FIRMWARE_UEFI)
		want(vm, m->c, s, m->folder, VARS);
	want(vm, m->c, s, spec->kernel.image, NULL);
	want(vm, m->c, s, spec->kernel.initrd, NULL);
	return vm;
}

/* ---- what of it is there */

static void tell_descriptor(struct exam *x, const struct machine *m, const struct survey_vm *vm)
{
	static const char *const words[] = { [DESCRIPTOR_MISSING] = "missing", [DESCRIPTOR_BROKEN] = "not readable",
		[DESCRIPTOR_OLDER] = "older than its row", [DESCRIPTOR_OTHER] = "another VM's" };
	AUTO_FREE char *hint = xasprintf("vmctl set %s description='...'  # each change of a VM writes it anew", m->name);
	struct vm_spec spec = {};
	struct err e;

	if (vm->descriptor != DESCRIPTOR_SAME) {
		exam_find(x, SEVERITY_WARNING, "vm-descriptor", m->name, hint,
			  "the descriptor of %s (%s/vm.croft.json) is %s: should the database be lost, %s cannot come back"
			  " as it is", m->name, m->folder, words[vm->descriptor], m->name);
		return;
	}
	if (fields_decode(&vm_spec_fields, vm->config, FIELDS_STORED, &spec, &e) < 0 || !fields_equal(&vm_spec_fields, &spec, &m->spec))
		exam_find(x, SEVERITY_WARNING, "vm-descriptor", m->name, hint,
			  "the descriptor of %s (%s/vm.croft.json) says something else than its row", m->name, m->folder);
	fields_fini(&vm_spec_fields, &spec);
}

static void tell_folder(struct exam *x, const struct store *s, const struct machine *m, const struct survey_vm *vm)
{
	AUTO_FREE char *path = path_on(s->ds, vm->folder), *mark = xasprintf("printf %%s %s >%s/.croft-vm", m->id, path);
	AUTO_FREE char *rm = xasprintf("vmctl rm %s", m->name);

	if (!vm->folder_there) {
		exam_find(x, SEVERITY_ERROR, "vm-folder-missing", m->name, rm, "the folder of %s, %s, is not there", m->name, m->folder);
		return;
	}
	if (!vm->marked)
		exam_find(x, SEVERITY_ERROR, "vm-folder-not-marked", m->name, mark, "the folder of %s, %s, does not say that it is its own",
			  m->name, m->folder);
	tell_descriptor(x, m, vm);
}

static void next_vm(struct visit *v);

static void vm_seen(void *arg, struct survey_vm *vm, const struct err *e)
{
	struct visit *v = arg;
	struct exam *x = exam_of(v->part);
	const struct machine *m = inventory_get(exam_croft(x)->inv, vm->uuid);

	if (e || exam_over(x) || exam_croft(x)->stopping) {
		visit_end(v);
		return;
	}
	exam_looked(x, vm->files.n + 1);
	if (m && !m->task && m->revision == vm->revision) {	/* else it is another now */
		if (vm->folder)
			tell_folder(x, v->s, m, vm);
		for (size_t i = 0; i < vm->missing.n; i++) {
			const char *path = ((char **)vm->missing.items)[i];
			AUTO_FREE char *object = xasprintf("[%s] %s", v->s->ds->name, path);
			AUTO_FREE char *hint = xasprintf("vmctl info %s  # bring the file back, or take it out of the VM", m->name);

			exam_find(x, SEVERITY_ERROR, "vm-file-missing", object, hint, "%s needs %s, which is not there", m->name, object);
		}
	}
	next_vm(v);
}

/* One after the other, so that others get their turn in the lane. */
static void next_vm(struct visit *v)
{
	struct exam *x = exam_of(v->part);
	const struct inventory *inv = exam_croft(x)->inv;

	for (size_t i = v->after ? inventory_after(inv, v->after) : 0; i < inventory_len(inv); i++) {
		const struct machine *m = inventory_at(inv, i);

		if (m->invalid || m->task || m->spec.engine == VM_ENGINE_SIM)
			continue;
		free(v->after);
		v->after = xstrdup(m->name);
		datastore_survey_vm(v->s->ds, wanted(m, v->s), vm_seen, v);
		return;
	}
	visit_end(v);
}

/* ---- what nobody names */

static bool is_folder_of(const struct croft *c, const struct machine *m, const struct store *s, const char *folder)
{
	struct dspath p;
	struct err e;

	return m->task || (m->folder && dspath_parse(m->folder, &p, &e) == 0 && stores_get(c, p.datastore) == s && !strcmp(p.path, folder));
}

static void tell_mark(struct exam *x, const struct store *s, const struct survey_mark *mark)
{
	const struct machine *m = inventory_get(exam_croft(x)->inv, mark->uuid);
	AUTO_FREE char *path = path_on(s->ds, mark->folder), *rm = xasprintf("rm -r %s", path);
	AUTO_FREE char *object = xasprintf("[%s] %s", s->ds->name, mark->folder);

	if (!*mark->uuid)
		exam_find(x, SEVERITY_WARNING, "folder-without-vm", object, rm, "%s is marked as a VM's folder, but not whose", object);
	else if (!m && !exam_knows(x, mark->uuid))
		exam_find(x, SEVERITY_WARNING, "folder-without-vm", object, rm,
			  "%s is the folder of the VM %s, which the database does not have; "
			  "what it was is in its vm.croft.json", object, mark->uuid);
	else if (m && !is_folder_of(exam_croft(x), m, s, mark->folder))
		exam_find(x, SEVERITY_WARNING, "folder-twice", object, rm,
			  "%s says that it is the folder of %s, whose folder is %s", object,
			  m->name, m->folder ?: "none");
}

static void surveyed(void *arg, const struct survey *found, const struct err *e)
{
	struct visit *v = arg;
	struct exam *x = exam_of(v->part);
	const struct survey_rest *rest = found->rests.items;

	if (e || exam_over(x) || exam_croft(x)->stopping) {
		if (e)
			exam_find(x, SEVERITY_ERROR, "datastore-unavailable", v->s->ds->name, NULL, "%s", e->msg);
		visit_end(v);
		return;
	}
	exam_looked(x, found->looked);
	for (size_t i = 0; i < found->marks.n; i++)
		tell_mark(x, v->s, &((struct survey_mark *)found->marks.items)[i]);
	for (size_t i = 0; i < found->rests.n; i++) {
		AUTO_FREE char *path = path_on(v->s->ds, rest[i].path), *rm = xasprintf("rm -r %s", path);
		char size[24];

		text_size_format(rest[i].used_bytes, size);
		if (!exam_knows(x, rest[i].id) && rest[i].modified < exam_began(x) - FRESH_USEC)
			exam_find(x, SEVERITY_NOTE, "leftover-file", rest[i].path, rm,
				  "%s on %s was left by %s that is no more, and takes %s",
				  rest[i].path, v->s->ds->name, rest[i].upload ? "an upload" : "a task", size);
	}
	if (found->cut)
		exam_find(x, SEVERITY_NOTE, "datastore-too-large", v->s->ds->name, NULL, "%s has more files than are looked at (%llu)",
			  v->s->ds->name, (unsigned long long)found->looked);
	next_vm(v);
}

/* ---- the datastore itself */

static void tell_room(struct exam *x, const struct datastore *ds)
{
	const struct datastore_status *st = &ds->status;
	unsigned used = st->capacity_bytes ? (unsigned)((st->capacity_bytes - st->free_bytes) * 100 / st->capacity_bytes) : 0;
	AUTO_FREE char *list = xasprintf("vmctl file ls %s", ds->name);
	char left[24];

	text_size_format(st->free_bytes, left);
	if (used >= 80)
		exam_find(x, used >= 95 ? SEVERITY_ERROR : used >= 90 ? SEVERITY_WARNING : SEVERITY_NOTE, "datastore-full", ds->name, list,
			  "%s is full to %u %%, %s are left", ds->name, used, left);
}

static void refreshed(void *arg, const struct err *e)
{
	struct visit *v = arg;
	struct exam *x = exam_of(v->part);
	struct datastore *ds = v->s->ds;
	struct err why = {};
	AUTO_FREE char *quoted = shell_quote(ds->path), *hint = xasprintf("ls -la %s; findmnt -T %s", quoted, quoted);

	exam_looked(x, 1);
	if (e || datastore_usable(ds, &why) < 0) {
		exam_find(x, SEVERITY_ERROR, "datastore-unavailable", ds->name, hint, "%s", e ? e->msg : why.msg);
		visit_end(v);
	} else if (exam_over(x) || exam_croft(x)->stopping) {
		visit_end(v);
	} else {
		tell_room(x, ds);
		datastore_survey(ds, surveyed, v);
	}
}

void doctor_stores(struct exam *x)
{
	struct croft *c = exam_croft(x);
	const struct store *s;

	for (size_t i = 0; (s = stores_at(c, i)); i++) {
		if (lane_stuck_usec(s->ds->lane) > STUCK_USEC) {
			exam_find(x, SEVERITY_ERROR, "datastore-hangs", s->ds->name, "dmesg | tail", "%s has not answered for %lld s",
				  s->ds->name, (long long)lane_stuck_usec(s->ds->lane) / 1000000);
			continue;
		}
		struct visit *v = xnew(visit);

		v->s = s;
		v->part = exam_part(x, xasprintf("the datastore %s", s->ds->name));
		datastore_refresh(s->ds, refreshed, v);
	}
}

/* ---- at start */

static void swept(void *arg, const struct err *e)
{
	if (e)
		log_warn("a leftover file cannot be removed: %s", e->msg);
}

static void sweep_surveyed(void *arg, const struct survey *found, const struct err *e)
{
	struct visit *v = arg;
	struct exam *x = exam_of(v->part);
	const struct survey_rest *rest = found->rests.items;

	for (size_t i = 0; !e && i < found->rests.n; i++) {
		if (exam_knows(x, rest[i].id) || rest[i].modified > exam_began(x) - SWEEP_USEC)
			continue;
		log_note("removing %s on %s: it was left by %s that is no more", rest[i].path, v->s->ds->name,
			 rest[i].upload ? "an upload" : "a task");
		survey_remove(v->s->ds, &rest[i], swept, NULL);
	}
	visit_end(v);
}

void doctor_sweep_stores(struct exam *x)
{
	const struct store *s;

	for (size_t i = 0; (s = stores_at(exam_croft(x), i)); i++) {
		struct visit *v = xnew(visit);

		v->s = s;
		v->part = exam_part(x, xasprintf("the datastore %s", s->ds->name));
		datastore_survey(s->ds, sweep_surveyed, v);
	}
}
