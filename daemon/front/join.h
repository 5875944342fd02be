/* join.h: the verdict JOIN: a client's WebSocket and a stream socket of croftd's become one, binary frames on one side
 * and plain bytes on the other, with backpressure both ways. */
#pragma once
struct xchg;
void join_begin(struct xchg *x, const void *msg, int *fds, unsigned nfds);
