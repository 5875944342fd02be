/* api_task.c: tasks as clients see them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "mem.h"
#include "routes.h"
#include "task.h"
#include "task_rows.h"
#include "text.h"

struct task_row {
	uint64_t id, progress, done_bytes, total_bytes, bytes_per_s;
	char *kind, *target, *target_name, *user, *step, *note, *error;
	int state;
	bool cancellable;
	int64_t created, finished;
};
#define ROW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct task_row, f), __VA_ARGS__ }
static const struct field rows[] = {
	ROW(id, F_U64, .help = "number of the task; they only grow"),
	ROW(kind, F_STR, .help = "what it does: vm.create, vm.start, ..."),
	ROW(target, F_STR, .help = "id of the object it works on; \"host\": this host"),
	ROW(target_name, F_STR, .help = "name of that object when the task began"),
	ROW(user, F_STR, .help = "who asked for it"),
	ROW(state, F_ENUM, .names = task_state_names, .help = "running and undoing are under way; the others are ends"),
	ROW(step, F_STR, .flags = FIELD_NULLABLE, .help = "what it does right now"),
	ROW(note, F_STR, .flags = FIELD_NULLABLE, .help = "what it waits for"),
	ROW(progress, F_U64, .max = 100, .help = "per cent"),
	ROW(done_bytes, F_U64, .help = "what the step has moved, where it counts bytes; else 0"),
	ROW(total_bytes, F_U64, .help = "what it has to move, as far as it knows; 0: it counts none"),
	ROW(bytes_per_s, F_U64, .help = "how fast, over the last seconds"),
	ROW(cancellable, F_BOOL, .help = "DELETE ends it, and undoes what it did"),
	ROW(created, F_TIME, .help = "when it began"),
	ROW(finished, F_TIME, .flags = FIELD_NULLABLE, .help = "when it ended"),
	ROW(error, F_JSON, .flags = FIELD_NULLABLE, .help = "the problem document, when it failed"),
	{}
};
const struct fields task_fields = { "Task", sizeof(struct task_row), rows, "a durable piece of work" };

static const char *step_name(const struct task_kind *k, unsigned step)
{
	for (unsigned i = 0; k->steps[i].name; i++)
		if (i == step)
			return k->steps[i].name;
	return NULL;
}

static uint64_t progress(const struct task_kind *k, unsigned step, double share)
{
	double done = 0, all = 0;

	for (unsigned i = 0; k->steps[i].name; i++) {
		all += k->steps[i].weight;
		if (i < step)
			done += k->steps[i].weight;
		else if (i == step)
			done += k->steps[i].weight * share;
	}
	return all > 0 ? (uint64_t)(done * 100 / all) : 0;
}

static void write_row(struct jw *w, const struct task_kind *k, unsigned step, double share, struct task_row *row)
{
	bool under_way = row->state == TASK_RUNNING || row->state == TASK_UNDOING;

	row->step = under_way && k ? (char *)step_name(k, step) : NULL;
	row->progress = row->state == TASK_DONE ? 100 : k ? progress(k, step, share) : 0;
	row->cancellable = row->state == TASK_RUNNING && k && task_kind_cancellable(k, step);
	fields_encode(&task_fields, row, w, NULL);
}

char *task_error_text(const struct err *e)
{
	struct buf b = BUF_INIT(8192);
	struct jw w = JW(&b);

	err_json(e, &w, NULL);
	jw_end(&w);
	return buf_take(&b);
}

void task_error_parse(const char *text, struct err *ret)
{
	struct err ignored;
	json_t *j = text ? json_parse(text, strlen(text), 8192, &ignored) : NULL;
	const char *type = json_string_value(json_object_get(j, "type"));

	if (type && strncmp(type, "/problems/", 10) == 0) {
		fail(ret, err_from_slug(type + 10), "%s", json_string_value(json_object_get(j, "detail")) ?: "");
		if (json_object_get(j, "hint"))
			err_hint(ret, "%s", json_string_value(json_object_get(j, "hint")) ?: "");
	}
	json_decref(j);
}

void task_write(const struct task *t, uint64_t id, struct buf *out)
{
	AUTO_FREE char *error = t->err.code ? task_error_text(&t->err) : NULL;
	struct jw w = JW(out);
	struct task_row row = {
		.id = id, .kind = (char *)t->kind->name, .target = (char *)t->target, .target_name = t->target_name,
		.user = t->user, .state = t->state, .error = error, .created = t->created_usec, .finished = t->finished_usec,
		.note = t->finished_usec ? NULL : t->note,
		.done_bytes = t->bytes.done, .total_bytes = t->bytes.total, .bytes_per_s = task_rate(t),
	};

	write_row(&w, t->kind, t->step, t->share, &row);
}

/* While an end is being saved it is none yet: croftd may die, and the next one does the step again. */
void task_write_open(const struct task *t, struct buf *out)
{
	struct task told = *t;

	told.state = t->saved;
	told.finished_usec = 0;
	if (told.state == TASK_RUNNING)
		told.err.code = ERR_NONE;
	task_write(&told, t->id, out);
}

