#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "file.h"
#include "home.h"
#include "mem.h"
#include "text.h"

#define END_MS	15000	/* one that can end does so within 10 s: see close_state */
#define KILL_MS	5000
#define LOCK_TRIES 250	/* of 20 ms */

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

static int lock_now(struct croft *c, int *pid, struct err *e)
{
	struct flock lock = { .l_type = F_WRLCK };
	char text[32] = "";
	int fd = openat(c->home_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	*pid = 0;
	if (fd < 0) {
		bool read_only = errno == EROFS;
		int r = fail_errno(e, errno, "open %s/lock", c->home);

		return !read_only ? r : err_hint(e, "VMs that run are left alone; journalctl -k says why it is so; mount it read-write, "
						 "then start croftd again");
	}
	if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
		int n = snprintf(text, sizeof text, "%d\n", (int)getpid());

		if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) == n)
			return 0;	/* held until the process ends: the descriptor stays open */
		return fail_errno(e, errno, "write %s/lock", c->home);
	}
	if (pread(fd, text, sizeof text - 1, 0) > 0)
		*pid = (int)strtol(text, NULL, 10);
	close(fd);
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
