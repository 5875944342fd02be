/* engine_qemu_hot.c: changes of a running guest: the sequence of calls, one at a time, and its end. What is called for
 * disks, drives and NICs is in engine_qemu_disk.c and engine_qemu_nic.c. */
#include "engine_qemu_hot.h"
#include <stdio.h>
#include <string.h>
#include "argv.h"

enum {
	UNPLUG_USEC = 8000000,		/* Linux lets go after 5 s: somebody may press the button again */
	NODE_USEC = 20000, NODE_TRIES = 25,	/* for a node whose device is gone, but not from everything inside QEMU */
};

struct hot_run {
	struct guest *g;
	struct vm_op *op;
	struct hot_call *calls;		/* owned */
	unsigned n, at;
	unsigned undo;			/* calls from here on are for its failure only; 0: none */
	bool undoing;			/* it has failed, with err */
	struct err err;
	json_int_t fdset;		/* that was added; -1 */
	bool adding;			/* what is queued now is for a device that is not there yet */
	char device[80];		/* that the guest shall let go of, or "" */
	struct timer patience;
	unsigned agains;
	bool waits;			/* for DEVICE_DELETED of it */
};

const hot_builder hot_builders[HOT_NWHATS] = {
	[HOT_MEDIUM] = hot_medium,
	[HOT_SIZE] = hot_size,
	[HOT_LIMITS] = hot_limits,
	[HOT_DISK_ADD] = hot_disk_add,
	[HOT_DISK_REMOVE] = hot_disk_remove,
	[HOT_CDROM_ADD] = hot_cdrom_add,
	[HOT_CDROM_REMOVE] = hot_cdrom_remove,
	[HOT_CABLE] = hot_cable,
	[HOT_FORWARDS] = hot_forwards,
	[HOT_NIC_ADD] = hot_nic_add,
	[HOT_NIC_REMOVE] = hot_nic_remove,
	[HOT_MEMORY] = hot_memory,
	[HOT_USB] = hot_usb,
	[HOT_USB_UNPLUG] = hot_usb_unplug,
	[HOT_USB_PLUG] = hot_usb_plug,
};

static void next(struct hot_run *h);
static bool wait_for_guest(struct hot_run *h);

static void run_end(struct hot_run *h, const struct err *e)
{
	struct guest *g = h->g;

	timer_disarm(&h->patience);
	for (unsigned i = 0; i < h->n; i++) {
		json_decref(h->calls[i].args);
		close_at(&h->calls[i].fd);
	}
	g->hot = NULL;
	vm_op_end(h->op, e);
	free(h->calls);
	free(h);
}

void guest_change_end(struct guest *g)
{
	struct err e;

	if (!g->hot)
		return;
	fail(&e, ERR_INTERRUPTED, "VM \"%s\" has ended, or croftd lets go of it", g->vm->name);
	run_end(g->hot, &e);
}

/* ---- calls ---- */

/* QEMU said no in the middle: what was made before must not stay, or it would keep a file open. */
static void fail_run(struct hot_run *h, const struct err *e)
{
	unsigned from = h->undo ?: h->n;

	if (h->undoing || (e->code != ERR_STATE && e->code != ERR_NOT_FOUND)) {
		run_end(h, h->undoing ? &h->err : e);
		return;
	}
	h->adding = false;
	if (h->fdset >= 0)
		hot_call(h, "remove-fd", json_pack("{s:I}", "fdset-id", h->fdset));
	h->undoing = true;
	h->err = *e;
	h->at = from;
	next(h);
}

static bool is_ask(const struct hot_call *c) { return strcmp(c->command, "device_del") == 0; }

/* QEMU's no may mean that it is so already. */
static bool is_fine(const struct hot_call *c, bool undoing, const struct err *e)
{
	if (!e || ((c->may_fail || undoing) && (e->code == ERR_STATE || e->code == ERR_NOT_FOUND)))
		return true;
	return is_ask(c) && (e->code == ERR_NOT_FOUND || strstr(e->msg, "in the process of unplug"));
}

static void on_again(void *arg) { next(arg); }

/* The device is gone and its node is still in use: QEMU frees what a device held when each vCPU has come by (RCU), and
 * tells no event. An emulated guest that spins with its interrupts off never does: then the node stays, until the
 * same place is used again or the VM is off. */
static bool ask_again(struct hot_run *h, const struct hot_call *c, const struct err *e)
{
	if (!e || e->code != ERR_STATE || h->undoing || strcmp(c->command, "blockdev-del") || !strstr(e->msg, "in use") ||
	    h->agains++ == NODE_TRIES)
		return false;
	timer_arm(&h->patience, h->g->vm->vms->how.ev, NODE_USEC, on_again, h);
	return true;
}

