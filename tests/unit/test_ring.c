// LINK: hv-core/base
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "file.h"
#include "mem.h"
#include "ring.h"
#include "t.h"

static char home[] = "/tmp/croft-ring-XXXXXX";
static int dir;

static void enter(void)
{
	ok(mkdtemp(home));
	dir = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void leave(void)
{
	unlinkat(dir, "r", 0);
	close(dir);
	rmdir(home);
}

/* Everything from *at on, with what was skipped before it. */
static size_t all(const struct ring *r, uint64_t *at, char *out, uint64_t *skipped)
{
	size_t len = 0;
	uint64_t s;
	*skipped = 0;
	for (size_t n; (n = ring_get(r, at, out + len, 1000, &s)) > 0; len += n)
		*skipped += s;
	out[len] = 0;
	return len;
}

/* Against the plainest model there is: remember everything. */
TEST(any_sizes_like_the_model)
{
	enum { SIZE = RING_MIN, TOTAL = 20 * SIZE };
	static char said[TOTAL], out[TOTAL + 1];
	struct ring r;
	uint64_t cursor = 0, skipped;
	size_t total = 0;
	unsigned seed = 1;
	enter();
	eq_int(ring_create(dir, "r", SIZE, &r), 0);
	while (total < TOTAL - 3 * SIZE) {
		size_t n = rand_r(&seed) % (rand_r(&seed) % 8 ? 300 : 3 * SIZE);
		for (size_t i = 0; i < n; i++)
			said[total + i] = (char)rand_r(&seed);
		eq_int(ring_add(&r, said + total, n), 0);
		total += n;
		eq_int(r.total, total);
		eq_int(ring_oldest(&r), total > SIZE ? total - SIZE : 0);
		if (rand_r(&seed) % 5 == 0) {		/* a reader that comes now and then */
			uint64_t was = cursor;
			size_t got = all(&r, &cursor, out, &skipped);
			eq_int(was + skipped + got, total);
			ok(!memcmp(out, said + total - got, got));
		}
	}
	ring_close(&r);
	leave();
}

TEST(survives_its_writer)
{
	struct ring r;
	char out[RING_MIN + 1];
	uint64_t at = 0, skipped;
	enter();
	eq_int(ring_create(dir, "r", RING_MIN, &r), 0);
	ring_add(&r, "before ", 7);
	ring_close(&r);
	eq_int(ring_open(dir, "r", true, &r), 0);
	ring_add(&r, "after", 5);
	ring_close(&r);
	eq_int(ring_open(dir, "r", false, &r), 0);
	eq_int(all(&r, &at, out, &skipped), 12);
	eq_str(out, "before after");
	eq_int(skipped, 0);
	eq_int(ring_add(&r, "x", 1), -EIO);
	ring_close(&r);
	leave();
}

TEST(what_is_no_ring)
{
	struct ring r;
	enter();
	eq_int(ring_open(dir, "r", false, &r), -ENOENT);
	eq_int(ring_create(dir, "r", 100, &r), -ERANGE);
	eq_int(ring_create(dir, "r", UINT64_MAX, &r), -ERANGE);
	eq_int(ring_create(dir, "r", RING_MIN, &r), 0);
	ring_close(&r);
	static const struct { off_t at; uint64_t v; size_t n; } bad[] = {
		{ 0, 0, 1 }, { 8, 2, 4 }, { 16, 0, 8 }, { 16, UINT64_MAX, 8 }, { 16, RING_MIN + 1, 8 }, { 24, UINT64_MAX, 8 },
	};
	for (size_t i = 0; i < COUNT(bad); i++) {
		char good[8];
		int fd = openat(dir, "r", O_RDWR | O_CLOEXEC);
		ok(pread(fd, good, bad[i].n, bad[i].at) == (ssize_t)bad[i].n);
		ok(pwrite(fd, &bad[i].v, bad[i].n, bad[i].at) == (ssize_t)bad[i].n);
		eq_int(ring_open(dir, "r", false, &r), -EBADMSG);
		ok(pwrite(fd, good, bad[i].n, bad[i].at) == (ssize_t)bad[i].n);
		close(fd);
	}
	eq_int(ring_open(dir, "r", false, &r), 0);
	ring_close(&r);
	ok(truncate(home, 0) < 0);
	unlinkat(dir, "r", 0);
	ok(mkfifoat(dir, "r", 0600) == 0);		/* doesn't wait for a writer */
	eq_int(ring_open(dir, "r", false, &r), -EBADMSG);
	unlinkat(dir, "r", 0);
	ok(symlinkat("/etc/passwd", dir, "r") == 0);
	eq_int(ring_open(dir, "r", false, &r), -ELOOP);
	leave();
}

T_MAIN
