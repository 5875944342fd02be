#include "exchange.h"
#include <string.h>
#include <unistd.h>
#include "bulk.h"
#include "bundle.h"
#include "collect.h"
#include "follow.h"
#include "front.h"
#include "head.h"
#include "http.h"
#include "join.h"
#include "mem.h"

/* An id is a serial number above and its place in the table below, so that a late verdict finds nobody. */
enum { PLACE_BITS = 16 };
static struct place { struct xchg *x; uint64_t id; uint32_t next_free; } *places;
static uint32_t free_place;		/* index + 1; 0: none */
static uint64_t serial;
static struct list waiting;

void exchange_start(void)
{
	uint32_t n = front.requests_max ? front.requests_max : 1;

	if (n >= 1u << PLACE_BITS)
		n = (1u << PLACE_BITS) - 1;
	places = xcalloc(n, sizeof(*places));
	for (uint32_t i = 0; i < n; i++)
		places[i].next_free = i + 1 < n ? i + 2 : 0;
	free_place = 1;
	list_init(&waiting);
}

static void ask(struct xchg *x)
{
	struct place *p = &places[free_place - 1];
	struct door_request r = {
		.method = x->method, .path = x->path, .query = x->query, .peer = x->peer, .ticket = x->ticket,
		.content_length = x->length, .websocket = x->websocket,
	};

	p->x = x;
	p->id = x->id = ++serial << PLACE_BITS | (free_place - 1);
	free_place = p->next_free;
	head_request(x, &r);
	door_send(front.door, DOOR_REQUEST, x->id, &r, NULL, 0);
}

void exchange_begin(struct xchg *x)
{
	if (strncmp(x->path, "/api", 4) || (x->path[4] && x->path[4] != '/'))
		bundle_serve(x);
	else if (free_place)
		ask(x);
	else
		list_append(&waiting, &x->waiting);
}

void exchange_close_id(struct xchg *x)
{
	if (!x->id)
		return;
	struct place *p = &places[x->id & ((1u << PLACE_BITS) - 1)];
	x->id = 0;
	p->x = NULL;
	p->id = 0;
	p->next_free = free_place;
	free_place = p - places + 1;
	if (list_empty(&waiting))
		return;
	struct xchg *next = LIST_ENTRY(waiting.next, struct xchg, waiting);
	list_remove(&next->waiting);
	ask(next);
}

void exchange_over(struct xchg *x)
{
	list_remove(&x->waiting);
	if (x->id)
		door_send(front.door, DOOR_GONE, x->id, &(struct door_withdraw){ 0 }, NULL, 0);
	exchange_close_id(x);
}

void exchange_tell(struct xchg *x, enum door_type type, const void *msg, const int *fds, unsigned nfds)
{
	if (x->id)
		door_send(front.door, type, x->id, msg, fds, nfds);
	else
		for (unsigned i = 0; i < nfds; i++)
			close(fds[i]);
}

static void on_reply(struct xchg *x, const void *msg, int *fds, unsigned nfds)
{
	const struct door_reply *r = msg;

	exchange_close_id(x);
	http_part(x, NULL, NULL);
	http_reply(x, &(struct answer){ .status = r->status, .headers = r->headers, .body = r->body.p, .n = r->body.n,
		.fd = nfds ? TAKE_FD(fds[0]) : -1, .close = r->close });
}

static void on_withdraw(struct xchg *x, const void *msg, int *fds, unsigned nfds)
{
	exchange_close_id(x);
	http_abort(x);
}

static void (*const verdicts[DOOR_NTYPES])(struct xchg *x, const void *msg, int *fds, unsigned nfds) = {
	[DOOR_REPLY] = on_reply,
	[DOOR_WITHDRAW] = on_withdraw,
	[DOOR_COLLECT] = collect_begin,
	[DOOR_STORE] = bulk_store,
	[DOOR_SEND] = bulk_send,
	[DOOR_FOLLOW] = follow_begin,
	[DOOR_JOIN] = join_begin,
};

void exchange_verdict(enum door_type type, uint64_t id, const void *msg, int *fds, unsigned nfds)
{
	struct place *p = &places[id & ((1u << PLACE_BITS) - 1)];

	if (!verdicts[type] || (id & ((1u << PLACE_BITS) - 1)) >= front.requests_max || p->id != id || !id)
		return;		/* the client left while the verdict was on its way */
	verdicts[type](p->x, msg, fds, nfds);
}
