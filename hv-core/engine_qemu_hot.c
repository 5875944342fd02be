/* engine_qemu_hot.c: changes of a running guest: the sequence of calls, one at a time, and its end. What is called for
 * disks, drives and NICs is in engine_qemu_disk.c and engine_qemu_nic.c. */
#include "engine_qemu_hot.h"
#include <stdio.h>
#include <string.h>

enum { UNPLUG_USEC = 15000000, UNPLUG_TRIES = 2 };	/* Linux lets go after 5 s: somebody may press the button again */

struct hot_run {
	struct guest *g;
	struct vm_op *op;
	struct hot_call calls[HOT_CALLS];
	unsigned n, at;
	json_int_t fdset;		/* added, and not in use yet; -1 */
	char device[80];		/* that the guest shall let go of, or "" */
	unsigned asked;
	struct timer patience;
	bool waits;			/* for DEVICE_DELETED of it */
	bool done;
};

const hot_builder hot_builders[HOT_NWHATS] = {
	[HOT_MEDIUM] = hot_medium,
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
	if (h->fdset >= 0 && g->qmp && e && e->code == ERR_STATE)	/* nothing uses it: it would keep the file open */
		qmp_call(g->qmp, "remove-fd", json_pack("{s:I}", "fdset-id", h->fdset), -1, g->vm->vms->how.answer_usec,
			 NULL, NULL);
	g->hot = NULL;
	vm_op_end(h->op, e);
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

/* QEMU's no may mean that it is so already. */
static bool is_fine(const struct hot_call *c, const struct err *e)
{
	if (!e || (c->may_fail && (e->code == ERR_STATE || e->code == ERR_NOT_FOUND)))
		return true;
	return c->unplugs && (e->code == ERR_NOT_FOUND || strstr(e->msg, "in the process of unplug"));
}

static void on_answer(void *arg, json_t *result, const struct err *e)
{
	struct hot_run *h = arg;
	struct hot_call *c = &h->calls[h->at];
	struct guest *g = h->g;
	struct err err = e ? *e : (struct err){};

	if (!is_fine(c, e)) {
		run_end(h, &err);
		if (err.code == ERR_TIMEOUT)
			guest_silent(g, err.msg);
		return;
	}
	if (err.code == ERR_NOT_FOUND && c->unplugs)
		*h->device = '\0';
	if (wait_for_guest(h))
		return;
	err.code = ERR_NONE;
	if (c->then)
		c->then(h, result, &err);
	h->at++;
	if (err.code)
		run_end(h, &err);
	else
		next(h);
}

static void next(struct hot_run *h)
{
	struct guest *g = h->g;
	struct err e;

	while (h->at < h->n && h->calls[h->at].skip)
		h->at++;
	if (h->at == h->n || h->done) {
		run_end(h, NULL);
		return;
	}
	struct hot_call *c = &h->calls[h->at];

	if (!g->qmp) {
		fail(&e, ERR_UNAVAILABLE, "the monitor of VM \"%s\" is being connected again", g->vm->name);
		run_end(h, &e);
		return;
	}
	h->asked += c->unplugs;
	qmp_call(g->qmp, c->command, json_incref(c->args), TAKE_FD(c->fd), g->vm->vms->how.answer_usec, on_answer, h);
}

struct hot_call *hot_call(struct hot_run *h, const char *command, json_t *args)
{
	struct hot_call *c = &h->calls[h->n++];

	if (h->n > HOT_CALLS)
		abort();		/* the builders' sequences are short */
	*c = (struct hot_call){ .command = command, .args = args, .fd = -1 };
	return c;
}

struct hot_call *hot_after(struct hot_run *h, unsigned n) { return &h->calls[h->at + n]; }
void hot_done(struct hot_run *h) { h->done = true; }

void guest_change(struct vm *vm, struct vm_op *op, const struct hot_step *s, const struct vm_spec *is,
		  const struct vm_spec *wanted, int fd)
{
	struct guest *g = vm->run;
	struct hot_run *h;
	struct err e = {};

	if (g->hot) {
		fail(&e, ERR_BUSY, "VM \"%s\" is being changed already", vm->name);
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

static void on_node_added(struct hot_run *h, json_t *result, struct err *e)
{
	h->fdset = -1;			/* the node's from now on */
}

void hot_add_node(struct hot_run *h, char *node, int *fd)
{
	struct hot_call *c = hot_call(h, "add-fd", NULL);

	c->fd = TAKE_FD(*fd);
	c->then = on_fd_added;
	hot_call(h, "blockdev-add", json_loads(node, 0, NULL))->then = on_node_added;
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

/* ---- what the guest has to let go of ---- */

static void on_patience(void *arg)
{
	struct hot_run *h = arg;
	struct err e;

	h->waits = false;
	if (h->asked < UNPLUG_TRIES) {		/* calls[at] is still the same */
		next(h);
		return;
	}
	fail(&e, ERR_STATE, "the guest did not let go of %s within %u s", h->device, UNPLUG_TRIES * UNPLUG_USEC / 1000000);
	err_hint(&e, "it may be in use there, or the guest may not know how: unmount it, or shut the VM down");
	run_end(h, &e);
}

/* device_del says yes when the guest was told; the event says when it has let go, and may come first. */
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

	if (!h || !device || strcmp(device, h->device))
		return;
	*h->device = '\0';
	if (!h->waits)
		return;
	h->waits = false;
	timer_disarm(&h->patience);
	h->at++;
	next(h);
}

void hot_unplug(struct hot_run *h, const char *device)
{
	snprintf(h->device, sizeof(h->device), "%s", device);
	hot_call(h, "device_del", json_pack("{s:s}", "id", device))->unplugs = true;
}
