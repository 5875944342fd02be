#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "call.h"
#include "fields.h"
#include "mem.h"
#include "text.h"

#define WAIT_TTY_S	1	/* how often the line of progress is renewed; croftd answers at the end at once */
#define WAIT_S		60

static volatile sig_atomic_t interrupted;

static void on_sigint(int sig)
{
	interrupted = 1;
}

bool call_interrupted(void)
{
	return interrupted;
}

char *call_path(const struct api_op *op, const char *const *params, const char *query)
{
	struct buf b = BUF_INIT(64 * 1024);
	size_t n = 0;

	for (const char *p = op->path; *p; p++) {
		if (*p != '{') {
			buf_addc(&b, *p);
			continue;
		}
		/* a datastore's path may have many parts, everything else is one */
		http_escape(&b, params[n], !strncmp(p, "{path}", 6));
		n++;
		p = strchr(p, '}');
	}
	if (query && *query)
		buf_addf(&b, "?%s", query);
	return buf_take(&b);
}

static const char *member(json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "";
}

void call_problem(const struct http_answer *a, struct err *e)
{
	json_t *j = a->body.len ? json_parse(a->body.data, a->body.len, HTTP_BODY_MAX, NULL) : NULL, *first;
	const char *slug = strrchr(member(j, "type"), '/');

	*e = (struct err){ 0 };
	if (!json_is_object(j)) {
		fail(e, ERR_INTERNAL, "the answer was %d, without a reason", a->reply.status);
	} else {
		fail(e, err_from_slug(slug ? slug + 1 : ""), "%s", *member(j, "detail") ? member(j, "detail") : member(j, "title"));
		err_hint(e, "%s", member(j, "hint"));
		first = json_array_get(json_object_get(j, "errors"), 0);
		snprintf(e->pointer, sizeof(e->pointer), "%s", *member(first, "pointer") ? member(first, "pointer") : member(j, "pointer"));
		snprintf(e->permission, sizeof(e->permission), "%s", member(j, "permission"));
		e->task = (uint64_t)json_integer_value(json_object_get(j, "task"));
		e->retry_after_s = (unsigned)json_integer_value(json_object_get(j, "retry_after_s"));
	}
	json_decref(j);
}

/* One exchange. CTL_OK and *ret, or an exit code with @e filled. */
static int exchange(struct ctl *c, struct http_request *q, int *ret_status, uint64_t *ret_revision, json_t **ret, struct err *e)
{
	struct http_answer a;
	const char *etag;
	int code = CTL_OK;

	*ret = NULL;
	*e = (struct err){ 0 };
	if (http_do(&c->http, q, &a, e) < 0) {
		http_answer_fini(&a);
		return e->code == ERR_TIMEOUT ? CTL_TIMEOUT : CTL_CONNECT;
	}
	*ret_status = a.reply.status;
	if (a.reply.status >= 400) {
		call_problem(&a, e);
		code = CTL_FAILED;
	} else if (a.body.len) {
		*ret = json_parse(a.body.data, a.body.len, HTTP_BODY_MAX, e);
		code = *ret ? CTL_OK : CTL_FAILED;
	}
	etag = reply_header(&a.reply, "etag");
	if (ret_revision && etag && *etag == '"')
		*ret_revision = strtoull(etag + 1, NULL, 10);
	http_answer_fini(&a);
	return code;
}

/* A hint for those who write requests: "GET /api/v1/users lists them" -> "vmctl user list lists them". */
static void translate_hint(struct err *e)
{
	for (const struct api_op *op = NULL; (op = api_op_next(op)); ) {
		AUTO_FREE char *request = xasprintf("%s %s", op->method, op->path), *hint = NULL;
		char *at = strstr(e->hint, request), *after = at ? at + strlen(request) : NULL;
		const char *verb = strchr(op->id, '_'), *said = verb && !strcmp(verb, "_list") ? "ls" : verb ? verb + 1 : "";

		if (!at || !verb || *after == '/' || *after == '?' || *after == '.')
			continue;
		hint = !strncmp(op->id, "vm_", 3) ? xasprintf("%.*svmctl %s%s", (int)(at - e->hint), e->hint,
							      said, after)
						  : xasprintf("%.*svmctl %.*s %s%s", (int)(at - e->hint), e->hint, (int)(verb - op->id),
							      op->id, said, after);
		err_hint(e, "%s", hint);
		return;
	}
}

