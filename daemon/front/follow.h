/* follow.h: the verdict FOLLOW: clients that follow an audience's events (SSE). One bounded ring per audience, a cursor
 * per client. A client that fell behind its ring, or met a gap, waits for croftd's next FOLLOW, which brings the text
 * of what it missed. */
#pragma once
#include <stdint.h>

struct xchg;
struct door_event;

void follow_start(void);
void follow_begin(struct xchg *x, const void *msg, int *fds, unsigned nfds);
void follow_event(const struct door_event *e, int *fds, unsigned nfds);
