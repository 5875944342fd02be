/* due.h: deadlines of many objects behind one timer. An object embeds a struct due; a list belongs to one kind of
 * deadline. The timer is armed only while the list has entries, and rearmed only when it has fired, so that moving an
 * entry costs no system call. */
#pragma once
#include <stdint.h>
#include "list.h"
#include "loop.h"

struct due { struct list at; uint64_t when; };		/* zeroed: not in a list */
struct dues {
	sd_event *ev;
	void (*fn)(struct due *d);			/* taken out of the list before the call */
	struct list at;					/* ordered by when */
	struct timer timer;
	uint64_t armed;					/* for this time; 0: not armed */
};

void dues_init(struct dues *l, sd_event *ev, void (*fn)(struct due *d));
void due_set(struct dues *l, struct due *d, uint64_t after_usec);	/* moves one that is set already */
void due_clear(struct due *d);
