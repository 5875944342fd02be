/* maintenance.c: the state of maintenance, its routes, and the task that drains the host. */
#include <stdio.h>
#include <string.h>
#include "crash.h"
#include "drain.h"
#include "event.h"
#include "inventory.h"
#include "log.h"
#include "maintenance.h"
#include "map.h"
#include "mem.h"
#include "routes.h"
#include "settings.h"
#include "startup.h"
#include "text.h"

#define KEY "maintenance"

struct maintenance {
	struct claim claim;
	bool closing;	/* it is about to be: what runs is being counted, and nothing may join it */
	json_t *row;	/* owned: {action, by, since, vms: ids of those that are started again at its end}; NULL: it is off */
};

static const char *const action_names[] = {
	[DRAIN_POLICY] = "policy", [DRAIN_SHUTDOWN] = "shutdown", [DRAIN_SUSPEND] = "suspend", [DRAIN_POWEROFF] = "poweroff",
	[DRAIN_WAIT] = "wait", NULL
};

#define ROW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct maintenance_view, f), __VA_ARGS__ }
static const struct field view_rows[] = {
	ROW(on, F_BOOL, .help = "no VM is started on this host"),
	ROW(action, F_ENUM, .names = action_names, .help = "how its VMs were drained"),
	ROW(by, F_STR, .flags = FIELD_NULLABLE, .help = "who set it"),
	ROW(since, F_TIME, .flags = FIELD_NULLABLE, .help = "when"),
	ROW(running, F_U64, .help = "VMs that are not off"),
	ROW(task, F_U64, .help = "the task that drains the host or starts its VMs again; 0: none"),
	{}
};
#undef ROW
const struct fields maintenance_fields = { "Maintenance", sizeof(struct maintenance_view), view_rows, "maintenance of this host" };

/* ---- the state */

bool maintenance_on(const struct croft *c) { return c->maintenance->row; }

static const char *text_at(const json_t *row, const char *key) { return json_string_value(json_object_get(row, key)) ?: ""; }

static int action_of(const json_t *row)
{
	for (int i = 0; action_names[i]; i++)
		if (strcmp(action_names[i], text_at(row, "action")) == 0)
			return i;
	return DRAIN_POLICY;
}

void maintenance_view(const struct croft *c, struct maintenance_view *ret)
{
	const json_t *row = c->maintenance->row;
	const struct task *t = task_of_host(c);

	*ret = (struct maintenance_view){ .on = row, .action = action_of(row), .by = row ? (char *)text_at(row, "by") : NULL,
					  .since = json_integer_value(json_object_get(row, "since")), .task = t ? t->id : 0 };
	for (size_t i = 0; i < inventory_len(c->inv); i++)
		ret->running += inventory_at(c->inv, i)->vm && vm_state_alive(vm_state(inventory_at(c->inv, i)->vm));
}

int host_may_start(const struct croft *c, struct err *e)
{
	const json_t *row = c->maintenance->row;
	char since[32];

	if (c->frozen.code)
		return fail_as(e, &c->frozen);
	if (c->draining)
		return fail(e, ERR_STATE, "this host is being shut down: no VM is started");
	if (!row && !c->maintenance->closing)
		return 0;
	if (!row)
		return fail(e, ERR_STATE, "this host is going into maintenance: no VM is started");
	text_time_format(json_integer_value(json_object_get(row, "since")), since);
	fail(e, ERR_STATE, "this host is in maintenance, set by %.63s at %s: no VM is started", text_at(row, "by"), since);
	return err_hint(e, "vmctl maintenance off ends it, and starts again what was drained");
}

struct loading { struct db_job job; json_t *row; };

static int load_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct loading *l = (struct loading *)j;
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT value FROM settings WHERE key = ?", "s", KEY);

	if (r < 0 || (r = db_next(q, e)) <= 0)
		return r;
	struct err why;

	l->row = json_parse(db_text(q, 0), strlen(db_text(q, 0)), 1 << 20, &why) ?: json_object();
	db_done(q);
	return 0;
}

int maintenance_new(struct croft *c, struct err *e)
{
	struct loading l = {};
	int r = db_now(c->db, &l.job, load_work, e);

	c->maintenance = xnew(maintenance);
	c->maintenance->row = l.row;
	return r;
}

void maintenance_free(struct maintenance *m)
{
	if (!m)
		return;
	json_decref(m->row);
	free(m);
}

/* ---- the task that drains */

