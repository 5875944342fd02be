/* req.c: the pipeline of a request, and its answers. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "access.h"
#include "change.h"
#include "event.h"
#include "file.h"
#include "fronts.h"
#include "log.h"
#include "mem.h"
#include "req.h"
#include "text.h"

#define BODY_MAX	(1024 * 1024)
#define STORED_MAX	(16 * BODY_MAX)	/* a backup of some thousand VMs */
#define ANSWER_MAX	(64 * 1024 * 1024)
#define WAIT_MAX_S	3600
#define LANE_DEADLINE_USEC (30 * 1000000ull)

static uint64_t last_number;

static const char *copy(const char *s) { return s ? xstrdup(s) : NULL; }

#define HEAD_TEXTS(X) X(method) X(path) X(query) X(peer) X(host) X(origin) X(authorization) X(cookie) X(content_type) \
	X(accept) X(if_match) X(if_none_match) X(idempotency_key) X(prefer) X(last_event_id) X(range) X(upload_offset) \
	X(repr_digest)

static struct req *req_new(struct croft *c, struct front *front, uint64_t id, const struct door_request *h)
{
	struct req *r = xnew(req);

	r->c = c;
	r->front = front;
	r->id = id;
	r->number = ++last_number;
	r->joined_fd = -1;
	r->head = *h;
	r->head.ticket = NULL;
#define X(t) r->head.t = copy(h->t);
	HEAD_TEXTS(X)
#undef X
	return r;
}

static void leave_front(struct req *r)
{
	if (!r->in_front.next)
		return;
	list_remove(&r->in_front);
	front_left(r->front);
}

void req_free(struct req *r)
{
	if (!r)
		return;
	if (r->sent)
		r->sent(r);
	idempotency_end(r);
	event_unfollow(r);
	timer_disarm(&r->deadline);
	list_remove(&r->in_wait);
	leave_front(r);
	if (r->joined_fd >= 0) {
		shutdown(r->joined_fd, SHUT_RDWR);
		close(r->joined_fd);
	}
	if (r->in) {
		fields_fini(r->route->in, r->in);
		free(r->in);
	}
	json_decref(r->json);
	for (int i = 0; i < ROUTE_PARAMS; i++)
		free(r->param[i]);
#define X(t) free((char *)r->head.t);
	HEAD_TEXTS(X)
#undef X
	free(r);
}

/* ---- answers */

void err_json(const struct err *e, struct jw *w, const char *key)
{
	jw_obj(w, key);
	jw_strf(w, "type", "/problems/%s", err_slug(e->code));
	jw_str(w, "title", err_title(e->code));
	jw_u64(w, "status", (uint64_t)err_http(e->code));
	jw_str(w, "detail", e->msg);
	if (*e->hint)
		jw_str(w, "hint", e->hint);
	if (*e->pointer) {
		jw_arr(w, "errors");
		jw_obj(w, NULL);
		jw_str(w, "pointer", e->pointer);
		jw_str(w, "detail", e->msg);
		jw_end(w);
		jw_end(w);
	}
	if (e->task)
		jw_u64(w, "task", e->task);
	if (*e->permission)
		jw_str(w, "permission", e->permission);
	if (e->retry_after_s)
		jw_u64(w, "retry_after_s", e->retry_after_s);
}

void req_problem(const struct req *r, const struct err *e, struct buf *out)
{
	struct jw w = JW(out);

	err_json(e, &w, NULL);
	jw_strf(&w, "request_id", "%s-%llu", r->c->instance, (unsigned long long)r->number);
	jw_end(&w);
}

void req_reply(struct req *r, int status, const char *headers, const char *body, size_t n)
{
	if (r->answered)
		r->answered(r, status, body, n, r->answered_arg);
	if (r->front) {
		struct door_reply m = { .status = (uint32_t)status, .headers = headers };
		int fd = -1;

		if (n > DOOR_INLINE) {
			fd = file_memfd("reply", body, n, 0400);
			if (fd < 0)
				m.status = 503;
		} else {
			m.body = (struct door_bytes){ body, n };
		}
		front_send(r->front, DOOR_REPLY, r->id, &m, &fd, fd >= 0);
	}
	req_free(r);
}

#define JSON_HEADERS "Content-Type: application/json\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"

void req_reply_buf(struct req *r, int status, const char *headers, struct buf *json)
{
	AUTO_FREE char *all = headers ? xasprintf(JSON_HEADERS "%s", headers) : NULL;

	if (json->over)
		req_failf(r, ERR_INTERNAL, "the answer is larger than %zu bytes; ask for fewer with limit=", json->max);
	else
		req_reply(r, status, all ?: JSON_HEADERS, json->data ?: "", json->len);
}

