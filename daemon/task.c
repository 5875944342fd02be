/* task.c: durable tasks: run, fail, undo, recover. What clients see of them is in api_task.c. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <signal.h>
#include "event.h"
#include "fault.h"
#include "log.h"
#include "map.h"
#include "mem.h"
#include "stores.h"
#include "task.h"
#include "task_rows.h"
#include "tasks_vm.h"
#include "text.h"

const char *const task_state_names[TASK_NSTATES + 1] = {
#define X(id, name) [TASK_##id] = name,
	TASK_STATES(X)
#undef X
};

#define TASKS_KEPT 10000

struct tasks { struct map *open; };	/* id -> struct task */

static const struct step *step_of(const struct task *t) { return &t->kind->steps[t->step]; }

static struct task *task_new(struct croft *c)
{
	struct task *t = xnew(task);

	t->c = c;
	t->tasks = c->tasks;
	list_init(&t->waiters);
	return t;
}

static void task_free(struct task *t)
{
	timer_disarm(&t->deadline);
	if (t->vm && t->vm->task == t)
		t->vm->task = NULL;
	if (t->next)
		task_free(t->next);
	json_decref(t->args);
	json_decref(t->data);
	free(t->target_name);
	free(t->user);
	free(t->note);
	free(t);
}

static char *key_of(uint64_t id, char out[24])
{
	snprintf(out, 24, "%llu", (unsigned long long)id);
	return out;
}

struct task *task_find(const struct croft *c, uint64_t id)
{
	char key[24];

	return map_get(c->tasks->open, key_of(id, key));
}

static void run_step(struct task *t);

/* ---- saving: each of these is one commit, and the task goes on when it is on disk */

struct saving {
	struct task *t;
	char *args, *data, *error;	/* texts for the lane */
	enum task_state state;
	unsigned step;
	int64_t finished_usec;
	bool ending;
};

static int save_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	struct saving *s = ch->arg;
	struct task *t = s->t;
	int r = db_exec(tx, e, "UPDATE tasks SET state = ?, step = ?, data = ?, error = ?, finished = nullif(?, 0) WHERE id = ?",
			"sissii", task_state_names[s->state], (int64_t)s->step, s->data, s->error, s->finished_usec,
			(int64_t)t->id);

	if (r < 0 || !s->ending)
		return r;
	if (s->state == TASK_DONE)
		r = t->kind->commit ? t->kind->commit(ch, tx, t, e) : 0;
	else
		r = t->kind->fail_commit && s->state != TASK_INTERRUPTED ? t->kind->fail_commit(ch, tx, t, e) : 0;
	for (unsigned i = 0; i < ch->nevents; i++)
		snprintf(ch->events[i].user, sizeof ch->events[i].user, "%s", t->user);
	return r;
}

static void finish(struct task *t);

static void retry_save(void *arg);

static void save_fini(struct change *ch, const struct err *e)
{
	struct saving *s = ch->arg;
	struct task *t = s->t;

	free(s->args);
	free(s->data);
	free(s->error);
	if (e && t->next)
		task_free(TAKE(t->next));
	if (e) {
		/* The disk is full or gone: the task stands where it is, and tries again. Nothing is said to be done. */
		log_error("task %llu (%s) cannot be saved: %s", (unsigned long long)t->id, t->kind->name, e->msg);
		t->stuck = true;
		timer_arm(&t->deadline, t->c->ev, 2000000, retry_save, t);
		if (t->vm) {
			machine_changed(t->vm);
			claim_drop(&t->vm->claim);
		}
	} else if (s->ending) {
		finish(t);
	} else {
		run_step(t);
	}
	free(s);
}

static void save_apply(struct change *ch)
{
	struct saving *s = ch->arg;
	struct task *t = s->t;

	t->saved = s->state;
	t->stuck = false;
	if (!s->ending)
		return;
	if (t->vm) {
		t->vm->task = NULL;
		machine_changed(t->vm);
	}
	if (s->state == TASK_DONE && t->kind->apply)
		t->kind->apply(t);
	else if (s->state != TASK_DONE && s->state != TASK_INTERRUPTED && t->kind->fail_apply)
		t->kind->fail_apply(t);
}

/* Its VM goes with its end: deleted, or never created. */
static bool goes(const struct task *t)
{
	return t->state == TASK_DONE ? t->kind->gone : t->state != TASK_INTERRUPTED && t->kind->fail_apply;
}

