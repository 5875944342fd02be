#include "file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "mem.h"

enum { TREE_DEPTH = 32, CHUNK = 16 << 10 };

static int open2(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC, .mode = flags & (O_CREAT | O_TMPFILE) & ~O_DIRECTORY ? mode & 07777 : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | resolve,
	};
	long r;

	for (int tries = 0; tries < 16; tries++) {	/* EAGAIN: something was renamed while the kernel looked */
		r = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
		if (r >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return r < 0 ? -errno : r;
}

int file_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	return open2(dirfd, path, flags, mode, 0);
}

/* AT_FDCWD stands for paths of our own configuration, which may be absolute and pass through links. */
static int open_trusted(int dirfd, const char *path, int flags)
{
	if (dirfd != AT_FDCWD)
		return open2(dirfd, path, flags, 0, 0);
	int fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Open the folder that holds the last part of @path, and tell that part. */
static int open_parent(int dirfd, const char *path, const char **ret_base)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];

	*ret_base = slash ? slash + 1 : path;
	if (!slash)
		return open_trusted(dirfd, ".", O_RDONLY | O_DIRECTORY);
	if (!slash[1] || (size_t)(slash - path) >= sizeof(dir))
		return -EINVAL;
	memcpy(dir, path, slash - path);
	dir[slash - path] = 0;
	return open_trusted(dirfd, dir[0] ? dir : "/", O_RDONLY | O_DIRECTORY);
}

int file_open_dir(int dirfd, const char *path, bool create, mode_t mode)
{
	const char *base;
	int fd = open_trusted(dirfd, path, O_RDONLY | O_DIRECTORY);

	if (fd != -ENOENT || !create)
		return fd;
	AUTO_CLOSE int parent = open_parent(dirfd, path, &base);
	if (parent < 0)
		return parent;
	if (mkdirat(parent, base, mode) ? errno != EEXIST : fsync(parent))
		return -errno;
	return open2(parent, base, O_RDONLY | O_DIRECTORY, 0, 0);
}

/* mkdir, and its name is there after a power loss, too. */
static int make_dir(const char *path, mode_t mode)
{
	const char *base;
	struct stat st;

	if (mkdir(path, mode))
		return errno == EEXIST || (errno == EROFS && !stat(path, &st)) ? 0 : -errno;
	AUTO_CLOSE int parent = open_parent(AT_FDCWD, path, &base);

	if (parent == -EACCES)		/* one that we may write to, and not read */
		return 0;
	return parent < 0 ? parent : file_sync_dir(parent);
}

int file_try(const char *path)
{
	AUTO_CLOSE int fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : 0;
}

int file_mkdirs(const char *path, mode_t mode)
{
	char part[PATH_MAX];
	struct stat st;
	size_t n = strlen(path);
	int r;

	if (!n || n >= sizeof(part))
		return n ? -ENAMETOOLONG : -ENOENT;
	for (size_t i = 1; i <= n; i++) {
		if (path[i] && path[i] != '/')
			continue;
		memcpy(part, path, i);
		part[i] = 0;
		r = make_dir(part, mode);
		if (r)
			return r;
	}
	if (stat(path, &st))
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* A descriptor that came from elsewhere may stand anywhere: read by position where there is one. */
static ssize_t read_some(int fd, void *p, size_t n, off_t at)
{
	for (;;) {
		ssize_t r = pread(fd, p, n, at);
		if (r < 0 && errno == ESPIPE)
			r = read(fd, p, n);
		if (r >= 0 || errno != EINTR)
			return r < 0 ? -errno : r;
	}
}

int file_read_fd(int fd, size_t max, char **ret, size_t *ret_len)
{
	struct stat st;
	size_t cap = 4096, len = 0;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > max)
		return -EFBIG;
	if (S_ISREG(st.st_mode) && st.st_size)		/* 0 in /proc, whatever is in it */
		cap = st.st_size + 2;
	AUTO_FREE char *data = xmalloc(cap);
	for (;;) {
		ssize_t r = read_some(fd, data + len, cap - len - 1, len);
		if (r < 0)
			return r;
		len += r;
		if (len > max)
			return -EFBIG;
		if (!r)
			break;
		if (len + 1 == cap)
			data = xrealloc(data, cap *= 2);
	}
	data[len] = 0;
	if (ret_len)
		*ret_len = len;
	*ret = TAKE(data);
	return 0;
}

