#include "usb.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "event.h"
#include "host_usb.h"
#include "log.h"
#include "machine_hot.h"
#include "mem.h"
#include "routes.h"
#include "text.h"

enum {
	SETTLE_USEC = 300000,		/* a device with several functions, a hub with several devices: looked at once */
	SCAN_USEC = 10000000, LANE_DEPTH = 256
};
enum { STATE_ABSENT, STATE_READY, STATE_TAKEN, STATE_PLUGGED };
static const char *const state_names[] = { "absent", "ready", "taken", "plugged", NULL };

#define O(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct usb_status, f), __VA_ARGS__ }
static const struct field status_rows[] = {
	O(name, F_STR, .help = "of the entry in config.usb"),
	O(state, F_ENUM, .names = state_names, .help = "plugged: the guest has it; ready: on the host and free; taken: another VM has it; "
	  "absent: not plugged into the host"),
	O(port, F_STR, .flags = FIELD_NULLABLE, .help = "of the host, where it is plugged in"),
	O(bus, F_U64, .help = "of the host, or 0"),
	O(address, F_U64, .help = "on that bus, or 0"),
	O(vm, F_STR, .flags = FIELD_NULLABLE, .help = "the VM that has it"),
	O(problem, F_STR, .flags = FIELD_NULLABLE, .help = "why a running VM has not got it"),
	O(as_of, F_TIME, .flags = FIELD_NULLABLE, .help = "when the host was looked at"),
	{}
};
#undef O
const struct fields usb_status_fields = { "VmUsbStatus", sizeof(struct usb_status), status_rows, "a USB device of a VM as it is" };

struct usb {
	struct job job;			/* a look at the host */
	struct croft *c;
	struct lane *lane;
	int notices;			/* -1: the kernel does not tell us */
	sd_event_source *src;
	struct timer settle;
	struct field_vec found, devices;	/* of usb_device: the lane's, ours */
	int64_t as_of;			/* 0: not looked yet */
	bool scanning, again;
	struct list waiting;		/* requests, by in_wait */
};

static struct usb_device *device(const struct usb *u, size_t i) { return &((struct usb_device *)u->devices.items)[i]; }

/* ---- who has what ---- */

static bool has(const struct machine *m, const struct usb_device *d)
{
	struct vm_status st;

	if (!m->vm)
		return false;
	vm_status(m->vm, &st);
	for (size_t i = 0; i < st.nplugged; i++)
		if (st.plugged[i].bus == d->bus && st.plugged[i].address == d->address)
			return true;
	return m->usb_opening.bus == d->bus && m->usb_opening.address == d->address;
}

static const struct machine *holder(const struct croft *c, const struct usb_device *d)
{
	for (size_t i = 0; i < inventory_len(c->inv); i++)
		if (has(inventory_at(c->inv, i), d))
			return inventory_at(c->inv, i);
	return NULL;
}

static const struct usb_device *device_at(const struct usb *u, const struct vm_plugged *p)
{
	for (size_t i = 0; i < u->devices.n; i++)
		if (device(u, i)->bus == p->bus && device(u, i)->address == p->address)
			return device(u, i);
	return NULL;
}

/* What @want means and nobody has; *taken: what it means, and somebody has. */
static const struct usb_device *choose(const struct usb *u, const struct vm_usb *want, const struct usb_device **taken)
{
	*taken = NULL;
	for (size_t i = 0; i < u->devices.n; i++) {
		if (!usb_matches(want, device(u, i)))
			continue;
		if (!holder(u->c, device(u, i)))
			return device(u, i);
		*taken = device(u, i);
	}
	return NULL;
}

static const struct vm_plugged *plugged(const struct vm_status *st, const char *name)
{
	for (size_t i = 0; i < st->nplugged; i++)
		if (!strcmp(st->plugged[i].name, name))
			return &st->plugged[i];
	return NULL;
}

/* ---- what is to be done ---- */

static void add(struct hot_plan *plan, enum hot_what what, const char *name)
{
	struct hot_step *s = &plan->steps[plan->n];

	if (plan->n == HOT_MAX)
		return;
	plan->n++;
	*s = (struct hot_step){ .what = what };
	snprintf(s->name, sizeof s->name, "%s", name);
	snprintf(s->pointer, sizeof s->pointer, "/usb/%s", name);
}

