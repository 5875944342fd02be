/* croft-vm: the parent of one QEMU. It is told what to start, waits parked until croftd has put it in its place,
 * executes QEMU, gives up its privileges, and from then on keeps the console's history and waits for the end, whatever
 * becomes of croftd. Started with: 3 the VM's run folder, 4 a channel to croftd (see ctl.h). */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "confine.h"
#include "mem.h"
#include "shim.h"
#include "text.h"

#ifndef CROFT_BUILD
#define CROFT_BUILD "croft-vm"
#endif

enum { DIR = 3, CHANNEL = 4 };
#define PARKED_USEC	30000000	/* without GO, give up */
#define LINGER_USEC	1000000		/* after the end, for viewers that are behind */
#define RECONNECT_USEC	200000		/* QEMU closed the serial connection: try again */

struct client { int fd, slot; };
static struct shim {
	struct ctl_message launch;	/* or adopt */
	struct ctl_state state;
	struct start start;
	struct console console;
	struct record record;
	int own[3], ctl, ctl_slot, qemu_slot;
	struct client clients[CLIENTS];	/* the first is the channel, while it is open */
	unsigned nclients;
	int64_t until;			/* deadline of this phase, or 0 */
	char said[2048];
	bool done;
} shim;

/* A socket in the run folder. Through /proc/self/fd its name is always short enough. */
static int listener(const char *name, int type)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/%s", DIR, name);
	if (unlinkat(DIR, name, 0) < 0 && errno != ENOENT)
		return -errno;
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 16) < 0)
		return -errno;
	return fd;
}

static int lock_alive(void)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = openat(DIR, "alive", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fcntl(fd, F_OFD_SETLK, &whole) < 0)
		return -errno;
	return fd;
}

/* The numbers that croftd asks for must be distinct, and none of ours. */
static int launch_check(const struct ctl_message *m, struct err *e)
{
	const struct ctl_launch *l = &m->body.launch;
	bool taken[512] = { [0 ... 9] = true };
	if (!l->argv.n || l->argv.v[0][0] != '/' || !l->boot_id || !l->uuid)
		return fail(e, ERR_BAD_REQUEST, "the launch message lacks argv, boot id or uuid");
	if (l->numbers.n != m->nfds)
		return fail(e, ERR_BAD_REQUEST, "%zu descriptors came for %zu numbers", m->nfds, l->numbers.n);
	for (size_t i = 0; i < m->nfds + 2; i++) {
		uint32_t number = i < m->nfds ? l->numbers.v[i] : i == m->nfds ? l->qmp : l->serial;
		if (i >= m->nfds && !number)
			continue;
		if (number >= COUNT(taken) || taken[number])
			return fail(e, ERR_BAD_REQUEST, "descriptor number %u is taken or out of range", number);
		taken[number] = true;
	}
	return 0;
}

static int prepare(struct shim *s, bool adopt, struct err *e)
{
	const struct ctl_launch *l = &s->launch.body.launch;
	int r = 0;
	s->own[OWN_ALIVE] = s->own[OWN_QMP] = s->own[OWN_SERIAL] = -1;
	if (!adopt) {
		if ((r = launch_check(&s->launch, e)) < 0)
			return r;
		if ((s->own[OWN_ALIVE] = lock_alive()) < 0)
			return fail_errno(e, s->own[OWN_ALIVE], "lock the run folder (the VM runs already?)");
		if (l->qmp && (s->own[OWN_QMP] = listener("qmp", SOCK_STREAM)) < 0)
			return fail_errno(e, s->own[OWN_QMP], "make the QMP socket");
		if (l->serial && (s->own[OWN_SERIAL] = listener("serial", SOCK_STREAM)) < 0)
			return fail_errno(e, s->own[OWN_SERIAL], "make the serial socket");
	}
	if ((s->ctl = listener("ctl", SOCK_SEQPACKET)) < 0)
		return fail_errno(e, s->ctl, "make the control socket");
	if ((r = record_open(&s->record, DIR, adopt)) < 0)
		return fail_errno(e, r, "open the log");
	if ((r = console_open(&s->console, DIR, adopt, l->console_bytes, l->shim_uid)) < 0)
		return fail_errno(e, r, "open the console's history");
	console_connect(&s->console);
	s->state = (struct ctl_state){ .phase = CTL_PARKED, .shim_pid = getpid(), .uid = l->uid, .adopted = adopt,
				       .shim_start_time = proc_start_time(getpid()), .pid = l->pid,
				       .start_time = l->start_time, .confinement = l->confinement, .said = s->said };
	return 0;
}