static void on_left(void *arg, size_t left, size_t of, const char *names)
{
	struct task *t = arg;
	AUTO_FREE char *note = xasprintf("%zu of %zu VMs left: %s", left, of, names);

	task_share(t, of ? (double)(of - left) / (double)of : 1);
	if (left)
		task_note(t, note);
}

static void on_tell(void *arg, const char *vm, const char *text) { log_note("maintenance: %s: %s", vm, text); }

static void on_over(void *arg, const struct err *e)
{
	struct task *t = arg;
	struct err why = e ? *e : (struct err){};

	drain_free(t->run);
	task_step_end(t, e ? &why : NULL);
}

static void drain_cancelled(struct task *t)
{
	struct err e = {};

	fail(&e, ERR_CANCELLED, "no more VMs are drained; the host stays in maintenance");
	err_hint(&e, "vmctl maintenance off ends it, and starts again what was drained");
	drain_free(t->run);
	task_step_end(t, &e);
}

static void drain_run(struct task *t)
{
	struct drain_how how = {
		.action = action_of(t->args), .timeout_s = (uint64_t)json_integer_value(json_object_get(t->args, "timeout_s")),
		.left = on_left, .tell = on_tell, .over = on_over, .arg = t,
	};

	t->run = drain_new(t->c, &how);
	t->cancelled = drain_cancelled;
}

static const struct step drain_steps[] = { { "drain the host", drain_run, NULL, 1, STEP_REDO }, {} };
const struct task_kind task_host_maintenance = { "host.maintenance", drain_steps, .cancellable = true, .host = true,
						 .answer = api_maintenance_status };

/* ---- routes */

struct changing { json_t *row; char *text; };	/* the row as it will be, owned; NULL: none */

static int change_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	const struct changing *n = ch->arg;
	int r = n->text ? db_exec(tx, e, "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
				  "ss", KEY, n->text)
			: db_exec(tx, e, "DELETE FROM settings WHERE key = ?", "s", KEY);

	return r < 0 || n->text || !startup_missed() ? r : startup_boot_work(tx, e);
}

static void change_apply(struct change *ch)
{
	struct changing *n = ch->arg;

	json_decref(ch->c->maintenance->row);
	ch->c->maintenance->row = TAKE(n->row);
}

static void change_fini(struct change *ch, const struct err *e)
{
	struct changing *n = ch->arg;

	ch->c->maintenance->closing = false;
	json_decref(n->row);
	free(n->text);
	free(n);
	claim_drop(&ch->c->maintenance->claim);
}

/* The change from what is to @row (taken; NULL: it ends), with its event. */
static struct change *change_to(struct req *r, json_t *row)
{
	struct change *ch = change_new(r->c, r);
	struct changing *n = ch->arg = xnew(changing);
	struct maintenance_view v;
	json_t *kept = r->c->maintenance->row;

	n->row = row;
	n->text = row ? json_dumps(row, JSON_COMPACT) : NULL;
	ch->work = change_work;
	ch->apply = change_apply;
	ch->fini = change_fini;
	r->c->maintenance->row = row;	/* for the event's text only */
	maintenance_view(r->c, &v);
	r->c->maintenance->row = kept;
	struct jw w = JW(change_event(ch, "host.changed", TASK_HOST));

	jw_obj(&w, NULL);
	fields_encode(&maintenance_fields, &v, &w, "maintenance");
	jw_end(&w);
	return ch;
}

/* Is @r free to begin a task of the host? It was answered, or waits, when not. */
static bool hold(struct req *r)
{
	struct task *t = task_of_host(r->c);
	struct err e = {};

	if (!claim_take(&r->c->maintenance->claim, r))
		return false;
	if (!t)
		return true;
	fail(&e, ERR_BUSY, "the task %llu (%s) is under way", (unsigned long long)t->id, t->kind->name);
	err_hint(&e, "wait for its end, or cancel it: vmctl task cancel %llu", (unsigned long long)t->id);
	e.task = t->id;
	claim_drop(&r->c->maintenance->claim);
	req_fail(r, &e);
	return false;
}

struct on_input { uint64_t timeout_s; int action; };
static const struct field on_rows[] = {
	{ .name = "action", .type = F_ENUM, .off = offsetof(struct on_input, action), .names = action_names, .def = "\"policy\"",
	  .help = "what becomes of the VMs that run; policy: what each has in shutdown; wait: they are left to end by themselves" },
	{ .name = "timeout_s", .type = F_U64, .off = offsetof(struct on_input, timeout_s), .max = 3600,
	  .help = "each guest's time, then it is powered off; 0: what each has in shutdown" },
	{}
};
static const struct fields on_fields = { "MaintenanceOn", sizeof(struct on_input), on_rows, "how to drain the host" };