static void on_answer(void *arg, json_t *result, const struct err *e)
{
	struct hot_run *h = arg;
	struct hot_call *c = &h->calls[h->at];
	struct guest *g = h->g;
	struct err err = e ? *e : (struct err){};

	if (ask_again(h, c, e))
		return;
	if (!is_fine(c, h->undoing, e)) {
		if (is_ask(c) && strstr(err.msg, "does not support hotplug")) {
			fail(&err, ERR_STATE, "%s has been there since the VM was started, on a bus that lets nothing go", h->device);
			err_hint(&err, "it goes at the next start");
		}
		fail_run(h, &err);
		if (err.code == ERR_TIMEOUT)
			guest_silent(g, err.msg);
		return;
	}
	err.code = ERR_NONE;
	if (c->then)
		c->then(h, result, &err);
	if (!err.code && wait_for_guest(h))
		return;
	h->at++;
	if (err.code)
		fail_run(h, &err);
	else
		next(h);
}

static void next(struct hot_run *h)
{
	struct guest *g = h->g;
	struct err e;

	unsigned end = h->undo && !h->undoing ? h->undo : h->n;

	while (h->at < end && h->calls[h->at].skip)
		h->at++;
	if (h->at == end) {
		run_end(h, h->undoing ? &h->err : NULL);
		return;
	}
	struct hot_call *c = &h->calls[h->at];

	if (!g->qmp) {
		fail(&e, ERR_UNAVAILABLE, "the monitor of VM \"%s\" is being connected again", g->vm->name);
		run_end(h, &e);
		return;
	}
	qmp_call(g->qmp, c->command, json_incref(c->args), TAKE_FD(c->fd), g->vm->vms->how.answer_usec, on_answer, h);
}

struct hot_call *hot_call(struct hot_run *h, const char *command, json_t *args)
{
	struct hot_call *c;

	if (h->n % 16 == 0)
		h->calls = xrealloc(h->calls, (h->n + 16) * sizeof(*h->calls));
	c = &h->calls[h->n++];
	*c = (struct hot_call){ .command = command, .args = args, .fd = -1, .adds = h->adding };
	return c;
}

struct hot_call *hot_after(struct hot_run *h, unsigned n) { return &h->calls[h->at + n]; }

struct guest *hot_guest(const struct hot_run *h) { return h->g; }

void hot_undo(struct hot_run *h, const char *command, json_t *args)
{
	unsigned at = h->n;

	hot_call(h, command, args);
	if (!h->undo)
		h->undo = at;
}

void guest_change(struct vm *vm, struct vm_op *op, const struct hot_step *s, const struct vm_spec *is,
		  const struct vm_spec *wanted, int fd)
{
	struct guest *g = vm->run;
	struct hot_run *h;
	struct err e = {};

	if (g->hot || g->saving) {
		fail(&e, ERR_BUSY, g->hot ? "VM \"%s\" is being changed already" : "VM \"%s\" is being suspended", vm->name);
		close_at(&fd);
		vm_op_end(op, &e);
		return;
	}
	h = g->hot = xnew(hot_run);
	h->g = g;
	h->op = op;
	h->fdset = -1;
	if (!hot_builders[s->what])
		fail(&e, ERR_UNSUPPORTED, "this takes effect at the next start of VM \"%s\"", vm->name);
	else
		hot_builders[s->what](h, s, is, wanted, &fd, &e);
	close_at(&fd);
	if (e.code)
		run_end(h, &e);
	else
		next(h);
}

/* ---- block nodes ---- */

static void on_fd_added(struct hot_run *h, json_t *result, struct err *e)
{
	json_t *file = json_object_get(hot_after(h, 1)->args, "file");

	h->fdset = json_integer_value(json_object_get(result, "fdset-id"));
	json_object_set_new(file, "filename", json_sprintf("/dev/fdset/%lld", (long long)h->fdset));
}

void hot_add_node(struct hot_run *h, char *node, int *fd)
{
	struct hot_call *c = hot_call(h, "add-fd", NULL);

	c->fd = TAKE_FD(*fd);
	c->then = on_fd_added;
	hot_call(h, "blockdev-add", json_loads(node, 0, NULL));
	free(node);
}

/* The set that the node's file was opened from goes with it: an open descriptor in it would hold the lock and the space of
 * the file. */
static void on_nodes(struct hot_run *h, json_t *result, struct err *e)
{
	const char *file = hot_after(h, 2)->args ? json_string_value(json_object_get(hot_after(h, 2)->args, "file")) : NULL;
	struct hot_call *remove = hot_after(h, 2);
	int set = -1;
	json_t *node;
	size_t i;

	json_array_foreach(result, i, node) {
		const char *name = json_string_value(json_object_get(node, "node-name"));
		const char *from = json_string_value(json_object_get(node, "file"));

		if (name && from && file && !strcmp(name, file) && sscanf(from, "/dev/fdset/%d", &set) != 1)
			set = -1;
	}
	remove->skip = set < 0;
	json_decref(remove->args);
	remove->args = set >= 0 ? json_pack("{s:i}", "fdset-id", set) : NULL;
}

void hot_drop_node(struct hot_run *h, const char *node, const char *file)
{
	hot_call(h, "query-named-block-nodes", json_pack("{s:b}", "flat", 1))->then = on_nodes;
	hot_call(h, "blockdev-del", json_pack("{s:s}", "node-name", node))->may_fail = true;
	hot_call(h, "remove-fd", json_pack("{s:s}", "file", file))->may_fail = true;	/* on_nodes says which */
}