/* Tell an error; what can't be reached keeps its exit code. */
static int told(int code, const struct err *e, bool quiet)
{
	if (quiet)
		return code;
	struct err shown = *e;
	int by_error;

	if (e->code == ERR_UNAUTHENTICATED)	/* what croftd advises is for those who write requests */
		err_hint(&shown, "vmctl login --host https://HOST:PORT");
	translate_hint(&shown);
	by_error = ctl_fail(&shown);

	return code == CTL_CONNECT || code == CTL_TIMEOUT ? code : by_error;
}

/* tasks */

static bool is_task(json_t *j)
{
	return json_is_integer(json_object_get(j, "id")) && json_is_string(json_object_get(j, "kind")) &&
	       json_is_string(json_object_get(j, "state"));
}

static uint64_t number(json_t *j, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(j, key));

	return n > 0 ? (uint64_t)n : 0;
}

static void show_progress(json_t *task)
{
	if (!isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r\033[K%s %s: %s, %d %%", member(task, "kind"), member(task, "target_name"), member(task, "step"),
		(int)number(task, "progress"));
	if (number(task, "total_bytes")) {
		char done[24], total[24], rate[24];

		text_size_format(number(task, "done_bytes"), done);
		text_size_format(number(task, "total_bytes"), total);
		text_size_format(number(task, "bytes_per_s"), rate);
		fprintf(stderr, ", %s of %s, %s/s", done, total, rate);
	}
	fflush(stderr);
}

static void end_progress(void)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
}

/* The end of a task that was read as a row. */
static int task_verdict(json_t *task, struct err *e)
{
	struct http_answer a = { .body = BUF_INIT(HTTP_BODY_MAX) };
	const char *state = member(task, "state");
	json_t *problem = json_object_get(task, "error");

	if (!strcmp(state, "done"))
		return CTL_OK;
	if (json_is_object(problem)) {
		char *text = json_dumps(problem, 0);

		buf_adds(&a.body, text);
		free(text);
		call_problem(&a, e);
		buf_fini(&a.body);
	} else {
		fail(e, ERR_INTERNAL, "the task ended as %s", state);
	}
	return strcmp(state, "cancelled") ? CTL_TASK_FAILED : CTL_TASK_CANCELLED;
}

static int left_alone(uint64_t id, const char *why)
{
	say("%s: the task goes on", why);
	say_hint("vmctl task wait %" PRIu64 ", or vmctl task cancel %" PRIu64, id, id);
	return CTL_TIMEOUT;
}

static int wait_task(struct ctl *c, uint64_t id, int64_t end, json_t **ret, struct err *e)
{
	AUTO_FREE char *path = xasprintf("/api/v1/tasks/%" PRIu64, id);
	bool tty = isatty(STDERR_FILENO);

	for (;;) {
		int64_t left = end ? (end - mono_usec()) / 1000000 : WAIT_S;
		int wait = tty ? WAIT_TTY_S : left < 1 ? 1 : left < WAIT_S ? (int)left : WAIT_S, status = 0, code;
		AUTO_FREE char *headers = xasprintf("Prefer: wait=%d\r\n", wait);
		struct http_request q = HTTP_REQUEST("GET", path);

		q.headers = headers;
		code = exchange(c, &q, &status, NULL, ret, e);
		if (interrupted) {
			e->code = ERR_NONE;
			return left_alone(id, "interrupted");
		}
		if (code == CTL_FAILED)		/* its problem is the answer */
			return e->code == ERR_CANCELLED ? CTL_TASK_CANCELLED : CTL_TASK_FAILED;
		if (code)
			return code;
		if (!is_task(*ret))
			return CTL_OK;
		if (strcmp(member(*ret, "state"), "running") && strcmp(member(*ret, "state"), "undoing"))
			return task_verdict(*ret, e);
		show_progress(*ret);
		json_decref(TAKE(*ret));
		if (end && mono_usec() >= end) {
			e->code = ERR_NONE;
			return left_alone(id, "that took longer than --timeout");
		}
	}
}

