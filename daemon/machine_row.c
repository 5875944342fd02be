#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "event.h"
#include "log.h"
#include "machine_hot.h"
#include "machine_row.h"
#include "mem.h"
#include "stores.h"
#include "vmfolder.h"

static char *text_of(const struct fields *f, const void *p)
{
	struct buf b = BUF_INIT(1 << 20);
	struct jw w = JW(&b);

	fields_encode(f, p, &w, NULL);
	return buf_take(&b);
}

struct row_texts *row_texts(struct machine *m, const struct machine *as)
{
	struct row_texts *t = xnew(row_texts);
	struct machine_input labels = { .labels = as->labels };

	t->m = m;
	t->labels = text_of(&machine_labels_fields, &labels);
	t->config = text_of(&vm_spec_fields, &as->spec);
	return t;
}

void row_texts_free(struct row_texts *t)
{
	free(t->labels);
	free(t->config);
	free(t);
}

int row_name_taken(struct err *e, int r, const char *name)
{
	if (r == -EEXIST) {
		fail(e, ERR_EXISTS, "there is already a VM with the name \"%s\"", name);
		snprintf(e->pointer, sizeof e->pointer, "/name");
		err_hint(e, "choose another name");
	}
	return r;
}

void machine_row_copy(const struct machine *m, struct machine *as)
{
	struct machine_input in = {}, now = { .name = m->name, .labels = m->labels, .config = m->spec };

	fields_copy(&machine_patch_fields, &now, &in);
	*as = *m;
	as->name = in.name;
	as->labels = in.labels;
	as->spec = in.config;
}

void machine_row_drop(struct machine *as)
{
	struct machine_input in = { .name = as->name, .labels = as->labels, .config = as->spec };

	fields_fini(&machine_patch_fields, &in);
}

/* ---- change */

struct changing {
	struct row_texts *texts;
	struct machine *m, as;
	void (*then)(void *arg, const struct err *e);
	void *arg;
};

static int change_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	struct changing *p = ch->arg;
	int r = db_exec(tx, e, "UPDATE vms SET name = ?, revision = ?, labels = ?, config = ? WHERE id = ? AND revision = ?",
			"sisssi", p->as.name, (int64_t)p->as.revision, p->texts->labels, p->texts->config, p->as.id,
			(int64_t)p->as.revision - 1);

	if (r == 0)
		return fail(e, ERR_STALE, "%s was changed by somebody else at the same moment; try again", p->as.name);
	return row_name_taken(e, r, p->as.name);
}

static void change_apply(struct change *ch)
{
	struct changing *p = ch->arg;
	struct machine *m = p->m;
	struct machine_input old = { .labels = m->labels };
	bool limits = m->spec.cpu_weight != p->as.spec.cpu_weight || m->spec.cpu_limit_percent != p->as.spec.cpu_limit_percent;

	if (machine_stands(m) && !m->started) {
		m->started = xcalloc(1, sizeof *m->started);
		*m->started = m->spec;		/* what it was started with goes on to be that */
	} else {
		fields_fini(&vm_spec_fields, &m->spec);
	}
	fields_fini(&machine_labels_fields, &old);
	inventory_rename(m->c->inv, m, p->as.name);
	m->spec = p->as.spec;
	m->labels = p->as.labels;
	m->revision = p->as.revision;
	p->as.spec = (struct vm_spec){};
	p->as.labels = (struct field_vec){};
	machine_changed(m);
	inventory_tell(m);
	if (limits)
		inventory_limits(m);
	machine_hot(m, false);
	machine_mirror(m);
	if (ch->req && machine_hot_busy(m))	/* who changes a disc wants to hear that it is in the drive */
		machine_hot_answer(m, TAKE(ch->req));
}

static void change_fini(struct change *ch, const struct err *e)
{
	struct changing *p = ch->arg;

	machine_row_drop(&p->as);
	row_texts_free(p->texts);
	p->then(p->arg, e);
	free(p);
}

void machine_row_change(struct machine *m, struct machine *as, struct req *r, void (*then)(void *arg, const struct err *e),
			void *arg)
{
	struct changing *p = xnew(changing);
	struct change *ch = change_new(m->c, r);
	struct vm_spec *kept = m->started;

	as->revision = m->revision + 1;
	*p = (struct changing){ .m = m, .as = *as, .then = then, .arg = arg };
	p->texts = row_texts(m, as);
	ch->arg = p;
	ch->work = change_work;
	ch->apply = change_apply;
	ch->fini = change_fini;
	ch->status = 200;
	ch->revision = as->revision;
	if (!kept && machine_stands(m))
		m->started = &m->spec;		/* for the text only: what becomes pending */
	machine_write(m, &p->as, &ch->answer);
	m->started = kept;
	buf_add(change_event(ch, "vm.changed", m->id), ch->answer.data, ch->answer.len);
	change_run(ch);
}

/* ---- the mirror */

struct mirroring { struct croft *c; char id[37]; char *after; };	/* after: owned; it goes on with the next name */

static void mirrored(void *arg, const struct err *e);

static bool mirror(struct machine *m, struct mirroring *w)
{
	struct buf b AUTO_BUF = BUF_INIT(VMFOLDER_DESCRIPTOR_MAX);
	struct datastore *ds;
	struct dspath p;
	struct err e;

	if (m->c->stopping || m->invalid || m->mirroring || !m->folder || !*m->folder || stores_path(m->c, m->folder, &ds, &p, &e) < 0)
		return false;
	m->mirroring = true;
	m->mirror_again = false;
	memcpy(w->id, m->id, sizeof(w->id));
	machine_write_row(m, &b);
	vmfolder_describe(ds, p.path, m->id, b.data, b.len, mirrored, w);
	return true;
}

static void mirror_next(struct mirroring *w)
{
	struct inventory *inv = w->c->inv;

	for (size_t i = inventory_after(inv, w->after); !w->c->stopping && i < inventory_len(inv); i++) {
		struct machine *m = inventory_at(inv, i);

		if (m->task || !mirror(m, w))
			continue;
		free(w->after);
		w->after = xstrdup(m->name);
		return;
	}
	free(w->after);
	free(w);
}

static void mirrored(void *arg, const struct err *e)
{
	struct mirroring *w = arg;
	struct machine *m = inventory_get(w->c->inv, w->id);

	if (e && m && !w->c->stopping)
		log_warn("VM %s: its row could not be mirrored in %s: %s", m->name, m->folder, e->msg);
	if (m)
		m->mirroring = false;
	if (m && m->mirror_again)
		machine_mirror(m);
	if (w->after)
		mirror_next(w);
	else
		free(w);
}

void machine_mirror(struct machine *m)
{
	struct mirroring *w = xnew(mirroring);

	w->c = m->c;
	m->mirror_again = m->mirroring;
	if (!mirror(m, w))
		free(w);
}

void machine_mirror_all(struct croft *c)
{
	struct mirroring *w = xnew(mirroring);

	w->c = c;
	w->after = xstrdup("");
	mirror_next(w);
}