/* ---- devices ---- */

static json_t *entry(json_t *array, const char *key, const char *value)
{
	const char *text;
	json_t *o;
	size_t i;

	json_array_foreach(array, i, o)
		if ((text = json_string_value(json_object_get(o, key))) && !strcmp(text, value))
			return o;
	return NULL;
}

/* The device_add that the calls before it are for. */
static unsigned next_add(const struct hot_run *h)
{
	unsigned i = h->at;

	while (strcmp(h->calls[i].command, "device_add"))
		i++;			/* hot_plug has queued one */
	return i;
}

/* Is it there already? Then what follows for it is passed over. */
static void on_devices(struct hot_run *h, json_t *result, struct err *e)
{
	unsigned add = next_add(h);
	const char *id = json_string_value(json_object_get(h->calls[add].args, "id"));

	for (unsigned i = h->at; i <= add && id && entry(result, "name", id); i++)
		h->calls[i].skip = h->calls[i].adds;
}

/* The first root port whose bus has no child. query-pci won't do: it shows what the guest has numbered. */
static void on_port(struct hot_run *h, json_t *result, struct err *e)
{
	const char *path = json_string_value(json_object_get(h->calls[h->at].args, "path"));
	bool is_free = result, last = strcmp(h->calls[h->at + 1].command, "qom-list") != 0;
	json_t *o;
	size_t i;

	json_array_foreach(result, i, o)
		if (strncmp(json_string_value(json_object_get(o, "name")) ?: "", "child[", 6) == 0)
			is_free = false;
	if (!is_free && last) {
		fail(e, ERR_STATE, "all %u places for devices that come while the VM runs are taken", ARGV_PORTS);
		err_hint(e, "it gets a place of its own at the next start");
	}
	if (!is_free)
		return;
	for (unsigned k = h->at + 1; k < next_add(h); k++)
		h->calls[k].skip |= h->calls[k].then == on_port;
	json_object_set_new(h->calls[next_add(h)].args, "bus", json_string(strrchr(path, '/') + 1));
}

void hot_plug_begin(struct hot_run *h, bool on_a_port)
{
	struct hot_call *c = hot_call(h, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"));

	c->then = on_devices;
	h->adding = true;
	for (unsigned i = 0; on_a_port && i < ARGV_PORTS; i++) {
		c = hot_call(h, "qom-list", json_pack("{s:o}", "path", json_sprintf("/machine/peripheral/" ARGV_PORT "%u/"
			     ARGV_PORT "%u", i, i)));
		c->may_fail = true;	/* a VM that an older croftd has started has none */
		c->then = on_port;
	}
}

void hot_plug(struct hot_run *h, char *device)
{
	hot_call(h, "device_add", json_loads(device, 0, NULL));
	h->adding = false;
	free(device);
}

/* ---- what the guest has to let go of ---- */

static void on_patience(void *arg)
{
	struct hot_run *h = arg;
	struct err e;

	h->waits = false;
	fail(&e, ERR_TIMEOUT, "the guest was asked to let go of %s, and has not done so within %u s", h->device,
	     UNPLUG_USEC / 1000000);
	err_hint(&e, "it may be in use there, or the guest may not know how: unmount it, or shut the VM down");
	run_end(h, &e);
}

/* Nobody uses a port that the guest has never powered: the device goes at once, and 7.2 tells no event. */
static void on_still_there(struct hot_run *h, json_t *result, struct err *e)
{
	if (!entry(result, "name", h->device))
		*h->device = '\0';
}

/* device_del says yes when the guest was told; the event says when it has let go. */
static bool wait_for_guest(struct hot_run *h)
{
	if (!h->calls[h->at].unplugs || !*h->device)
		return false;
	h->waits = true;
	timer_arm(&h->patience, h->g->vm->vms->how.ev, UNPLUG_USEC, on_patience, h);
	return true;
}

void guest_unplugged(struct guest *g, json_t *data)
{
	const char *device = json_string_value(json_object_get(data, "device"));
	struct hot_run *h = g->hot;

	guest_usb_gone(g, device ?: "");
	if (!device)
		return;
	if (!h || strcmp(device, h->device)) {
		if (g->vm->vms->how.on_unplugged)
			g->vm->vms->how.on_unplugged(g->vm, g->vm->owner, device);
		return;
	}
	*h->device = '\0';
	if (!h->waits)
		return;
	h->waits = false;
	timer_disarm(&h->patience);
	h->at++;
	next(h);
}

void hot_unplug(struct hot_run *h, const char *device, struct err *e)
{
	struct hot_call *c;

	if (h->g->vm->state == VM_PAUSED) {
		fail(e, ERR_STATE, "the guest is paused: it cannot let go of %s", device);
		err_hint(e, "resume it");
		return;
	}
	snprintf(h->device, sizeof(h->device), "%s", device);
	hot_call(h, "device_del", json_pack("{s:s}", "id", device));
	c = hot_call(h, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"));
	c->then = on_still_there;
	c->unplugs = true;
}
