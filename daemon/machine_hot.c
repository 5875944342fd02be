#include "machine_hot.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "file.h"
#include "hot.h"
#include "log.h"
#include "machine_plan.h"
#include "mem.h"
#include "stores.h"
#include "task.h"
#include "usb.h"

enum { ANSWER_USEC = 10000000 };

struct machine_hot {
	struct job job;			/* the check of what was opened */
	struct machine *m;		/* NULL: it is gone; the completion that is under way frees this */
	struct hot_plan plan;
	size_t at;
	struct vm_spec after;		/* what it is when the step is done */
	const struct vm_disk *disk;	/* that is opened: borrowed from after */
	struct datastore *ds;
	int fd;
	bool busy, again, fresh;
	struct list waiting;		/* requests, by in_wait */
};

static void step(struct machine_hot *h);

static const struct vm_spec *is_now(const struct machine *m) { return m->started ?: &m->spec; }

bool machine_hot_busy(const struct machine *m) { return m->hot && m->hot->busy; }

const struct hot_reason *machine_hot_reason(const struct machine *m, const char *pointer)
{
	return field_vec_find(&m->reasons, sizeof(struct hot_reason), pointer);
}

static void add_reason(struct machine *m, const char *pointer, enum err_code code, char *text)
{
	struct hot_reason *r = field_vec_find(&m->reasons, sizeof(*r), pointer);

	if (!r) {
		r = field_vec_add(&m->reasons, sizeof(*r));
		r->pointer = xstrdup(pointer);
	}
	free(r->text);
	r->text = text;
	r->code = code;
	machine_changed(m);
}

void machine_hot_forget(struct machine *m)
{
	struct hot_reason *r = m->reasons.items;

	for (size_t i = 0; i < m->reasons.n; i++) {
		free(r[i].pointer);
		free(r[i].text);
	}
	free(r);
	m->reasons = (struct field_vec){};
}

void machine_hot_free(struct machine *m)
{
	struct machine_hot *h = TAKE(m->hot);

	machine_hot_forget(m);
	if (!h)
		return;
	while (!list_empty(&h->waiting)) {
		struct req *r = LIST_ENTRY(h->waiting.next, struct req, in_wait);

		list_remove(&r->in_wait);
		req_failf(r, ERR_NOT_FOUND, "the VM is gone");
	}
	h->m = NULL;
	if (!h->busy)
		free(h);
}

/* In every completion: the machine may be gone. */
static bool is_gone(struct machine_hot *h)
{
	if (h->m)
		return false;
	fields_fini(&vm_spec_fields, &h->after);
	close_at(&h->fd);
	free(h);
	return true;
}

/* ---- who waits */

static void answer(struct req *r, struct machine *m)
{
	size_t n;
	const char *json = machine_json(m, &n);

	list_remove(&r->in_wait);
	timer_disarm(&r->deadline);
	req_object(r, 200, m->revision, json, n);
}

static void on_late(void *arg)
{
	struct req *r = arg;

	answer(r, r->wait_arg);
}

void machine_hot_answer(struct machine *m, struct req *r)
{
	if (!machine_hot_busy(m)) {
		answer(r, m);
		return;
	}
	r->wait_arg = m;
	list_append(&m->hot->waiting, &r->in_wait);
	timer_arm(&r->deadline, m->c->ev, ANSWER_USEC, on_late, r);
}

static void tell(struct machine *m)
{
	struct change *ch = change_new(m->c, NULL);
	size_t n;
	const char *json;

	machine_changed(m);
	json = machine_json(m, &n);
	buf_add(change_event(ch, "vm.changed", m->id), json, n);
	change_run(ch);
}

static void idle(struct machine_hot *h)
{
	struct machine *m = h->m;

	h->busy = false;
	if (m->reasons.n)
		tell(m);		/* what was done was told with its commit */
	while (!list_empty(&h->waiting))
		answer(LIST_ENTRY(h->waiting.next, struct req, in_wait), m);
	if (m->task && m->task->vm_changed)
		m->task->vm_changed(m->task);
}

/* ---- one step after the other */