static json_t *new_row(struct req *r, const struct on_input *in)
{
	const json_t *old = r->c->maintenance->row;
	json_t *row = old ? json_deep_copy(old) : json_pack("{s:s, s:I, s:[]}", "by", r->who.name, "since", (json_int_t)now_usec(), "vms");
	json_t *ids = json_object_get(row, "vms");
	struct map *have = map_new();
	const json_t *id;
	size_t i;

	json_array_foreach(ids, i, id)
		map_set(have, json_string_value(id) ?: "", have);
	json_object_set_new(row, "action", json_string(action_names[in->action]));
	for (i = 0; in->action != DRAIN_WAIT && i < inventory_len(r->c->inv); i++) {
		const struct machine *m = inventory_at(r->c->inv, i);

		if (m->vm && (vm_state_alive(vm_state(m->vm)) || crash_waits(m)) && !map_get(have, m->id))
			json_array_append_new(ids, json_string(m->id));
	}
	map_free(have);
	return row;
}

static void api_on(struct req *r)
{
	static const struct on_input policy;
	const struct on_input *in = r->in ?: &policy;

	if (!hold(r))
		return;
	r->c->maintenance->closing = true;
	json_t *args = json_pack("{s:s, s:I}", "action", action_names[in->action], "timeout_s", (json_int_t)in->timeout_s);

	task_begin(r->c, r, change_to(r, new_row(r, in)), &task_host_maintenance, NULL, args);
}

static void api_off(struct req *r)
{
	struct err e = {};

	if (!hold(r))
		return;
	if (!maintenance_on(r->c)) {
		fail(&e, ERR_STATE, "this host is not in maintenance");
		err_hint(&e, "vmctl maintenance on brings it there");
		claim_drop(&r->c->maintenance->claim);
		req_fail(r, &e);
		return;
	}
	json_t *ids = json_deep_copy(json_object_get(r->c->maintenance->row, "vms")) ?: json_array();

	if (startup_missed())	/* one that stands in both is started once */
		json_array_extend(ids, (json_t *)startup_missed());
	task_begin(r->c, r, change_to(r, NULL), &task_host_restore, NULL, startup_args(ids, startup_missed()));
}

void api_maintenance_status(struct req *r)
{
	struct buf b AUTO_BUF = BUF_INIT(16 * 1024);
	struct jw w = JW(&b);
	struct maintenance_view v;

	maintenance_view(r->c, &v);
	fields_encode(&maintenance_fields, &v, &w, NULL);
	req_reply_buf(r, 200, NULL, &b);
}

static void startup_change_fini(struct change *ch, const struct err *e) { claim_drop(&ch->c->maintenance->claim); }

static void api_startup(struct req *r)
{
	struct err e = {};

	if (!hold(r))
		return;
	if (host_may_start(r->c, &e) < 0) {
		claim_drop(&r->c->maintenance->claim);
		req_fail(r, &e);
		return;
	}
	struct change *ch = change_new(r->c, r);

	ch->fini = startup_change_fini;
	task_begin(r->c, r, ch, &task_host_autostart, NULL, startup_args(NULL, true));
}

#define MAINTENANCE "/api/v1/host/maintenance"
const struct route routes_maintenance[] = {
	{ "GET", MAINTENANCE, "maintenance_status", PERM_HOST_VIEW, 0, NULL, &maintenance_fields, NULL, api_maintenance_status,
	  "show whether the host is in maintenance" },
	{ "POST", MAINTENANCE, "maintenance_on", PERM_HOST_MANAGE, ROUTE_TASK | ROUTE_OPTIONAL, &on_fields, &maintenance_fields,
	  NULL, api_on, "start no more VMs, and bring those that run to an end" },
	{ "DELETE", MAINTENANCE, "maintenance_off", PERM_HOST_MANAGE, ROUTE_TASK, NULL, &maintenance_fields, NULL, api_off,
	  "end maintenance, and start again what was drained" },
	{ "POST", "/api/v1/host/autostart", "autostart_run", PERM_HOST_MANAGE, ROUTE_TASK, NULL, &maintenance_fields, NULL, api_startup,
	  "start the VMs that start with the host, in their order" },
	{}
};
