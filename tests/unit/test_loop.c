// LINK: hv-core/base
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "loop.h"
#include "t.h"
#include "text.h"

static sd_event *ev;
static unsigned fired;
static struct timer timer;

static void on_exit_now(void *arg)
{
	fired++;
	sd_event_exit(ev, 7);
}

TEST(a_timer_fires_once_and_its_exit_code_is_returned)
{
	int64_t from = mono_usec();

	sd_event_new(&ev);
	timer_arm(&timer, ev, 20000, on_exit_now, NULL);
	eq_int(loop_run(ev, 1000, NULL), 7);
	eq_int(fired, 1);
	int64_t took = mono_usec() - from;
	ok(took >= 20000 && took < 2000000);
	timer_disarm(&timer);
	timer_disarm(&timer);
	sd_event_unref(ev);
}

static void on_rearm(void *arg)
{
	if (++fired < 5)
		timer_arm(&timer, ev, 1000, on_rearm, arg);
	else
		sd_event_exit(ev, 0);
}

TEST(a_timer_can_be_armed_again_from_inside_and_later_than_before)
{
	sd_event_new(&ev);
	timer_arm(&timer, ev, 1000, on_exit_now, NULL);
	timer_arm(&timer, ev, 5000, on_rearm, NULL);	/* the newer one counts */
	eq_int(loop_run(ev, 1000, NULL), 0);
	eq_int(fired, 5);
	timer_disarm(&timer);
	sd_event_unref(ev);
}

static void on_free(void *arg)
{
	struct timer *t = arg;
	timer_disarm(t);
	free(t);
	sd_event_exit(ev, 0);
}

TEST(a_timer_may_be_freed_from_inside)
{
	struct timer *t = calloc(1, sizeof(*t));
	sd_event_new(&ev);
	timer_arm(t, ev, 1000, on_free, t);
	eq_int(loop_run(ev, 1000, NULL), 0);
	sd_event_unref(ev);
}

static void on_tick(void *arg)
{
	fired++;
}

TEST(a_disarmed_timer_stays_silent)
{
	struct timer end = { 0 };
	sd_event_new(&ev);
	timer_arm(&timer, ev, 1000, on_tick, NULL);
	timer_arm(&end, ev, 30000, on_exit_now, NULL);
	timer_disarm(&timer);
	loop_run(ev, 1000, NULL);
	eq_int(fired, 1);
	timer_disarm(&end);
	sd_event_unref(ev);
}

static void on_third(void *arg)
{
	if (++fired == 3)
		sd_event_exit(ev, 0);
}

TEST(deferred_calls_run_once_from_the_loop)
{
	sd_event_new(&ev);
	for (int i = 0; i < 3; i++)
		loop_defer(ev, on_third, NULL);
	eq_int(fired, 0);
	loop_run(ev, 1000, NULL);
	eq_int(fired, 3);
	loop_defer(ev, on_third, NULL);	/* after the end: nothing happens, nothing leaks */
	timer_arm(&timer, ev, 1000, on_tick, NULL);
	timer_disarm(&timer);
	sd_event_unref(ev);
}

TEST(a_deferred_call_that_never_came_is_freed_with_the_loop)
{
	sd_event_new(&ev);
	loop_defer(ev, on_tick, NULL);
	sd_event_unref(ev);		/* a sanitizer build sees what leaks */
	eq_int(fired, 0);
}

static unsigned slow_ms;
static char slow_what[64];

static void on_slow(const char *what, unsigned ms)
{
	slow_ms = ms;
	snprintf(slow_what, sizeof(slow_what), "%s", what);
}

static void on_sleep(void *arg)
{
	loop_what("GET /slow");
	usleep(30000);
	sd_event_exit(ev, 0);
}

TEST(a_slow_callback_is_told_with_its_name)
{
	sd_event_new(&ev);
	loop_defer(ev, on_sleep, NULL);
	loop_run(ev, 10, on_slow);
	ok(slow_ms >= 29);
	eq_str(slow_what, "GET /slow");
	ok(loop_lag_max_usec() >= 29000);
	eq_int(loop_lag_max_usec(), 0);
	sd_event_unref(ev);
}

T_MAIN

static int on_answer(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	timer_disarm(&timer);		/* what it was the deadline of has come */
	sd_event_exit(ev, 3);
	return 0;
}

TEST(a_deadline_that_passed_while_we_were_stopped_lets_the_answer_be_heard_first)
{
	int pair[2];

	sd_event_new(&ev);
	ok(pipe(pair) == 0 && write(pair[1], "x", 1) == 1);
	fired = 0;
	timer_arm(&timer, ev, 10000, on_exit_now, NULL);
	usleep(1200000);
	sd_event_add_io(ev, NULL, pair[0], EPOLLIN, on_answer, NULL);
	eq_int(loop_run(ev, 5000, NULL), 3);
	eq_int(fired, 0);
	sd_event_unref(ev);
	sd_event_new(&ev);
	timer_arm(&timer, ev, 10000, on_exit_now, NULL);
	usleep(1200000);
	eq_int(loop_run(ev, 5000, NULL), 7);		/* late, but it comes */
	eq_int(fired, 1);
	timer_disarm(&timer);
	sd_event_unref(ev);
	close(pair[0]);
	close(pair[1]);
}
