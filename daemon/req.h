/* req.h: one request, from its head to its verdict. The pipeline: route, who, permission, body, Idempotency-Key,
 * handler. A handler answers exactly once, now or later; then the request is gone. The loop's thread only. */
#pragma once
#include <jansson.h>
#include "croft.h"
#include "door.h"
#include "list.h"
#include "route.h"

struct front;
struct task;

struct req {
	struct croft *c;
	struct front *front;		/* borrowed; NULL when the client has left, or for croftd's own requests */
	uint64_t id;			/* at that front */
	struct list in_front;
	uint64_t number;		/* request id of problem documents: unique while croftd runs */
	const struct route *route;
	char *param[ROUTE_PARAMS];	/* decoded, owned */
	struct door_request head;	/* texts owned */
	struct who who;
	json_t *json;			/* the body, owned, or NULL */
	void *in;			/* the body by route->in, owned, or NULL */
	char *idempotency;		/* "user key" while it is claimed, owned */
	char request_hash[65];
	unsigned wait_s;		/* Prefer: wait */
	struct list in_wait;		/* in the queue of a claim, of a task's waiters, of the long poll */
	struct timer deadline;		/* of that wait */
	void *wait_arg;
	bool pulled;			/* a power-off that has cancelled what was under way: that it is off then is what was wanted */
	/* A stream or socket that is under way: what ends it when the request's identity or object goes. */
	enum { REQ_OPEN, REQ_COLLECTING, REQ_STORING, REQ_SENDING, REQ_FOLLOWING, REQ_JOINED } phase;
	void (*stored)(struct req *r, uint64_t bytes, int error);	/* after STORE */
	void (*sent)(struct req *r);					/* after SEND or when the client left: free arg */
	void *stream_arg;
	int joined_fd;			/* a duplicate of a joined socket, to shut it down; -1 */
	uint64_t audience;
	/* croftd's own requests: where the answer goes. */
	void (*answered)(struct req *r, int status, const char *body, size_t n, void *arg);
	void *answered_arg;
};

/* A request has come (texts of @head are copied). Answers, or lets the pipeline go on. */
void req_begin(struct croft *c, struct front *front, uint64_t id, const struct door_request *head, const struct who *who);
/* A request of croftd itself, through the same tables, as admin. @json is taken. */
void req_own(struct croft *c, const char *method, const char *path, json_t *json,
	     void (*answered)(struct req *r, int status, const char *body, size_t n, void *arg), void *arg);
size_t req_body_max(const struct req *r);			/* bytes of a JSON body that are taken */
void req_body(struct req *r, const void *p, size_t n);		/* what COLLECT asked for */
void req_gone(struct req *r);					/* the client has left */
void req_retry(struct req *r);					/* call the handler again, from its start */
void req_free(struct req *r);

/* Answers. Each ends the request (but store, follow and join, which end with the client). Headers: "Name: value\r\n". */
void req_reply(struct req *r, int status, const char *headers, const char *body, size_t n);
void req_reply_buf(struct req *r, int status, const char *headers, struct buf *json);
void req_reply_fd(struct req *r, int status, const char *headers, int memfd);	/* @memfd owned, sealed, JSON */
void req_no_content(struct req *r);
void req_fail(struct req *r, const struct err *e);
void req_fail_with(struct req *r, const struct err *e, const char *headers);	/* and more headers */
void req_failf(struct req *r, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void req_object(struct req *r, int status, uint64_t revision, const char *json, size_t n);	/* with ETag, or 304 */
void req_store(struct req *r, int fd, const char *lane, uint64_t offset, uint64_t max,
	       void (*stored)(struct req *r, uint64_t bytes, int error));
void req_send(struct req *r, int status, const char *headers, int fd, const char *lane, uint64_t offset, uint64_t length);
void req_join(struct req *r, int fd, const char *protocol);	/* @fd owned; a duplicate is kept */
void req_withdraw(struct req *r);				/* end it now, whatever it does */

/* Questions. */
const char *req_query(const struct req *r, const char *name, char out[256]);	/* NULL when absent; decoded */
int req_query_u64(const struct req *r, const char *name, uint64_t def, uint64_t max, uint64_t *ret, struct err *e);
/* If-Match against @revision: 0, ERR_STALE, or ERR_NO_REVISION when @required and absent. */
int req_if_match(const struct req *r, uint64_t revision, bool required, struct err *e);
void req_problem(const struct req *r, const struct err *e, struct buf *out);	/* the problem document */
void err_json(const struct err *e, struct jw *w, const char *key);		/* the same inside a task */
