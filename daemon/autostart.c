#include <stdio.h>
#include <string.h>
#include "autostart.h"
#include "inventory.h"
#include "log.h"
#include "mem.h"
#include "run.h"
#include "settings.h"
#include "stores.h"
#include "task.h"
#include "tasks_vm.h"

struct waiting { struct croft *c; char id[37]; };

/* A file server may come up later than we do. */
static void begin(void *arg, const struct err *ignored)
{
	struct waiting *w = arg;
	struct machine *m = inventory_get(w->c->inv, w->id);
	struct err e = {};

	if (w->c->stopping) {
		free(w);
		return;
	}
	if (m && !m->invalid && stores_wait(m, begin, w))
		return;
	if (m && machine_usable(m, &e) == 0 && m->spec.autostart && vm_can(m->vm, VM_ASK_START))
		task_begin(w->c, NULL, NULL, &task_vm_start, m, json_object());
	free(w);
}

void autostart_begin(struct croft *c)
{
	char boot[37], last[64];
	struct err e = {};
	size_t n = 0;

	run_boot_id(boot);
	if (settings_get(c, "boot_id", last, &e) < 0) {
		log_error("no VM is started with the host: %s", e.msg);
		return;
	}
	if (strcmp(last, boot) == 0)
		return;
	for (size_t i = 0; *last && i < inventory_len(c->inv); i++) {
		const struct machine *m = inventory_at(c->inv, i);
		struct waiting *w;

		if (m->invalid || !m->spec.autostart || vm_state_alive(vm_state(m->vm)))
			continue;
		w = xnew(waiting);
		w->c = c;
		memcpy(w->id, m->id, sizeof w->id);
		begin(w, NULL);
		n++;
	}
	if (n)
		log_note("the host was restarted: %zu VM%s to be started with it", n, n == 1 ? " is" : "s are");
	settings_set(c, "boot_id", boot);	/* behind the rows of these tasks */
}
