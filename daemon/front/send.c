/* send.c: the verdict SEND: bytes of croftd's descriptor are the answer, by two blocks in turn: one is given to the
 * client while the other is read. The answer begins when the first block is there, so that a dead disk is a 503. */
#include <errno.h>
#include <string.h>
#include "bulk.h"
#include "door.h"
#include "exchange.h"
#include "http.h"
#include "mem.h"

struct send {
	unsigned status;
	char *headers;
	uint64_t at, left, total;	/* what is still to be read; total as promised */
	uint64_t given;
	unsigned giving;		/* which block */
	bool begun, end;		/* end: the file had no more */
};

static void read_next(struct transfer *t, struct block *b)
{
	struct send *s = t->of;

	b->state = BLOCK_IDLE;
	if (s->end || !s->left)
		return;
	b->cap = s->left < BULK_BLOCK ? (size_t)s->left : BULK_BLOCK;
	if (!b->p)
		b->p = xmalloc(b->cap);
	b->at = s->at;
	s->at += b->cap;
	if (s->left != DOOR_NO_LENGTH)
		s->left -= b->cap;
	transfer_read(t, b);
}

static void begin(struct transfer *t)
{
	struct send *s = t->of;
	struct answer a = { .status = s->status, .headers = s->headers, .fd = -1 };

	s->begun = true;
	if (s->total)
		http_give(t->x, &a, s->total);
	else
		http_reply(t->x, &a);
}

static void ready(struct transfer *t, struct block *b)
{
	struct send *s = t->of;
	struct xchg *x = t->x;

	if (t->error && !s->begun) {
		exchange_tell(x, DOOR_SENT, &(struct door_sent){ 0, t->error }, NULL, 0);
		exchange_close_id(x);
		http_part(x, NULL, NULL);
		http_problem(x, ERR_UNAVAILABLE, 0, "Retry-After: 5\r\n", "The storage did not answer in time, or failed.");
		return;
	}
	if (!t->error && b->n < b->cap)
		s->end = true;
	if (!s->begun)
		begin(t);
	else
		http_go(x);		/* give() sees an error */
}

static ssize_t give(struct xchg *x, char *p, size_t max)
{
	struct transfer *t = x->job;
	struct send *s = t->of;
	struct block *b = &t->block[s->giving];

	if (t->error)
		return HTTP_FAIL;
	if (b->state == BLOCK_BUSY)
		return 0;
	if (b->state == BLOCK_IDLE || !b->n)	/* nothing was read any more */
		return s->total == DOOR_NO_LENGTH ? HTTP_END : HTTP_FAIL;
	size_t n = b->n - b->off < max ? b->n - b->off : max;
	memcpy(p, b->p + b->off, n);
	b->off += n;
	s->given += n;
	if (b->off == b->n) {
		s->giving ^= 1;
		read_next(t, b);
	}
	return n;
}

static void over(struct xchg *x)
{
	struct transfer *t = x->job;
	struct send *s = t->of;
	bool all = s->begun && (s->given == s->total || (s->total == DOOR_NO_LENGTH && s->end) || !strcmp(x->method, "HEAD"));

	if (x->id && (all || t->error)) {
		exchange_tell(x, DOOR_SENT, &(struct door_sent){ s->given, t->error }, NULL, 0);
		exchange_close_id(x);
	}
	free(s->headers);
	s->headers = NULL;
	transfer_leave(t);
}

static const struct part send_part = { .give = give, .over = over };

void bulk_send(struct xchg *x, const void *msg, int *fds, unsigned nfds)
{
	const struct door_send *m = msg;

	if (!nfds || !http_whole(x)) {
		http_abort(x);
		return;
	}
	struct send *s = xnew(send);
	*s = (struct send){ .status = m->status, .headers = m->headers ? xstrdup(m->headers) : NULL, .at = m->offset,
		.left = m->length, .total = m->length };
	struct transfer *t = transfer_new(x, TAKE_FD(fds[0]), m->lane, m->deadline_usec, ready, s);
	http_part(x, &send_part, t);
	if (!m->length || !strcmp(x->method, "HEAD")) {
		begin(t);
		return;
	}
	read_next(t, &t->block[0]);
	if (x->job == t)
		read_next(t, &t->block[1]);
}
