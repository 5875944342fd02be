/* http.h: HTTP/1.1 by libmicrohttpd, run by our own loop. An exchange (struct xchg) is one request and its answer.
 * When its head is complete, exchange_begin(x) of exchange.h is called; no byte of the body is read before somebody
 * calls http_read. What happens next is in the hands of its part: the object that takes the body, gives the answer's
 * bytes, or owns the socket. Every function may be called at any time in the loop, also from within a part's call. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "err.h"
#include "list.h"

#define HTTP_HEAD_MAX	16384		/* bytes of a request's head */
#define HTTP_TARGET_MAX	8192		/* of its target */

struct xchg;
struct MHD_Connection;
struct MHD_Response;

enum { HTTP_END = -1, HTTP_FAIL = -2 };	/* what give() may return: that was all; cut the connection */

/* A part of an exchange's life. All but over() may be NULL when they can't be called. */
struct part {
	size_t (*take)(struct xchg *x, const char *p, size_t n);	/* body bytes; fewer than n taken: wait for http_go */
	void (*end)(struct xchg *x);			/* the body is complete */
	ssize_t (*give)(struct xchg *x, char *p, size_t max);	/* the answer's bytes; 0: none yet, wait for http_go */
	void (*own)(struct xchg *x, int fd, const char *p, size_t n);	/* the socket is ours now; p: bytes already read */
	void (*over)(struct xchg *x);			/* the part's end, in every case; x->job is to be freed */
};

struct conn;			/* a client's connection */
struct answer {			/* of http_reply and http_give */
	unsigned status;
	const char *headers;	/* "Name: value\r\n..." or NULL */
	const void *body;	/* copied, or lasting for ever */
	size_t n;
	bool lasting;
	int fd;			/* a sealed memfd instead of body; owned; -1: none */
	bool close;
};

struct xchg {
	uint64_t id;			/* at the door; 0: none */
	struct list waiting;		/* for an id */
	const char *method, *path, *query;	/* query: NULL when there is none */
	const char *peer, *ticket;
	uint64_t length;		/* of the body; 0: none; DOOR_NO_LENGTH: chunked */
	const struct part *part;	/* NULL: none */
	void *job;			/* the part's own */
	/* http.c's own from here on */
	struct conn *conn;
	struct MHD_Connection *mhd;
	struct MHD_Response *later;	/* to be sent when the body has been thrown away */
	unsigned later_status;
	uint64_t got;			/* bytes of the body */
	uint8_t phase;
	bool suspended, aborted, expects, answered, websocket, http10;
	void *upgrade;
	const char *bad;		/* why the target can't be used, or NULL */
	unsigned bad_status;
	char target[];
};

/* Start; the client's sockets come by http_add. -errno. */
int http_start(struct err *e);
/* A connected stream socket, owned from now on. @peer is copied; @ticket (copied) may be NULL. */
void http_add(int fd, const char *peer, const char *ticket);

/* Call @fn for each header until it returns false. Texts stay as long as the exchange. */
void http_headers(struct xchg *x, bool (*fn)(void *arg, const char *name, size_t nlen, const char *value), void *arg);
const char *http_header(struct xchg *x, const char *name);	/* NULL when absent */

void http_part(struct xchg *x, const struct part *part, void *job);	/* ends the part before */
void http_read(struct xchg *x);			/* let the body come to part->take and part->end */
bool http_whole(const struct xchg *x);		/* the body is complete, or there is none: an answer can begin */
void http_go(struct xchg *x);			/* take() or give() can go on */
void http_reply(struct xchg *x, const struct answer *a);	/* at any time before the answer has begun */
void http_problem(struct xchg *x, enum err_code code, unsigned status, const char *headers, const char *detail);
/* Answer with bytes from part->give; only when http_whole. @total: DOOR_NO_LENGTH: until HTTP_END. */
void http_give(struct xchg *x, const struct answer *a, uint64_t total);
void http_upgrade(struct xchg *x, const char *headers);	/* 101; then part->own; http_abort ends it */
void http_watch(struct xchg *x);		/* from now on a client that closes its sending side has left */
void http_abort(struct xchg *x);		/* close the connection */
