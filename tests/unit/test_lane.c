// LINK: hv-core/base
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include "lane.h"
#include "mem.h"
#include "t.h"
#include "text.h"

struct item {
	struct job job;
	int n, out;
	pthread_t thread;
	bool blocked;
};

static sd_event *ev;
static struct lane *lane;
static unsigned ndone, nfailed, want;
static int order[4096];
static enum err_code last_code;
static int gate[2];		/* a pipe: work_wait reads a byte of it */

static int work_add(struct job *j, struct err *e)
{
	struct item *it = CONTAINER(j, struct item, job);
	sigset_t mask;

	it->out = it->n + 1;
	it->thread = pthread_self();
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	it->blocked = sigismember(&mask, SIGTERM) && sigismember(&mask, SIGCHLD);
	return 0;
}

static int work_wait(struct job *j, struct err *e)
{
	char c;
	return read(gate[0], &c, 1) == 1 ? work_add(j, e) : -EIO;
}

static int work_fail(struct job *j, struct err *e)
{
	return fail(e, ERR_NOT_FOUND, "no such thing");
}

static int work_fail_mute(struct job *j, struct err *e)
{
	return -ENOSPC;
}

static void on_done(struct job *j, const struct err *e)
{
	struct item *it = CONTAINER(j, struct item, job);

	if (!e) {
		eq_int(it->out, it->n + 1);
		ok(it->blocked);
		ok(!pthread_equal(it->thread, pthread_self()));
	} else {
		nfailed++;
		last_code = e->code;
		ok(*e->msg);
	}
	order[ndone] = it->n;
	free(it);
	if (++ndone == want)
		sd_event_exit(ev, 0);
}

static void run(int n, int (*work)(struct job *, struct err *))
{
	struct item *it = xnew(item);
	it->n = n;
	lane_run(lane, &it->job, work, on_done);
}

static void open_lane(unsigned threads, size_t depth)
{
	eq_int(pipe(gate), 0);
	sd_event_new(&ev);
	lane = lane_new(ev, "a-name-longer-than-15", threads, depth);
}

static void close_lane(void)
{
	lane_free(lane);
	sd_event_unref(ev);
}

TEST(jobs_of_one_thread_are_done_in_order)
{
	open_lane(1, 4000);
	want = 2000;
	for (int i = 0; i < 2000; i++)
		run(i, work_add);
	eq_int(ndone, 0);
	sd_event_loop(ev);
	eq_int(ndone, 2000);
	eq_int(nfailed, 0);
	for (int i = 0; i < 2000; i++)
		eq_int(order[i], i);
	eq_int(lane_len(lane), 0);
	eq_int(lane_stuck_usec(lane), 0);
	close_lane();
}

TEST(threads_work_side_by_side)
{
	open_lane(3, 100);
	want = 3;
	for (int i = 0; i < 3; i++)
		run(i, work_wait);
	for (int i = 0; i < 1000 && lane_len(lane) != 3; i++)
		usleep(1000);
	usleep(20000);
	ok(lane_stuck_usec(lane) > 5000);
	ok(!lane_full(lane));
	eq_int(write(gate[1], "abc", 3), 3);
	sd_event_loop(ev);
	eq_int(ndone, 3);
	close_lane();
}

TEST(a_full_lane_refuses_through_done_and_never_at_once)
{
	open_lane(1, 2);
	want = 5;
	run(0, work_wait);
	while (lane_stuck_usec(lane) == 0)	/* until the thread has taken it */
		usleep(1000);
	run(1, work_add);
	run(2, work_add);
	ok(lane_full(lane));
	run(3, work_add);
	run(4, work_add);
	eq_int(ndone, 0);
	for (int i = 0; i < 2; i++)
		sd_event_run(ev, 100000);
	eq_int(ndone, 2);
	eq_int(nfailed, 2);
	eq_int(last_code, ERR_UNAVAILABLE);
	eq_int(lane_len(lane), 3);
	eq_int(write(gate[1], "a", 1), 1);
	sd_event_loop(ev);
	eq_int(nfailed, 2);
	eq_int(ndone, 5);
	close_lane();
}

