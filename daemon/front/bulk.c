#include "bulk.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "front.h"
#include "http.h"
#include "map.h"
#include "mem.h"

enum {
	LANE_DEPTH = 8192,		/* more than all requests can need, so that a close is never refused */
	LANES_KEPT = 64,
};

struct lane_ref { struct lane *lane; unsigned users; char *key; };
static struct map *lanes;
static struct dues deadlines;

static void on_deadline(struct due *d);

static void free_idle_lanes(void)
{
	struct lane_ref *l;
	const char *key;

	for (size_t i = 0; (l = map_next(lanes, &i, &key)); ) {
		if (l->users)
			continue;
		lane_free(l->lane);
		map_del(lanes, key);
		free(l->key);
		free(l);
	}
}

static struct lane_ref *lane_get(const char *key)
{
	if (!lanes) {
		lanes = map_new();
		dues_init(&deadlines, front.ev, on_deadline);
	}
	struct lane_ref *l = map_get(lanes, key);
	if (!l) {
		if (map_len(lanes) >= LANES_KEPT)
			free_idle_lanes();
		l = xnew(lane_ref);
		l->key = xstrdup(key);
		l->lane = lane_new(front.ev, key, 1, LANE_DEPTH);
		map_set(lanes, key, l);
	}
	l->users++;
	return l;
}

struct transfer *transfer_new(struct xchg *x, int fd, const char *lane, uint64_t deadline_usec,
			      void (*ready)(struct transfer *t, struct block *b), void *of)
{
	struct transfer *t = xnew(transfer);

	t->x = x;
	t->of = of;
	t->ready = ready;
	t->fd = fd;
	t->lane = lane_get(lane ? lane : "");
	t->deadline_usec = deadline_usec;
	t->block[0].t = t->block[1].t = t;
	return t;
}

static bool is_busy(const struct transfer *t)
{
	return t->block[0].state == BLOCK_BUSY || t->block[1].state == BLOCK_BUSY;
}

static int close_work(struct job *j, struct err *e)
{
	struct transfer *t = CONTAINER(j, struct transfer, close_job);
	close(t->fd);
	return 0;
}

static void close_done(struct job *j, const struct err *e)
{
	struct transfer *t = CONTAINER(j, struct transfer, close_job);

	if (e)
		close(t->fd);		/* no thread at all: better a wait than a leak */
	t->lane->users--;
	free(t->block[0].p);
	free(t->block[1].p);
	free(t->of);
	free(t);
}

void transfer_leave(struct transfer *t)
{
	t->x = NULL;
	due_clear(&t->due);
	if (!is_busy(t))
		lane_run(t->lane->lane, &t->close_job, close_work, close_done);
}

static void fail_transfer(struct transfer *t, struct block *b, int error)
{
	if (!t->error)
		t->error = error;
	due_clear(&t->due);
	if (t->x)
		t->ready(t, b);
}

static void on_deadline(struct due *d)
{
	struct transfer *t = CONTAINER(d, struct transfer, due);
	fail_transfer(t, &t->block[0], ETIMEDOUT);
}

static void block_done(struct job *j, const struct err *e)
{
	struct block *b = CONTAINER(j, struct block, job);
	struct transfer *t = b->t;

	b->state = BLOCK_READY;
	if (e)
		b->error = EAGAIN;
	if (!t->x) {
		transfer_leave(t);
		return;
	}
	if (t->error)
		return;			/* told already; the owner leaves when its exchange ends */
	if (b->error) {
		fail_transfer(t, b, b->error);
		return;
	}
	if (is_busy(t))
		due_set(&deadlines, &t->due, t->deadline_usec);
	else
		due_clear(&t->due);
	t->ready(t, b);
}

static int write_work(struct job *j, struct err *e)
{
	struct block *b = CONTAINER(j, struct block, job);
	size_t done = 0;

	while (done < b->n) {
		ssize_t r = pwrite(b->t->fd, b->p + done, b->n - done, b->at + done);
		if (r < 0 && errno != EINTR) {
			b->error = errno;
			return 0;
		}
		done += r > 0 ? r : 0;
	}
	/* Start writing to the disk now, so that the closing sync finds little to do. */
	sync_file_range(b->t->fd, b->at, b->n, SYNC_FILE_RANGE_WRITE);
	return 0;
}

static int read_work(struct job *j, struct err *e)
{
	struct block *b = CONTAINER(j, struct block, job);

	b->n = 0;
	while (b->n < b->cap) {
		ssize_t r = pread(b->t->fd, b->p + b->n, b->cap - b->n, b->at + b->n);
		if (r < 0 && errno == ESPIPE)
			r = read(b->t->fd, b->p + b->n, b->cap - b->n);
		if (r < 0 && errno != EINTR) {
			b->error = errno;
			return 0;
		}
		if (r == 0)
			break;
		b->n += r > 0 ? r : 0;
	}
	return 0;
}

static void start(struct transfer *t, struct block *b, int (*work)(struct job *, struct err *))
{
	if (t->error)
		return;
	if (t->deadline_usec && lane_stuck_usec(t->lane->lane) > (int64_t)t->deadline_usec) {
		fail_transfer(t, b, ETIMEDOUT);
		return;
	}
	if (t->deadline_usec && !is_busy(t))
		due_set(&deadlines, &t->due, t->deadline_usec);
	b->state = BLOCK_BUSY;
	b->error = 0;
	b->off = 0;
	lane_run(t->lane->lane, &b->job, work, block_done);
}

void transfer_write(struct transfer *t, struct block *b)
{
	start(t, b, write_work);
}

void transfer_read(struct transfer *t, struct block *b)
{
	start(t, b, read_work);
}