static void save(struct task *t, bool ending)
{
	struct change *ch = change_new(t->c, NULL);
	struct saving *s = ch->arg = xnew(saving);

	if (ending)
		t->finished_usec = now_usec();
	s->t = t;
	s->data = json_dumps(t->data, JSON_COMPACT);
	s->error = t->err.code ? task_error_text(&t->err) : NULL;
	s->state = t->state;
	s->step = t->step;
	s->finished_usec = t->finished_usec;
	s->ending = ending;
	ch->work = save_work;
	ch->apply = save_apply;
	ch->fini = save_fini;
	if (ending && t->vm) {
		machine_changed(t->vm);		/* no task holds it any more */
		if (!goes(t))
			machine_write(t->vm, NULL, change_event(ch, "vm.changed", t->target));
	}
	task_write(t, t->id, change_event(ch, ending ? "task.finished" : "task.changed", t->target));
	for (unsigned i = 0; i < ch->nevents; i++)
		snprintf(ch->events[i].user, sizeof ch->events[i].user, "%s", t->user);
	change_run(ch);
}

static void retry_save(void *arg)
{
	struct task *t = arg;

	save(t, t->finished_usec != 0);
}

/* ---- running */

static bool needed(const struct task *t, unsigned step)
{
	return !t->kind->steps[step].needed || t->kind->steps[step].needed(t);
}

static void end_with(struct task *t, enum task_state state)
{
	t->state = state;
	save(t, true);
}

/* To the first step from @step on that is needed, or to the end. */
static void advance(struct task *t, unsigned step)
{
	while (t->kind->steps[step].name && !needed(t, step))
		step++;
	if (!t->kind->steps[step].name) {
		end_with(t, TASK_DONE);
		return;
	}
	t->step = step;
	save(t, false);
}

/* The step before, or the end of it all. */
static void retreat(struct task *t)
{
	while (t->step > 0 && !needed(t, t->step - 1))
		t->step--;
	if (t->step == 0) {
		end_with(t, t->err.code == ERR_CANCELLED ? TASK_CANCELLED : TASK_FAILED);
		return;
	}
	t->step--;
	save(t, false);
}

static void run_step(struct task *t)
{
	if (t->c->stopping)
		return;		/* the lanes refuse everything now: the row tells the next croftd where to go on */
	bool fails = fault_at(t, t->state == TASK_UNDOING ? "undo" : "begin");

	if (t->state == TASK_UNDOING) {
		if (step_of(t)->undo)
			step_of(t)->undo(t);
		else
			task_step_end(t, NULL);
	} else if (fails) {
		struct err e = {};

		fail(&e, ERR_UNAVAILABLE, "a test wanted this to fail: %s", step_of(t)->name);
		task_step_end(t, &e);
	} else if (t->cancel && t->kind->cancellable) {
		struct err e = {};

		fail(&e, ERR_CANCELLED, "cancelled by %s before: %s", task_cancelled_by(t), step_of(t)->name);
		task_step_end(t, &e);
	} else {
		step_of(t)->run(t);
	}
}

static void fail_step(struct task *t, const struct err *e)
{
	t->err = *e;
	t->state = TASK_UNDOING;
	save(t, false);
}

void task_step_end(struct task *t, const struct err *e)
{
	t->run = NULL;
	t->cancelled = NULL;
	t->vm_changed = NULL;
	t->bytes = (struct task_bytes){};
	timer_disarm(&t->deadline);
	if (t->c->stopping)
		return;
	fault_at(t, t->state == TASK_UNDOING ? "undone" : "end");
	if (t->state == TASK_UNDOING) {
		/* An undo that fails is told and passed: the rest is undone all the same. */
		if (e)
			log_error("task %llu (%s): undoing \"%s\": %s", (unsigned long long)t->id, t->kind->name, step_of(t)->name, e->msg);
		retreat(t);
		return;
	}
	if (e) {
		fail_step(t, e);
		return;
	}
	t->share = 0;
	advance(t, t->step + 1);
}

void task_note(struct task *t, const char *note)
{
	struct buf b AUTO_BUF = BUF_INIT(EVENT_DATA_MAX);

	if (t->note && strcmp(t->note, note) == 0)
		return;
	free(t->note);
	t->note = xstrdup(note);
	task_write(t, t->id, &b);
	event_post(t->c, "task.changed", t->target, b.data, b.len);
}

