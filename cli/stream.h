/* stream.h: the stream of events (SSE), taken up again where it broke. */
#pragma once
#include "vmctl.h"

/* @kinds: "vm.*,task.finished" or NULL; @after: number of an event, or NULL: from now on. @began is called each time that
 * the stream runs, @on_event for each event; anything but 0 ends it (CTL_OK). @timeout_s: 0: none. */
int follow(struct ctl *c, const char *kinds, const char *after, unsigned timeout_s, int (*began)(void *arg),
	   int (*on_event)(void *arg, const char *kind, uint64_t seq, json_t *event), void *arg);