static int confine_self(const struct ctl_launch *l, struct err *e)
{
	static const char *const calls[] = {
		"poll", "ppoll", "read", "write", "pread64", "pwrite64", "recvfrom", "recvmsg", "sendto", "sendmsg",
		"accept4", "close", "fcntl", "fstat", "newfstatat", "ftruncate", "fsync", "waitid", "socket", "connect",
		"brk", "mmap", "munmap", "mremap", "clock_gettime", "exit_group", "exit", "rt_sigreturn",
		"restart_syscall", NULL,
	};
	int r = confine_user(l->shim_uid, l->shim_gid, e);
	return r < 0 ? r : confine_syscalls(calls, NULL, e);
}

static void drop_launch(struct shim *s)		/* what only the start needs: QEMU's descriptors above all */
{
	for (size_t i = 0; i < s->launch.nfds; i++)
		close_at(&s->launch.fds[i]);
	s->launch.nfds = 0;
	for (size_t i = 0; i < COUNT(s->own); i++) {
		close_at(&s->own[i]);
		s->own[i] = -1;
	}
}

static int go(struct shim *s, struct err *e)
{
	const struct ctl_launch *l = &s->launch.body.launch;
	int said[2];
	if (pipe2(said, O_CLOEXEC | O_NONBLOCK) < 0)
		return fail_errno(e, errno, "make a pipe");
	int r = start_fork(&s->start, &s->launch, s->own, said[1], e);
	close(said[1]);
	s->record.said = said[0];
	if (r < 0)
		return r;
	s->state.pid = s->start.pid;
	s->state.start_time = proc_start_time(s->start.pid);
	s->state.confinement = s->start.confinement;
	if ((r = record_launch(DIR, l, &s->state)) < 0)
		fail_errno(e, r, "write launch.json");
	else
		r = confine_self(l, e);
	if (r < 0)
		return r;		/* the child sees its pipe close, and ends */
	drop_launch(s);
	if ((r = start_release(&s->start, e)) < 0) {
		s->state.how = CTL_END_EXITED;
		s->state.code = 127;
		s->state.at_usec = now_usec();
		snprintf(s->said, sizeof(s->said), "%s", e->msg);
		record_end(&s->record, l, &s->state);
		return r;
	}
	s->state.phase = CTL_RUNNING;
	s->until = 0;
	return 0;
}

static int adopt(struct shim *s, struct err *e)
{
	const struct ctl_launch *l = &s->launch.body.launch;
	if (s->launch.nfds != 1 || !l->boot_id || !l->uuid)
		return fail(e, ERR_BAD_REQUEST, "the adopt message lacks the pidfd, boot id or uuid");
	s->start.pidfd = TAKE_FD(s->launch.fds[0]);
	int r = record_launch(DIR, l, &s->state);
	if (r < 0)
		return fail_errno(e, r, "write launch.json");
	s->state.phase = CTL_RUNNING;
	return confine_self(l, e);
}

static void client_close(struct shim *s, unsigned i)
{
	close(s->clients[i].fd);
	s->clients[i] = s->clients[--s->nclients];
}

