/* collect.h: the verdict COLLECT: a small body in memory, then BODY. */
#pragma once
struct xchg;
void collect_begin(struct xchg *x, const void *msg, int *fds, unsigned nfds);
