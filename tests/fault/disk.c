/* disk.c: a library that is loaded before croftd and makes the disk be what it can't be made here: one whose syncs fail,
 * one that does not answer. CROFT_DISK names a folder: with "broken" in it the database's log can't be synced; a FIFO "late"
 * holds each of its syncs up, a FIFO "slow" each look at a file system's size, until somebody opens it for writing. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

int fdatasync(int fd);
int fsync(int fd);
int fstatvfs(int fd, struct statvfs *v);

static void switch_name(const char *name, char out[512])
{
	snprintf(out, 512, "%s/%s", getenv("CROFT_DISK") ?: "/nowhere", name);
}

static void hold(const char *what)
{
	char name[512];

	switch_name(what, name);
	int fd = open(name, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
}

static int is_log(int fd)
{
	char link[64], path[512];

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof path);

	return n > 4 && memcmp(path + n - 4, "-wal", 4) == 0;
}

static int sync_by(const char *function, int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, function);

	char name[512];

	if (is_log(fd)) {
		hold("late");
		switch_name("broken", name);
		if (access(name, F_OK) == 0) {
			errno = EIO;
			return -1;
		}
	}
	return real(fd);
}

int fdatasync(int fd) { return sync_by("fdatasync", fd); }
int fsync(int fd) { return sync_by("fsync", fd); }

int fstatvfs(int fd, struct statvfs *v)
{
	int (*real)(int, struct statvfs *) = (int (*)(int, struct statvfs *))dlsym(RTLD_NEXT, "fstatvfs");

	hold("slow");
	return real(fd, v);
}
