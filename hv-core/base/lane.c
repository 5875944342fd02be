#include "lane.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "loop.h"
#include "mem.h"
#include "text.h"

enum { STACK = 256 << 10, DELIVER = 32 };

struct worker { struct lane *lane; pthread_t thread; int64_t since; };	/* since: of its running job, 0: idle */

struct lane {
	pthread_mutex_t lock;
	pthread_cond_t wake, quiet;
	/* under the lock */
	struct list waiting, finished;
	size_t nwaiting, nrunning;
	unsigned idle;
	bool stop;
	struct worker *workers;
	/* the loop's */
	unsigned started, threads;
	size_t depth, max;
	void (*batch)(void *arg, struct job **jobs, size_t n);
	void *arg;
	int fd;			/* eventfd: something has finished */
	sd_event_source *src;
	uint64_t deadline;
	struct timer overdue;
	bool *gone;		/* set by lane_free from inside a done() */
	char name[32], label[40];
};

static struct job *pop(struct list *from)
{
	struct job *j = LIST_ENTRY(from->next, struct job, in_lane);
	list_remove(&j->in_lane);
	return j;
}

static void ring(struct lane *l)
{
	if (eventfd_write(l->fd, 1))
		abort();	/* only 2^64 - 1 rings could make it fail */
}

/* Under the lock. A finished list that is not empty has always been rung for. */
static void finish(struct lane *l, struct job *j)
{
	bool first = list_empty(&l->finished);
	list_append(&l->finished, &j->in_lane);
	if (first)
		ring(l);
}