int call_wait_task(struct ctl *c, uint64_t id, json_t **ret)
{
	struct sigaction act = { .sa_handler = on_sigint }, old;
	int64_t end = c->timeout_s ? mono_usec() + c->timeout_s * 1000000ll : 0;
	json_t *answer = NULL;
	struct err e = { 0 };
	int code;

	sigaction(SIGINT, &act, &old);
	code = wait_task(c, id, end, &answer, &e);
	sigaction(SIGINT, &old, NULL);
	end_progress();
	if (code && e.code)
		ctl_fail(&e);
	if (ret && !code)
		*ret = answer;
	else
		json_decref(answer);
	return code;
}

/* calls */

static int finish(struct ctl *c, struct call *k, const struct api_op *op, int status)
{
	uint64_t id;

	if (status != 202 || !is_task(k->ret) || !(op->flags & API_TASK))
		return CTL_OK;
	id = (uint64_t)json_integer_value(json_object_get(k->ret, "id"));
	if (c->no_wait)
		return CTL_OK;		/* the task itself is the answer */
	show_progress(k->ret);
	json_decref(TAKE(k->ret));
	return call_wait_task(c, id, &k->ret);
}

int call(struct ctl *c, struct call *k)
{
	const struct api_op *op = api_op(k->op);
	AUTO_FREE char *path = op ? call_path(op, k->params, k->query) : NULL;
	AUTO_FREE char *text = k->body ? json_dumps(k->body, JSON_COMPACT) : NULL;
	struct buf headers AUTO_BUF = BUF_INIT(64 * 1024);
	struct http_request q = HTTP_REQUEST(op ? op->method : "", path);
	char key[37];
	int status = 0, code;

	json_decref(TAKE(k->body));
	if (!op)
		return ctl_usage("this vmctl knows no %s", k->op);
	if (k->headers)
		buf_adds(&headers, k->headers);
	if (text)
		buf_addf(&headers, "Content-Type: %s\r\n", op->flags & API_PATCH ? "application/merge-patch+json" : "application/json");
	if (!strcmp(op->method, "POST") || !strcmp(op->method, "DELETE")) {
		/* so that it is done once even if it has to be sent twice */
		text_uuid_random(key);
		buf_addf(&headers, "Idempotency-Key: %s\r\n", key);
	}
	q.headers = headers.data;
	q.timeout_usec = k->patience_s * 1000000ull;
	q.body = text;
	q.body_len = text ? strlen(text) : 0;
	code = exchange(c, &q, &status, &k->revision, &k->ret, &k->err);
	return code ? told(code, &k->err, k->quiet) : finish(c, k, op, status);
}

int call_list(struct ctl *c, struct call *k, json_t **ret)
{
	json_t *all = json_array(), *next;
	AUTO_FREE char *query = xstrdup(k->query ? k->query : ""), *with = NULL;

	for (int pages = 0; ; pages++) {
		struct buf b = BUF_INIT(64 * 1024);
		int code = call(c, k);

		if (code) {
			json_decref(all);
			return code;
		}
		json_array_extend(all, json_object_get(k->ret, "items"));
		next = json_object_get(k->ret, "next");
		if (!json_is_string(next) || pages == 10000 || strstr(query, "limit="))
			break;
		buf_addf(&b, "%s%safter=", query, *query ? "&" : "");
		http_escape(&b, json_string_value(next), false);
		free(with);
		k->query = with = buf_take(&b);
		json_decref(TAKE(k->ret));
	}
	json_decref(TAKE(k->ret));
	*ret = all;
	return CTL_OK;
}
