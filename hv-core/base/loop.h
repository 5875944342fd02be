/* loop.h: helpers around one sd-event loop. Only the loop's thread calls them. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

/* A timer that is armed relatively and reused; a zeroed struct is unarmed. When the process itself was held up for a
 * second or more (stopped, starved), a timer that is due waits once more, for 5 s at most: what it is the deadline of may
 * have come meanwhile, and is heard first. */
struct timer { sd_event_source *src; void (*fn)(void *arg); void *arg; uint64_t after_usec; bool postponed; };
void timer_arm(struct timer *t, sd_event *ev, uint64_t after_usec, void (*fn)(void *arg), void *arg);
void timer_disarm(struct timer *t);			/* and free; safe on a zeroed one */

/* Call @fn(arg) once from the loop, soon; several in no certain order. The source frees itself. In a loop that has
 * ended neither timers nor these come any more. */
void loop_defer(sd_event *ev, void (*fn)(void *arg), void *arg);

/* Run until sd_event_exit, timing each dispatched callback: over @slow_ms it calls @slow(description, ms). */
int loop_run(sd_event *ev, unsigned slow_ms, void (*slow)(const char *what, unsigned ms));
/* What the running callback is about, for slow(): a text that stays (a literal, the pattern of a route). */
void loop_what(const char *text);
uint64_t loop_lag_max_usec(void);			/* longest callback since the last call */

