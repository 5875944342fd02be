/* startup.c: one order of VMs after the other. Everything is decided in turn(), from what the VMs are now. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "agent.h"
#include "inventory.h"
#include "log.h"
#include "maintenance.h"
#include "map.h"
#include "mem.h"
#include "port_gate.h"
#include "routes.h"
#include "run.h"
#include "settings.h"
#include "startup.h"
#include "stores.h"
#include "tasks_vm.h"
#include "text.h"
#include "world.h"

#define SECOND	1000000ll
#define PATCH_USEC 100000	/* somebody changes its row right now */
enum { NAMES = 5 };		/* that are told */

enum phase { WAITS, DELAYED, WANTED, STARTS, GATED, UP, OVER };

struct starter {		/* one VM */
	char id[37];
	uint64_t order;
	enum phase phase;
	bool begun;		/* a task that starts it was begun since this one was; then it is not started again */
	bool store;		/* its datastore is being opened */
	bool passed;		/* its patience is over: it holds nobody up any more */
	bool failed;
	int64_t due;		/* CLOCK_MONOTONIC: of the delay, the patience, or the gate time */
	struct port_gate *gate;	/* owned, or NULL */
};

struct startup {
	struct task *t;
	struct watcher watcher;
	struct timer next;
	struct starter *vms;	/* owned, by order */
	size_t n, starting;
	int64_t wake;
	json_t *turns;		/* borrowed, of the task's data: id -> CLOCK_MONOTONIC of when the turn came of those that it is now */
	bool news;		/* in it: not kept yet */
	uint64_t order;		/* whose turn it is */
	bool begun;		/* it is somebody's turn */
};

static void turn(void *arg);

static void wake(struct startup *s) { timer_arm(&s->next, s->t->c->ev, 0, turn, s); }

static void wake_at(struct startup *s, int64_t usec)
{
	if (!s->wake || usec < s->wake)
		s->wake = usec;
}

static void startup_free(struct startup *s)
{
	list_remove(&s->watcher.in);
	timer_disarm(&s->next);
	for (size_t i = 0; i < s->n; i++)
		port_gate_free(s->vms[i].gate);
	free(s->vms);
	free(s);
}

/* As many at once as there are CPUs, and two at least: more would only be slower, each of them. */
static size_t at_once(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n > 2 ? (size_t)n : 2;
}

static bool alive(const struct machine *m) { return vm_state_alive(vm_state(m->vm)); }

/* ---- one VM */

static void over(struct startup *s, struct starter *v, const char *name, bool failed, const char *why)
{
	AUTO_FREE char *text = xasprintf("%s: %s", name, why);

	log_warn("%s: %s", s->t->kind->name, text);
	task_note(s->t, text);
	v->phase = OVER;
	v->failed = failed;
}

/* It ran, and has ended, since this task was begun: somebody's wish, or its own. */
static bool has_run(const struct startup *s, const struct machine *m)
{
	struct vm_status st;

	vm_status(m->vm, &st);
	return st.last->why != VM_WHY_CROFTD_RESTARTED && st.last->why != VM_WHY_HOST_RESTARTED &&
	       st.last->when_usec >= s->t->created_usec;
}

static void store_open(void *arg, const struct err *e)
{
	struct croft *c = arg;
	struct task *t;

	if (c->stopping || !(t = task_of_host(c)) || t->kind->steps != task_host_autostart.steps || !t->run)
		return;
	struct startup *s = t->run;

	for (size_t i = 0; i < s->n; i++)
		s->vms[i].store = false;
	wake(s);
}

static void pass(struct startup *s, struct starter *v, const struct machine *m, const char *why)
{
	AUTO_FREE char *text = xasprintf("%s is not up after %llu s (%s); it is not waited for any longer", m->name,
					 (unsigned long long)m->spec.startup.patience_s, why);

	if (v->passed)
		return;
	log_warn("%s: %s", s->t->kind->name, text);
	task_note(s->t, text);
	v->passed = true;
}

