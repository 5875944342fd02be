/* head.h: what the front takes from the head of a request. */
#pragma once
#include "door.h"

struct xchg;

/* Find the body's length, and what makes a request unfit (x->bad, x->bad_status): two lengths, odd encodings, repeated
 * headers that must be single, a target that is no path, half an upgrade. Sets length, expects, websocket. */
void head_check(struct xchg *x);
/* Fill in the headers that croftd wants; texts are borrowed from the exchange. */
void head_request(struct xchg *x, struct door_request *r);
