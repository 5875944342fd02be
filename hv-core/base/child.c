#include "child.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "file.h"
#include "jail.h"
#include "loop.h"
#include "mem.h"

enum { CHUNK = 4096, READS = 16, DRAIN = 256, NOTE = 64, FDS_MAX = 64 };

struct child {
	pid_t pid;
	int pidfd, err_fd;
	sd_event_source *exit_src, *err_src;
	struct timer deadline;
	uint64_t deadline_usec;
	bool reaped, timed_out;
	void (*ended)(void *arg, int wstatus, const char *err_text);
	void *arg;
	size_t err_max, err_len;
	char err_text[];		/* err_max bytes, a note of our own, NUL */
};

/* ---- in the child, between fork and exec: only calls that are safe there ---- */

struct failure { int no; char call[20]; };

__attribute__((noreturn)) static void give_up(int fd, const char *call)
{
	struct failure f = { .no = errno };
	strncpy(f.call, call, sizeof(f.call) - 1);
	ssize_t r = write(fd, &f, sizeof(f));
	_exit(r == sizeof(f) ? 127 : 126);
}

static void reset_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);	/* fails for KILL, STOP and the C library's two */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* @from: descriptors in the order 0, 1, 2, 3...; all are first moved out of the way, so that no move hits another. */
static void place_fds(const struct child_how *how, int err, int *fail_fd, int *exec_fd, int *jail)
{
	size_t n = 3 + how->nfds;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), up[3 + FDS_MAX];

	if (null < 0)
		give_up(*fail_fd, "open /dev/null");
	for (size_t i = 0; i < n; i++) {
		int fd = i == 0 ? how->in : i == 1 ? how->out : i == 2 ? err : how->fds[i - 3];
		up[i] = fcntl(fd < 0 && i < 3 ? null : fd, F_DUPFD_CLOEXEC, (int)n);
		if (up[i] < 0)
			give_up(*fail_fd, "dup");
	}
	int fail_up = fcntl(*fail_fd, F_DUPFD_CLOEXEC, (int)n);
	if (fail_up < 0)
		give_up(*fail_fd, "dup");
	*fail_fd = fail_up;
	if (*jail >= 0 && (*jail = fcntl(*jail, F_DUPFD_CLOEXEC, (int)n)) < 0)
		give_up(*fail_fd, "dup");
	if (*exec_fd >= 0 && (*exec_fd = fcntl(*exec_fd, F_DUPFD_CLOEXEC, (int)n)) < 0)
		give_up(*fail_fd, "dup");
	for (size_t i = 0; i < n; i++)
		if (dup2(up[i], i) < 0)
			give_up(*fail_fd, "dup2");
	if (syscall(SYS_close_range, (unsigned)n, ~0U, CLOSE_RANGE_CLOEXEC))
		give_up(*fail_fd, "close_range");
}

__attribute__((noreturn)) static void run(const struct child_how *how, int err, int jail, int fail_fd)
{
	static const char *const env[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", NULL,
	};
	int exec_fd = how->exec_fd;

	reset_signals();
	umask(077);
	if (how->new_session && setsid() < 0)
		give_up(fail_fd, "setsid");
	if (setpriority(PRIO_PROCESS, 0, 0) && errno != EACCES)	/* only root may be nicer to itself again */
		give_up(fail_fd, "setpriority");
	if (chdir("/"))
		give_up(fail_fd, "chdir");
	place_fds(how, err, &fail_fd, &exec_fd, &jail);
	if (how->jailed && (errno = -jail_enter(jail)))
		give_up(fail_fd, "give up privileges");
	if (exec_fd >= 0)
		syscall(SYS_execveat, exec_fd, "", how->argv, env, AT_EMPTY_PATH);
	else
		execve(how->argv[0], (char *const *)how->argv, (char *const *)env);
	give_up(fail_fd, "exec");
}

/* ---- in the parent ---- */

/* vfork: until its exec the child borrows our memory, and we wait for just that. So nothing is copied, however large
 * croftd is by now. */