void usb_plan(const struct machine *m, struct hot_plan *plan)
{
	const struct usb *u = m->c->usb;
	const struct usb_device *given[VM_MAX_USB], *taken;
	bool stays[VM_MAX_USB] = {};
	struct vm_status st;
	size_t ngiven = 0;

	if (!u || !u->as_of || !m->vm)
		return;
	vm_status(m->vm, &st);
	for (size_t i = 0; st.has_usb && i < st.nplugged && i < COUNT(stays); i++) {
		const struct vm_usb *want = field_vec_find(&m->spec.usb, sizeof *want, st.plugged[i].name);
		const struct usb_device *d = device_at(u, &st.plugged[i]);

		stays[i] = want && d && usb_matches(want, d);
		if (!stays[i])
			add(plan, HOT_USB_UNPLUG, st.plugged[i].name);
	}
	for (size_t i = 0; st.has_usb && i < m->spec.usb.n && i < COUNT(given); i++) {
		const struct vm_usb *want = &VM_USB(&m->spec)[i];
		const struct vm_plugged *p = plugged(&st, want->name);
		const struct usb_device *d = p && stays[p - st.plugged] ? NULL : choose(u, want, &taken);

		for (size_t k = 0; k < ngiven; k++)
			if (given[k] == d)
				d = NULL;	/* two entries mean the same one */
		if (d) {
			given[ngiven++] = d;
			add(plan, HOT_USB_PLUG, want->name);
		}
	}
}

bool usb_differs(const struct machine *m)
{
	struct hot_plan plan = {};

	usb_plan(m, &plan);
	return plan.n > 0;
}

void usb_vm_changed(struct machine *m)
{
	struct croft *c = m->c;
	struct vm_status st = {};

	if (!c->usb || !c->inv || !m->vm)
		return;
	vm_status(m->vm, &st);
	if (st.nplugged == m->usb_seen)
		return;
	m->usb_seen = (uint8_t)st.nplugged;
	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		struct machine *other = inventory_at(c->inv, i);

		if (other == m || !other->spec.usb.n)
			continue;
		machine_changed(other);
		machine_hot(other, false);
	}
}

void usb_view(const struct machine *m, struct field_vec *out)
{
	const struct usb *u = m->c->usb;
	struct vm_status st = {};

	if (!u || !m->vm)
		return;
	vm_status(m->vm, &st);
	for (size_t i = 0; i < m->spec.usb.n; i++) {
		const struct vm_usb *want = &VM_USB(&m->spec)[i];
		const struct vm_plugged *p = plugged(&st, want->name);
		const struct usb_device *taken = NULL, *d = p ? device_at(u, p) : choose(u, want, &taken);
		struct usb_status *s = field_vec_add(out, sizeof *s);
		const struct usb_device *shown = d ?: taken;
		AUTO_FREE char *pointer = xasprintf("/usb/%s", want->name);
		const struct hot_reason *why = machine_hot_reason(m, pointer);

		*s = (struct usb_status){ .name = want->name, .as_of = u->as_of, .problem = why ? why->text : NULL,
			.state = p ? STATE_PLUGGED : d ? STATE_READY : taken ? STATE_TAKEN : STATE_ABSENT };
		s->vm = p ? m->name : taken ? holder(m->c, taken)->name : NULL;
		if (shown)
			s->port = shown->port;
		s->bus = p ? p->bus : shown ? shown->bus : 0;
		s->address = p ? p->address : shown ? shown->address : 0;
	}
}

/* ---- opening one ---- */

struct opening {
	struct job job;
	struct usb_device device;	/* port, bus and address alone */
	int fd;
	void (*opened)(void *arg, int *fd, const struct err *e);
	void *arg;
};

static int open_work(struct job *j, struct err *e)
{
	struct opening *o = (struct opening *)j;

	o->fd = usb_open_node(&o->device);
	return o->fd < 0 ? fail_errno(e, o->fd, "open the USB device at the port %s", o->device.port) : 0;
}

static void open_done(struct job *j, const struct err *e)
{
	struct opening *o = (struct opening *)j;

	o->opened(o->arg, &o->fd, e);
	close_at(&o->fd);
	free(o->device.port);
	free(o);
}

static int not_there(struct job *j, struct err *e)
{
	return fail(e, ERR_NOT_FOUND, "the USB device has been unplugged, or another VM was faster");
}

void usb_open(struct machine *m, const char *name, void (*opened)(void *arg, int *fd, const struct err *e), void *arg)
{
	struct usb *u = m->c->usb;
	const struct vm_usb *want = field_vec_find(&m->spec.usb, sizeof *want, name);
	const struct usb_device *taken, *d = want ? choose(u, want, &taken) : NULL;
	struct opening *o = xnew(opening);

	o->fd = -1;
	o->opened = opened;
	o->arg = arg;
	if (d) {
		o->device = (struct usb_device){ .port = xstrdup(d->port), .bus = d->bus, .address = d->address };
		m->usb_opening.bus = d->bus;
		m->usb_opening.address = d->address;
	}
	lane_run(u->lane, &o->job, d ? open_work : not_there, open_done);
}

/* ---- looking at the host ---- */

static void scan(struct usb *u);