/* ---- answers */

void task_answer_end(struct req *r, const struct task *t)
{
	struct buf b AUTO_BUF = BUF_INIT(64 * 1024);
	size_t n;

	timer_disarm(&r->deadline);
	if (r->route->out == &task_fields) {
		task_write(t, t->id, &b);
		req_reply_buf(r, 200, NULL, &b);
	} else if (t->err.code || t->state != TASK_DONE) {
		struct err e = t->err;

		if (!e.task)
			e.task = t->id;
		req_fail(r, &e);
	} else if (t->kind->answer) {
		t->kind->answer(r);
	} else if (t->kind->gone || !inventory_get(t->c->inv, t->target)) {
		req_no_content(r);
	} else {
		struct machine *m = inventory_get(t->c->inv, t->target);
		const char *json = machine_json(m, &n);

		buf_addf(&b, "ETag: \"%llu\"\r\n", (unsigned long long)m->revision);
		if (t->kind->created)
			buf_addf(&b, "Location: /api/v1/vms/%s\r\n", m->id);
		AUTO_FREE char *headers = xasprintf("Content-Type: application/json\r\nCache-Control: no-store\r\n%s", b.data);
		req_reply(r, t->kind->created ? 201 : 200, headers, json, n);
	}
}

static void answer_202(struct req *r, uint64_t id, struct buf *json)
{
	AUTO_FREE char *headers = xasprintf("Location: /api/v1/tasks/%llu\r\n", (unsigned long long)id);

	req_reply_buf(r, 202, headers, json);
}

static void answer_begun(struct req *r, const struct task *t)
{
	struct buf b AUTO_BUF = BUF_INIT(64 * 1024);

	task_write_open(t, &b);
	answer_202(r, t->id, &b);
}

static void wait_over(void *arg)
{
	struct req *r = arg;
	struct task *t = r->wait_arg;

	list_remove(&r->in_wait);
	timer_disarm(&r->deadline);
	answer_begun(r, t);
}

/* ---- reading rows back */

struct reading {
	struct db_job job;
	struct req *r;
	uint64_t id, limit, before;
	char target[64], state[16];
	struct task *ended;		/* owned: as much of the task @id as its end's answer needs; or NULL */
	struct buf out;
	unsigned found;
	uint64_t last;
};

static int state_of(const char *name)
{
	for (int i = 0; i < TASK_NSTATES; i++)
		if (strcmp(task_state_names[i], name) == 0)
			return i;
	return -1;
}

static void write_found(struct jw *w, struct db_rows *q)
{
	struct task_row row = {
		.id = (uint64_t)db_int(q, 0), .kind = (char *)db_text(q, 1), .target = (char *)db_text(q, 2),
		.target_name = (char *)db_text(q, 3), .user = (char *)db_text(q, 4), .error = (char *)db_text(q, 7),
		.created = db_int(q, 8), .finished = db_int(q, 9),
	};

	row.state = state_of(db_text(q, 5));
	write_row(w, task_kind_named(row.kind), (unsigned)db_int(q, 6), 0, &row);
}

