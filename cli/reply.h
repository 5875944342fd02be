/* reply.h: reads an HTTP/1.1 answer piece by piece. Pure: bytes in, body out; bounded; no I/O. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "err.h"

#define REPLY_HEAD_MAX	(64 * 1024)

struct reply {
	int status;			/* 0 until the head is complete */
	struct buf head;		/* status line and headers, lines end with NUL once it is complete */
	bool ended;			/* the whole answer was read */
	bool close;			/* the connection can't be used again */
	bool to_end;			/* the body ends with the connection */
	uint64_t left;			/* bytes of the body or of the chunk that are to come */
	enum { REPLY_HEAD, REPLY_BODY, REPLY_CHUNK_HEAD, REPLY_CHUNK, REPLY_CHUNK_END, REPLY_TRAILER } at;
	char line[128];			/* of a chunk's head or a trailer */
	size_t line_len;
	bool no_body;			/* set by the caller: the answer to HEAD */
};

void reply_init(struct reply *r);
void reply_fini(struct reply *r);
/* Take up to @n bytes: *ret_used of them are done with. When a piece of body was among them, *ret_p, *ret_n is it. To be
 * called again with the rest. ERR_BAD_REQUEST for what is no HTTP. */
int reply_read(struct reply *r, const char *p, size_t n, size_t *ret_used, const char **ret_p, size_t *ret_n, struct err *e);
/* The connection has ended: 0 when the answer is complete by that. */
int reply_eof(struct reply *r, struct err *e);
const char *reply_header(const struct reply *r, const char *name);	/* the first of it, or NULL */