void req_reply_fd(struct req *r, int status, const char *headers, int memfd)
{
	AUTO_FREE char *all = xasprintf(JSON_HEADERS "%s", headers ?: "");
	struct door_reply m = { .status = (uint32_t)status, .headers = all };

	if (r->front)
		front_send(r->front, DOOR_REPLY, r->id, &m, &memfd, 1);
	else
		close(memfd);
	req_free(r);
}

void req_no_content(struct req *r) { req_reply(r, 204, NULL, "", 0); }

void req_fail(struct req *r, const struct err *e) { req_fail_with(r, e, NULL); }

void req_fail_with(struct req *r, const struct err *e, const char *more)
{
	struct buf b AUTO_BUF = BUF_INIT(16384);
	char headers[320];
	size_t n = (size_t)snprintf(headers, sizeof headers, "Content-Type: application/problem+json\r\nCache-Control: no-store\r\n");

	if (e->code == ERR_UNAUTHENTICATED)
		n += (size_t)snprintf(headers + n, sizeof headers - n, "WWW-Authenticate: Bearer realm=\"croft\"\r\n");
	if (e->code == ERR_METHOD && *e->hint)
		n += (size_t)snprintf(headers + n, sizeof headers - n, "Allow: %s\r\n", e->permission);
	if (e->retry_after_s)
		n += (size_t)snprintf(headers + n, sizeof headers - n, "Retry-After: %u\r\n", e->retry_after_s);
	if (more)
		snprintf(headers + n, sizeof headers - n, "%s", more);
	if (e->code == ERR_INTERNAL)
		log_error("request %llu (%s %s): %s", (unsigned long long)r->number, r->head.method, r->head.path, e->msg);
	if (e->code == ERR_METHOD) {
		struct err plain = *e;

		*plain.permission = 0;
		req_problem(r, &plain, &b);
	} else {
		req_problem(r, e, &b);
	}
	req_reply(r, err_http(e->code), headers, b.data, b.len);
}

void req_failf(struct req *r, enum err_code code, const char *fmt, ...)
{
	struct err e = {};
	char msg[sizeof e.msg];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof msg, fmt, ap);
	va_end(ap);
	fail(&e, code, "%s", msg);
	req_fail(r, &e);
}

void req_object(struct req *r, int status, uint64_t revision, const char *json, size_t n)
{
	char tag[32], headers[160];

	snprintf(tag, sizeof tag, "\"%llu\"", (unsigned long long)revision);
	snprintf(headers, sizeof headers, JSON_HEADERS "ETag: %s\r\n", tag);
	if (r->head.if_none_match && r->route && strcmp(r->route->method, "GET") == 0 && strcmp(r->head.if_none_match, tag) == 0)
		req_reply(r, 304, headers, "", 0);
	else
		req_reply(r, status, headers, json, n);
}

void req_store(struct req *r, int fd, const char *lane, uint64_t offset, uint64_t max,
	       void (*stored)(struct req *r, uint64_t bytes, int error))
{
	struct door_store m = { .lane = lane, .offset = offset, .max = max, .deadline_usec = LANE_DEADLINE_USEC };

	r->phase = REQ_STORING;
	r->stored = stored;
	if (r->front) {
		front_send(r->front, DOOR_STORE, r->id, &m, &fd, 1);
	} else {
		close(fd);
		stored(r, 0, ECONNRESET);
	}
}

void req_send(struct req *r, int status, const char *headers, int fd, const char *lane, uint64_t offset, uint64_t length)
{
	struct door_send m = { .status = (uint32_t)status, .headers = headers, .lane = lane, .offset = offset,
			       .length = length, .deadline_usec = LANE_DEADLINE_USEC };

	r->phase = REQ_SENDING;
	if (r->front)
		front_send(r->front, DOOR_SEND, r->id, &m, &fd, 1);
	else {
		close(fd);
		req_free(r);
	}
}

void req_join(struct req *r, int fd, const char *protocol)
{
	struct door_join m = { .protocol = protocol };

	r->phase = REQ_JOINED;
	if (!r->front) {
		close(fd);
		req_free(r);
		return;
	}
	r->joined_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	front_send(r->front, DOOR_JOIN, r->id, &m, &fd, 1);
}

void req_withdraw(struct req *r)
{
	struct door_withdraw m = {};

	if (r->front)
		front_send(r->front, DOOR_WITHDRAW, r->id, &m, NULL, 0);
	req_gone(r);
}

