#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "db.h"
#include "file.h"
#include "home.h"
#include "log.h"
#include "mem.h"
#include "text.h"

#define END_MS	15000	/* one that can end does so within 10 s: see close_state */
#define LOCK_TRIES 250	/* of 20 ms */
#define KILL_MS	5000

int home_open(struct croft *c, struct err *e)
{
	int r = file_mkdirs(c->opt.home, 0755);

	if (r < 0)
		return fail_errno(e, r, "make the folder %s", c->opt.home);
	c->home = realpath(c->opt.home, NULL);
	if (!c->home)
		return fail_errno(e, errno, "find the folder %s", c->opt.home);
	c->opt.installed = strcmp(c->home, "/var/lib/croft") == 0;
	c->run = c->opt.installed ? xstrdup("/run/croft") : xasprintf("%s/run", c->home);
	c->home_fd = open(c->home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->home_fd < 0)
		return fail_errno(e, errno, "open %s", c->home);
	r = file_mkdirs(c->run, c->opt.installed ? 0755 : 0700);
	if (r < 0)
		return fail_errno(e, r, "make the folder %s", c->run);
	c->run_fd = open(c->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return c->run_fd < 0 ? fail_errno(e, errno, "open %s", c->run) : 0;
}

/* A descriptor that holds the lock, for as long as it is open: until the process ends. */
static int lock(int dir)
{
	struct flock whole = { .l_type = F_WRLCK };
	AUTO_CLOSE int fd = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char text[32];

	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_OFD_SETLK, &whole) < 0)
		return -EBUSY;
	int n = snprintf(text, sizeof text, "%d\n", (int)getpid());

	errno = EIO;
	return ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) == n ? TAKE_FD(fd) : -errno;
}

/* On a read-only file system nobody gets a write lock: a read lock keeps away who can write, flock who cannot. This read lock
 * is of the kind that the process has, not the descriptor: its number can't be written down, but the kernel tells that one. */
static int lock_to_read(int dir)
{
	struct flock whole = { .l_type = F_RDLCK };
	AUTO_CLOSE int fd = openat(dir, "lock", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (fcntl(fd, F_SETLK, &whole) < 0)
		return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
	return TAKE_FD(fd);
}

static int holder(int dir)
{
	struct flock whole = { .l_type = F_WRLCK };
	AUTO_CLOSE int fd = openat(dir, "lock", O_RDONLY | O_CLOEXEC);
	char text[32] = "";

	if (fd >= 0 && fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK && whole.l_pid > 0)
		return whole.l_pid;
	return fd >= 0 && pread(fd, text, sizeof text - 1, 0) > 0 ? (int)strtol(text, NULL, 10) : 0;
}

static void freeze(struct croft *c)
{
	fail(&c->frozen, ERR_UNAVAILABLE, "the home %s is read-only: VMs that run go on, and nothing can be changed", c->home);
	err_hint(&c->frozen, DB_READ_ONLY_HINT);
}

/* systemd, which starts us again, tells us where to say that we are up. */
static int on_mounts(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct croft *c = arg;

	if (file_try(c->home) < 0)
		return 0;
	log_note("the home %s can be written again: %s", c->home, getenv("NOTIFY_SOCKET") ? "croftd starts anew" : "restart croftd");
	return getenv("NOTIFY_SOCKET") ? sd_event_exit(c->ev, 0) : 0;
}

void home_watch(struct croft *c)
{
	int fd = c->frozen.code ? open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC) : -1;
	sd_event_source *s = NULL;

	if (fd < 0 || sd_event_add_io(c->ev, &s, fd, EPOLLPRI, on_mounts, c) < 0)
		return;
	sd_event_source_set_io_fd_own(s, true);
	sd_event_source_set_floating(s, true);
	sd_event_source_unref(s);
}

static int lock_now(struct croft *c, int *pid, struct err *e)
{
	int fd = lock(c->home_fd);
	bool read_only = fd == -EROFS;

	if (read_only)
		fd = lock_to_read(c->home_fd);
	*pid = 0;
	c->frozen = (struct err){};
	if (fd >= 0 && read_only)
		freeze(c);
	if (fd >= 0)
		return 0;
	if (fd != -EBUSY)
		return fail_errno(e, fd, "lock %s/lock%s", c->home, read_only ? " on a read-only file system" : "");
	*pid = holder(c->home_fd);
	fail(e, ERR_BUSY, "another croftd (process %d) serves %s", *pid, c->home);
	return err_hint(e, c->opt.installed ? "use it, or restart it: systemctl restart croftd" :
			"use it, end it with make stop, or start this one with another --home");
}

/* Does this process have the lock file open? Else the number in it is of one that ended long ago, and by now of a stranger. */
static bool holds(const struct croft *c, int pid)
{
	char path[64];
	struct stat want, st;
	struct dirent *d;
	bool found = false;

	snprintf(path, sizeof path, "/proc/%d/fd", pid);
	DIR *dir = fstatat(c->home_fd, "lock", &want, 0) == 0 ? opendir(path) : NULL;

	if (!dir)
		return false;
	while (!found && (d = readdir(dir)))
		found = fstatat(dirfd(dir), d->d_name, &st, 0) == 0 && st.st_dev == want.st_dev && st.st_ino == want.st_ino;
	closedir(dir);
	return found;
}

int home_lock(struct croft *c, int *pid, struct err *e)
{
	int r = lock_now(c, pid, e);

	/* It has just taken the lock, or is about to let go of it; or it was killed while it began a program, and what was to
	 * become that program has the lock until it is one. */
	for (int tries = 0; r < 0 && e->code == ERR_BUSY && !holds(c, *pid) && tries < LOCK_TRIES; tries++) {
		usleep(20000);
		r = lock_now(c, pid, e);
	}
	return r;
}

static bool ended(int pidfd, int sig, int ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 || poll(&p, 1, ms) != 0;
}

int home_end_other(struct croft *c, struct err *e)
{
	int pid, r = home_lock(c, &pid, e);

	if (r == 0 || pid <= 0)
		return r;
	AUTO_CLOSE int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (!holds(c, pid))
		return r;
	if (fd >= 0 && !ended(fd, SIGTERM, END_MS)) {	/* its guests have to be shut down all the same */
		printf("croftd (process %d) has not ended within %d s and is killed\n", pid, END_MS / 1000);
		if (!ended(fd, SIGKILL, KILL_MS))
			return fail(e, ERR_TIMEOUT, "croftd (process %d) was killed and is not gone: the kernel holds it", pid);
	}
	return home_lock(c, &pid, e);
}
