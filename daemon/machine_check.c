#include <stdio.h>
#include <string.h>
#include "machine_check.h"
#include "mem.h"
#include "network.h"
#include "networks.h"
#include "stores.h"

int machine_at_config(struct err *e, int r)
{
	char pointer[sizeof e->pointer];

	if (r < 0 && strncmp(e->pointer, "/config", 7) != 0) {
		snprintf(pointer, sizeof pointer, "/config%.*s", (int)sizeof pointer - 8, e->pointer);
		memcpy(e->pointer, pointer, sizeof pointer);
	}
	return r;
}

static int check_path(struct croft *c, const char *text, const char *pointer, struct err *e)
{
	struct datastore *ds;
	struct dspath p;
	int r = text ? stores_path(c, text, &ds, &p, e) : 0;

	if (r < 0)
		snprintf(e->pointer, sizeof e->pointer, "%s", pointer);
	if (r < 0 && !*e->hint)
		err_hint(e, "a path looks like [local] folder/file; GET /api/v1/datastores/local/files lists what is there");
	return r;
}

static int check_paths(const struct machine *m, struct err *e)
{
	const struct vm_spec *s = &m->spec;
	char pointer[96];
	int r = check_path(m->c, s->kernel.image, "/config/kernel/image", e);

	if (r == 0)
		r = check_path(m->c, s->kernel.initrd, "/config/kernel/initrd", e);
	for (size_t i = 0; r == 0 && i < s->disks.n; i++) {
		snprintf(pointer, sizeof pointer, "/config/disks/%.63s/source", VM_DISKS(s)[i].name);
		r = check_path(m->c, VM_DISKS(s)[i].source, pointer, e);
	}
	for (size_t i = 0; r == 0 && i < s->cdroms.n; i++) {
		snprintf(pointer, sizeof pointer, "/config/cdroms/%.63s/iso", VM_CDROMS(s)[i].name);
		r = check_path(m->c, VM_CDROMS(s)[i].iso, pointer, e);
	}
	for (size_t i = 0; r == 0 && i < s->nics.n; i++)
		if (!networks_has(m->c, VM_NICS(s)[i].network)) {
			snprintf(pointer, sizeof pointer, "/config/nics/%.63s/network", VM_NICS(s)[i].name);
			fail_at(e, pointer, "there is no network \"%s\"", VM_NICS(s)[i].network);
			r = err_hint(e, "GET /api/v1/networks lists them");
		}
	return r;
}

static size_t count_forwards(const struct vm_spec *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->nics.n; i++)
		n += VM_NICS(s)[i].forwards.n;
	return n;
}

static size_t add_forwards(const char *vm, const struct vm_spec *s, struct forward *out)
{
	size_t n = 0;

	for (size_t i = 0; i < s->nics.n; i++)
		for (size_t k = 0; k < VM_NICS(s)[i].forwards.n; k++) {
			const struct vm_forward *f = &VM_FORWARDS(&VM_NICS(s)[i])[k];

			out[n++] = (struct forward){ .vm = vm, .protocol = f->protocol, .address = f->host_address,
						     .port = (uint16_t)f->host_port };
		}
	return n;
}

/* Those that are wanted of it, and those that it has: what runs, or is suspended and goes on as it was, has them still. */
static size_t count_taken(const struct machine *m)
{
	return count_forwards(&m->spec) + count_forwards(machine_built(m));
}

static size_t add_taken(const struct machine *m, struct forward *out)
{
	const struct vm_spec *built = machine_built(m);
	size_t n = add_forwards(m->name, &m->spec, out);

	return n + (built != &m->spec ? add_forwards(m->name, built, out + n) : 0);
}

/* Ports of the host are given out once. Most VMs have none, and then nobody else's are looked at. @more: VMs that are
 * about to be added; NULLs among them are skipped. */
static int check_forwards(const struct machine *as, const struct machine *self, struct machine *const *more, size_t nmore,
			  struct err *e)
{
	const struct inventory *inv = as->c->inv;
	size_t wanted = count_forwards(&as->spec), all = 0, taken = 0;

	if (!wanted)
		return 0;
	for (size_t i = 0; i < inventory_len(inv); i++)
		all += count_taken(inventory_at(inv, i));
	for (size_t i = 0; i < nmore; i++)
		all += more[i] ? count_taken(more[i]) : 0;
	AUTO_FREE struct forward *want = xcalloc(wanted, sizeof *want), *have = xcalloc(all + 1, sizeof *have);

	add_forwards(as->name, &as->spec, want);
	for (size_t i = 0; i < inventory_len(inv); i++)
		if (inventory_at(inv, i) != self)
			taken += add_taken(inventory_at(inv, i), have + taken);
	for (size_t i = 0; i < nmore; i++)
		taken += more[i] ? add_taken(more[i], have + taken) : 0;
	return forwards_conflict(want, wanted, have, taken, e);
}