struct task *task_of_host(const struct croft *c)
{
	struct task *t;

	for (size_t i = 0; (t = map_next(c->tasks->open, &i, NULL)); )
		if (t->kind->host && !t->finished_usec)
			return t;
	return NULL;
}

/* ---- a task that follows another on the same VM: its row is in the transaction that ends the first */

static int insert_row(struct db_tx *tx, const struct task *t, const char *args, struct err *e)
{
	return db_exec(tx, e, "INSERT INTO tasks (kind, target_kind, target, target_name, user, args, data, state, step, created)"
		       " VALUES (?, ?, ?, ?, ?, ?, '{}', 'running', 0, ?)", "ssssssi", t->kind->name,
		       t->kind->host ? "host" : "vm", t->target, t->target_name, t->user, args, t->created_usec);
}

int task_follow(struct change *ch, struct db_tx *tx, struct task *t, const struct task_kind *kind, struct err *e)
{
	struct task *n = t->next = task_new(t->c);

	n->kind = kind;
	memcpy(n->target, t->target, sizeof n->target);
	n->target_name = xstrdup(t->target_name);
	n->user = xstrdup(t->user);
	n->args = json_object();
	n->data = json_object();
	n->created_usec = now_usec();
	int r = insert_row(tx, n, "{}", e);

	if (r < 0)
		return r;
	n->id = (uint64_t)db_last_id(tx);
	task_write(n, n->id, change_event(ch, "task.created", n->target));
	return 0;
}

static void follow(struct task *n, struct machine *vm)
{
	char key[24];

	n->vm = vm;
	vm->task = n;
	map_set(n->tasks->open, key_of(n->id, key), n);
	machine_changed(vm);
	run_step(n);
}

static void finish(struct task *t)
{
	char key[24];
	struct machine *vm = t->vm;
	struct task *next = TAKE(t->next);

	fault_at(t, "finished");
	map_del(t->tasks->open, key_of(t->id, key));
	if (vm) {
		free(vm->cancelled_by);
		vm->cancelled_by = t->state == TASK_CANCELLED ? xstrdup(task_cancelled_by(t)) : NULL;
	}
	LIST_FOR(r, &t->waiters, struct req, in_wait) {
		list_remove(&r->in_wait);
		task_answer_end(r, t);
	}
	task_free(t);
	if (next)
		follow(next, vm);
	if (vm) {
		inventory_tell(vm);
		claim_drop(&vm->claim);
	}
}

/* ---- beginning */

struct beginning {
	struct task *t;
	bool own;			/* croftd's: nobody is told of its failure but by the log */
	char *args;
	int (*work)(struct change *, struct db_tx *, struct err *);
	void (*apply)(struct change *);
	void (*fini)(struct change *, const struct err *);
	void *arg;
};

static int begin_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	struct beginning *b = ch->arg;
	struct task *t = b->t;
	int r = 0;

	if (b->work) {
		ch->arg = b->arg;
		r = b->work(ch, tx, e);
		ch->arg = b;
	}
	if (r >= 0)
		r = insert_row(tx, t, b->args, e);
	if (r < 0)
		return r;
	ch->task = (uint64_t)db_last_id(tx);
	if (ch->task % 1000 == 0 && (r = db_exec(tx, e, "DELETE FROM tasks WHERE finished IS NOT NULL AND id <= ?", "i",
						 (int64_t)ch->task - TASKS_KEPT)) < 0)
		return r;
	/* The event bears the number that was just given; t->id is the loop's, which may look at it now. */
	task_write(t, ch->task, &ch->events[ch->nevents - 1].data);
	return 0;
}

static void begin_apply(struct change *ch)
{
	struct beginning *b = ch->arg;
	struct task *t = b->t;
	char key[24];

	t->id = ch->task;
	map_set(t->tasks->open, key_of(t->id, key), t);
	if (b->apply) {
		ch->arg = b->arg;
		b->apply(ch);
		ch->arg = b;
	}
	if (t->vm)
		machine_changed(t->vm);
}

