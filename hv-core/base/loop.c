#include "loop.h"
#include <errno.h>
#include <stdlib.h>
#include "log.h"
#include "mem.h"
#include "text.h"

enum { LATE_USEC = 1000000, GRACE_USEC = 5000000 };

static const char *what;
static uint64_t lag_max;

/* The calls of sd-event below fail only when memory is out, or when the loop has ended: then nothing comes any more,
 * which is no error while everything is being freed. */
static void must(int r, const char *call)
{
	if (r >= 0 || r == -ESTALE)
		return;
	log_error("%s failed: %d", call, r);
	abort();
}

static void set(struct timer *t, uint64_t after_usec)
{
	must(sd_event_source_set_time_relative(t->src, after_usec), "set_time");
	must(sd_event_source_set_enabled(t->src, SD_EVENT_ONESHOT), "set_enabled");
}

static int on_timer(sd_event_source *s, uint64_t usec, void *arg)
{
	struct timer *t = arg;
	loop_what("timer");
	if (!t->postponed && mono_usec() - (int64_t)usec > LATE_USEC) {
		t->postponed = true;
		set(t, t->after_usec < GRACE_USEC ? t->after_usec : GRACE_USEC);
		return 0;
	}
	t->fn(t->arg);		/* may disarm, rearm or free t */
	return 0;
}

void timer_arm(struct timer *t, sd_event *ev, uint64_t after_usec, void (*fn)(void *arg), void *arg)
{
	uint64_t slack = after_usec / 16;	/* lets the kernel wake up once for several */

	slack = slack < 1000 ? 1000 : slack > 250000 ? 250000 : slack;
	t->fn = fn;
	t->arg = arg;
	t->after_usec = after_usec;
	t->postponed = false;
	if (!t->src) {
		must(sd_event_add_time_relative(ev, &t->src, CLOCK_MONOTONIC, after_usec, slack, on_timer, t),
		     "add_time");
		return;
	}
	must(sd_event_source_set_time_accuracy(t->src, slack), "set_time_accuracy");
	set(t, after_usec);
}

void timer_disarm(struct timer *t)
{
	t->src = sd_event_source_disable_unref(t->src);
}

struct deferred { void (*fn)(void *arg); void *arg; };

static int on_deferred(sd_event_source *s, void *arg)
{
	struct deferred *d = arg;
	loop_what("deferred call");
	d->fn(d->arg);
	sd_event_source_set_floating(s, false);	/* drops the last reference */
	return 0;
}

void loop_defer(sd_event *ev, void (*fn)(void *arg), void *arg)
{
	struct deferred *d = xnew(deferred);
	sd_event_source *s;

	*d = (struct deferred){ fn, arg };
	int r = sd_event_add_defer(ev, &s, on_deferred, d);
	must(r, "add_defer");
	if (r < 0)
		return free(d);
	sd_event_source_set_destroy_callback(s, free);
	sd_event_source_set_floating(s, true);	/* the loop owns it: a call that never came is freed with the loop */
	sd_event_source_unref(s);
}

void loop_what(const char *text)
{
	what = text;
}

int loop_run(sd_event *ev, unsigned slow_ms, void (*slow)(const char *what, unsigned ms))
{
	int code;

	while (sd_event_get_state(ev) != SD_EVENT_FINISHED) {
		int r = sd_event_prepare(ev);
		if (r == 0)
			r = sd_event_wait(ev, UINT64_MAX);
		if (r > 0) {
			int64_t from = mono_usec();
			what = "event source";
			r = sd_event_dispatch(ev);
			uint64_t took = mono_usec() - from;
			if (took > lag_max)
				lag_max = took;
			if (slow && took > (uint64_t)slow_ms * 1000)
				slow(what, took / 1000);
		}
		if (r < 0)
			return r;
	}
	return sd_event_get_exit_code(ev, &code) < 0 ? 0 : code;
}

uint64_t loop_lag_max_usec(void)
{
	uint64_t lag = lag_max;
	lag_max = 0;
	return lag;
}
