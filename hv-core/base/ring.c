#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"

struct header { char magic[8]; uint32_t format, unused; uint64_t size, total; char rest[32]; };
_Static_assert(sizeof(struct header) == 64, "the header is frozen");
static const char magic[8] = "CROFTRNG";

int ring_create(int dirfd, const char *name, uint64_t size, struct ring *ret)
{
	struct header h = { .format = 1, .size = size };
	if (size < RING_MIN || size > RING_MAX)
		return -ERANGE;
	if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	AUTO_CLOSE int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int r = posix_fallocate(fd, 0, sizeof(h) + size);	/* so that no later write can lack the space */
	if (r)
		return -r;
	memcpy(h.magic, magic, sizeof(magic));
	if (pwrite(fd, &h, sizeof(h), 0) != sizeof(h))
		return -EIO;
	*ret = (struct ring){ .fd = TAKE_FD(fd), .size = size };
	return 0;
}

int ring_open(int dirfd, const char *name, bool write, struct ring *ret)
{
	struct header h;
	struct stat st;
	AUTO_CLOSE int fd = openat(dirfd, name, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || pread(fd, &h, sizeof(h), 0) != sizeof(h) || memcmp(h.magic, magic, sizeof(magic)) ||
	    h.format != 1 || h.size < RING_MIN || h.size > RING_MAX || h.total > INT64_MAX ||
	    (uint64_t)st.st_size < sizeof(h) + h.size)
		return -EBADMSG;
	*ret = (struct ring){ .fd = TAKE_FD(fd), .size = h.size, .total = h.total };
	return 0;
}

void ring_close(struct ring *r)
{
	close_at(&r->fd);
}

int ring_add(struct ring *r, const void *p, size_t n)
{
	int ret = 0;
	const char *from = p;
	if (n > r->size) {
		from += n - r->size;
		r->total += n - r->size;
		n = r->size;
	}
	for (size_t part; n > 0; from += part, n -= part) {
		uint64_t at = r->total % r->size;
		part = n < r->size - at ? n : r->size - at;
		if (pwrite(r->fd, from, part, sizeof(struct header) + at) != (ssize_t)part)
			ret = -EIO;
		r->total += part;
	}
	if (pwrite(r->fd, &r->total, sizeof(r->total), offsetof(struct header, total)) != sizeof(r->total))
		ret = -EIO;
	return ret;
}

uint64_t ring_oldest(const struct ring *r)
{
	return r->total > r->size ? r->total - r->size : 0;
}

size_t ring_get(const struct ring *r, uint64_t *cursor, void *out, size_t cap, uint64_t *skipped)
{
	uint64_t oldest = ring_oldest(r);
	*skipped = 0;
	if (*cursor < oldest) {
		*skipped = oldest - *cursor;
		*cursor = oldest;
	}
	if (*cursor >= r->total)
		return 0;
	uint64_t at = *cursor % r->size, n = r->total - *cursor;
	if (n > cap)
		n = cap;
	if (n > r->size - at)
		n = r->size - at;
	ssize_t got = pread(r->fd, out, n, sizeof(struct header) + at);
	if (got <= 0)
		return 0;
	*cursor += got;
	return got;
}
