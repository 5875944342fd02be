/* change.h: the one way to change anything: decide, commit, apply, reply. A change carries its SQL, its events and,
 * for a request with an Idempotency-Key, the answer, all in one transaction. */
#pragma once
#include "db.h"
#include "event.h"
#include "req.h"

#define CHANGE_EVENTS 4

struct change {
	struct db_job job;
	struct croft *c;
	struct req *req;		/* owned until answered; NULL for croftd's own changes */
	int (*work)(struct change *ch, struct db_tx *tx, struct err *e);	/* in the lane; may be NULL */
	void (*apply)(struct change *ch);	/* in the loop, after the commit: memory follows the disk */
	void (*fini)(struct change *ch, const struct err *e);	/* last, always: frees arg; may be NULL */
	void *arg;
	struct event events[CHANGE_EVENTS];
	unsigned nevents;
	int status;			/* answer: 0 means apply() answers itself; 204 has no body */
	uint64_t revision;		/* ETag of the answer, or 0 */
	struct buf headers, answer;
	uint64_t task;			/* for the Idempotency-Key's row: the task that was started, or 0 */
};

struct change *change_new(struct croft *c, struct req *r);
/* Room for an event's JSON. The event is numbered inside the transaction. */
struct buf *change_event(struct change *ch, const char *kind, const char *target);
void change_run(struct change *ch);	/* takes it */
void change_refuse(struct change *ch, const struct err *e);	/* takes it, too: nothing is written, the request fails */

/* A second writer waits here and is decided anew, from its handler's start. */
struct claim { bool held; struct list waiting; };
/* True: the caller holds it. False: the request waits; its handler will be called again. */
bool claim_take(struct claim *cl, struct req *r);
void claim_drop(struct claim *cl);

/* Idempotency-Key: look the key up; found: answered from the row (or 409, 422). Else calls @go(r), in the loop. */
void idempotency_begin(struct req *r, void (*go)(struct req *r));
void idempotency_end(struct req *r);	/* the request is answered: the key is free again in memory */
