/* task_progress.c: how far a step is, and how fast; told to followers, never stored. */
#include "event.h"
#include "task.h"
#include "task_rows.h"
#include "text.h"

#define TELL_USEC	1000000
#define RATE_USEC	2000000		/* the rate is of the last two to four seconds */

static void tell(struct task *t)
{
	struct buf data AUTO_BUF = BUF_INIT(64 * 1024);
	int64_t now = mono_usec();

	if (!t->id || t->finished_usec || (t->told_usec && now - t->told_usec < TELL_USEC))
		return;
	t->told_usec = now;
	task_write_open(t, &data);
	event_pass(t->c, "task.progress", t->target, t->user, &data);
}

void task_share(struct task *t, double share)
{
	t->share = share;
	tell(t);
}

void task_bytes(struct task *t, uint64_t done, uint64_t total)
{
	struct task_mark *m = t->bytes.marks, now = { mono_usec(), done };

	t->bytes.done = done;
	t->bytes.total = total;
	if (!m[1].usec || done < m[0].bytes)		/* the first time, or it began anew */
		m[0] = m[1] = now;
	if (now.usec - m[1].usec >= RATE_USEC) {
		m[0] = m[1];
		m[1] = now;
	}
	tell(t);
}

uint64_t task_rate(const struct task *t)
{
	const struct task_mark *from = &t->bytes.marks[0];
	int64_t usec = mono_usec() - from->usec;

	return !from->usec || usec <= 0 ? 0 : (uint64_t)((double)(t->bytes.done - from->bytes) * 1e6 / (double)usec);
}