static pid_t fork_and_run(const struct child_how *how, int err, int jail, int fail_fd)
{
	sigset_t all, old;

	sigfillset(&all);	/* no handler of ours may run in the child */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid_t pid = vfork();
	if (!pid)
		run(how, err, jail, fail_fd);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return pid;
}

static int reap(struct child *c, int flags, int *wstatus)
{
	siginfo_t si = { 0 };
	int r;

	do
		r = waitid(P_PIDFD, c->pidfd, &si, WEXITED | flags);
	while (r && errno == EINTR);
	if (!r && !si.si_pid)
		return -EAGAIN;
	if (r)			/* somebody else has waited for it: it is gone all the same */
		*wstatus = 255 << 8;
	else
		*wstatus = si.si_code == CLD_EXITED ? (si.si_status & 255) << 8
			 : si.si_status | (si.si_code == CLD_DUMPED ? 0x80 : 0);
	c->reaped = true;
	return 0;
}

static void keep_err(struct child *c, const char *p, size_t n)
{
	if (n > c->err_max) {
		p += n - c->err_max;
		n = c->err_max;
	}
	if (c->err_len + n > c->err_max) {
		size_t drop = c->err_len + n - c->err_max;
		memmove(c->err_text, c->err_text + drop, c->err_len - drop);
		c->err_len -= drop;
	}
	memcpy(c->err_text + c->err_len, p, n);
	c->err_len += n;
}

/* Bounded: a grandchild may hold the pipe and never stop writing. */
static void read_err(struct child *c, unsigned reads)
{
	char chunk[CHUNK];

	for (unsigned i = 0; i < reads && c->err_fd >= 0; i++) {
		ssize_t n = read(c->err_fd, chunk, sizeof(chunk));
		if (n > 0) {
			keep_err(c, chunk, n);
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			c->err_src = sd_event_source_disable_unref(c->err_src);
			close_at(&c->err_fd);
			c->err_fd = -1;
		} else if (errno == EAGAIN) {
			return;
		}
	}
}

static int on_err(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	loop_what("child stderr");
	read_err(arg, READS);
	return 0;
}

static int on_pidfd(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct child *c = arg;
	int wstatus;

	loop_what("child end");
	if (reap(c, WNOHANG, &wstatus))
		return 0;
	c->exit_src = sd_event_source_disable_unref(c->exit_src);
	timer_disarm(&c->deadline);
	read_err(c, DRAIN);
	while (c->err_len && c->err_text[c->err_len - 1] == '\n')
		c->err_len--;
	if (c->timed_out)
		c->err_len += snprintf(c->err_text + c->err_len, NOTE, "%skilled at its deadline of %llu s",
				       c->err_len ? "\n" : "", (unsigned long long)c->deadline_usec / 1000000);
	c->err_text[c->err_len] = 0;
	for (size_t i = 0; i < c->err_len; i++)
		if (!c->err_text[i])
			c->err_text[i] = '?';
	c->ended(c->arg, wstatus, c->err_text);		/* may free c */
	return 0;
}

static void on_deadline(void *arg)
{
	struct child *c = arg;
	c->timed_out = true;
	child_kill(c, SIGKILL);
}

/* Until the exec the child is ours alone; its pipe closes at the exec, or brings the reason why there was none. */
static int exec_result(int fd, const struct child_how *how, struct err *e)
{
	struct failure f;
	ssize_t n;

	do
		n = read(fd, &f, sizeof(f));
	while (n < 0 && errno == EINTR);
	if (n != sizeof(f))
		return 0;
	f.call[sizeof(f.call) - 1] = 0;
	return fail_errno(e, f.no, "start %s: %s", how->argv[0], f.call);
}

