/* client.h: a small HTTP/1.1 client over one kept-alive connection. */
#pragma once
#include <stdint.h>
#include "buf.h"
#include "conn.h"
#include "reply.h"

#define HTTP_BODY_MAX	(64u << 20)
#define HTTP_TIMEOUT_USEC	(100 * 1000000ull)	/* longer than any Prefer: wait that we send */

struct http {
	struct conn *conn;		/* NULL: dial first */
	int (*dial)(void *arg, struct conn **ret, struct err *e);
	void *arg;
	const char *host;		/* for the Host header */
	char *authorization;		/* owned, or NULL */
};

struct http_request {
	const char *method, *path;	/* path with its query, escaped */
	const char *headers;		/* "Name: value\r\n..." or NULL */
	const char *body;
	size_t body_len;
	int body_fd;			/* -1, or: send this file's bytes from offset on */
	uint64_t offset, length;
	void (*sent)(void *arg, uint64_t bytes);	/* progress of body_fd; may be NULL */
	int (*began)(void *arg);	/* a good head has come; anything but 0 ends the exchange; may be NULL */
	/* Where a good answer's body goes piece by piece; NULL: into the buffer. Anything but 0 ends the exchange. */
	int (*data)(void *arg, const char *p, size_t n);
	void *arg;
	uint64_t timeout_usec;		/* for each wait; 0: HTTP_TIMEOUT_USEC */
};
#define HTTP_REQUEST(m, p)	(struct http_request){ .method = (m), .path = (p), .body_fd = -1 }

struct http_answer {
	struct reply reply;		/* status and headers */
	struct buf body;		/* at most HTTP_BODY_MAX */
};
/* Send and read the whole answer, whatever its status. 0, or ERR_UNAVAILABLE, ERR_TIMEOUT, ... when there is none. A
 * request that found its kept connection closed is sent once more. After 101 the connection is h->conn's still, and
 * what came behind the head is in @a->body. */
int http_do(struct http *h, const struct http_request *q, struct http_answer *a, struct err *e);
void http_answer_fini(struct http_answer *a);
void http_close(struct http *h);
void http_escape(struct buf *b, const char *s, bool slashes);	/* percent-encode; @slashes: "/" stays */
