#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "db_copy.h"
#include "db_log.h"
#include "db_salvage.h"
#include "file.h"
#include "mem.h"

#define HEADER	100		/* of a database: 18 and 19 say whether it has a log (2) or not (1) */

static int fill(int fd, uint8_t *p, size_t n)
{
	for (size_t at = 0; at < n; ) {
		ssize_t r = pread(fd, p + at, n - at, (off_t)at);

		if (r == 0 || (r < 0 && errno != EINTR))
			return r < 0 ? -errno : -EIO;
		at += r < 0 ? 0 : (size_t)r;
	}
	return 0;
}

struct image { uint8_t *bytes; size_t len, room; };	/* in SQLite's memory */

/* The file's content, with room for @size bytes at least. */
static int read_image(const char *path, size_t size, struct image *m, struct err *e)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail_errno(e, errno, "open the database %s", path);
	m->len = (size_t)st.st_size;
	m->room = m->len > size ? m->len : size;
	m->bytes = sqlite3_malloc64(m->room + 1);
	int r = m->bytes ? fill(fd, m->bytes, m->len) : -ENOMEM;

	if (r == 0) {
		memset(m->bytes + m->len, 0, m->room - m->len);
		return 0;
	}
	sqlite3_free(m->bytes);
	return fail_errno(e, r, "read the database %s", path);
}

static int open_image(const char *path, struct image *m, sqlite3 **ret, struct err *e)
{
	sqlite3 *sql = NULL;
	int rc = sqlite3_open_v2(":memory:", &sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);

	if (m->len >= HEADER && m->bytes[18] == 2 && m->bytes[19] == 2)
		m->bytes[18] = m->bytes[19] = 1;
	if (rc == SQLITE_OK && m->len)	/* it takes the memory, also when it fails */
		rc = sqlite3_deserialize(sql, "main", m->bytes, (sqlite3_int64)m->len, (sqlite3_int64)m->room,
					 SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE);
	else
		sqlite3_free(m->bytes);
	if (rc == SQLITE_OK) {
		*ret = sql;
		return 0;
	}
	int r = fail(e, ERR_UNAVAILABLE, "the database %s cannot be read: %s", path, sqlite3_errmsg(sql));

	sqlite3_close_v2(sql);
	return r;
}

int db_copy(const char *path, sqlite3 **ret, struct err *e)
{
	AUTO_FREE char *fresh = xasprintf("%s.new", path), *wal = xasprintf("%s-wal", path), *log = NULL;
	bool there = access(path, F_OK) == 0;	/* else a salvage was cut off, and the log is the damaged one's: db_settle */
	struct image m = {};
	size_t log_len = 0;
	int r = there && access(wal, F_OK) == 0 ? file_read_at(AT_FDCWD, wal, DB_LOG_MAX, &log, &log_len) : 0;

	if (r < 0)
		return fail_errno(e, r, "read the database's log %s", wal);
	size_t size = db_log_size(log, log_len);

	r = read_image(there || access(fresh, F_OK) < 0 ? path : fresh, size, &m, e);
	if (r < 0)
		return r;
	if (size) {
		db_log_apply(log, log_len, m.bytes, size);
		m.len = size;
	}
	return open_image(path, &m, ret, e);
}
