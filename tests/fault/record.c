/* record.c: a library that is loaded before croftd and writes down what a disk would see of it: CROFT_RECORD names the
 * file. Files and folders go by inode number, which the tmpfs of the test never gives twice; who reads it (powerloss.py)
 * knows the home's, and forgets the others. A record is a line, and the bytes that its last number says:
 *
 *	create INO 0			a file (a name comes by link)	mkdir INO 0			a folder
 *	link INO 0 DIR NAME		a name for it			unlink 0 0 DIR NAME		rmdir, too
 *	rename INO 0 DIR NAME DIR NAME	from, to			write INO N OFFSET + bytes
 *	truncate INO 0 SIZE		fsync INO N + bytes		what others wrote meanwhile is in the bytes: qemu-img in
 *					its jail and croft-front don't have this library. N is 0 for the database's files.
 *
 * With CROFT_RECORD_DIE=N croftd is killed right after the N-th record.
 * One lock is held over each call and its record: the order is the one in which things happened. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))
#define SNAPSHOT_MAX (16 << 20)

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pid_t self;
static int out = -1;
static dev_t dev;
static long left;		/* records until it dies, or 0 */

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("CROFT_RECORD"), *home = getenv("CROFT_RECORD_HOME");
	struct stat st;

	if (!path || !home || stat(home, &st) < 0)
		return;
	out = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
	dev = st.st_dev;
	self = getpid();
	left = getenv("CROFT_RECORD_DIE") ? strtol(getenv("CROFT_RECORD_DIE"), NULL, 10) : 0;
}

/* A child between fork and exec shares the descriptor: it isn't croftd. */
static bool ours(void) { return out >= 0 && getpid() == self; }

static void put(const void *bytes, size_t n, const char *format, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, format);
	int len = vsnprintf(line, sizeof line, format, ap);
	va_end(ap);
	struct iovec v[] = { { line, (size_t)len }, { (void *)bytes, n } };
	int saved = errno;

	if (syscall(SYS_writev, out, v, n ? 2 : 1) != (long)((size_t)len + n))
		abort();
	if (left && --left == 0)
		kill(self, SIGKILL);
	errno = saved;
}

static bool look(int fd, struct stat *st) { return fstat(fd, st) == 0 && st->st_dev == dev; }

/* The folder that a path's last part is in, and that part. 0: none of ours. */
static uint64_t parent(int dirfd, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	char dir[4096] = ".";
	struct stat st;

	*name = slash ? slash + 1 : path;
	if (slash)
		snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
	return fstatat(dirfd, dir, &st, 0) == 0 && st.st_dev == dev ? st.st_ino : 0;
}

static uint64_t ino_at(int dirfd, const char *path)
{
	struct stat st;

	return fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == dev ? st.st_ino : 0;
}

/* ---- opening */

static void opened(int dirfd, const char *path, int flags, bool was, int fd)
{
	struct stat st;
	const char *name;
	uint64_t dir = parent(dirfd, path, &name);

	if (!look(fd, &st) || !S_ISREG(st.st_mode))
		return;
	if ((flags & O_TMPFILE) == O_TMPFILE) {
		put(NULL, 0, "create %lu 0\n", st.st_ino);
	} else if (flags & O_CREAT && !was && dir) {
		put(NULL, 0, "create %lu 0\n", st.st_ino);
		put(NULL, 0, "link %lu 0 %lu %s\n", st.st_ino, dir, name);
	} else if (flags & O_TRUNC) {
		put(NULL, 0, "truncate %lu 0 0\n", st.st_ino);
	}
}

static bool changes(int flags) { return flags & (O_CREAT | O_TRUNC) || (flags & O_TMPFILE) == O_TMPFILE; }

static int open_by(int dirfd, const char *path, int flags, mode_t mode)
{
	if (!ours() || !changes(flags))
		return (int)syscall(SYS_openat, dirfd, path, flags, mode);
	pthread_mutex_lock(&lock);
	bool was = ino_at(dirfd, path) != 0;
	int fd = (int)syscall(SYS_openat, dirfd, path, flags, mode);

	if (fd >= 0)
		opened(dirfd, path, flags, was, fd);
	pthread_mutex_unlock(&lock);
	return fd;
}

static mode_t mode_of(int flags, va_list ap) { return changes(flags) ? va_arg(ap, mode_t) : 0; }
#define OPEN(name) EXPORT int name(const char *path, int flags, ...) \
{ va_list ap; va_start(ap, flags); mode_t m = mode_of(flags, ap); va_end(ap); return open_by(AT_FDCWD, path, flags, m); }
#define OPENAT(name) EXPORT int name(int dirfd, const char *path, int flags, ...) \
{ va_list ap; va_start(ap, flags); mode_t m = mode_of(flags, ap); va_end(ap); return open_by(dirfd, path, flags, m); }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* glibc has no openat2: ours comes by here. */
EXPORT long syscall(long number, ...);
EXPORT long syscall(long number, ...)
{
	static long (*real)(long, ...);
	long a[6];
	va_list ap;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (!real)
		real = REAL("syscall", long (*)(long, ...));
	const struct open_how *how = number == SYS_openat2 ? (void *)a[2] : NULL;

	if (!how || !ours() || !changes((int)how->flags))
		return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	pthread_mutex_lock(&lock);
	bool was = ino_at((int)a[0], (char *)a[1]) != 0;
	long fd = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);

	if (fd >= 0)
		opened((int)a[0], (char *)a[1], (int)how->flags, was, (int)fd);
	pthread_mutex_unlock(&lock);
	return fd;
}