static void want(struct startup *s, struct starter *v, struct machine *m, int64_t now)
{
	struct err e = {};

	if (!v->passed && now >= v->due)
		pass(s, v, m, v->store ? "a datastore that it lies on does not answer" :
		     m->task ? "another task holds it" : "its turn has not come");
	if (!v->passed)
		wake_at(s, v->due);
	if (m->claim.held)
		wake_at(s, now + PATCH_USEC);
	if (v->store || m->claim.held)
		return;
	if (stores_wait(m, store_open, s->t->c)) {	/* a file server may come up later than we do */
		v->store = true;
		return;
	}
	if (m->task || s->starting >= at_once())
		return;
	if (host_may_start(s->t->c, &e) < 0) {
		over(s, v, m->name, true, e.msg);
		return;
	}
	s->starting++;
	v->phase = STARTS;
	task_begin(s->t->c, NULL, NULL, task_start_kind(m), m, json_object());
}

/* Its time is from when it came up, which may have been before this croftd. */
static void open_gate(struct startup *s, struct starter *v, struct machine *m, int64_t now)
{
	struct vm_status st;

	vm_status(m->vm, &st);
	v->phase = m->spec.startup.gate == VM_GATE_NONE ? UP : GATED;
	v->due = now - (now_usec() - st.since_usec) + (int64_t)m->spec.startup.patience_s * SECOND;
}

static void on_port(void *arg) { wake(arg); }

static bool is_up(struct startup *s, struct starter *v, struct machine *m, int64_t now)
{
	switch ((enum vm_gate)m->spec.startup.gate) {
	case VM_GATE_NONE:
		return true;
	case VM_GATE_AGENT:
		return vm_agent_answers(m->vm);
	case VM_GATE_PORT:
		if (v->gate && port_gate_port(v->gate) != m->spec.startup.port)
			port_gate_free(TAKE(v->gate));
		if (!v->gate)
			v->gate = port_gate_new(m, on_port, s);
		return port_gate_is_open(v->gate);
	case VM_GATE_TIME:
		return now >= v->due;
	}
	return true;
}

static void gate(struct startup *s, struct starter *v, struct machine *m, int64_t now)
{
	static const char *const waits_for[] = {
		[VM_GATE_NONE] = "", [VM_GATE_AGENT] = "its guest agent does not answer", [VM_GATE_PORT] = "its port is not open",
		[VM_GATE_TIME] = "",
	};

	if (!alive(m)) {
		over(s, v, m->name, false, "it has ended before it was up");
	} else if (is_up(s, v, m, now)) {
		log_note("%s is up", m->name);
		v->phase = UP;
	} else if (now >= v->due) {
		pass(s, v, m, waits_for[m->spec.startup.gate]);
		v->phase = OVER;
	} else {
		wake_at(s, v->due);
	}
}

static bool starts(const struct machine *m)
{
	return m->task && (m->task->kind == &task_vm_start || m->task->kind == &task_vm_wake || m->task->kind == &task_vm_reboot);
}

static void cancelled(struct startup *s, struct starter *v, const struct machine *m)
{
	AUTO_FREE char *why = xasprintf("its start was cancelled by %s", m->cancelled_by);

	over(s, v, m->name, false, why);
}

/* Its delay and its patience are not to begin anew with each croftd. */
static int64_t turn_came(struct startup *s, const struct starter *v, int64_t now)
{
	int64_t then = json_integer_value(json_object_get(s->turns, v->id));

	if (then > 0 && then <= now)
		return then;
	json_object_set_new(s->turns, v->id, json_integer(now));
	s->news = true;
	return now;
}

