/* engine_qemu_usb.c: the host's USB devices in a running guest. Which ones it has stands in QEMU alone, in their ids:
 * "usb-BUS-ADDRESS-NAME"; a croftd that comes later asks. */
#include <stdio.h>
#include <string.h>
#include "engine_qemu_hot.h"
#include "host_usb.h"

#define CONTROLLER	"usb"

static bool parse_id(const char *id, struct vm_plugged *ret)
{
	unsigned bus, address;
	int n = 0;

	if (sscanf(id, CONTROLLER "-%u-%u-%n", &bus, &address, &n) != 2 || !n || !id[n] || strlen(id + n) >= sizeof(ret->name))
		return false;
	*ret = (struct vm_plugged){ .bus = bus, .address = address };
	snprintf(ret->name, sizeof(ret->name), "%s", id + n);
	return true;
}

static struct vm_plugged *find(struct guest *g, const char *name)
{
	for (size_t i = 0; i < g->nplugged; i++)
		if (!strcmp(g->plugged[i].name, name))
			return &g->plugged[i];
	return NULL;
}

static void has(struct guest *g, const char *id)
{
	struct vm_plugged p;

	if (parse_id(id, &p) && !find(g, p.name) && g->nplugged < COUNT(g->plugged))
		g->plugged[g->nplugged++] = p;
}

static void on_devices(void *arg, json_t *result, const struct err *e)
{
	struct guest *g = arg;
	json_t *device;
	size_t i;

	if (!result)
		return;
	g->nplugged = 0;
	g->has_usb = false;
	json_array_foreach(result, i, device) {
		const char *name = json_string_value(json_object_get(device, "name"));

		if (name && !strcmp(name, CONTROLLER))
			g->has_usb = true;
		else if (name)
			has(g, name);
	}
}

void guest_usb_ask(struct guest *g)
{
	qmp_ask(g->qmp, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"), g->vm->vms->how.answer_usec, on_devices, g);
}

void guest_usb_gone(struct guest *g, const char *id)
{
	struct vm_plugged gone, *p;

	if (parse_id(id, &gone) && (p = find(g, gone.name)) && p->bus == gone.bus && p->address == gone.address)
		*p = g->plugged[--g->nplugged];
}

/* ---- changes ---- */

HOT_BUILDER(hot_usb)
{
	if (hot_guest(h)->has_usb)
		return 0;
	fail(e, ERR_UNSUPPORTED, "it was started without a USB controller");
	return err_hint(e, "it gets one at its next start");
}

static const char *id_of(const struct hot_call *c) { return json_string_value(json_object_get(c->args, "id")); }

static void on_fd_added(struct hot_run *h, json_t *result, struct err *e)
{
	json_int_t set = json_integer_value(json_object_get(result, "fdset-id"));

	json_object_set_new(hot_after(h, 1)->args, "hostdevice", json_sprintf("/dev/fdset/%lld", (long long)set));
	json_object_set_new(hot_after(h, 2)->args, "fdset-id", json_integer(set));
	json_object_set_new(hot_after(h, 3)->args, "fdset-id", json_integer(set));
}

static void on_plugged(struct hot_run *h, json_t *result, struct err *e)
{
	has(hot_guest(h), id_of(hot_after(h, 0)));
	vm_noted(hot_guest(h)->vm);
}

/* QEMU takes a duplicate out of the set; the set's own descriptor would only keep a device open that has gone. */
HOT_BUILDER(hot_usb_plug)
{
	struct hot_call *c;
	uint64_t bus, address;

	if (*fd < 0 || !usb_node_address(*fd, &bus, &address))
		return fail(e, ERR_INTERNAL, "the USB device %s was not opened", s->name);
	c = hot_call(h, "add-fd", NULL);
	c->fd = TAKE_FD(*fd);
	c->then = on_fd_added;
	c = hot_call(h, "device_add", json_pack("{s:s, s:s, s:o}", "driver", "usb-host", "bus", CONTROLLER ".0", "id",
						json_sprintf(CONTROLLER "-%u-%u-%s", (unsigned)bus, (unsigned)address, s->name)));
	c->then = on_plugged;
	hot_call(h, "remove-fd", json_object())->may_fail = true;
	hot_undo(h, "remove-fd", json_object());
	return 0;
}

static void on_unplugged(struct hot_run *h, json_t *result, struct err *e)
{
	guest_usb_gone(hot_guest(h), id_of(hot_after(h, 0)));
	vm_noted(hot_guest(h)->vm);
}

/* Nobody is asked: it is pulled out. */
HOT_BUILDER(hot_usb_unplug)
{
	const struct vm_plugged *p = find(hot_guest(h), s->name);

	if (p)
		hot_call(h, "device_del", json_pack("{s:o}", "id", json_sprintf(CONTROLLER "-%u-%u-%s", (unsigned)p->bus,
			 (unsigned)p->address, p->name)))->then = on_unplugged;
	return 0;
}