static void failed(struct machine_hot *h, const struct err *e)
{
	const struct hot_step *s = &h->plan.steps[h->at];

	log_note("VM %s: %s: %s", h->m->name, s->pointer, e->msg);
	add_reason(h->m, s->pointer, e->code, *e->hint ? xasprintf("%s; %s", e->msg, e->hint) : xstrdup(e->msg));
	fields_fini(&vm_spec_fields, &h->after);
	h->at++;
	step(h);
}

/* What runs now is on disk before it is in memory, and before it is told. */
struct adopting { struct machine_hot *h; char *id, *text; };

static int adopt_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	const struct adopting *a = ch->arg;
	int r = db_exec(tx, e, "UPDATE vms SET started_config = ? WHERE id = ? AND started_config IS NOT NULL", "ss", a->text, a->id);

	return r < 0 ? r : 0;
}

static void take_over(struct machine *m, struct vm_spec *after)
{
	if (!m->vm || !vm_state_alive(vm_state(m->vm)))
		return;
	if (!m->started)
		m->started = xcalloc(1, sizeof(*m->started));
	fields_fini(&vm_spec_fields, m->started);
	*m->started = *after;
	*after = (struct vm_spec){};
	if (fields_equal(&vm_spec_fields, m->started, &m->spec)) {
		fields_fini(&vm_spec_fields, m->started);
		free(TAKE(m->started));
	}
	machine_changed(m);
}

static void adopt_apply(struct change *ch)
{
	struct machine_hot *h = ((struct adopting *)ch->arg)->h;

	if (h->m)
		take_over(h->m, &h->after);
}

static void adopt_fini(struct change *ch, const struct err *e)
{
	struct adopting *a = ch->arg;
	struct machine_hot *h = a->h;

	free(a->id);
	free(a->text);
	free(a);
	if (is_gone(h))
		return;
	if (e) {
		failed(h, e);
		return;
	}
	fields_fini(&vm_spec_fields, &h->after);
	h->at++;
	step(h);
}

static void adopt(struct machine_hot *h)
{
	struct machine *m = h->m;
	struct change *ch = change_new(m->c, NULL);
	struct adopting *a = ch->arg = xnew(adopting);
	struct buf b = BUF_INIT(1 << 20);
	struct jw w = JW(&b);
	struct vm_spec *kept = m->started;

	a->h = h;
	a->id = xstrdup(m->id);
	fields_encode(&vm_spec_fields, &h->after, &w, NULL);
	a->text = buf_take(&b);
	ch->work = adopt_work;
	ch->apply = adopt_apply;
	ch->fini = adopt_fini;
	m->started = &h->after;		/* for the text only */
	machine_write(m, NULL, change_event(ch, "vm.changed", m->id));
	m->started = kept;
	change_run(ch);
}

static void stepped(void *arg, const struct err *e)
{
	struct machine_hot *h = arg;

	if (is_gone(h))
		return;
	if (e) {
		failed(h, e);
	} else if (h->plan.steps[h->at].what && fields_equal(&vm_spec_fields, is_now(h->m), &h->after)) {
		fields_fini(&vm_spec_fields, &h->after);	/* it was told what it was thought to be */
		h->at++;
		step(h);
	} else {
		adopt(h);
	}
}

static void do_it(struct machine_hot *h)
{
	struct err e = {};

	if (vm_change(h->m->vm, &h->plan.steps[h->at], is_now(h->m), &h->after, TAKE_FD(h->fd), stepped, h, &e) < 0)
		failed(h, &e);
}

/* ---- what it needs opened */

static int check_work(struct job *j, struct err *e)
{
	struct machine_hot *h = (struct machine_hot *)j;

	return h->disk ? machine_check_disk(h->fd, h->disk, e) : 0;
}

static void checked(struct job *j, const struct err *e)
{
	struct machine_hot *h = (struct machine_hot *)j;

	if (is_gone(h))
		return;
	if (e) {
		struct err err = *e;		/* it is in the job */

		close_at(&h->fd);
		h->fd = -1;
		failed(h, &err);
	} else {
		do_it(h);
	}
}