static void look(struct startup *s, struct starter *v, struct machine *m, int64_t now)
{
	if (v->phase == WAITS) {
		v->due = turn_came(s, v, now) + (int64_t)m->spec.startup.delay_s * SECOND;
		v->phase = starts(m) ? STARTS : DELAYED;
		s->starting += starts(m);
	}
	if ((v->phase == DELAYED || v->phase == WANTED) && alive(m))
		open_gate(s, v, m, now);
	else if ((v->phase == DELAYED || v->phase == WANTED) && !m->task && (v->begun || has_run(s, m)))
		over(s, v, m->name, false, "it was started already, and that is over");
	if (v->phase == DELAYED && now >= v->due) {
		v->due += (int64_t)m->spec.startup.patience_s * SECOND;
		v->phase = WANTED;
	}
	if (v->phase == DELAYED)
		wake_at(s, v->due);
	if (v->phase == WANTED)
		want(s, v, m, now);
	if (v->phase == STARTS && !starts(m)) {
		s->starting--;
		if (alive(m))
			open_gate(s, v, m, now);
		else if (m->cancelled_by)
			cancelled(s, v, m);
		else
			over(s, v, m->name, true, "it could not be started: see its task vm.start");
	}
	if (v->phase == GATED)
		gate(s, v, m, now);
}

/* ---- all of them */

static bool settled(const struct starter *v) { return v->phase == UP || v->phase == OVER; }

static void end(struct startup *s)
{
	struct task *t = s->t;
	struct buf names AUTO_BUF = BUF_INIT(200);
	struct err e = {};
	size_t failed = 0;

	for (size_t i = 0; i < s->n; i++) {
		const struct machine *m = s->vms[i].failed ? inventory_get(t->c->inv, s->vms[i].id) : NULL;

		if (m && failed++ < NAMES)
			buf_addf(&names, "%s%s", names.len ? ", " : "", m->name);
	}
	if (failed) {
		fail(&e, ERR_UNAVAILABLE, "%zu of %zu VMs could not be started: %s%s", failed, s->n, names.data ?: "",
		     failed > NAMES ? ", ..." : "");
		err_hint(&e, "their tasks vm.start say why; vmctl start starts them when that is mended");
	}
	startup_free(s);
	task_step_end(t, failed ? &e : NULL);
}

static void tell_waiting(struct startup *s)
{
	struct buf text AUTO_BUF = BUF_INIT(1000);
	size_t n = 0, done = 0;

	for (size_t i = 0; i < s->n; i++) {
		bool waits = !settled(&s->vms[i]) && s->vms[i].phase != WAITS;
		const struct machine *m = waits && n <= NAMES ? inventory_get(s->t->c->inv, s->vms[i].id) : NULL;

		done += settled(&s->vms[i]);
		if (m && n++ < NAMES)
			buf_addf(&text, "%s%s", n > 1 ? ", " : "", m->name);
	}
	task_share(s->t, (double)done / (double)s->n);
	if (!n)
		return;
	AUTO_FREE char *note = xasprintf("order %llu: %s%s", (unsigned long long)s->order, text.data, n > NAMES ? ", ..." : "");

	task_note(s->t, note);
}

/* The lowest order in which somebody still holds up the rest. False: there is none. */
static bool whose_turn(struct startup *s)
{
	for (size_t i = 0; i < s->n; i++) {
		if (settled(&s->vms[i]) || s->vms[i].passed)
			continue;
		if (!s->begun || s->order != s->vms[i].order)
			log_note("%s: order %llu", s->t->kind->name, (unsigned long long)s->vms[i].order);
		s->order = s->vms[i].order;
		return s->begun = true;
	}
	return false;
}

static void turn(void *arg)
{
	struct startup *s = arg;
	size_t open = 0;

	/* Who has nothing to wait for makes room for the next one at once: until nobody has moved. */
	for (bool moved = true; moved; ) {
		moved = false;
		s->wake = 0;
		whose_turn(s);
		for (size_t i = 0; i < s->n; i++) {
			struct starter *v = &s->vms[i];
			enum phase before = v->phase;

			if (settled(v) || (!v->passed && v->order > s->order))
				continue;
			struct machine *m = inventory_get(s->t->c->inv, v->id);

			if (!m || m->invalid)
				over(s, v, m ? m->name : v->id, m, m ? m->invalid : "it is gone");
			else
				look(s, v, m, mono_usec());
			moved |= v->phase != before;
		}
	}
	for (size_t i = 0; i < s->n; i++) {
		open += !settled(&s->vms[i]);
		if (settled(&s->vms[i]))
			json_object_del(s->turns, s->vms[i].id);
	}
	if (!open) {
		end(s);
		return;
	}
	if (s->news)
		task_keep(s->t, NULL);
	s->news = false;
	tell_waiting(s);
	if (s->wake)
		timer_arm(&s->next, s->t->c->ev, (uint64_t)(s->wake > mono_usec() ? s->wake - mono_usec() : 0), turn, s);
}

