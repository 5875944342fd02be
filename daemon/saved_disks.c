#include <string.h>
#include "datastore.h"
#include "mem.h"
#include "saved_disks.h"
#include "stores.h"

struct looking {
	struct machine *m;
	struct field_vec disks;
	size_t at;
	void (*done)(void *arg, struct field_vec *disks, const struct err *e);
	void *arg;
};

static void next(struct looking *l);

static void end(struct looking *l, const struct err *e)
{
	l->done(l->arg, &l->disks, e);
	for (size_t i = 0; i < l->disks.n; i++)
		free(((char **)l->disks.items)[i]);
	free(l->disks.items);
	free(l);
}

static void seen(void *arg, const struct datastore_entry *entry, const struct err *e)
{
	struct looking *l = arg;

	if (e) {
		end(l, e);
		return;
	}
	*(char **)field_vec_add(&l->disks, sizeof(char *)) = xasprintf("%s %llu %lld", VM_DISKS(machine_built(l->m))[l->at].path,
		(unsigned long long)entry->size_bytes, (long long)entry->modified);
	l->at++;
	next(l);
}

static void next(struct looking *l)
{
	const struct vm_spec *s = machine_built(l->m);
	struct datastore *ds;
	struct dspath p;
	struct err e = {};

	while (l->at < s->disks.n && VM_DISKS(s)[l->at].read_only)
		l->at++;
	if (l->at == s->disks.n)
		end(l, NULL);
	else if (stores_path(l->m->c, VM_DISKS(s)[l->at].path ?: "", &ds, &p, &e) < 0)
		end(l, &e);
	else
		datastore_stat(ds, p.path, seen, l);
}

void saved_disks_look(struct machine *m, void (*done)(void *arg, struct field_vec *disks, const struct err *e), void *arg)
{
	struct looking *l = xnew(looking);

	*l = (struct looking){ .m = m, .done = done, .arg = arg };
	next(l);
}

int saved_disks_same(const struct machine *m, const struct field_vec *now, struct err *e)
{
	const struct field_vec *was = &m->memory->disks;

	for (size_t i = 0; i < was->n && i < now->n; i++) {
		const char *text = ((char **)was->items)[i];

		if (!strcmp(text, ((char **)now->items)[i]))
			continue;
		fail(e, ERR_STATE, "a disk of %s was written to after its memory was saved, and that does not go together any more:"
		     " it was %s (size, and time of the last write), and is %s", m->name, text, ((char **)now->items)[i]);
		return err_hint(e, "bring back what was there, or throw the memory away: vmctl discard %s", m->name);
	}
	return 0;
}