static void opened(void *arg, int *fd, uint64_t size, const struct err *e)
{
	struct machine_hot *h = arg;

	if (is_gone(h))
		return;
	if (e) {
		failed(h, e);
		return;
	}
	h->fd = TAKE_FD(*fd);
	lane_run(h->ds->lane, &h->job, check_work, checked);
}

static void usb_opened(void *arg, int *fd, const struct err *e)
{
	struct machine_hot *h = arg;

	if (is_gone(h))
		return;
	if (e) {
		failed(h, e);
		return;
	}
	h->fd = TAKE_FD(*fd);
	do_it(h);
}

static void plan(struct machine_hot *h)
{
	struct machine *m = h->m;

	h->at = h->plan.n = 0;
	if (h->again && vm_can(m->vm, VM_ASK_CHANGE)) {
		hot_plan(is_now(m), &m->spec, h->fresh, &h->plan);
		for (size_t i = 0; i < m->reasons.n; i++)
			hot_again(is_now(m), &m->spec, ((struct hot_reason *)m->reasons.items)[i].pointer, &h->plan);
		usb_plan(m, &h->plan);
		machine_hot_forget(m);
	}
	h->again = h->fresh = false;
}

static void step(struct machine_hot *h)
{
	struct machine *m = h->m;

	m->usb_opening.bus = m->usb_opening.address = 0;
	if (m->c->stopping) {
		h->busy = false;
		return;
	}
	if (h->at == h->plan.n && !h->again) {
		idle(h);
		return;
	}
	if (h->at == h->plan.n || !vm_can(m->vm, VM_ASK_CHANGE)) {
		plan(h);
		step(h);
		return;
	}
	const struct hot_step *s = &h->plan.steps[h->at];
	bool writable;
	struct dspath p;
	struct err e = {};

	h->after = (struct vm_spec){};
	fields_copy(&vm_spec_fields, is_now(m), &h->after);
	hot_adopt(&h->after, &m->spec, s);
	const char *file = m->spec.engine == VM_ENGINE_QEMU ? hot_file(s, &h->after, &writable) : NULL;

	h->disk = s->what == HOT_DISK_ADD ? field_vec_find(&h->after.disks, sizeof(*h->disk), s->name) : NULL;
	if (s->what == HOT_USB_PLUG)
		usb_open(m, s->name, usb_opened, h);
	else if (!file)
		do_it(h);
	else if (stores_path(m->c, file, &h->ds, &p, &e) < 0)
		failed(h, &e);
	else
		datastore_open_file(h->ds, p.path, writable ? O_RDWR : O_RDONLY, opened, h);
}

static void begin(void *arg)
{
	struct machine_hot *h = arg;

	if (!is_gone(h))
		step(h);
}

void machine_hot(struct machine *m, bool fresh)
{
	struct machine_hot *h = m->hot;

	if (m->c->stopping || !m->vm || !vm_can(m->vm, VM_ASK_CHANGE) || (!fresh && !m->started && !m->reasons.n && !usb_differs(m)))
		return;
	if (!h) {
		h = m->hot = xnew(machine_hot);
		h->m = m;
		h->fd = -1;
		list_init(&h->waiting);
	}
	h->again = true;
	h->fresh |= fresh;
	if (h->busy)
		return;
	h->busy = true;
	h->at = h->plan.n = 0;
	loop_defer(m->c->ev, begin, h);		/* who calls may be in the middle of something */
}

void machine_hot_unplugged(struct machine *m, const char *device)
{
	static const struct { const char *prefix, *map; } kinds[] = {
		{ "disk-", "disks" }, { "cd-", "cdroms" }, { "nic-", "nics" }, { "usb-", "usb" }
	};

	for (size_t i = 0; i < COUNT(kinds); i++) {
		size_t n = strlen(kinds[i].prefix);

		if (strncmp(device, kinds[i].prefix, n))
			continue;
		AUTO_FREE char *pointer = xasprintf("/%s/%s", kinds[i].map, device + n);

		add_reason(m, pointer, ERR_STATE, xstrdup("the guest has let go of it"));
		machine_hot(m, false);
	}
}