int file_read_at(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len)
{
	struct stat st;
	/* O_NONBLOCK: a pipe must not stop us */
	AUTO_CLOSE int fd = open_trusted(dirfd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return fd;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	return file_read_fd(fd, max, ret, ret_len);
}

int file_write_all(int fd, const void *p, size_t n)
{
	while (n) {
		ssize_t r = write(fd, p, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		p = (const char *)p + r;
		n -= r;
	}
	return 0;
}

int file_sync_dir(int dirfd)
{
	return fsync(dirfd) ? -errno : 0;
}

static int write_synced(int fd, const void *data, size_t n, mode_t mode)
{
	int r = file_write_all(fd, data, n);

	if (!r && (fchmod(fd, mode) || fsync(fd)))
		r = -errno;
	return r;
}

/* A file without a name until it is written: what a crash interrupts leaves nothing behind. -EEXIST: @name is there. */
static int write_nameless(int dir, const char *name, const void *data, size_t n, mode_t mode, int *ret_fd)
{
	char self[32];
	AUTO_CLOSE int fd = open2(dir, ".", O_WRONLY | O_TMPFILE, 0600, 0);

	if (fd < 0)
		return -EOPNOTSUPP;		/* NFS and others: whatever it is, the other way tells it */
	int r = write_synced(fd, data, n, mode);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (!r && linkat(AT_FDCWD, self, dir, name, AT_SYMLINK_FOLLOW))
		r = errno == EEXIST ? -EEXIST : -EOPNOTSUPP;
	if (r == -EEXIST)
		*ret_fd = TAKE_FD(fd);
	return r;
}

static int write_named(int dir, const char *name, const void *data, size_t n, mode_t mode)
{
	AUTO_CLOSE int fd = open2(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600, 0);

	return fd < 0 ? fd : write_synced(fd, data, n, mode);
}

/* Over what has that name now, by way of a temporary one. */
static int replace(int dir, const char *temp, const char *base)
{
	/* ENOENT: somebody who publishes the same file was quicker, and has taken ours along. */
	return renameat(dir, temp, dir, base) && errno != ENOENT ? -errno : 0;
}

int file_publish_at(int dirfd, const char *path, const void *data, size_t n, mode_t mode)
{
	const char *base;
	char temp[NAME_MAX + 1], self[32];
	AUTO_CLOSE int dir = open_parent(dirfd, path, &base), fd = -1;

	if (dir < 0)
		return dir;
	int r = write_nameless(dir, base, data, n, mode, &fd);
	if (r && r != -EEXIST && r != -EOPNOTSUPP)
		return r;
	if (r) {
		snprintf(temp, sizeof(temp), FILE_TEMP "%.200s", base);
		unlinkat(dir, temp, 0);		/* of one that the power ended: the next who publishes clears it away */
		snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
		if (fd < 0)
			r = write_named(dir, temp, data, n, mode);
		else
			r = linkat(AT_FDCWD, self, dir, temp, AT_SYMLINK_FOLLOW) ? -errno : 0;
		if (!r)
			r = replace(dir, temp, base);
		if (r)
			unlinkat(dir, temp, 0);
	}
	return r ? r : file_sync_dir(dir);
}

int file_rename_new(int dirfd, const char *from, const char *to)
{
	if (!renameat2(dirfd, from, dirfd, to, RENAME_NOREPLACE))
		return 0;
	if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
		return -errno;
	if (linkat(dirfd, from, dirfd, to, 0))
		return -errno;
	return unlinkat(dirfd, from, 0) ? -errno : 0;
}

int file_seal(int fd, mode_t mode)
{
	if (fchmod(fd, mode) || lseek(fd, 0, SEEK_SET) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL))
		return -errno;
	return 0;
}

int file_memfd(const char *name, const void *data, size_t n, mode_t mode)
{
	AUTO_CLOSE int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	int r = file_write_all(fd, data, n);
	if (!r)
		r = file_seal(fd, mode);
	return r ? r : TAKE_FD(fd);
}

int file_memfd_from(const char *name, int from, size_t max, mode_t mode)
{
	char chunk[CHUNK];
	size_t len = 0;
	ssize_t n;
	int r;
	AUTO_CLOSE int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	while ((n = read_some(from, chunk, sizeof(chunk), len)) > 0) {
		len += n;
		if (len > max)
			return -EFBIG;
		r = file_write_all(fd, chunk, n);
		if (r)
			return r;
	}
	if (n < 0)
		return n;
	r = file_seal(fd, mode);
	return r ? r : TAKE_FD(fd);
}

int fd_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ? -errno : 0;
}

int fd_cloexec(int fd, bool on)
{
	return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) ? -errno : 0;
}

static int remove_any(int dirfd, const char *name, unsigned depth);

static int empty_dir(int fd, unsigned depth)
{
	struct dirent *de;
	DIR *dir = fdopendir(fd);
	int r = 0;

	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while (!r && (errno = 0, de = readdir(dir)))
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			r = remove_any(fd, de->d_name, depth);
	if (!r)
		r = -errno;
	closedir(dir);
	return r;
}

static int remove_any(int dirfd, const char *name, unsigned depth)
{
	if (!unlinkat(dirfd, name, 0) || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (!depth)
		return -ELOOP;
	for (int tries = 0; tries < 4; tries++) {	/* some file systems skip entries when a folder shrinks */
		int fd = open2(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, RESOLVE_NO_XDEV);
		if (fd < 0)
			return fd == -ENOTDIR ? -EPERM : fd;
		int r = empty_dir(fd, depth - 1);
		if (r)
			return r;
		if (!unlinkat(dirfd, name, AT_REMOVEDIR) || errno == ENOENT)
			return 0;
		if (errno != ENOTEMPTY && errno != EEXIST)
			return -errno;
	}
	return -ENOTEMPTY;
}

int file_remove_tree(int dirfd, const char *name)
{
	if (!*name || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
	return remove_any(dirfd, name, TREE_DEPTH);
}