void req_gone(struct req *r)
{
	bool following = r->phase == REQ_FOLLOWING;

	leave_front(r);
	event_unfollow(r);
	r->front = NULL;
	if (following) {
		req_free(r);
		return;
	}
	switch (r->phase) {
	case REQ_STORING:
		r->phase = REQ_OPEN;
		r->stored(r, 0, ECONNRESET);
		return;
	case REQ_COLLECTING: case REQ_SENDING: case REQ_FOLLOWING: case REQ_JOINED:
		req_free(r);
		return;
	case REQ_OPEN:
		/* Whoever works on it answers into the void; one that only waits for the end of something does not. */
		if (r->deadline.src)
			req_free(r);
	}
}

/* ---- the pipeline */

void req_retry(struct req *r)
{
	loop_what(r->route->path);
	if (r->c->stopping)	/* what a handler works with is being freed */
		req_failf(r, ERR_UNAVAILABLE, "croftd is ending");
	else
		r->route->fn(r);
}

static void go(struct req *r)
{
	if (r->head.idempotency_key && (strcmp(r->head.method, "POST") == 0 || strcmp(r->head.method, "DELETE") == 0))
		idempotency_begin(r, req_retry);
	else
		req_retry(r);
}

size_t req_body_max(const struct req *r) { return r->route->flags & ROUTE_STORED ? STORED_MAX : BODY_MAX; }

static int decode(struct req *r, const char *p, size_t n, struct err *e)
{
	if (n || !(r->route->flags & ROUTE_OPTIONAL)) {
		r->json = json_parse(p, n, req_body_max(r), e);
		if (!r->json)
			return -EBADMSG;
	} else {
		r->json = json_object();
	}
	if (r->route->flags & ROUTE_PATCH)
		return json_is_object(r->json) ? 0 : fail_at(e, "", "the body must be a JSON object");
	r->in = xcalloc(1, r->route->in->size);
	return fields_decode(r->route->in, r->json, r->route->flags & ROUTE_STORED ? FIELDS_STORED : FIELDS_CREATE, r->in, e);
}

void req_body(struct req *r, const void *p, size_t n)
{
	struct err e = {};

	r->phase = REQ_OPEN;
	if (decode(r, p, n, &e) < 0)
		req_fail(r, &e);
	else
		go(r);
}

static int check_permission(struct req *r, struct err *e)
{
	enum perm need = r->route->perm;

	if (who_can(&r->who, need))
		return 0;
	if (*r->who.why) {
		fail(e, ERR_FORBIDDEN, "%s", r->who.why);
		return err_hint(e, "root lets a local user in: add it to the group croft (usermod -aG croft NAME), and create a Croft user"
				" of the same name (vmctl user); or run the command as root");
	}
	if (r->who.via == WHO_NOBODY) {
		fail(e, ERR_UNAUTHENTICATED, "%s %s needs a login", r->head.method, r->head.path);
		return err_hint(e, "send a session cookie (POST /api/v1/session) or an Authorization: Bearer token");
	}
	const char *name = need < PERM_COUNT ? perm_names[need] : "login";

	fail(e, ERR_FORBIDDEN, "the role %s of %s lacks the permission %s", role_names[r->who.role], r->who.name, name);
	snprintf(e->permission, sizeof e->permission, "%s", name);
	return err_hint(e, "ask an admin for a role that has %s", name);
}

static bool is_safe(const struct req *r) { return strcmp(r->head.method, "GET") == 0 || strcmp(r->head.method, "HEAD") == 0; }

/* Before anything is done: a file that is deleted on another disk could not be brought back when the commit fails. */
static int check_frozen(const struct req *r, struct err *e)
{
	return !r->c->frozen.code || is_safe(r) || (r->route->flags & ROUTE_PASSING) ? 0 : fail_as(e, &r->c->frozen);
}

/* A browser sends its cookie along with whatever page made it do so: only our own pages count. */
static int check_origin(const struct req *r, struct err *e)
{
	if (r->who.via != WHO_SESSION || (is_safe(r) && !r->head.websocket))
		return 0;
	if (r->head.origin && r->head.host && strncmp(r->head.origin, "https://", 8) == 0 &&
	    strcmp(r->head.origin + 8, r->head.host) == 0)
		return 0;
	fail(e, ERR_FORBIDDEN, "a session may only be used from this host's own pages; the Origin is %s", r->head.origin ?: "missing");
	return err_hint(e, "scripts use a token: Authorization: Bearer ...");
}

static bool is_json(const char *type, bool patch)
{
	size_t n = type ? strcspn(type, "; ") : 0;

	return (n == 16 && strncasecmp(type, "application/json", n) == 0) ||
	       (patch && n == 28 && strncasecmp(type, "application/merge-patch+json", n) == 0);
}

