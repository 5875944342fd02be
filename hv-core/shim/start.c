/* start.c: the fork that becomes QEMU. The child confines itself, says so, waits for the word, and executes. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine.h"
#include "mem.h"
#include "reset.h"
#include "root.h"
#include "shim.h"

#define STEP_MS	10000

/* What the child says: first when it is confined, then only if execve failed. */
struct told { int error; char text[256]; };

static void tell(int channel, int error, const char *text)
{
	struct told t = { .error = error };
	snprintf(t.text, sizeof(t.text), "%s", text);
	send(channel, &t, sizeof(t), MSG_NOSIGNAL);
}

/* First all go out of each other's way, then to their numbers. What stands at none is CLOEXEC, like all of ours. */
static int place_fds(struct ctl_message *launch, int log, int *channel)
{
	const uint32_t *to = launch->body.launch.numbers.v;
	if ((*channel = fcntl(*channel, F_DUPFD_CLOEXEC, NUMBER_MAX)) < 0)
		return -errno;
	for (size_t i = 0; i < launch->nfds; i++)
		if ((launch->fds[i] = fcntl(launch->fds[i], F_DUPFD_CLOEXEC, NUMBER_MAX)) < 0)
			return -errno;
	if (dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0)
		return -errno;
	for (size_t i = 0; i < launch->nfds; i++)
		if (dup2(launch->fds[i], to[i]) < 0)
			return -errno;
	return 0;
}

/* A private root where it can be had; @got says what was. */
static void private_root(const struct ctl_launch *l, char *got, size_t cap)
{
	const struct root_plan plan = { l->binds.v, l->devices.v, l->uid, l->gid };
	char on[PATH_MAX] = "";
	const char *proc;
	struct err e = { 0 };
	(void)!readlink("/proc/self/fd/3", on, sizeof(on) - 1);		/* the run folder: nobody misses it there */
	if (!l->private_root)
		snprintf(got, cap, "root=host (not asked for)");
	else if (root_private(on, &plan, &proc, &e) < 0)
		snprintf(got, cap, "root=host (%.200s)", e.msg);
	else
		snprintf(got, cap, "root=private dev=own proc=%s", proc);
}

static _Noreturn void child(struct ctl_message *launch, int log, int channel)
{
	const struct ctl_launch *l = &launch->body.launch;
	static char path[] = "PATH=/usr/bin:/bin", lang[] = "LANG=C.UTF-8";
	char *const environment[] = { path, lang, NULL };
	struct err e = { 0 };
	char got[256], go;
	setsid();
	reset_signals();
	reset_limits(l->memlock_bytes);
	private_root(l, got, sizeof(got));
	int r = place_fds(launch, log, &channel);
	r = r < 0 ? fail_errno(&e, r, "place the descriptors") : confine_cpus(l->cpus, &e);
	r = r < 0 ? r : confine_user(l->uid, l->gid, &e);
	tell(channel, -r, r < 0 ? e.msg : got);
	if (r < 0 || recv(channel, &go, 1, 0) != 1)
		_exit(127);
	execve(l->argv.v[0], l->argv.v, environment);
	tell(channel, errno, "execute QEMU");
	_exit(127);
}

/* What the child says next: 1; 0 when it has closed the channel instead, which is what execve does. */
static int hear(const struct start *s, struct told *t, struct err *e)
{
	struct pollfd p = { .fd = s->channel, .events = POLLIN };
	if (poll(&p, 1, STEP_MS) != 1)
		return fail(e, ERR_TIMEOUT, "QEMU's process was not ready after %d s", STEP_MS / 1000);
	if (recv(s->channel, t, sizeof(*t), 0) != sizeof(*t))
		return 0;
	t->text[sizeof(t->text) - 1] = 0;
	return t->error ? fail_errno(e, t->error, "%s", t->text) : 1;
}

int start_fork(struct start *s, struct ctl_message *launch, int log, struct err *e)
{
	int pair[2];
	struct told t;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail_errno(e, errno, "make QEMU's channel");
	s->pid = fork();
	if (s->pid == 0) {
		close(pair[0]);			/* so that it sees us die */
		child(launch, log, pair[1]);
	}
	close(pair[1]);
	s->channel = pair[0];
	if (s->pid < 0 || (s->pidfd = pidfd_open(s->pid, 0)) < 0)
		return fail_errno(e, errno, "fork");
	int r = hear(s, &t, e);
	if (r > 0) {
		snprintf(s->confinement, sizeof(s->confinement), "%s", t.text);
		return 0;
	}
	kill(s->pid, SIGKILL);
	return r < 0 ? r : fail(e, ERR_INTERNAL, "QEMU's process ended before its time");
}

int start_release(struct start *s, struct err *e)
{
	struct told t;
	siginfo_t si;
	if (send(s->channel, "g", 1, MSG_NOSIGNAL) != 1)
		return fail_errno(e, errno, "release QEMU");
	int r = hear(s, &t, e);
	if (r < 0 && e->code == ERR_TIMEOUT)		/* it is on its way (a slow disk): from here on only its end is news */
		r = 0;
	else if (r < 0)
		waitid(P_PIDFD, s->pidfd, &si, WEXITED);	/* it exits at once, and then its lock is free */
	close(s->channel);
	return r;
}
