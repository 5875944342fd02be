/* start.c: the fork that becomes QEMU. The child confines itself, says so, waits for the word, and executes. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine.h"
#include "file.h"
#include "mem.h"
#include "shim.h"

#define SOURCE_FIRST	512		/* descriptors move up here before they move to their numbers */
#define STEP_MS		10000
#define ALIVE_NUMBER	3		/* `alive` in QEMU */

/* What the child writes to status: first when it is confined, then only when execve failed. */
struct told { int error; char text[256]; };

void limits_reset(uint64_t memlock_bytes)
{
	const struct { int which; rlim_t soft, hard; } limits[] = {
		{ RLIMIT_CORE, 0, 0 }, { RLIMIT_NOFILE, 8192, 8192 }, { RLIMIT_NPROC, 4096, 4096 },
		{ RLIMIT_MEMLOCK, memlock_bytes, memlock_bytes }, { RLIMIT_STACK, 8 << 20, RLIM_INFINITY },
		{ RLIMIT_AS, RLIM_INFINITY, RLIM_INFINITY }, { RLIMIT_DATA, RLIM_INFINITY, RLIM_INFINITY },
		{ RLIMIT_CPU, RLIM_INFINITY, RLIM_INFINITY }, { RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY },
		{ RLIMIT_RTPRIO, 0, 0 }, { RLIMIT_NICE, 0, 0 },
	};
	for (size_t i = 0; i < COUNT(limits); i++) {	/* in a container the hard limit may stay below: no harm */
		struct rlimit r = { limits[i].soft, limits[i].hard };
		setrlimit(limits[i].which, &r);
	}
}

static void tell(int status, int error, const char *text)
{
	struct told t = { .error = error };
	snprintf(t.text, sizeof(t.text), "%s", text);
	(void)!write(status, &t, sizeof(t));
}

/* Everything of ours is CLOEXEC, so what stands at no number is gone after execve. */
static int place_fds(const struct ctl_message *launch, const int own[3], int log, int *go, int *status)
{
	const struct ctl_launch *l = &launch->body.launch;
	int from[CTL_FDS + 5];
	unsigned to[CTL_FDS + 5];
	size_t n = 0;
#define PLACE(fd, number) (from[n] = (fd), to[n++] = (number))
	PLACE(log, 1);
	PLACE(log, 2);
	PLACE(own[OWN_ALIVE], ALIVE_NUMBER);
	if (l->qmp)
		PLACE(own[OWN_QMP], l->qmp);
	if (l->serial)
		PLACE(own[OWN_SERIAL], l->serial);
	for (size_t i = 0; i < launch->nfds; i++)
		PLACE(launch->fds[i], l->numbers.v[i]);
#undef PLACE
	if ((*go = fcntl(*go, F_DUPFD_CLOEXEC, SOURCE_FIRST)) < 0 ||
	    (*status = fcntl(*status, F_DUPFD_CLOEXEC, SOURCE_FIRST)) < 0)
		return -errno;
	for (size_t i = 0; i < n; i++)
		if ((from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, SOURCE_FIRST)) < 0)
			return -errno;
	for (size_t i = 0; i < n; i++)
		if (dup2(from[i], to[i]) < 0)
			return -errno;
	return 0;
}

static void confine(const char *on, const struct ctl_launch *l, char *got, size_t cap, struct err *e)
{
	if (!l->private_root)
		snprintf(got, cap, "root=host (not asked for)");
	else if (root_private(on, l, got, cap, e) < 0)
		snprintf(got, cap, "root=host (%.200s)", e->msg);
}

static _Noreturn void child(const struct ctl_message *launch, const int own[3], int log, int go, int status)
{
	const struct ctl_launch *l = &launch->body.launch;
	static char path[] = "PATH=/usr/bin:/bin", lang[] = "LANG=C.UTF-8";
	char *const environment[] = { path, lang, NULL };
	struct err e = { 0 };
	char on[PATH_MAX], got[256] = "", byte;
	sigset_t none;
	ssize_t n = readlink("/proc/self/fd/3", on, sizeof(on) - 1);
	on[n < 0 ? 0 : n] = 0;
	setsid();
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	confine(on, l, got, sizeof(got), &e);
	limits_reset(l->memlock_bytes);
	int r = place_fds(launch, own, log, &go, &status);
	if (r < 0)
		fail_errno(&e, r, "place the descriptors");
	else
		r = confine_user(l->uid, l->gid, &e);
	tell(status, -r, r < 0 ? e.msg : got);
	if (r < 0 || read(go, &byte, 1) != 1)
		_exit(127);
	execve(l->argv.v[0], l->argv.v, environment);
	tell(status, errno, strerror(errno));
	_exit(127);
}

/* What the child tells; 0 when it closed status instead, which is what execve does. */
static int hear(const struct start *s, struct told *t, struct err *e)
{
	struct pollfd p = { .fd = s->status, .events = POLLIN };
	if (poll(&p, 1, STEP_MS) != 1)
		return fail(e, ERR_TIMEOUT, "QEMU's process was not ready after %d s", STEP_MS / 1000);
	ssize_t n = read(s->status, t, sizeof(*t));
	if (n != 0 && n != sizeof(*t))
		return fail(e, ERR_INTERNAL, "QEMU's process ended before its time");
	t->text[sizeof(t->text) - 1] = 0;
	return n > 0;
}

int start_fork(struct start *s, const struct ctl_message *launch, const int own[3], int log, struct err *e)
{
	int go[2] = { -1, -1 }, status[2] = { -1, -1 };
	struct told t;
	if (pipe2(go, O_CLOEXEC) < 0 || pipe2(status, O_CLOEXEC) < 0)
		return fail_errno(e, errno, "make a pipe");
	s->pid = fork();
	if (s->pid == 0) {
		close(go[1]);
		close(status[0]);
		child(launch, own, log, go[0], status[1]);
	}
	close(go[0]);
	close(status[1]);
	s->go = go[1];
	s->status = status[0];
	if (s->pid < 0 || (s->pidfd = pidfd_open(s->pid, 0)) < 0)
		return fail_errno(e, errno, "fork");
	int r = hear(s, &t, e);
	if (r == 0)
		r = fail(e, ERR_INTERNAL, "QEMU's process ended before its time");
	else if (r > 0 && t.error)
		r = fail_errno(e, t.error, "prepare QEMU: %s", t.text);
	if (r < 0)
		kill(s->pid, SIGKILL);
	else
		snprintf(s->confinement, sizeof(s->confinement), "%.255s", t.text);
	return r < 0 ? r : 0;
}

int start_release(struct start *s, struct err *e)
{
	struct told t;
	if (write(s->go, "g", 1) != 1)
		return fail_errno(e, errno, "release QEMU");
	int r = hear(s, &t, e);
	close(s->go);
	close(s->status);
	if (r <= 0)
		return r;
	siginfo_t si;
	waitid(P_PIDFD, s->pidfd, &si, WEXITED);	/* it exits at once; after that its lock is free */
	return fail_errno(e, t.error, "execute QEMU");
}
