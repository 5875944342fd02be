#include "due.h"
#include "mem.h"

static uint64_t now(sd_event *ev)
{
	uint64_t usec = 0;
	sd_event_now(ev, CLOCK_MONOTONIC, &usec);
	return usec;
}

static void on_time(void *arg);

static void arm(struct dues *l)
{
	if (list_empty(&l->at))
		return;
	struct due *first = LIST_ENTRY(l->at.next, struct due, at);
	if (l->armed && l->armed <= first->when)
		return;
	uint64_t t = now(l->ev);
	l->armed = first->when;
	timer_arm(&l->timer, l->ev, first->when > t ? first->when - t : 0, on_time, l);
}

static void on_time(void *arg)
{
	struct dues *l = arg;
	uint64_t t = now(l->ev);

	while (!list_empty(&l->at)) {
		struct due *d = LIST_ENTRY(l->at.next, struct due, at);
		if (d->when > t)
			break;
		list_remove(&d->at);
		l->fn(d);
	}
	l->armed = 0;
	arm(l);
}

void dues_init(struct dues *l, sd_event *ev, void (*fn)(struct due *d))
{
	*l = (struct dues){ .ev = ev, .fn = fn };
	list_init(&l->at);
}

/* Deadlines of one kind have mostly the same span: the place is at the end or near it. */
void due_set(struct dues *l, struct due *d, uint64_t after_usec)
{
	list_remove(&d->at);
	d->when = now(l->ev) + after_usec;
	struct list *after = l->at.prev;
	while (after != &l->at && LIST_ENTRY(after, struct due, at)->when > d->when)
		after = after->prev;
	list_insert(after, &d->at);
	arm(l);
}

void due_clear(struct due *d)
{
	list_remove(&d->at);
}
