/* task_keep.c: what the next croftd has to know of a task in the middle of a step: that it was cancelled, and its data. */
#include <stdlib.h>
#include "db.h"
#include "mem.h"
#include "task.h"
#include "task_rows.h"

struct keeping { uint64_t id; char *data; };

static int keep_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	const struct keeping *k = ch->arg;
	int r = db_exec(tx, e, "UPDATE tasks SET data = ? WHERE id = ? AND finished IS NULL", "si", k->data, (int64_t)k->id);

	return r < 0 ? r : 0;
}

static void keep_apply(struct change *ch)
{
	const struct keeping *k = ch->arg;

	if (ch->req)
		task_answer(TAKE(ch->req), k->id);
}

static void keep_fini(struct change *ch, const struct err *e)
{
	struct keeping *k = ch->arg;

	free(k->data);
	free(k);
}

void task_keep(struct task *t, struct req *r)
{
	struct change *ch = change_new(t->c, r);
	struct keeping *k = ch->arg = xnew(keeping);

	*k = (struct keeping){ t->id, json_dumps(t->data, JSON_COMPACT) };
	ch->task = t->id;
	ch->work = keep_work;
	ch->apply = keep_apply;
	ch->fini = keep_fini;
	change_run(ch);
}

#define CANCELLED_BY "cancelled_by"	/* in its data */

const char *task_cancelled_by(const struct task *t)
{
	return json_string_value(json_object_get(t->data, CANCELLED_BY)) ?: "croft";
}

bool task_was_cancelled(const struct task *t) { return json_object_get(t->data, CANCELLED_BY); }

void task_too_late(struct task *t)
{
	t->cancel = false;
	json_object_del(t->data, CANCELLED_BY);
}

bool task_kind_cancellable(const struct task_kind *k, unsigned step)
{
	for (unsigned i = 0; i <= step && k->steps[i].name; i++)
		if (k->steps[i].final)
			return false;
	return k->cancellable;
}

/* A cancel comes between two steps, or into one that knows how. It takes effect at once: who wants an end to what fills the
 * disk cannot wait for its row. The answer is given when the next croftd knows it, too. */
int task_cancel(struct task *t, const char *by, struct req *r, struct err *e)
{
	if (!task_kind_cancellable(t->kind, t->step)) {
		fail(e, ERR_STATE, "the task %llu (%s) cannot be cancelled%s%s", (unsigned long long)t->id, t->kind->name,
		     t->kind->cancellable ? " any more: it has come to: " : "", t->kind->cancellable ? t->kind->steps[t->step].name : "");
		return err_hint(e, "wait for its end: GET /api/v1/tasks/%llu with Prefer: wait=60", (unsigned long long)t->id);
	}
	if (t->state != TASK_RUNNING) {
		fail(e, ERR_STATE, "the task %llu is %s already", (unsigned long long)t->id, task_state_names[t->state]);
		return err_hint(e, "wait for its end");
	}
	if (!t->cancel)
		json_object_set_new(t->data, CANCELLED_BY, json_string(by));
	t->cancel = true;
	task_keep(t, r);
	if (t->cancelled)
		t->cancelled(t);
	return 0;
}

bool task_cancel_for(struct task *t, const char *by)
{
	struct err e;

	return task_cancel(t, by, NULL, &e) == 0;
}