/* A client that does not take its answer is let go: we wait for nobody. */
static void answer(struct shim *s, int fd, enum ctl_type type, uint32_t id, const void *body)
{
	if (ctl_send(fd, type, id, body, NULL, 0) < 0)
		shutdown(fd, SHUT_RDWR);
}

static void answer_state(struct shim *s, int fd, uint32_t id)
{
	s->state.console_total = s->console.ring.total;
	answer(s, fd, CTL_STATE, id, &s->state);
}

static void answer_result(struct shim *s, int fd, uint32_t id, int r, struct err *e)
{
	struct ctl_failed f = { (uint32_t)-r, e->msg };
	if (r == 0)
		answer_state(s, fd, id);
	else
		answer(s, fd, CTL_FAILED, id, &f);
}

static void handle_start(struct shim *s, int fd, struct ctl_message *m)
{
	struct err e = { 0 };
	int r;
	if (s->state.phase && m->type != CTL_GO)
		r = fail(&e, ERR_STATE, "croft-vm was told what to start already");
	else if (m->type == CTL_GO)
		r = s->state.phase == CTL_PARKED ? go(s, &e) : fail(&e, ERR_STATE, "croft-vm is not parked");
	else {
		s->launch = *m;
		memset(m, 0, sizeof(*m));		/* it was taken over, with its descriptors */
		r = prepare(s, s->launch.type == CTL_ADOPT, &e);
		if (r == 0 && s->launch.type == CTL_ADOPT)
			r = adopt(s, &e);
		m->id = s->launch.id;
	}
	answer_result(s, fd, m->id, r, &e);
	if (r < 0 && s->state.phase < CTL_RUNNING)
		s->done = true;
}

static void handle(struct shim *s, int fd, struct ctl_message *m)
{
	struct ctl_hello hello = { (char *)CROFT_BUILD };
	struct ctl_unsupported unsupported = { m->type };
	struct ctl_failed no_viewer = { ENOBUFS, (char *)"too many viewers, or none came with the message" };
	switch (m->type) {
	case CTL_HELLO: answer(s, fd, CTL_HELLO, m->id, &hello); break;
	case CTL_LAUNCH: case CTL_ADOPT: case CTL_GO: handle_start(s, fd, m); break;
	case CTL_STATUS: answer_state(s, fd, m->id); break;
	case CTL_VIEWER:
		if (m->nfds == 1 && console_view(&s->console, TAKE_FD(m->fds[0])))
			answer(s, fd, CTL_DONE, m->id, &(struct ctl_empty){ 0 });
		else
			answer(s, fd, CTL_FAILED, m->id, &no_viewer);
		break;
	default: answer(s, fd, CTL_UNSUPPORTED, m->id, &unsupported);
	}
}

static void clients_work(struct shim *s, struct polls *ps)
{
	for (unsigned i = s->nclients; i-- > 0;) {
		struct ctl_message m;
		if (!polls_got(ps, s->clients[i].slot))
			continue;
		int r = ctl_recv(s->clients[i].fd, &m);
		if (r > 0) {
			handle(s, s->clients[i].fd, &m);
			ctl_fini(&m);
		} else if (r != -EAGAIN) {
			client_close(s, i);
			if (s->state.phase < CTL_RUNNING)	/* nobody is left who could say GO */
				s->done = true;
		}
	}
	if (polls_got(ps, s->ctl_slot)) {
		int fd = accept4(s->ctl, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0 && s->nclients == CLIENTS)		/* the oldest has had its time */
			client_close(s, 0);
		if (fd >= 0)
			s->clients[s->nclients++] = (struct client){ .fd = fd };
	}
}