TEST(a_lane_past_its_deadline_refuses_and_recovers)
{
	open_lane(2, 100);
	lane_set_deadline(lane, 30000);
	want = 6;
	run(0, work_wait);
	run(1, work_add);		/* one thread hangs, the other gets on */
	sd_event_run(ev, 1000000);
	eq_int(ndone, 1);
	run(2, work_wait);
	while (lane_len(lane) != 2)
		usleep(1000);
	usleep(5000);
	run(3, work_add);		/* waits for both */
	for (int i = 0; i < 20 && ndone < 2; i++)
		sd_event_run(ev, 1000000);
	eq_int(ndone, 2);
	eq_int(order[1], 3);
	eq_int(last_code, ERR_UNAVAILABLE);
	run(4, work_add);		/* new ones at once */
	for (int i = 0; i < 20 && ndone < 3; i++)
		sd_event_run(ev, 1000000);
	eq_int(nfailed, 2);
	eq_int(write(gate[1], "ab", 2), 2);
	for (int i = 0; i < 20 && ndone < 5; i++)
		sd_event_run(ev, 1000000);
	run(5, work_add);
	sd_event_loop(ev);
	eq_int(ndone, 6);
	eq_int(nfailed, 2);
	close_lane();
}

TEST(a_failure_brings_its_error)
{
	open_lane(1, 10);
	want = 1;
	run(0, work_fail);
	sd_event_loop(ev);
	eq_int(last_code, ERR_NOT_FOUND);
	close_lane();
}

TEST(a_failure_without_words_gets_some)
{
	open_lane(1, 10);
	want = 1;
	run(0, work_fail_mute);
	sd_event_loop(ev);
	eq_int(last_code, ERR_NO_SPACE);
	close_lane();
}

TEST(freeing_finishes_the_queue_and_delivers)
{
	open_lane(2, 1000);
	for (int i = 0; i < 500; i++)
		run(i, work_add);
	lane_free(lane);
	eq_int(ndone, 500);
	eq_int(nfailed, 0);
	sd_event_unref(ev);
}

static void on_done_resubmit(struct job *j, const struct err *e)
{
	ndone++;
	if (!e)
		lane_run(lane, j, work_add, on_done_resubmit);
	else
		nfailed++, last_code = e->code, free(CONTAINER(j, struct item, job));
}

TEST(a_job_that_comes_back_while_the_lane_is_freed_is_refused)
{
	open_lane(1, 10);
	struct item *it = xnew(item);
	lane_run(lane, &it->job, work_add, on_done_resubmit);
	lane_free(lane);
	eq_int(ndone, 2);
	eq_int(nfailed, 1);
	eq_int(last_code, ERR_UNAVAILABLE);
	sd_event_unref(ev);
}

static void on_done_free(struct job *j, const struct err *e)
{
	free(CONTAINER(j, struct item, job));
	if (ndone++)
		return;
	lane_free(lane);
	sd_event_exit(ev, 0);
}

TEST(a_lane_may_be_freed_by_a_completion)
{
	open_lane(1, 10);
	for (int i = 0; i < 3; i++) {
		struct item *it = xnew(item);
		lane_run(lane, &it->job, work_add, on_done_free);
	}
	sd_event_loop(ev);
	eq_int(ndone, 3);
	sd_event_unref(ev);
}

static unsigned batches, biggest;

static void work_batch(void *arg, struct job **jobs, size_t n)
{
	char c;

	if (!batches++)
		ok(read(gate[0], &c, 1) == 1);	/* meanwhile the others queue up */
	if (n > biggest)
		biggest = n;
	for (size_t i = 0; i < n; i++)
		jobs[i]->ret = jobs[i]->work(jobs[i], &jobs[i]->err);
}

TEST(a_batch_takes_what_has_queued_up)
{
	open_lane(1, 10);
	lane_free(lane);
	lane = lane_new_batch(ev, "db", 1000, 64, work_batch, NULL);
	want = 101;
	run(0, work_add);
	while (lane_stuck_usec(lane) == 0)
		usleep(1000);
	for (int i = 1; i <= 100; i++)
		run(i, i == 50 ? work_fail : work_add);
	eq_int(write(gate[1], "x", 1), 1);
	sd_event_loop(ev);
	eq_int(ndone, 101);
	eq_int(nfailed, 1);
	for (int i = 0; i <= 100; i++)
		eq_int(order[i], i);
	close_lane();
	eq_int(batches, 3);		/* 1, 64, 36 */
	eq_int(biggest, 64);
}

TEST(an_idle_lane_does_not_run)
{
	char before[256] = "", after[256] = "";

	open_lane(1, 10);
	want = 1;
	run(0, work_add);
	sd_event_loop(ev);
	char *out[2] = { before, after };
	usleep(20000);
	for (int i = 0; i < 2; i++) {
		FILE *p = popen("cd /proc/$PPID/task; grep voluntary $(dirname $(grep -l a-name */comm))/status", "r");
		size_t n = fread(out[i], 1, 255, p);
		out[i][n] = 0;
		pclose(p);
		if (!i)
			usleep(300000);
	}
	ok(strstr(before, "nonvoluntary_ctxt_switches"));
	eq_str(after, before);
	close_lane();
}

T_MAIN