/* ---- the task */

struct loading { struct db_job job; struct task *t; uint64_t id; struct map *begun; };

static int load_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct loading *l = (struct loading *)j;
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT DISTINCT target FROM tasks WHERE kind IN ('vm.start', 'vm.wake') AND id > ?",
			 "i", (int64_t)l->id);

	while (r >= 0 && (r = db_next(q, e)) > 0)
		map_set(l->begun, db_text(q, 0), l);
	return r < 0 ? r : 0;
}

static void changed(struct watcher *w, struct machine *m) { wake(LIST_ENTRY(w, struct startup, watcher)); }

static int by_order(const void *a, const void *b)
{
	const struct starter *x = a, *y = b;

	return x->order < y->order ? -1 : x->order > y->order;
}

/* What a croftd of this boot has left there. */
static json_t *turns_of(struct task *t)
{
	char boot[37];

	boot_id(boot);
	if (strcmp(json_string_value(json_object_get(t->data, "boot")) ?: "", boot) != 0) {
		json_object_set_new(t->data, "turns", json_object());
		json_object_set_new(t->data, "boot", json_string(boot));
	}
	return json_object_get(t->data, "turns");
}

/* The ids of the VMs that such arguments mean, with themselves as value. */
static struct map *wanted(const struct croft *c, const json_t *args)
{
	struct map *all = map_new();
	const json_t *id;
	size_t i;

	json_array_foreach(json_object_get(args, "vms"), i, id)
		map_set(all, json_string_value(id) ?: "", all);
	for (i = 0; json_is_true(json_object_get(args, "autostart")) && i < inventory_len(c->inv); i++) {
		const struct machine *m = inventory_at(c->inv, i);

		if (!m->invalid && m->spec.autostart)
			map_set(all, m->id, all);
	}
	return all;
}

static void startup_cancelled(struct task *t)
{
	struct err e = {};

	fail(&e, ERR_CANCELLED, "no more VMs are started; those that were started run on");
	startup_free(t->run);
	task_step_end(t, &e);
}

static void begin(struct task *t, const struct map *begun)
{
	struct startup *s = xnew(startup);
	const struct inventory *inv = t->c->inv;
	struct map *all = wanted(t->c, t->args);

	s->t = t;
	s->turns = turns_of(t);
	s->vms = xcalloc(inventory_len(inv) + 1, sizeof *s->vms);
	for (size_t i = 0; i < inventory_len(inv); i++) {
		const struct machine *m = inventory_at(inv, i);

		if (!map_get(all, m->id))
			continue;
		struct starter *v = &s->vms[s->n++];

		memcpy(v->id, m->id, sizeof v->id);
		v->order = m->invalid ? 0 : m->spec.startup.order;
		v->begun = map_get(begun, m->id);
	}
	map_free(all);
	qsort(s->vms, s->n, sizeof *s->vms, by_order);
	s->watcher.changed = changed;
	inventory_watch(t->c->inv, &s->watcher);
	t->run = s;
	t->cancelled = startup_cancelled;
	wake(s);
}

static void load_done(struct db_job *j, const struct err *e)
{
	struct loading *l = (struct loading *)j;
	struct task *t = l->t;
	const char *boot = json_string_value(json_object_get(t->args, "boot"));
	char now[37];
	struct err why = {};

	boot_id(now);
	if (e)
		why = *e;
	else if (t->cancel)
		fail(&why, ERR_CANCELLED, "cancelled before the first VM was started");
	else if (boot && strcmp(boot, now) != 0)
		fail(&why, ERR_INTERRUPTED, "the host was restarted meanwhile; what starts with it is started by the next such task");
	if (why.code)
		task_step_end(t, &why);
	else if (!t->c->stopping)
		begin(t, l->begun);
	map_free(l->begun);
	free(l);
}