/* What answers a request whose task ended long ago, as its end would have. */
static struct task *remember(struct croft *c, struct db_rows *q)
{
	struct task *t = xnew(task);

	t->c = c;
	t->id = (uint64_t)db_int(q, 0);
	t->kind = task_kind_named(db_text(q, 1)) ?: task_kinds[0];
	snprintf(t->target, sizeof t->target, "%s", db_text(q, 2));
	t->state = (enum task_state)state_of(db_text(q, 5));
	task_error_parse(db_text(q, 7), &t->err);
	return t;
}

static int read_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct reading *rd = (struct reading *)j;
	struct jw w = JW(&rd->out);
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT id, kind, target, target_name, user, state, step, error, created,"
			 " ifnull(finished, 0) FROM tasks WHERE (?1 = 0 OR id = ?1) AND id < ?2 AND (?3 = '' OR target = ?3"
			 " OR target_name = ?3) AND (?4 = '' OR state = ?4) ORDER BY id DESC LIMIT ?5", "iissi",
			 (int64_t)rd->id, (int64_t)rd->before, rd->target, rd->state, (int64_t)rd->limit + 1);

	if (!rd->id) {
		jw_obj(&w, NULL);
		jw_arr(&w, "items");
	}
	while (r >= 0 && (r = db_next(q, e)) > 0) {
		if (rd->found++ == rd->limit)
			continue;
		rd->last = (uint64_t)db_int(q, 0);
		write_found(&w, q);
		if (rd->id)
			rd->ended = remember(rd->r->c, q);
	}
	if (!rd->id) {
		jw_end(&w);
		if (rd->found > rd->limit)
			jw_strf(&w, "next", "%llu", (unsigned long long)rd->last);
		else
			jw_null(&w, "next");
		jw_end(&w);
	}
	return r < 0 ? r : 0;
}

static void fail_with(struct req *r, enum err_code code, const char *hint, const char *fmt, ...)
{
	struct err e = {};
	char msg[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof msg, fmt, ap);
	va_end(ap);
	fail(&e, code, "%s", msg);
	err_hint(&e, "%s", hint);
	req_fail(r, &e);
}

static void read_done(struct db_job *j, const struct err *e)
{
	struct reading *rd = (struct reading *)j;
	AUTO_FREE struct task *ended = rd->ended;

	if (e)
		req_fail(rd->r, e);
	else if (rd->id && !rd->found)
		fail_with(rd->r, ERR_NOT_FOUND, "tasks have numbers; GET /api/v1/tasks lists them", "there is no task %llu",
			  (unsigned long long)rd->id);
	else if (rd->id && rd->r->route->fn == api_task_cancel)
		fail_with(rd->r, ERR_STATE, "only a task that is running can be cancelled", "the task %llu is over: it is %s",
			  (unsigned long long)rd->id, task_state_names[ended->state]);
	else if (rd->id && rd->r->route->out != &task_fields && rd->r->wait_s)
		task_answer_end(rd->r, ended);
	else if (rd->id && rd->r->route->out != &task_fields)
		answer_202(rd->r, rd->id, &rd->out);
	else
		req_reply_buf(rd->r, 200, NULL, &rd->out);
	buf_fini(&rd->out);
	free(rd);
}

static void read_tasks(struct req *r, uint64_t id, uint64_t limit, uint64_t before)
{
	struct reading *rd = xnew(reading);
	char text[256];

	rd->r = r;
	rd->id = id;
	rd->limit = limit;
	rd->before = before;
	snprintf(rd->target, sizeof rd->target, "%.63s", id ? "" : req_query(r, "target", text) ?: "");
	snprintf(rd->state, sizeof rd->state, "%.15s", id ? "" : req_query(r, "state", text) ?: "");
	rd->out = (struct buf)BUF_INIT(4 * 1024 * 1024);
	db_run(r->c->db, &rd->job, read_work, read_done);
}

