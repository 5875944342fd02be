#include <errno.h>
#include <stdio.h>
#include "drain.h"
#include "inventory.h"
#include "log.h"
#include "mem.h"

#define GONE_S 20

static struct timer patience;

static size_t alive(const struct croft *c)
{
	size_t n = 0;

	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		const struct machine *m = inventory_at(c->inv, i);

		n += m->vm && vm_state_alive(vm_state(m->vm)) && vm_state(m->vm) != VM_LOST;
	}
	return n;
}

static void nothing(void *arg, const struct err *e) {}

static void ask(struct machine *m)
{
	struct err e = {};

	if (vm_state(m->vm) == VM_PAUSED) {		/* who stands still cannot shut down: asked again when it runs */
		if (vm_resume(m->vm, nothing, NULL, &e) < 0)
			log_warn("%s: %s", m->name, e.msg);
	} else if (vm_can(m->vm, VM_ASK_SHUTDOWN)) {
		printf("%s: asked to shut down\n", m->name);
		if (vm_shutdown(m->vm, nothing, NULL, &e) < 0)
			log_warn("%s: %s", m->name, e.msg);
	}
}

/* A VM that had to be attached first is asked when it answers. */
static void on_change(struct machine *m)
{
	struct croft *c = m->c;

	if (vm_state(m->vm) == VM_RUNNING)
		ask(m);
	else if (vm_state(m->vm) == VM_OFF)
		printf("%s: off\n", m->name);
	else if (vm_state(m->vm) == VM_LOST)
		printf("%s: left alone: something holds its lock, and it is not known what\n", m->name);
	if (!alive(c))
		sd_event_exit(c->ev, 0);
}

static void stuck(void *arg)
{
	struct croft *c = arg;

	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		const struct machine *m = inventory_at(c->inv, i);

		if (m->vm && vm_state_alive(vm_state(m->vm)))
			printf("%s: its process is not gone %d s after it was killed; the kernel holds it\n", m->name, GONE_S);
	}
	sd_event_exit(c->ev, -ETIME);
}

static void over(void *arg)
{
	struct croft *c = arg;
	struct err e = {};

	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		struct machine *m = inventory_at(c->inv, i);

		if (!m->vm || !vm_state_alive(vm_state(m->vm)) || vm_state(m->vm) == VM_LOST)
			continue;
		printf("%s: powered off, since the guest has not ended\n", m->name);
		if (vm_poweroff(m->vm, nothing, NULL, &e) < 0)
			log_error("%s: %s", m->name, e.msg);
	}
	timer_arm(&patience, c->ev, GONE_S * 1000000ull, stuck, c);
}

void drain_begin(struct croft *c, unsigned patience_s)
{
	size_t orphans = inventory_orphans(c->inv)->n;

	if (orphans)
		printf("%zu guest%s without a VM run%s on: see the log, and orphans in vmctl host\n", orphans, orphans == 1 ? "" : "s",
		       orphans == 1 ? "s" : "");
	if (!alive(c)) {
		printf(orphans ? "no VM of this home runs but for that\n" : "no VM of this home runs\n");
		sd_event_exit(c->ev, 0);
		return;
	}
	c->on_vm_change = on_change;
	timer_arm(&patience, c->ev, patience_s * 1000000ull, over, c);
	for (size_t i = 0; i < inventory_len(c->inv); i++)
		if (inventory_at(c->inv, i)->vm)
			ask(inventory_at(c->inv, i));
}
