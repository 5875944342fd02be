/* engine_qemu_memory.c: how much memory a guest has: asked once its monitor is connected, then told by QEMU's events. */
#include <string.h>
#include "engine_qemu_hot.h"
#include "text.h"

enum { TELL_USEC = 3000000 };	/* a guest moves its balloon as it likes: that is no reason to write to the disk all day */

static uint64_t number(json_t *object, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(object, key));

	return n > 0 ? (uint64_t)n : 0;
}

static void on_tell(void *arg)
{
	struct guest *g = arg;

	if (!g->memory_news)
		return;
	g->memory_news = false;
	timer_arm(&g->memory_tell, g->vm->vms->how.ev, TELL_USEC, on_tell, g);
	vm_noted(g->vm);
}

/* @balloon: what is left of what it was started with. */
static void heard(struct guest *g, uint64_t balloon)
{
	uint64_t current = balloon + g->memory.plugged_bytes;

	g->memory_usec = now_usec();
	if (current == g->memory.current_bytes)
		return;
	g->memory.current_bytes = current;
	if (g->vm->state == VM_STARTING || g->vm->state == VM_ATTACHING)
		return;			/* that it runs is told next */
	g->memory_news = true;
	if (!g->memory_tell.src || !sd_event_source_get_enabled(g->memory_tell.src, NULL))
		on_tell(g);
}

static void on_balloon(void *arg, json_t *result, const struct err *e)
{
	struct guest *g = arg;
	uint64_t target = memory_balloon(&g->memory), actual = number(result, "actual");

	if (result && g->memory.wanted_bytes && actual != target)	/* virtio-mem has moved, and the balloon follows */
		qmp_call(g->qmp, "balloon", json_pack("{s:I}", "value", (json_int_t)target), -1, g->vm->vms->how.answer_usec,
			 NULL, NULL);
	if (result)
		heard(g, actual);
	else if (e->code == ERR_STATE || e->code == ERR_NOT_FOUND)	/* it has none: nothing can be taken from it */
		heard(g, g->memory.boot_bytes);
}

static void ask_balloon(struct guest *g)
{
	qmp_ask(g->qmp, "query-balloon", NULL, g->vm->vms->how.answer_usec, on_balloon, g);
}

static void on_devices(void *arg, json_t *result, const struct err *e)
{
	struct guest *g = arg;
	json_t *device;
	size_t i;

	json_array_foreach(result, i, device) {
		json_t *data = json_object_get(device, "data");
		const char *id = json_string_value(json_object_get(data, "id"));

		if (!id || strcmp(id, MEMORY_DEVICE))
			continue;
		g->memory.hot_bytes = number(data, "max-size");
		g->memory.block_bytes = number(data, "block-size");
		g->memory.plugged_bytes = number(data, "size");
	}
}

static void on_summary(void *arg, json_t *result, const struct err *e)
{
	struct guest *g = arg;

	if (result)
		g->memory.boot_bytes = number(result, "base-memory");
}

void guest_memory_ask(struct guest *g)
{
	uint64_t deadline = g->vm->vms->how.answer_usec;

	qmp_ask(g->qmp, "query-memory-size-summary", NULL, deadline, on_summary, g);
	qmp_ask(g->qmp, "query-memory-devices", NULL, deadline, on_devices, g);
	ask_balloon(g);
}

void guest_memory_ballooned(struct guest *g, json_t *data)
{
	heard(g, number(data, "actual"));
}

void guest_memory_plugged(struct guest *g, json_t *data)
{
	const char *id = json_string_value(json_object_get(data, "id"));

	if (!id || strcmp(id, MEMORY_DEVICE))
		return;
	g->memory.plugged_bytes = number(data, "size");
	ask_balloon(g);
}

/* What QEMU takes it follows by itself, as far as the guest goes along. */
HOT_BUILDER(hot_memory)
{
	struct memory *m = &hot_guest(h)->memory;
	struct hot_call *c;

	if (!m->boot_bytes)
		return fail(e, ERR_UNAVAILABLE, "QEMU has not told how much memory it was started with");
	if (memory_reach(m, wanted->memory_bytes, e) < 0)
		return err_hint(e, "the next start gives it all of that");
	m->wanted_bytes = wanted->memory_bytes;
	if (m->hot_bytes)
		hot_call(h, "qom-set", json_pack("{s:s, s:s, s:I}", "path", "/machine/peripheral/" MEMORY_DEVICE, "property",
						 "requested-size", "value", (json_int_t)memory_to_plug(m)));
	c = hot_call(h, "balloon", json_pack("{s:I}", "value", (json_int_t)memory_balloon(m)));
	c->may_fail = m->wanted_bytes >= m->boot_bytes;		/* a guest of an older croftd has none */
	return 0;
}
