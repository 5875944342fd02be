#include "follow.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "exchange.h"
#include "front.h"
#include "http.h"
#include "loop.h"
#include "mem.h"

enum { BUCKETS = 64, FRAME_MAX = 1 << 20, HEARTBEAT_USEC = 15000000 };

struct frame {			/* one event; held by the ring and by those who are at it */
	unsigned refs;
	bool gone;		/* out of the ring; next is void */
	bool passing;		/* it has no number: seq is that of the event before it */
	uint64_t seq;
	struct frame *next;
	size_t n;
	char data[];
};

struct audience {
	struct list at;
	uint64_t id;
	struct frame *first, *last;
	size_t bytes;
	uint64_t base;		/* all its events after this number are in the ring */
	uint64_t newest;
	struct list followers;
};

struct follower {
	struct list in_audience, in_all;
	struct xchg *x;
	struct audience *audience;	/* NULL: waits for FOLLOW */
	uint64_t seq;			/* the last event that was given whole */
	struct frame *frame;		/* that is being given, or was given last */
	size_t off;			/* in it */
	char *text;			/* mapped; goes first */
	size_t text_n, text_off;
	bool beat;
};

static struct list audiences[BUCKETS], all;
static uint32_t unacked;
static sd_event_source *acker;
static struct timer heartbeat;

static void frame_drop(struct frame *f)
{
	if (f && !--f->refs)
		free(f);
}

/* --- audiences --- */

static struct audience *find(uint64_t id)
{
	LIST_FOR(a, &audiences[id % BUCKETS], struct audience, at)
		if (a->id == id)
			return a;
	return NULL;
}

static void evict(struct audience *a)
{
	struct frame *f = a->first;

	a->first = f->next;
	if (!a->first)
		a->last = NULL;
	a->bytes -= f->n;
	a->base = f->seq;
	f->gone = true;
	f->next = NULL;
	frame_drop(f);
}

static void leave(struct follower *f)
{
	struct audience *a = f->audience;

	f->audience = NULL;
	list_remove(&f->in_audience);
	frame_drop(f->frame);
	f->frame = NULL;
	if (!a || !list_empty(&a->followers))
		return;
	while (a->first)
		evict(a);
	list_remove(&a->at);
	free(a);
}

static void join_audience(struct follower *f, uint64_t id, uint64_t from)
{
	struct audience *a = find(id);

	if (!a) {
		a = xnew(audience);
		a->id = id;
		a->base = a->newest = from;
		list_init(&a->followers);
		list_append(&audiences[id % BUCKETS], &a->at);
	}
	f->audience = a;
	f->seq = from;
	list_append(&a->followers, &f->in_audience);
}

static void append(struct audience *a, const struct door_event *e, const char *p, size_t n)
{
	struct frame *f;
	bool passing = e->previous == e->seq;

	if (passing && (!n || e->seq > a->newest))
		return;				/* what comes before it got lost */
	if (!passing && e->previous > a->newest) {		/* events were lost on the way: whoever has not seen them asks again */
		while (a->first)
			evict(a);
		/* Not beyond this event: who asks again follows from here on, and would have to ask for ever. */
		a->base = e->previous < e->seq ? e->previous : n ? e->seq - 1 : e->seq;
	}
	a->newest = passing ? a->newest : e->seq;
	if (!n)
		return;				/* it only told of the gap */
	f = xmalloc(sizeof(*f) + n);
	*f = (struct frame){ .refs = 1, .seq = a->newest, .passing = passing, .n = n };
	memcpy(f->data, p, n);
	*(a->last ? &a->last->next : &a->first) = f;
	a->last = f;
	a->bytes += n;
	while (a->bytes > front.ring_bytes && a->first != a->last)
		evict(a);
}

/* --- what a client gets --- */

static size_t give_text(struct follower *f, char *p, size_t max)
{
	size_t n = f->text_n - f->text_off < max ? f->text_n - f->text_off : max;

	memcpy(p, f->text + f->text_off, n);
	f->text_off += n;
	if (f->text_off == f->text_n) {
		munmap(f->text, f->text_n);
		f->text = NULL;
	}
	return n;
}

static bool is_whole(const struct follower *f)
{
	return !f->frame || f->off == f->frame->n;
}

