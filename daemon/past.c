#include <jansson.h>
#include <string.h>
#include "db.h"
#include "event.h"
#include "inventory.h"
#include "map.h"
#include "past.h"
#include "text.h"

struct looking { struct db_job job; struct map *vms; };	/* id -> struct machine: what is still looked for */

/* False: it says nothing but that a croftd was attaching it. */
static bool tell(struct machine *m, const char *event)
{
	struct err ignored;
	json_t *j = json_parse(event, strlen(event), EVENT_DATA_MAX, &ignored), *status = json_object_get(j, "status");
	const char *state = json_string_value(json_object_get(status, "state")) ?: "";
	int64_t usec = 0;
	int s = 0;

	text_time(json_string_value(json_object_get(status, "since")) ?: "", &usec);
	while (s < VM_NSTATES && strcmp(vm_state_names[s], state) != 0)
		s++;
	json_decref(j);
	if (s < VM_NSTATES && s != VM_ATTACHING)
		vm_was(m->vm, s, usec);
	return s != VM_ATTACHING;
}

/* The last event of each counts: from the end on, and no further than to the last VM. */
static int look_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct looking *l = (struct looking *)j;
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT target, data FROM events WHERE kind = 'vm.changed' ORDER BY seq DESC", NULL);

	while (r >= 0 && (r = db_next(q, e)) > 0) {
		struct machine *m = map_get(l->vms, db_text(q, 0));

		if (m && tell(m, db_text(q, 1)))
			map_del(l->vms, m->id);
		if (!map_len(l->vms)) {
			db_done(q);
			return 0;
		}
	}
	return r;
}

int past_read(struct db *db, struct inventory *inv, struct err *e)
{
	struct looking l = { .vms = map_new() };

	for (size_t i = 0; i < inventory_len(inv); i++) {
		struct machine *m = inventory_at(inv, i);

		if (m->vm && vm_state(m->vm) == VM_ATTACHING)
			map_set(l.vms, m->id, m);
	}
	int r = map_len(l.vms) ? db_now(db, &l.job, look_work, e) : 0;

	map_free(l.vms);
	return r;
}