static int spawn(struct child *c, const struct child_how *how, struct err *e)
{
	AUTO_CLOSE int fail_in = -1, fail_out = -1, err_out = -1, jail = -1;
	int p[2];

	if (how->nfds > FDS_MAX)
		return fail(e, ERR_INTERNAL, "start %s: too many descriptors", how->argv[0]);
	if (pipe2(p, O_CLOEXEC))
		return fail_errno(e, errno, "pipe");
	fail_in = p[0];
	fail_out = p[1];
	if (how->stderr_max) {
		if (pipe2(p, O_CLOEXEC | O_NONBLOCK))
			return fail_errno(e, errno, "pipe");
		c->err_fd = p[0];
		err_out = p[1];
	}
	if (how->jailed && (jail = jail_new(how->fds, how->nfds)) < 0 && jail != -EOPNOTSUPP)
		return fail_errno(e, jail, "make a jail for %s", how->argv[0]);
	c->pid = fork_and_run(how, how->stderr_max ? err_out : STDERR_FILENO, jail, fail_out);
	if (c->pid < 0)
		return fail_errno(e, errno, "fork");
	c->pidfd = syscall(SYS_pidfd_open, c->pid, 0);
	if (c->pidfd < 0) {
		int no = errno;
		kill(c->pid, SIGKILL);		/* not yet waited for, so the pid is still its own */
		waitpid(c->pid, NULL, 0);
		c->reaped = true;
		return fail_errno(e, no, "pidfd_open");
	}
	close_at(&fail_out);
	fail_out = -1;
	return exec_result(fail_in, how, e);
}

struct child *child_start(sd_event *ev, const struct child_how *how,
			  void (*ended)(void *arg, int wstatus, const char *err_text), void *arg, struct err *e)
{
	struct child *c = xcalloc(1, sizeof(*c) + how->stderr_max + NOTE + 1);
	int wstatus;

	c->pidfd = c->err_fd = -1;
	c->err_max = how->stderr_max;
	c->ended = ended;
	c->arg = arg;
	if (spawn(c, how, e)) {
		if (c->pidfd >= 0)
			reap(c, 0, &wstatus);	/* it has said that it could not exec, and exits */
		else
			c->reaped = true;
		child_free(c);
		return NULL;
	}
	if (sd_event_add_io(ev, &c->exit_src, c->pidfd, EPOLLIN, on_pidfd, c) < 0 ||
	    (c->err_fd >= 0 && sd_event_add_io(ev, &c->err_src, c->err_fd, EPOLLIN, on_err, c) < 0))
		abort();
	sd_event_source_set_description(c->exit_src, "child");
	c->deadline_usec = how->deadline_usec;
	if (how->deadline_usec)
		timer_arm(&c->deadline, ev, how->deadline_usec, on_deadline, c);
	return c;
}

pid_t child_pid(const struct child *c)
{
	return c->pid;
}

int child_pidfd(const struct child *c)
{
	return c->pidfd;
}

bool child_timed_out(const struct child *c)
{
	return c->timed_out;
}

void child_kill(struct child *c, int sig)
{
	if (!c->reaped)
		syscall(SYS_pidfd_send_signal, c->pidfd, sig, NULL, 0);
}

static void destroy(void *arg)
{
	struct child *c = arg;
	close_at(&c->pidfd);
	free(c);
}

static int on_orphan_exit(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	int wstatus;

	loop_what("child end");
	if (!reap(arg, WNOHANG, &wstatus))
		sd_event_source_set_floating(s, false);		/* the last reference: destroy() */
	return 0;
}

/* A process in D state may die late: the loop, never a caller, waits for it. */
void child_release(struct child *c)
{
	sd_event *ev;
	int wstatus;

	if (!c)
		return;
	timer_disarm(&c->deadline);
	sd_event_source_disable_unref(c->err_src);
	close_at(&c->err_fd);
	ev = c->exit_src ? sd_event_source_get_event(c->exit_src) : NULL;
	sd_event_ref(ev);
	sd_event_source_disable_unref(c->exit_src);
	if (c->reaped || !reap(c, WNOHANG, &wstatus) || !ev) {
		destroy(c);
	} else {
		sd_event_source *s;
		if (sd_event_add_io(ev, &s, c->pidfd, EPOLLIN, on_orphan_exit, c) < 0) {
			destroy(c);		/* the loop has ended, and we soon: init reaps it */
		} else {
			sd_event_source_set_destroy_callback(s, destroy);
			sd_event_source_set_floating(s, true);
			sd_event_source_unref(s);
		}
	}
	sd_event_unref(ev);
}

void child_free(struct child *c)
{
	if (c)
		child_kill(c, SIGKILL);
	child_release(c);
}