static void work(struct lane *l, struct job **jobs, size_t n)
{
	if (l->batch)
		l->batch(l->arg, jobs, n);
	else
		jobs[0]->ret = jobs[0]->work(jobs[0], &jobs[0]->err);
	for (size_t i = 0; i < n; i++)
		if (jobs[i]->ret < 0 && !jobs[i]->err.code)
			fail_errno(&jobs[i]->err, jobs[i]->ret, "%s", l->name);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct lane *l = w->lane;
	AUTO_FREE struct job **jobs = xcalloc(l->max, sizeof(*jobs));

	pthread_setname_np(pthread_self(), l->name);
	pthread_mutex_lock(&l->lock);
	for (;;) {
		while (list_empty(&l->waiting) && !l->stop) {
			l->idle++;
			pthread_cond_wait(&l->wake, &l->lock);
			l->idle--;
		}
		if (list_empty(&l->waiting))
			break;
		size_t n = 0;
		while (n < l->max && !list_empty(&l->waiting))
			jobs[n++] = pop(&l->waiting);
		l->nwaiting -= n;
		l->nrunning += n;
		w->since = mono_usec();
		pthread_mutex_unlock(&l->lock);
		work(l, jobs, n);
		pthread_mutex_lock(&l->lock);
		w->since = 0;
		l->nrunning -= n;
		for (size_t i = 0; i < n; i++)
			finish(l, jobs[i]);
		if (!l->nrunning && list_empty(&l->waiting))
			pthread_cond_broadcast(&l->quiet);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

static int start_worker(struct lane *l)
{
	struct worker *w = &l->workers[l->started];
	pthread_attr_t attr;
	sigset_t all, old;

	w->lane = l;
	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_sigmask(SIG_SETMASK, &all, &old);	/* a thread inherits the mask of its maker */
	int r = pthread_create(&w->thread, &attr, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	l->started += !r;
	return -r;
}

static void deliver(struct job *j)
{
	j->done(j, j->ret < 0 ? &j->err : NULL);
}

static int on_finished(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct lane *l = arg;
	bool gone = false, more = true;
	eventfd_t n;

	eventfd_read(fd, &n);
	l->gone = &gone;
	for (int i = 0; i < DELIVER && more; i++) {
		pthread_mutex_lock(&l->lock);
		struct job *j = list_empty(&l->finished) ? NULL : pop(&l->finished);
		more = !list_empty(&l->finished);
		pthread_mutex_unlock(&l->lock);
		if (!j)
			break;
		loop_what(l->label);
		deliver(j);
		if (gone)
			return 0;
	}
	l->gone = NULL;
	if (more)
		ring(l);
	return 0;
}

static struct lane *make(sd_event *ev, const char *name, unsigned threads, size_t depth, size_t max)
{
	struct lane *l = xnew(lane);

	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->wake, NULL);
	pthread_cond_init(&l->quiet, NULL);
	list_init(&l->waiting);
	list_init(&l->finished);
	l->threads = threads;
	l->depth = depth;
	l->max = max;
	l->workers = xcalloc(threads, sizeof(struct worker));
	snprintf(l->name, 16, "%s", name);		/* the kernel's limit for the name of a thread */
	snprintf(l->label, sizeof(l->label), "lane %s", l->name);
	l->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->fd < 0 || sd_event_add_io(ev, &l->src, l->fd, EPOLLIN, on_finished, l) < 0)
		abort();
	sd_event_source_set_description(l->src, l->label);
	return l;
}

struct lane *lane_new(sd_event *ev, const char *name, unsigned threads, size_t depth)
{
	return make(ev, name, threads, depth, 1);
}

struct lane *lane_new_batch(sd_event *ev, const char *name, size_t depth, size_t max,
			    void (*batch)(void *arg, struct job **jobs, size_t n), void *arg)
{
	struct lane *l = make(ev, name, 1, depth, max);
	l->batch = batch;
	l->arg = arg;
	return l;
}

/* Under the lock: since when all threads have been at the jobs that they are at now; 0: one is free. */
static int64_t busy_since(const struct lane *l)
{
	int64_t since = 0;

	for (unsigned i = 0; i < l->threads; i++) {
		if (i >= l->started || !l->workers[i].since)
			return 0;
		if (l->workers[i].since > since)
			since = l->workers[i].since;
	}
	return since;
}

static bool is_overdue(const struct lane *l, int64_t now)
{
	int64_t since = l->deadline ? busy_since(l) : 0;
	return since && (uint64_t)(now - since) >= l->deadline;
}

static void refuse(struct lane *l, struct job *j, const char *why)
{
	j->ret = fail(&j->err, ERR_UNAVAILABLE, "\"%s\" %s", l->name, why);
	j->err.retry_after_s = 1;
	finish(l, j);
}

static const char hangs[] = "does not get on: what it works at has not answered within its deadline";

/* Armed while jobs wait, so an idle lane never wakes up. */
static void on_overdue(void *arg)
{
	struct lane *l = arg;
	int64_t now = mono_usec(), since;
	bool more;

	pthread_mutex_lock(&l->lock);
	while (is_overdue(l, now) && !list_empty(&l->waiting)) {
		l->nwaiting--;
		refuse(l, pop(&l->waiting), hangs);
	}
	more = !list_empty(&l->waiting);
	since = busy_since(l);
	pthread_mutex_unlock(&l->lock);
	timer_disarm(&l->overdue);
	if (more)
		timer_arm(&l->overdue, sd_event_source_get_event(l->src),
			  since ? since + l->deadline - now : l->deadline, on_overdue, l);
}

void lane_set_deadline(struct lane *l, uint64_t usec)
{
	l->deadline = usec;
}

/* Threads are made when the first jobs come: most lanes of most hosts are never used at once. */
void lane_run(struct lane *l, struct job *j, int (*work_fn)(struct job *, struct err *),
	      void (*done)(struct job *, const struct err *))
{
	j->work = work_fn;
	j->done = done;
	j->ret = 0;
	j->err = (struct err){ 0 };
	pthread_mutex_lock(&l->lock);
	bool need = l->nwaiting >= l->idle && l->started < l->threads && !l->stop;
	if (need && start_worker(l) && !l->started) {
		refuse(l, j, "could not start a thread");
	} else if (l->stop) {
		refuse(l, j, "is closing");
	} else if (l->nwaiting >= l->depth) {
		refuse(l, j, "has too many operations waiting");
	} else if (is_overdue(l, mono_usec())) {
		refuse(l, j, hangs);
	} else {
		list_append(&l->waiting, &j->in_lane);
		l->nwaiting++;
		if (l->idle)
			pthread_cond_signal(&l->wake);
		if (l->deadline && l->nwaiting > l->idle && !l->overdue.src)
			timer_arm(&l->overdue, sd_event_source_get_event(l->src), l->deadline, on_overdue, l);
	}
	pthread_mutex_unlock(&l->lock);
}

void lane_wait(struct lane *l)
{
	pthread_mutex_lock(&l->lock);
	while (l->nrunning || !list_empty(&l->waiting))
		pthread_cond_wait(&l->quiet, &l->lock);
	pthread_mutex_unlock(&l->lock);
}

size_t lane_len(const struct lane *cl)
{
	struct lane *l = (struct lane *)cl;	/* the lock is no part of what a caller sees */
	pthread_mutex_lock(&l->lock);
	size_t n = l->nwaiting + l->nrunning;
	pthread_mutex_unlock(&l->lock);
	return n;
}

bool lane_full(const struct lane *cl)
{
	struct lane *l = (struct lane *)cl;
	pthread_mutex_lock(&l->lock);
	bool full = l->nwaiting >= l->depth;
	pthread_mutex_unlock(&l->lock);
	return full;
}

int64_t lane_stuck_usec(const struct lane *cl)
{
	struct lane *l = (struct lane *)cl;
	int64_t now = mono_usec(), oldest = now;

	pthread_mutex_lock(&l->lock);
	for (unsigned i = 0; i < l->started; i++)
		if (l->workers[i].since && l->workers[i].since < oldest)
			oldest = l->workers[i].since;
	pthread_mutex_unlock(&l->lock);
	return now - oldest;
}

void lane_free(struct lane *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_broadcast(&l->wake);
	pthread_mutex_unlock(&l->lock);
	for (unsigned i = 0; i < l->started; i++)
		pthread_join(l->workers[i].thread, NULL);
	while (!list_empty(&l->finished))	/* a done() may run another job, which is refused and ends up here */
		deliver(pop(&l->finished));
	if (l->gone)
		*l->gone = true;
	timer_disarm(&l->overdue);
	sd_event_source_disable_unref(l->src);
	close_at(&l->fd);
	pthread_cond_destroy(&l->wake);
	pthread_cond_destroy(&l->quiet);
	pthread_mutex_destroy(&l->lock);
	free(l->workers);
	free(l);
}
