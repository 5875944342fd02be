/* exchange.h: the door's side of requests: ids, the queue for them, and croftd's verdicts. */
#pragma once
#include "door.h"

struct xchg;

void exchange_start(void);
void exchange_begin(struct xchg *x);		/* the head is complete */
void exchange_over(struct xchg *x);		/* it is about to be freed */
void exchange_verdict(enum door_type type, uint64_t id, const void *msg, int *fds, unsigned nfds);
/* Tell croftd something about an id that goes on. */
void exchange_tell(struct xchg *x, enum door_type type, const void *msg, const int *fds, unsigned nfds);
/* The id has ended by something that both sides know (REPLY, SENT, WITHDRAW). */
void exchange_close_id(struct xchg *x);
