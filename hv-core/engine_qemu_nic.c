/* engine_qemu_nic.c: NICs of a running guest: what is called. */
#include <errno.h>
#include <string.h>
#include "argv.h"
#include "engine_qemu_hot.h"

static const struct vm_nic *nic(const struct vm_spec *v, const char *name, struct err *e)
{
	const struct vm_nic *n = field_vec_find(&v->nics, sizeof(*n), name);

	if (!n)
		fail(e, ERR_INTERNAL, "there is no NIC %s", name);
	return n;
}

static void set_link(struct hot_run *h, const struct vm_nic *n)
{
	hot_call(h, "set_link", json_pack("{s:o, s:b}", "name", json_sprintf("nic-%s", n->name), "up", (int)n->connected));
}

HOT_BUILDER(hot_cable)
{
	const struct vm_nic *n = nic(wanted, s->name, e);

	if (n)
		set_link(h, n);
	return n ? 0 : -EIO;
}

/* ---- forwards: 7.2 changes them by words for people only. Every part of them has been checked: a name, an address,
 * numbers. ---- */

static json_t *line(const char *verb, const struct vm_nic *n, const char *what)
{
	return json_pack("{s:o}", "command-line", json_sprintf("%s net-%s %s", verb, n->name, what));
}

static void on_forwarded(struct hot_run *h, json_t *result, struct err *e)
{
	const char *said = json_string_value(result);

	if (said && *said)
		fail(e, ERR_STATE, "QEMU refused a forwarded port: %.*s", (int)strcspn(said, "\r\n"), said);
	if (said && *said)
		err_hint(e, "is something else on this host listening there?");
}

static bool has(const struct vm_nic *n, const char *text)
{
	bool found = false;

	for (size_t i = 0; i < n->forwards.n && !found; i++) {
		struct buf b AUTO_BUF = BUF_INIT(128);

		argv_forward(&VM_FORWARDS(n)[i], &b);
		found = !strcmp(b.data, text);
	}
	return found;
}

enum how { REMOVE, ADD, UNDO_ADD, UNDO_REMOVE };

/* For each of @n that @other has not. One that is there from an attempt before would be refused: it is taken away first. */
static void each_not_in(struct hot_run *h, const struct vm_nic *n, const struct vm_nic *other, enum how how)
{
	for (size_t i = 0; i < n->forwards.n; i++) {
		struct buf b AUTO_BUF = BUF_INIT(128), host AUTO_BUF = BUF_INIT(128);

		argv_forward(&VM_FORWARDS(n)[i], &b);
		if (has(other, b.data))
			continue;
		buf_add(&host, b.data, strcspn(b.data, "-"));
		if (how == UNDO_ADD || how == UNDO_REMOVE) {
			hot_undo(h, "human-monitor-command", line(how == UNDO_ADD ? "hostfwd_remove" : "hostfwd_add", n,
				 how == UNDO_ADD ? host.data : b.data));
			continue;
		}
		hot_call(h, "human-monitor-command", line("hostfwd_remove", n, host.data));
		if (how == ADD)
			hot_call(h, "human-monitor-command", line("hostfwd_add", n, b.data))->then = on_forwarded;
	}
}

HOT_BUILDER(hot_forwards)
{
	const struct vm_nic *was = nic(is, s->name, e), *n = nic(wanted, s->name, e);

	if (!was || !n)
		return -EIO;
	each_not_in(h, was, n, REMOVE);
	each_not_in(h, n, was, ADD);
	each_not_in(h, n, was, UNDO_ADD);
	each_not_in(h, was, n, UNDO_REMOVE);
	return 0;
}

/* ---- cards ---- */

static json_t *netdev(const struct vm_nic *n)
{
	json_t *forwards = json_array();

	for (size_t i = 0; i < n->forwards.n; i++) {
		struct buf b AUTO_BUF = BUF_INIT(128);

		argv_forward(&VM_FORWARDS(n)[i], &b);
		json_array_append_new(forwards, json_pack("{s:s}", "str", b.data));
	}
	return json_pack("{s:s, s:o, s:o}", "type", "user", "id", json_sprintf("net-%s", n->name), "hostfwd", forwards);
}

static json_t *netdev_id(const char *name) { return json_pack("{s:o}", "id", json_sprintf("net-%s", name)); }

HOT_BUILDER(hot_nic_add)
{
	const struct vm_nic *n = nic(wanted, s->name, e);
	struct vm_nic now;

	if (!n)
		return -EIO;
	now = *n;
	now.boot_order = 0;		/* nothing boots from it now */
	hot_plug_begin(h, true);
	hot_call(h, "netdev_del", netdev_id(n->name))->may_fail = true;	/* of a croftd that died before device_add */
	hot_call(h, "netdev_add", netdev(n));
	hot_plug(h, argv_nic_device(&now, ARGV_PORT "0"));
	if (!n->connected)
		set_link(h, n);
	hot_undo(h, "netdev_del", netdev_id(n->name));
	return 0;
}

HOT_BUILDER(hot_nic_remove)
{
	AUTO_FREE char *id = xasprintf("nic-%s", s->name);

	hot_unplug(h, id, e);
	hot_call(h, "netdev_del", netdev_id(s->name))->may_fail = true;
	return 0;
}