/* Step to the next frame: false when there is none (yet), or when croftd has been asked again. */
static bool step(struct follower *f)
{
	struct audience *a = f->audience;
	struct frame *next = f->frame && !f->frame->gone ? f->frame->next : a->first;

	if (f->seq < a->base) {
		uint64_t after = f->seq;
		leave(f);
		exchange_tell(f->x, DOOR_AGAIN, &(struct door_again){ after }, NULL, 0);
		return false;
	}
	while (next && (next->passing ? next->seq < f->seq : next->seq <= f->seq))
		next = next->next;
	if (!next)
		return false;
	next->refs++;
	frame_drop(f->frame);
	f->frame = next;
	f->off = 0;
	return true;
}

static ssize_t give(struct xchg *x, char *p, size_t max)
{
	struct follower *f = x->job;
	size_t n = 0;

	if (f->text)
		return give_text(f, p, max);
	while (n < max && f->audience && (!is_whole(f) || step(f))) {
		size_t part = f->frame->n - f->off < max - n ? f->frame->n - f->off : max - n;
		memcpy(p + n, f->frame->data + f->off, part);
		f->off += part;
		n += part;
		if (is_whole(f))
			f->seq = f->frame->seq;
	}
	if (!n && f->beat && max >= 3) {
		memcpy(p, ":\n\n", 3);
		n = 3;
	}
	f->beat = false;
	return n;
}

static void on_heartbeat(void *arg)
{
	if (list_empty(&all))
		return;
	LIST_FOR(f, &all, struct follower, in_all) {
		f->beat = true;
		http_go(f->x);
	}
	timer_arm(&heartbeat, front.ev, HEARTBEAT_USEC, on_heartbeat, NULL);
}

static void drop_text(struct follower *f)
{
	if (f->text)
		munmap(f->text, f->text_n);
	f->text = NULL;
}

static void over(struct xchg *x)
{
	struct follower *f = x->job;

	leave(f);
	drop_text(f);
	list_remove(&f->in_all);
	if (list_empty(&all))
		timer_disarm(&heartbeat);
	free(f);
}

static const struct part follow = { .give = give, .over = over };

static struct follower *follower_new(struct xchg *x)
{
	struct follower *f = xnew(follower);

	f->x = x;
	if (list_empty(&all))
		timer_arm(&heartbeat, front.ev, HEARTBEAT_USEC, on_heartbeat, NULL);
	list_append(&all, &f->in_all);
	http_part(x, &follow, f);
	return f;
}

void follow_begin(struct xchg *x, const void *msg, int *fds, unsigned nfds)
{
	static const struct answer stream = { .status = 200, .fd = -1,
		.headers = "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n" };
	const struct door_follow *m = msg;
	bool again = x->part == &follow;
	struct follower *f;
	struct stat st;

	if (!again && !http_whole(x)) {
		http_abort(x);
		return;
	}
	f = again ? x->job : follower_new(x);
	leave(f);
	drop_text(f);
	join_audience(f, m->audience, m->from);
	if (nfds && !fstat(fds[0], &st) && st.st_size > 0) {
		void *p = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fds[0], 0);
		f->text = p == MAP_FAILED ? NULL : p;
		f->text_n = st.st_size;
		f->text_off = 0;
	}
	if (again) {
		http_go(x);
	} else {
		http_watch(x);
		http_give(x, &stream, DOOR_NO_LENGTH);
	}
}

/* --- events --- */

static int on_ack(sd_event_source *s, void *arg)
{
	door_send(front.door, DOOR_ACK, 0, &(struct door_ack){ unacked }, NULL, 0);
	unacked = 0;
	return 0;
}

void follow_event(const struct door_event *e, int *fds, unsigned nfds)
{
	struct audience *a = find(e->audience);
	struct stat st;

	if (!unacked++)
		sd_event_source_set_enabled(acker, SD_EVENT_ONESHOT);
	if (!a)
		return;		/* its last follower has just left */
	if (nfds && !fstat(fds[0], &st) && st.st_size > 0 && st.st_size <= FRAME_MAX) {
		void *p = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fds[0], 0);
		if (p == MAP_FAILED)
			return;		/* the next event shows the gap */
		append(a, e, p, st.st_size);
		munmap(p, st.st_size);
	} else {
		append(a, e, e->frame.p, e->frame.n);
	}
	LIST_FOR(f, &a->followers, struct follower, in_audience)
		http_go(f->x);
}

void follow_start(void)
{
	list_init(&all);
	for (int i = 0; i < BUCKETS; i++)
		list_init(&audiences[i]);
	if (sd_event_add_defer(front.ev, &acker, on_ack, NULL) < 0)
		abort();
	sd_event_source_set_enabled(acker, SD_EVENT_OFF);
}