static void begin_fini(struct change *ch, const struct err *e)
{
	struct beginning *b = ch->arg;
	struct task *t = b->t;
	struct req *r = TAKE(ch->req);
	struct machine *vm = t->vm;
	bool known = vm && inventory_get(ch->c->inv, t->target) == vm;	/* not the one that could not be created */

	ch->arg = b->arg;
	if (e)
		task_free(t);
	if (b->fini)
		b->fini(ch, e);
	if (e && r)
		req_fail(r, e);
	else if (e && b->own && (known || !vm))
		log_warn("a task of croftd's own on %s has not begun: %s", vm ? vm->name : "the host", e->msg);
	if (!e) {
		if (r)
			task_answer(r, t->id);
		if (needed(t, 0))
			run_step(t);
		else
			advance(t, 0);
	}
	if (known && e)
		inventory_tell(vm);
	if (known)
		claim_drop(&vm->claim);
	free(b->args);
	free(b);
}

/* By it a start that is done again after a crash of croftd knows whether the guest has run meanwhile. */
static void note_end(const struct machine *vm, json_t *args)
{
	struct vm_status st;

	if (!vm || !vm->vm)		/* a task of the host, or of a row that cannot be read */
		return;
	vm_status(vm->vm, &st);
	if (st.last->when_usec)
		json_object_set_new(args, "end_usec", json_integer(st.last->when_usec));
}

void task_begin(struct croft *c, struct req *r, struct change *ch, const struct task_kind *kind, struct machine *vm, json_t *args)
{
	struct beginning *b = xnew(beginning);
	struct task *t = b->t = task_new(c);

	if (!ch)
		ch = change_new(c, r);
	b->work = ch->work;
	b->apply = ch->apply;
	b->fini = ch->fini;
	b->arg = ch->arg;
	b->own = !r;
	if (vm)
		note_end(vm, args);
	b->args = json_dumps(args, JSON_COMPACT);
	t->kind = kind;
	t->vm = vm;
	snprintf(t->target, sizeof t->target, "%s", vm ? vm->id : TASK_HOST);
	t->target_name = xstrdup(vm ? vm->name : TASK_HOST);
	t->user = xstrdup(r ? r->who.name : "croft");
	t->args = args;
	t->data = json_object();
	t->created_usec = now_usec();
	if (vm)
		vm->task = t;
	ch->arg = b;
	ch->work = begin_work;
	ch->apply = begin_apply;
	ch->fini = begin_fini;
	change_event(ch, "task.created", t->target);
	change_run(ch);
}

/* ---- recovery */

struct loading { struct db_job job; struct croft *c; };

const struct task_kind *task_kind_named(const char *name)
{
	for (const struct task_kind *const *k = task_kinds; *k; k++)
		if (strcmp((*k)->name, name) == 0)
			return *k;
	return NULL;
}

static enum task_state state_of(const char *name)
{
	for (int i = 0; i < TASK_NSTATES; i++)
		if (strcmp(task_state_names[i], name) == 0)
			return i;
	return TASK_FAILED;
}

static int load_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct croft *c = ((struct loading *)j)->c;
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT id, kind, target, target_name, user, args, data, state, step, error, created"
			 " FROM tasks WHERE finished IS NULL ORDER BY id", NULL);

	while (r >= 0 && (r = db_next(q, e)) > 0) {
		const struct task_kind *kind = task_kind_named(db_text(q, 1));
		struct task *t = task_new(c);
		struct err ignored;
		char key[24];

		t->id = (uint64_t)db_int(q, 0);
		t->kind = kind ?: task_kinds[0];
		snprintf(t->target, sizeof t->target, "%s", db_text(q, 2));
		t->target_name = xstrdup(db_text(q, 3));
		t->user = xstrdup(db_text(q, 4));
		t->args = json_parse(db_text(q, 5), strlen(db_text(q, 5)), 1 << 20, &ignored) ?: json_object();
		t->data = json_parse(db_text(q, 6), strlen(db_text(q, 6)), 1 << 20, &ignored) ?: json_object();
		t->state = state_of(db_text(q, 7));
		t->saved = t->state;
		t->step = kind ? (unsigned)db_int(q, 8) : UINT_MAX;
		t->cancel = task_was_cancelled(t);
		task_error_parse(db_text(q, 9), &t->err);
		t->created_usec = db_int(q, 10);
		if (!kind)
			fail(&t->err, ERR_INTERRUPTED, "this version of Croft does not know the task %s", db_text(q, 1));
		map_set(c->tasks->open, key_of(t->id, key), t);
	}
	return r < 0 ? r : 0;
}