static void on_end(struct shim *s)
{
	siginfo_t si = { 0 };
	if (!s->state.adopted && waitid(P_PIDFD, s->start.pidfd, &si, WEXITED) == 0) {
		s->state.how = si.si_code == CLD_EXITED ? CTL_END_EXITED : CTL_END_KILLED;
		s->state.code = si.si_status;
	}
	close_at(&s->start.pidfd);
	s->start.pidfd = -1;
	s->state.at_usec = now_usec();
	s->state.phase = CTL_ENDED;
	console_drain(&s->console);
	for (int i = 0; i < 32 && s->record.said >= 0; i++)	/* bounded: a pipe holds less */
		record_said(&s->record);
	record_tail(&s->record, s->said, sizeof(s->said));
	record_end(&s->record, &s->launch.body.launch, &s->state);
	for (unsigned i = 0; i < s->nclients; i++)
		answer_state(s, s->clients[i].fd, 0);
	s->until = mono_usec() + LINGER_USEC;
}

/* How long poll may sleep: for ever, while nothing is due. */
static int patience(const struct shim *s)
{
	int64_t usec = -1;
	if (s->state.phase == CTL_RUNNING && s->console.serial < 0 && s->console.path >= 0)
		usec = RECONNECT_USEC;
	if (s->until)
		usec = s->until - mono_usec() < 0 ? 0 : s->until - mono_usec();
	return usec < 0 ? -1 : (int)(usec / 1000) + 1;
}

static void turn(struct shim *s)
{
	struct polls ps = { .n = 0 };
	s->ctl_slot = polls_add(&ps, s->ctl, POLLIN);
	s->qemu_slot = polls_add(&ps, s->start.pidfd, POLLIN);
	s->record.slot = polls_add(&ps, s->record.said, POLLIN);
	for (unsigned i = 0; i < s->nclients; i++)
		s->clients[i].slot = polls_add(&ps, s->clients[i].fd, POLLIN);
	console_watch(&s->console, &ps);
	if (poll(ps.p, ps.n, patience(s)) < 0 && errno != EINTR)
		_exit(1);
	if (polls_got(&ps, s->record.slot))
		record_said(&s->record);
	console_work(&s->console, &ps);
	if (s->state.phase == CTL_RUNNING && s->console.serial < 0)
		console_connect(&s->console);
	if (polls_got(&ps, s->qemu_slot) && s->state.phase == CTL_RUNNING)
		on_end(s);
	clients_work(s, &ps);
	if (s->until && mono_usec() >= s->until)
		s->done = true;
	if (s->state.phase == CTL_ENDED && !console_behind(&s->console))
		s->done = true;
}

/* croftd may have been started by anything: nothing of its surroundings is left to us, or to QEMU. */
static void reset_self(void)
{
	static const int ignored[] = { SIGPIPE, SIGHUP, SIGINT, SIGTERM };	/* a scope's stop is for QEMU */
	for (int n = 1; n < NSIG; n++)
		signal(n, SIG_DFL);
	for (size_t i = 0; i < COUNT(ignored); i++)
		signal(ignored[i], SIG_IGN);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(077);
	limits_reset(65536);
	setpriority(PRIO_PROCESS, 0, 0);
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		(void)!write(fd, "0", 1);
		close(fd);
	}
	fcntl(DIR, F_SETFD, FD_CLOEXEC);
	fcntl(CHANNEL, F_SETFD, FD_CLOEXEC);
	confine_close_from(CHANNEL + 1, NULL, 0);
}

int main(int argc, char **argv)
{
	struct stat st;
	struct shim *s = &shim;
	if (fstat(DIR, &st) < 0 || !S_ISDIR(st.st_mode) || fstat(CHANNEL, &st) < 0 || !S_ISSOCK(st.st_mode)) {
		fprintf(stderr, "croft-vm is started by croftd, not by hand\n");
		return 2;
	}
	reset_self();
	s->ctl = s->start.pidfd = s->record.said = s->console.serial = s->console.path = s->console.ring.fd = -1;
	s->clients[s->nclients++] = (struct client){ .fd = CHANNEL };
	s->until = mono_usec() + PARKED_USEC;
	while (!s->done)
		turn(s);
	return s->state.phase == CTL_ENDED ? 0 : 1;
}