static void startup_run(struct task *t)
{
	struct loading *l = xnew(loading);

	l->t = t;
	l->id = t->id;
	l->begun = map_new();
	db_run(t->c->db, &l->job, load_work, load_done);
}

static const struct step startup_steps[] = { { "start the VMs, one order after the other", startup_run, NULL, 1, STEP_REDO }, {} };
const struct task_kind task_host_autostart = { "host.autostart", startup_steps, .cancellable = true, .host = true,
					       .answer = api_maintenance_status };
const struct task_kind task_host_restore = { "host.restore", startup_steps, .cancellable = true, .host = true,
					     .answer = api_maintenance_status };

/* ---- with the host */

static json_t *missed;		/* the host was restarted in maintenance: what its end had suspended; owned; NULL: it was not */

json_t *startup_args(json_t *ids, bool autostart)
{
	return json_pack("{s:o, s:b}", "vms", ids ?: json_array(), "autostart", autostart);
}

const json_t *startup_missed(void) { return missed; }

int startup_boot_work(struct db_tx *tx, struct err *e)
{
	char boot[37];

	boot_id(boot);
	int r = db_exec(tx, e, "INSERT INTO settings (key, value) VALUES ('boot_id', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
			"s", boot);

	return r < 0 ? r : db_exec(tx, e, "DELETE FROM settings WHERE key LIKE 'resume %'", NULL);
}

struct marks { struct db_job job; json_t *ids; };

static int marks_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct marks *m = (struct marks *)j;
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT substr(key, 8) FROM settings WHERE key LIKE 'resume %'", NULL);

	while (r >= 0 && (r = db_next(q, e)) > 0)
		json_array_append_new(m->ids, json_string(db_text(q, 0)));
	return r < 0 ? r : 0;
}

/* What the host's end has suspended, and nobody has taken up or thrown away since. */
static json_t *suspended(struct croft *c)
{
	struct marks marks = { .ids = json_array() };
	struct err e = {};

	if (db_now(c->db, &marks.job, marks_work, &e) < 0)
		log_error("what the host's end has suspended cannot be read: %s", e.msg);
	for (size_t i = json_array_size(marks.ids); i-- > 0; ) {
		const struct machine *m = inventory_get(c->inv, json_string_value(json_array_get(marks.ids, i)));

		if (!m || !m->vm || strcmp(vm_state_names[vm_state(m->vm)], "suspended") != 0)
			json_array_remove(marks.ids, i);
	}
	return marks.ids;
}

static int boot_change(struct change *ch, struct db_tx *tx, struct err *e) { return startup_boot_work(tx, e); }

void startup_begin(struct croft *c)
{
	char boot[37], last[64];
	struct err e = {};
	size_t n = 0;

	boot_id(boot);
	if (settings_get(c, "boot_id", last, &e) < 0) {
		log_error("no VM is started with the host: %s", e.msg);
		return;
	}
	if (strcmp(last, boot) == 0)
		return;
	json_t *args = startup_args(*last ? suspended(c) : NULL, *last);

	if (*last && maintenance_on(c)) {
		missed = json_incref(json_object_get(args, "vms"));
		json_decref(args);
		log_note("the host was restarted, and is in maintenance: what starts with it is started when that ends");
		return;
	}
	json_object_set_new(args, "boot", json_string(boot));
	struct map *all = wanted(c, args);

	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		const struct machine *m = inventory_at(c->inv, i);

		n += !m->invalid && map_get(all, m->id) && !alive(m);
	}
	map_free(all);
	struct change *ch = change_new(c, NULL);

	ch->work = boot_change;
	if (!n) {
		json_decref(args);
		change_run(ch);
		return;
	}
	log_note("the host was restarted: %zu VM%s to be started with it", n, n == 1 ? " is" : "s are");
	task_begin(c, NULL, ch, &task_host_autostart, NULL, args);
}