void task_answer(struct req *r, uint64_t id)
{
	struct task *t = task_find(r->c, id);

	if (!t) {
		read_tasks(r, id, 1, INT64_MAX);
	} else if (r->wait_s && (r->front || r->answered)) {
		r->wait_arg = t;
		list_append(&t->waiters, &r->in_wait);
		timer_arm(&r->deadline, r->c->ev, (uint64_t)r->wait_s * 1000000, wait_over, r);
	} else {
		answer_begun(r, t);
	}
}

/* ---- routes */

static int task_id(struct req *r, uint64_t *ret, struct err *e)
{
	if (text_u64(r->param[0], ret) == 0 && *ret && *ret <= INT64_MAX)
		return 0;
	fail(e, ERR_NOT_FOUND, "there is no task \"%.60s\"", r->param[0]);
	return err_hint(e, "tasks have numbers; GET /api/v1/tasks lists them");
}

void api_task_get(struct req *r)
{
	struct err e = {};
	uint64_t id;

	if (task_id(r, &id, &e) < 0) {
		req_fail(r, &e);
		return;
	}
	struct task *t = task_find(r->c, id);
	struct buf b AUTO_BUF = BUF_INIT(64 * 1024);

	if (t && r->wait_s) {
		task_answer(r, id);
	} else if (t) {
		task_write_open(t, &b);
		req_reply_buf(r, 200, NULL, &b);
	} else {
		read_tasks(r, id, 1, INT64_MAX);
	}
}

void api_task_list(struct req *r)
{
	struct err e = {};
	uint64_t limit, before;
	char state[256];

	if (req_query(r, "state", state) && *state && state_of(state) < 0)
		fail_with(r, ERR_BAD_REQUEST, "it is running, undoing, done, failed, cancelled or interrupted",
			  "state= takes a task's state, not \"%.40s\"", state);
	else if (req_query_u64(r, "limit", 100, 1000, &limit, &e) < 0 || req_query_u64(r, "after", INT64_MAX, INT64_MAX, &before, &e) < 0)
		req_fail(r, &e);
	else
		read_tasks(r, 0, limit ?: 1, before);
}

void api_task_cancel(struct req *r)
{
	struct err e = {};
	uint64_t id;

	if (task_id(r, &id, &e) < 0) {
		req_fail(r, &e);
		return;
	}
	struct task *t = task_find(r->c, id);

	if (!t)
		read_tasks(r, id, 1, INT64_MAX);
	else if (t->kind->host && !who_can(&r->who, PERM_HOST_MANAGE))
		fail_with(r, ERR_FORBIDDEN, "somebody with the permission host.manage can", "the task %llu (%s) is the host's",
			  (unsigned long long)id, t->kind->name);
	else if (task_cancel(t, r->who.name, r, &e) < 0)
		req_fail(r, &e);
}

static const struct route_query list_query[] = {
	{ "limit", "integer", "at most so many, newest first; default 100" },
	{ "after", "string", "the cursor next of the page before" },
	{ "target", "string", "only tasks of the object of this id or name" },
	{ "state", "string", "only tasks in this state" },
	{}
};
const struct route routes_task[] = {
	{ "GET", "/api/v1/tasks", "task_list", PERM_VM_VIEW, ROUTE_LIST, NULL, &task_fields, list_query, api_task_list,
	  "list tasks, newest first" },
	{ "GET", "/api/v1/tasks/{task}", "task_get", PERM_VM_VIEW, 0, NULL, &task_fields, NULL, api_task_get,
	  "show a task; with Prefer: wait, at its end" },
	{ "DELETE", "/api/v1/tasks/{task}", "task_cancel", PERM_VM_POWER, ROUTE_TASK, NULL, &task_fields, NULL, api_task_cancel,
	  "cancel a task and undo what it did" },
	{}
};