/* ---- bytes. at < 0: where the descriptor stands */

static ssize_t written(int fd, const void *p, ssize_t n, off_t at)
{
	struct stat st;

	if (n > 0 && look(fd, &st) && S_ISREG(st.st_mode))
		put(p, (size_t)n, "write %lu %zd %ld\n", st.st_ino, n, at >= 0 ? at : lseek(fd, 0, SEEK_CUR) - n);
	return n;
}

/* The call; then, when it was ours, what there is to tell of its result r. */
#define LOCKED(type, call, ...) do { if (!ours()) return (type)call; pthread_mutex_lock(&lock); type r = (type)call; \
	__VA_ARGS__; pthread_mutex_unlock(&lock); return r; } while (0)

EXPORT ssize_t write(int fd, const void *p, size_t n)
{
	LOCKED(ssize_t, syscall(SYS_write, fd, p, n), written(fd, p, r, -1));
}
static ssize_t pwrite_by(int fd, const void *p, size_t n, off_t at)
{
	LOCKED(ssize_t, syscall(SYS_pwrite64, fd, p, n, at), written(fd, p, r, at));
}
EXPORT ssize_t pwrite(int fd, const void *p, size_t n, off_t at) { return pwrite_by(fd, p, n, at); }
EXPORT ssize_t pwrite64(int fd, const void *p, size_t n, off_t at) { return pwrite_by(fd, p, n, at); }

static int truncate_by(int fd, off_t size)
{
	struct stat st;

	LOCKED(int, syscall(SYS_ftruncate, fd, size),
	       if (r == 0 && look(fd, &st)) put(NULL, 0, "truncate %lu 0 %ld\n", st.st_ino, size));
}
EXPORT int ftruncate(int fd, off_t size) { return truncate_by(fd, size); }
EXPORT int ftruncate64(int fd, off_t size) { return truncate_by(fd, size); }

static void synced(int fd)
{
	static char bytes[SNAPSHOT_MAX];
	char link[64], path[4096] = "";
	struct stat st;
	ssize_t n = 0;

	if (!look(fd, &st) || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
		return;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	if (readlink(link, path, sizeof path - 1) < 0)
		return;
	if (S_ISREG(st.st_mode) && st.st_size <= SNAPSHOT_MAX && !strstr(path, "/croft.db"))
		n = pread(fd, bytes, (size_t)st.st_size, 0);
	put(bytes, n > 0 ? (size_t)n : 0, "fsync %lu %zd\n", st.st_ino, n > 0 ? n : 0);
}
EXPORT int fsync(int fd) { LOCKED(int, syscall(SYS_fsync, fd), if (r == 0) synced(fd)); }
EXPORT int fdatasync(int fd) { LOCKED(int, syscall(SYS_fdatasync, fd), if (r == 0) synced(fd)); }

/* ---- names */

static void named(const char *what, int dirfd, const char *path)
{
	const char *name;
	uint64_t dir = parent(dirfd, path, &name);

	if (dir)
		put(NULL, 0, "%s %lu 0 %lu %s\n", what, ino_at(dirfd, path), dir, name);
}

EXPORT int mkdirat(int dirfd, const char *path, mode_t mode)
{
	LOCKED(int, syscall(SYS_mkdirat, dirfd, path, mode), if (r == 0) {
		put(NULL, 0, "mkdir %lu 0\n", ino_at(dirfd, path));
		named("link", dirfd, path);
	});
}
EXPORT int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
EXPORT int linkat(int from, const char *a, int to, const char *b, int flags)
{
	LOCKED(int, syscall(SYS_linkat, from, a, to, b, flags), if (r == 0) named("link", to, b));
}
EXPORT int unlinkat(int dirfd, const char *path, int flags)
{
	LOCKED(int, syscall(SYS_unlinkat, dirfd, path, flags), if (r == 0) named("unlink", dirfd, path));
}
EXPORT int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
EXPORT int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

static void renamed(int from, const char *a, int to, const char *b)
{
	const char *aname, *bname;
	uint64_t adir = parent(from, a, &aname), bdir = parent(to, b, &bname);

	if (adir && bdir)
		put(NULL, 0, "rename %lu 0 %lu %s %lu %s\n", ino_at(to, b), adir, aname, bdir, bname);
}

EXPORT int renameat2(int from, const char *a, int to, const char *b, unsigned flags)
{
	LOCKED(int, syscall(SYS_renameat2, from, a, to, b, flags), if (r == 0) renamed(from, a, to, b));
}
EXPORT int renameat(int from, const char *a, int to, const char *b) { return renameat2(from, a, to, b, 0); }
EXPORT int rename(const char *a, const char *b) { return renameat2(AT_FDCWD, a, AT_FDCWD, b, 0); }