static void write_list(const struct usb *u, struct buf *b)
{
	struct jw w = JW(b);

	jw_obj(&w, NULL);
	jw_arr(&w, "items");
	for (size_t i = 0; i < u->devices.n; i++) {
		struct usb_device d = *device(u, i);
		const struct machine *m = holder(u->c, &d);

		d.vm = m ? m->name : NULL;
		fields_encode(&usb_device_fields, &d, &w, NULL);
	}
	jw_end(&w);
	jw_null(&w, "next");
	jw_end(&w);
}

static bool same(const struct field_vec *a, const struct field_vec *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (!fields_equal(&usb_device_fields, &((struct usb_device *)a->items)[i], &((struct usb_device *)b->items)[i]))
			return false;
	return true;
}

static void tell(struct usb *u)
{
	struct buf b AUTO_BUF = BUF_INIT(EVENT_DATA_MAX);

	write_list(u, &b);
	event_post(u->c, "host.usb", "host", b.data, b.over ? 0 : b.len);
}

static void tell_vms(struct usb *u)
{
	for (size_t i = 0; i < inventory_len(u->c->inv); i++) {
		struct machine *m = inventory_at(u->c->inv, i);

		if (!m->spec.usb.n && !m->usb_seen)
			continue;
		machine_changed(m);
		machine_hot(m, false);
	}
}

static void answer(struct usb *u)
{
	while (!list_empty(&u->waiting)) {
		struct req *r = LIST_ENTRY(u->waiting.next, struct req, in_wait);
		struct buf b AUTO_BUF = BUF_INIT(1 << 20);

		list_remove(&r->in_wait);
		timer_disarm(&r->deadline);
		write_list(u, &b);
		req_reply_buf(r, 200, NULL, &b);
	}
}

static int scan_work(struct job *j, struct err *e)
{
	usb_scan("", &((struct usb *)j)->found);
	return 0;
}

static void scan_done(struct job *j, const struct err *e)
{
	struct usb *u = (struct usb *)j;
	bool first = !u->as_of, differs;

	u->scanning = false;
	if (u->c->stopping || e) {
		usb_devices_free(&u->found);
		return;			/* who waits has a deadline */
	}
	differs = !same(&u->found, &u->devices);
	if (differs) {
		struct field_vec old = u->devices;

		u->devices = TAKE_VEC(u->found);
		u->found = old;
	}
	usb_devices_free(&u->found);
	u->as_of = now_usec();
	if (differs)
		tell(u);
	if (differs || first)
		tell_vms(u);
	if (u->again)
		scan(u);		/* who waits gets what is true now */
	else
		answer(u);
}

static void scan(struct usb *u)
{
	u->again = u->scanning;
	if (u->scanning)
		return;
	u->scanning = true;
	lane_run(u->lane, &u->job, scan_work, scan_done);
}

static void on_settled(void *arg) { scan(arg); }

static int on_notices(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct usb *u = arg;

	if (usb_notices_read(fd))
		timer_arm(&u->settle, u->c->ev, SETTLE_USEC, on_settled, u);
	return 0;
}

struct usb *usb_new(struct croft *c)
{
	struct usb *u = xnew(usb);

	u->c = c;
	u->lane = lane_new(c->ev, "usb", 1, LANE_DEPTH);
	lane_set_deadline(u->lane, SCAN_USEC);
	list_init(&u->waiting);
	u->notices = usb_notices_open();
	if (u->notices < 0)
		log_warn("the kernel does not tell of USB devices that come and go: %s; GET /api/v1/host/usb looks for them",
			 strerror(-u->notices));
	else if (sd_event_add_io(c->ev, &u->src, u->notices, EPOLLIN, on_notices, u) < 0)
		abort();		/* out of memory */
	scan(u);
	return u;
}

void usb_free(struct usb *u)
{
	if (!u)
		return;
	u->src = sd_event_source_disable_unref(u->src);
	timer_disarm(&u->settle);
	lane_free(u->lane);
	if (u->notices >= 0)
		close(u->notices);
	usb_devices_free(&u->found);
	usb_devices_free(&u->devices);
	free(u);
}

/* ---- the list ---- */

static void on_late(void *arg)
{
	struct req *r = arg;
	struct err e = {};

	list_remove(&r->in_wait);
	fail(&e, ERR_UNAVAILABLE, "the host's USB devices were not listed within %u s", SCAN_USEC / 1000000);
	err_hint(&e, "the kernel waits for a device that does not answer: unplug it");
	req_fail(r, &e);
}

static void api_list(struct req *r)
{
	list_append(&r->c->usb->waiting, &r->in_wait);
	timer_arm(&r->deadline, r->c->ev, SCAN_USEC, on_late, r);
	scan(r->c->usb);
}

const struct route routes_usb[] = {
	{ "GET", "/api/v1/host/usb", "host_usb_list", PERM_HOST_VIEW, ROUTE_LIST, NULL, &usb_device_fields, NULL, api_list,
	  "list the USB devices that are plugged into this host, and which VM has which" },
	{}
};
