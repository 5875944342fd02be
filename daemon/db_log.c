/* A log is a header of 32 bytes, and frames of 24 and a page. Numbers are big-endian, but the words that are summed up are as
 * the magic says. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "db_log.h"

#define PAGE	4096		/* SQLite's, which we leave as it is */

struct sum { uint32_t a, b; };
struct wal { const uint8_t *p; size_t frames, frame; bool big; };

static uint32_t word(const uint8_t *p, bool big)
{
	return big ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]
		   : (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static struct sum add(struct sum s, const uint8_t *p, size_t n, bool big)
{
	for (size_t i = 0; i + 8 <= n; i += 8) {
		s.a += word(p + i, big) + s.b;
		s.b += word(p + i + 4, big) + s.a;
	}
	return s;
}

static const uint8_t *frame_at(const struct wal *w, size_t i) { return w->p + 32 + i * w->frame; }
static bool commits(const struct wal *w, size_t i) { return word(frame_at(w, i) + 4, true) != 0; }
static struct sum stored(const struct wal *w, size_t i)
{
	return (struct sum){ word(frame_at(w, i) + 16, true), word(frame_at(w, i) + 20, true) };
}
static struct sum computed(const struct wal *w, size_t i, struct sum before)
{
	before = add(before, frame_at(w, i), 8, w->big);
	return add(before, frame_at(w, i) + 24, w->frame - 24, w->big);
}

/* Frames from @i on that follow @before without a break, all of the log's @salt. */
static size_t chain(const struct wal *w, size_t i, struct sum before, const uint8_t *salt, unsigned *ret_commits)
{
	size_t n = 0;

	*ret_commits = 0;
	for (; i < w->frames && memcmp(frame_at(w, i) + 8, salt, 8) == 0; i++, n++) {
		struct sum s = computed(w, i, before), is = stored(w, i);

		if (s.a != is.a || s.b != is.b)
			break;
		*ret_commits += commits(w, i);
		before = is;
	}
	return n;
}

static struct sum head_sum(const struct wal *w) { return add((struct sum){ 0, 0 }, w->p, 24, w->big); }
static bool has_head(const struct wal *w)
{
	struct sum s = head_sum(w);

	return s.a == word(w->p + 24, true) && s.b == word(w->p + 28, true);
}

static unsigned beyond(const struct wal *w)
{
	struct sum start = head_sum(w), before;
	const uint8_t *salt = w->p + 16;
	unsigned good, by_stored, by_computed;
	bool head = has_head(w);
	size_t n = head ? chain(w, 0, start, salt, &good) : 0;

	if (n >= w->frames)
		return 0;
	if (!head)
		salt = frame_at(w, w->frames > 1) + 8;
	before = n ? stored(w, n - 1) : start;
	chain(w, n + 1, stored(w, n), salt, &by_stored);
	chain(w, n + 1, computed(w, n, before), salt, &by_computed);
	return by_stored > by_computed ? by_stored : by_computed;
}

static struct wal wal_of(const void *log, size_t n)
{
	struct wal w = { .p = log, .frame = 24 + PAGE };

	if (n >= 32) {
		w.big = w.p[3] & 1;
		w.frames = (n - 32) / w.frame;
	}
	return w;
}

unsigned db_log_lost(const void *log, size_t n)
{
	struct wal w = wal_of(log, n);

	return w.frames < 2 ? 0 : beyond(&w);
}

/* How many frames there are up to the end of the last transaction that is whole. */
static size_t committed(const struct wal *w)
{
	unsigned ignored;
	size_t n = w->frames && has_head(w) ? chain(w, 0, head_sum(w), w->p + 16, &ignored) : 0;

	while (n && !commits(w, n - 1))
		n--;
	return n;
}

size_t db_log_size(const void *log, size_t n)
{
	struct wal w = wal_of(log, n);
	size_t frames = committed(&w);

	return frames ? (size_t)word(frame_at(&w, frames - 1) + 4, true) * PAGE : 0;
}

void db_log_apply(const void *log, size_t n, uint8_t *db, size_t size)
{
	struct wal w = wal_of(log, n);
	size_t frames = committed(&w);

	for (size_t i = 0; i < frames; i++) {
		size_t page = word(frame_at(&w, i), true);

		if (page && page <= size / PAGE)	/* not what a later transaction has cut off */
			memcpy(db + (page - 1) * PAGE, frame_at(&w, i) + 24, PAGE);
	}
}
