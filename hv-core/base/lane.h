/* lane.h: named FIFO threads for what can block. The only mutexes of the tree are in lane.c.
 *
 * A job is embedded first in the caller's struct. work() runs in the lane and touches nothing but its job; done() runs
 * in the loop, never inside lane_run. lane_run always takes the job: a full lane, or one past its deadline, ends it
 * through done() with ERR_UNAVAILABLE. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>
#include "err.h"
#include "list.h"

struct lane;
struct job {
	struct list in_lane;
	int (*work)(struct job *j, struct err *e);
	void (*done)(struct job *j, const struct err *e);	/* e is NULL on success; done owns the job */
	struct err err;
	int ret;
};

/* @threads workers, at most @depth jobs waiting. The threads block all signals. */
struct lane *lane_new(sd_event *ev, const char *name, unsigned threads, size_t depth);
/* Instead of one work() a job, the worker hands everything that has queued up (at most @max) to @batch: used by the
 * database for group commit. @batch sets ret and err of each. */
struct lane *lane_new_batch(sd_event *ev, const char *name, size_t depth, size_t max,
			    void (*batch)(void *arg, struct job **jobs, size_t n), void *arg);
void lane_run(struct lane *l, struct job *j, int (*work)(struct job *, struct err *),
	      void (*done)(struct job *, const struct err *));
/* The deadline of a job that runs; 0 (so it starts): none. While all threads are past it the jobs that wait, and new
 * ones, end with ERR_UNAVAILABLE. What runs can't be stopped: its done() comes when the kernel lets go of it. */
void lane_set_deadline(struct lane *l, uint64_t usec);
bool lane_full(const struct lane *l);
size_t lane_len(const struct lane *l);			/* waiting and running */
int64_t lane_stuck_usec(const struct lane *l);		/* how long the oldest running job runs; 0 when idle */
/* Blocks until nothing waits or runs: at a program's start only. What has finished is still delivered by the loop. */
void lane_wait(struct lane *l);
/* Ends when the queue is empty: waits for the threads. Completions that were not delivered are delivered here. */
void lane_free(struct lane *l);