/* What is made, is made in the VM's folder, and is qcow2. */
static int check_new_disk(const struct vm_disk *d, struct err *e)
{
	char pointer[96];

	if (d->path) {
		snprintf(pointer, sizeof pointer, "/config/disks/%.60s/path", d->name);
		fail_at(e, pointer, "the path of a new disk is not chosen: it is made in the VM's folder");
		return err_hint(e, "leave path out; to begin with an image, name it as source, from which it is copied");
	}
	if (d->format != VM_FORMAT_QCOW2) {
		snprintf(pointer, sizeof pointer, "/config/disks/%.60s/format", d->name);
		fail_at(e, pointer, "new disks are qcow2");
		return err_hint(e, "leave format out; a raw image (.img, .raw) can be the source");
	}
	if (d->size_bytes || d->source)
		return 0;
	snprintf(pointer, sizeof pointer, "/config/disks/%.60s", d->name);
	fail_at(e, pointer, "a new disk needs size_bytes, or a source that it is copied from");
	return err_hint(e, "size_bytes is the capacity that the guest sees; GET /api/v1/datastores/local/files lists images");
}

int machine_check_new(struct machine *m, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->spec.disks.n; i++)
		r = check_new_disk(&VM_DISKS(&m->spec)[i], e);
	if (r < 0)
		return r;
	vm_spec_freeze(&m->spec, &m->c->host, m->id);
	return machine_at_config(e, vm_spec_check(&m->spec, &m->c->host, e)) ?: check_paths(m, e) ?: check_forwards(m, NULL, NULL, 0, e);
}

/* A VM's files are in its folder, a top one, and nowhere else: with other paths it would take another VM's disks, and its
 * deletion would delete them. */
static int check_folder(const struct machine *m, struct err *e)
{
	const struct vm_spec *s = &m->spec;
	char text[DSPATH_TEXT];
	struct datastore *ds;
	struct dspath p;
	size_t n = strlen(m->folder);
	int r = stores_path(m->c, m->folder, &ds, &p, e);

	if (r < 0)
		return r;
	snprintf(p.datastore, sizeof p.datastore, "%s", ds->name);
	dspath_format(&p, text);
	if (!*p.path || strchr(p.path, '/') || strcmp(text, m->folder) != 0)
		return fail(e, ERR_INVALID, "its folder %s is none that a VM has here", m->folder);
	for (size_t i = 0; i < s->disks.n; i++) {
		const char *path = VM_DISKS(s)[i].path;

		if (!path || strncmp(path, m->folder, n) != 0 || path[n] != '/' || strchr(path + n + 1, '/'))
			return fail(e, ERR_INVALID, "its disk %s is not in its folder %s", VM_DISKS(s)[i].name, m->folder);
	}
	return 0;
}

int machine_check_stored(struct machine *m, struct machine *const *more, size_t nmore, struct err *e)
{
	int r = m->spec.engine == VM_ENGINE_SIM ? 0 : check_folder(m, e);

	if (r < 0)
		return r;
	vm_spec_freeze(&m->spec, &m->c->host, m->id);
	return vm_spec_check(&m->spec, &m->c->host, e) ?: check_paths(m, e) ?: check_forwards(m, NULL, more, nmore, e);
}

static int same_disks(const struct machine *m, const struct machine *as, struct err *e)
{
	const struct field_vec *a = &m->spec.disks, *b = &as->spec.disks;
	bool same = a->n == b->n;

	for (size_t i = 0; same && i < a->n; i++)
		same = field_vec_find(b, sizeof(struct vm_disk), VM_DISKS(&m->spec)[i].name) != NULL;
	if (same)
		return 0;
	fail_at(e, "/config/disks", "disks cannot be added or removed by a patch");
	return err_hint(e, "POST and DELETE below the VM's /disks, or vmctl disk, add and remove them");
}

static int check_changed(const struct machine *m, struct machine *as, struct err *e)
{
	vm_spec_freeze(&as->spec, &m->c->host, m->id);
	return machine_at_config(e, vm_spec_check(&as->spec, &m->c->host, e)) ?: check_paths(as, e) ?: check_forwards(as, m, NULL, 0, e);
}

int machine_check_changed(const struct machine *m, struct machine *as, struct err *e)
{
	return same_disks(m, as, e) ?: check_changed(m, as, e);
}

int machine_check_more(const struct machine *m, struct machine *as, struct err *e)
{
	const struct vm_disk *d = &VM_DISKS(&as->spec)[as->spec.disks.n - 1];

	if (as->spec.disks.n > VM_MAX_DISKS) {
		fail(e, ERR_INVALID, "a VM has at most %d disks", VM_MAX_DISKS);
		return err_hint(e, "remove one, or make one larger");
	}
	return check_new_disk(d, e) ?: check_changed(m, as, e);
}