static int check_body(const struct req *r, struct err *e)
{
	const struct route *rt = r->route;
	bool patch = rt->flags & ROUTE_PATCH, takes = rt->in || patch, has = r->head.content_length != 0;

	if (rt->flags & ROUTE_BYTES_IN)
		return 0;
	if (!takes && has) {
		fail(e, ERR_BAD_REQUEST, "%s %s takes no body", r->head.method, r->head.path);
		return err_hint(e, "leave the body out");
	}
	if (takes && has && !is_json(r->head.content_type, patch)) {
		fail(e, ERR_MEDIA_TYPE, "the body must be application/json, not %s", r->head.content_type ?: "without a Content-Type");
		return err_hint(e, "send Content-Type: application/json");
	}
	if (takes && !has && !(rt->flags & ROUTE_OPTIONAL)) {
		fail(e, ERR_BAD_REQUEST, "%s %s needs a JSON body", r->head.method, r->head.path);
		return err_hint(e, "its schema is in /api/v1/openapi.json");
	}
	if (has && r->head.content_length != DOOR_NO_LENGTH && r->head.content_length > req_body_max(r))
		return fail(e, ERR_TOO_LARGE, "the body has %llu bytes; at most %zu are taken here",
			    (unsigned long long)r->head.content_length, req_body_max(r));
	if ((rt->flags & ROUTE_SOCKET) && !r->head.websocket) {
		fail(e, ERR_BAD_REQUEST, "%s is a WebSocket", r->head.path);
		return err_hint(e, "open it with a WebSocket client, version 13");
	}
	return 0;
}

static const struct route_query *query_row(const struct route *rt, const char *name, size_t n)
{
	for (const struct route_query *q = rt->query; q && q->name; q++)
		if (strlen(q->name) == n && strncmp(q->name, name, n) == 0)
			return q;
	return NULL;
}

/* A filter that is misspelt must not come back as all there is. */
static int unknown_query(const struct req *r, const char *name, size_t n, struct err *e)
{
	char known[200] = "";

	for (const struct route_query *q = r->route->query; q && q->name; q++)
		snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", *known ? ", " : "", q->name);
	fail(e, ERR_BAD_REQUEST, "%s %s knows no \"%.*s\" in its query", r->head.method, r->head.path, (int)(n < 60 ? n : 60), name);
	return *known ? err_hint(e, "it knows %s", known) : err_hint(e, "leave the query out");
}

static int check_query(const struct req *r, struct err *e)
{
	char value[256];
	uint64_t number;

	for (const char *p = r->head.query; p && *p; p += strcspn(p, "&"), p += *p == '&') {
		size_t all = strcspn(p, "&"), n = strcspn(p, "=&");
		const struct route_query *q = query_row(r->route, p, n);

		if (!q)
			return unknown_query(r, p, n, e);
		if (text_unescape(p + n, all - n, true, value, sizeof value) < 0)
			return fail(e, ERR_BAD_REQUEST, "the value of %s= has a bad escape, is not UTF-8, or is longer than 250 bytes",
				    q->name);
		const char *v = value + (*value == '=');

		if (strcmp(q->type, "integer") == 0 && text_u64(v, &number) < 0)
			return fail(e, ERR_BAD_REQUEST, "%s= takes a number, not \"%.40s\"", q->name, v);
		if (strcmp(q->type, "boolean") == 0 && strcmp(v, "true") != 0 && strcmp(v, "false") != 0)
			return fail(e, ERR_BAD_REQUEST, "%s= takes true or false, not \"%.40s\"", q->name, v);
	}
	return 0;
}

static int parse_prefer(struct req *r, struct err *e)
{
	const char *p = r->head.prefer ? strstr(r->head.prefer, "wait") : NULL;
	uint64_t s;

	if (!p)
		return 0;
	p += 4 + strspn(p + 4, " ");
	char number[16];

	snprintf(number, sizeof number, "%.*s", (int)strspn(*p == '=' ? p + 1 : p, "0123456789"), *p == '=' ? p + 1 : p);
	if (*p != '=' || text_u64(number, &s) < 0 || s > WAIT_MAX_S)
		return fail(e, ERR_BAD_REQUEST, "Prefer: wait=N takes seconds from 0 to %d", WAIT_MAX_S);
	r->wait_s = (unsigned)s;
	return 0;
}

