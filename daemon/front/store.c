/* store.c: the verdict STORE: the body goes into croftd's descriptor, by two blocks in turn: one fills from the client
 * while the other is written. croftd hears STORED and gives the next verdict. */
#include <errno.h>
#include <string.h>
#include "bulk.h"
#include "door.h"
#include "exchange.h"
#include "http.h"
#include "mem.h"

struct store {
	uint64_t at, room;		/* next place in the file; bytes that may still come */
	uint64_t written;
	unsigned filling;		/* which block */
	bool whole;			/* the body is complete */
};

static void finish(struct transfer *t, int error)
{
	struct store *s = t->of;
	struct xchg *x = t->x;

	exchange_tell(x, DOOR_STORED, &(struct door_stored){ s->written, error }, NULL, 0);
	http_part(x, NULL, NULL);
}

static void ready(struct transfer *t, struct block *b)
{
	struct store *s = t->of;

	if (t->error) {
		finish(t, t->error);
		return;
	}
	s->written += b->n;
	b->n = 0;
	b->state = BLOCK_IDLE;
	if (!s->whole)
		http_go(t->x);
	else if (t->block[!(b - t->block)].state != BLOCK_BUSY)
		finish(t, 0);
}

static void flush(struct transfer *t, struct block *b)
{
	struct store *s = t->of;

	b->at = s->at;
	s->at += b->n;
	s->filling ^= 1;
	transfer_write(t, b);
}

static void make_room(struct block *b, uint64_t length)
{
	if (b->p)
		return;
	b->cap = length < BULK_BLOCK ? (size_t)length : BULK_BLOCK;
	b->p = xmalloc(b->cap);
}

static size_t take(struct xchg *x, const char *p, size_t n)
{
	struct transfer *t = x->job;
	struct store *s = t->of;
	size_t took = 0;

	if (n > s->room) {
		finish(t, EFBIG);
		return 0;
	}
	while (took < n && x->job == t) {
		struct block *b = &t->block[s->filling];
		if (b->state != BLOCK_IDLE)
			break;		/* both are being written: ready() goes on */
		make_room(b, x->length);
		size_t part = n - took < b->cap - b->n ? n - took : b->cap - b->n;
		memcpy(b->p + b->n, p + took, part);
		b->n += part;
		took += part;
		s->room -= part;
		if (b->n == b->cap)
			flush(t, b);
	}
	return took;
}

static void end(struct xchg *x)
{
	struct transfer *t = x->job;
	struct store *s = t->of;
	struct block *b = &t->block[s->filling];

	s->whole = true;
	if (b->state == BLOCK_IDLE && b->n)
		flush(t, b);
	else if (t->block[0].state != BLOCK_BUSY && t->block[1].state != BLOCK_BUSY)
		finish(t, 0);
}

static void over(struct xchg *x)
{
	transfer_leave(x->job);
}

static const struct part store = { .take = take, .end = end, .over = over };

void bulk_store(struct xchg *x, const void *msg, int *fds, unsigned nfds)
{
	const struct door_store *m = msg;

	if (!nfds)
		return;
	struct store *s = xnew(store);
	s->at = m->offset;
	s->room = m->max;
	struct transfer *t = transfer_new(x, TAKE_FD(fds[0]), m->lane, m->deadline_usec, ready, s);
	http_part(x, &store, t);
	if (x->length != DOOR_NO_LENGTH && x->length > m->max)
		finish(t, EFBIG);
	else
		http_read(x);
}