static void when_open(void *arg, const struct err *e);

/* What the step table says, for a task whose VM is what it is: attached, or off, and its datastores open. */
static void go_on(struct task *t)
{
	t->vm_changed = NULL;
	if (t->c->stopping || (t->vm && stores_wait(t->vm, when_open, t)))
		return;
	if (t->state != TASK_UNDOING && !needed(t, t->step)) {	/* its first one: the row was all that there was of it */
		advance(t, t->step);
		return;
	}
	if (t->cancel && step_of(t)->up && t->vm && vm_state_alive(vm_state(t->vm->vm)))
		task_too_late(t);
	if (t->state == TASK_UNDOING || step_of(t)->recovery == STEP_REDO || t->cancel) {
		t->redone = true;
		run_step(t);
		return;
	}
	fail(&t->err, ERR_INTERRUPTED, "croftd was restarted during: %s", step_of(t)->name);
	if (step_of(t)->recovery == STEP_INTERRUPT) {
		err_hint(&t->err, "look at the state of %s, and ask again", t->target_name);
		end_with(t, TASK_INTERRUPTED);
	} else {
		t->state = TASK_UNDOING;
		save(t, false);
	}
}

static void when_open(void *arg, const struct err *e) { go_on(arg); }

static void when_attached(struct task *t)
{
	if (!t->vm || !t->vm->vm || vm_state(t->vm->vm) != VM_ATTACHING)
		go_on(t);
	else
		t->vm_changed = when_attached;	/* attaching has a deadline of its own */
}

static void recover(struct task *t)
{
	unsigned steps = 0;

	while (t->kind->steps[steps].name)
		steps++;
	t->vm = t->kind->host ? NULL : inventory_get(t->c->inv, t->target);
	if (t->vm)
		t->vm->task = t;
	if (t->step >= steps || (!t->vm && !t->kind->host) || (t->vm && t->vm->invalid && !t->kind->gone)) {
		if (!t->err.code && t->vm)
			fail(&t->err, ERR_INTERRUPTED, "croftd was restarted, and %s cannot be used: %s", t->target_name, t->vm->invalid);
		if (!t->err.code)
			fail(&t->err, ERR_INTERRUPTED, "croftd was restarted, and the object of this task is gone");
		end_with(t, TASK_INTERRUPTED);
		return;
	}
	if (t->vm && t->vm->invalid && t->kind != &task_vm_delete) {
		fail(&t->err, ERR_INTERRUPTED, "croftd was restarted, and %s cannot be used: %s", t->vm->name, t->vm->invalid);
		end_with(t, TASK_INTERRUPTED);
		return;
	}
	log_note("task %llu (%s of %s) was interrupted in \"%s\"", (unsigned long long)t->id, t->kind->name, t->target_name,
		 step_of(t)->name);
	when_attached(t);
}

int tasks_recover(struct croft *c, struct err *e)
{
	struct loading l = { .c = c };
	struct task *t;
	int r = db_now(c->db, &l.job, load_work, e);

	/* A task that cannot be saved does not go on; its row says where it stands. */
	if (c->frozen.code)
		return r;
	/* When the host ends only what saves a guest's memory goes on: the rest is for the next croftd. */
	for (size_t i = 0; r == 0 && (t = map_next(c->tasks->open, &i, NULL)); )
		if (!c->draining || strcmp(t->kind->name, "vm.suspend") == 0)
			recover(t);
	return r;
}

int tasks_new(struct croft *c, struct tasks **ret, struct err *e)
{
	fault_table();
	*ret = xnew(tasks);
	(*ret)->open = map_new();
	return 0;
}

void tasks_stop(struct tasks *ts)
{
	struct task *t;

	for (size_t i = 0; ts && (t = map_next(ts->open, &i, NULL)); )
		if (t->cancelled)
			t->cancelled(t);
}

void tasks_free(struct tasks *ts)
{
	struct task *t;

	if (!ts)
		return;
	for (size_t i = 0; (t = map_next(ts->open, &i, NULL)); )
		task_free(t);
	map_free(ts->open);
	free(ts);
}

size_t tasks_open(const struct croft *c) { return map_len(c->tasks->open); }

bool task_ending(const struct task *t) { return !t->stuck && t->finished_usec; }
bool task_soon(const struct task *t) { return task_ending(t) || (!t->stuck && !t->id); }