static int find_route(struct req *r, struct err *e)
{
	char allow[64];
	int n = route_match(r->head.method, r->head.path, &r->route, r->param, allow);

	if (n == -ENOENT) {
		fail(e, ERR_NOT_FOUND, "there is no %.200s", r->head.path);
		return err_hint(e, "all paths are in /api/v1/openapi.json");
	}
	if (n == -EOPNOTSUPP) {
		fail(e, ERR_METHOD, "%.200s does not take %.16s", r->head.path, r->head.method);
		snprintf(e->permission, sizeof e->permission, "%.23s", allow);
		return err_hint(e, "it takes %s", allow);
	}
	if (n < 0)
		return fail(e, ERR_BAD_REQUEST, "the path has a bad escape, or is not UTF-8");
	return 0;
}

static int prepare(struct req *r, const struct who *who, struct err *e)
{
	int n = find_route(r, e);

	if (n < 0)
		return n;
	if (who)
		r->who = *who;
	else if ((n = access_identify(r->c, &r->head, &r->who, e)) < 0 && r->route->perm != PERM_ANYBODY)
		return n;
	if ((n = check_permission(r, e)) < 0 || (n = check_origin(r, e)) < 0 || (n = check_frozen(r, e)) < 0 ||
	    (n = check_query(r, e)) < 0 || (n = check_body(r, e)) < 0)
		return n;
	return parse_prefer(r, e);
}

void req_begin(struct croft *c, struct front *front, uint64_t id, const struct door_request *head, const struct who *who)
{
	struct req *r = req_new(c, front, id, head);
	struct err e = {};

	front_adopt(front, r);
	if (prepare(r, who, &e) < 0) {
		req_fail(r, &e);
		return;
	}
	if ((r->route->in || (r->route->flags & ROUTE_PATCH))) {
		struct door_collect m = { .max = req_body_max(r) };

		if (!head->content_length) {
			req_body(r, "", 0);
			return;
		}
		r->phase = REQ_COLLECTING;
		front_send(front, DOOR_COLLECT, id, &m, NULL, 0);
		return;
	}
	go(r);
}

void req_own(struct croft *c, const char *method, const char *path, json_t *json,
	     void (*answered)(struct req *r, int status, const char *body, size_t n, void *arg), void *arg)
{
	struct door_request head = { .method = method, .path = path, .peer = "croft", .content_type = "application/json",
				     .content_length = json ? 2 : 0, .prefer = "wait=600" };
	struct who who = { .via = WHO_CROFT, .role = ROLE_ADMIN, .perms = role_perms(ROLE_ADMIN), .name = "croft" };
	struct req *r = req_new(c, NULL, 0, &head);
	AUTO_FREE char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	struct err e = {};

	json_decref(json);
	r->answered = answered;
	r->answered_arg = arg;
	if (prepare(r, &who, &e) < 0)
		req_fail(r, &e);
	else if (r->route->in || (r->route->flags & ROUTE_PATCH))
		req_body(r, text ?: "", text ? strlen(text) : 0);
	else
		go(r);
}

/* ---- questions */

const char *req_query(const struct req *r, const char *name, char out[256])
{
	size_t len = strlen(name);

	for (const char *p = r->head.query; p && *p; p += strcspn(p, "&"), p += *p == '&') {
		size_t n = strcspn(p, "&");

		if (n > len && strncmp(p, name, len) == 0 && p[len] == '=' &&
		    text_unescape(p + len + 1, n - len - 1, true, out, 256) == 0)
			return out;
		if (n == len && strncmp(p, name, len) == 0)
			return *out = 0, out;
	}
	return NULL;
}

int req_query_u64(const struct req *r, const char *name, uint64_t def, uint64_t max, uint64_t *ret, struct err *e)
{
	char text[256];

	*ret = def;
	if (!req_query(r, name, text))
		return 0;
	if (text_u64(text, ret) < 0 || *ret > max)
		return fail(e, ERR_BAD_REQUEST, "%s= takes a number up to %llu, not \"%.40s\"", name, (unsigned long long)max, text);
	return 0;
}

int req_if_match(const struct req *r, uint64_t revision, bool required, struct err *e)
{
	const char *m = r->head.if_match;
	char tag[32];

	snprintf(tag, sizeof tag, "\"%llu\"", (unsigned long long)revision);
	if (!m && required) {
		fail(e, ERR_NO_REVISION, "%s %s needs If-Match with the revision that you have read", r->head.method, r->head.path);
		return err_hint(e, "GET it first, and send its ETag as If-Match");
	}
	if (!m || strcmp(m, "*") == 0 || strcmp(m, tag) == 0)
		return 0;
	fail(e, ERR_STALE, "%.100s has changed: its revision is %s, not %.40s", r->head.path, tag, m);
	return err_hint(e, "read it again, and repeat your change on what you then see");
}
