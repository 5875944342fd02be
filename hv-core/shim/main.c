/* croft-vm: the parent of one QEMU. It is told what to start, waits parked until croftd has put it in its place,
 * executes QEMU, gives up its privileges, and from then on keeps the console's history and waits for the end, whatever
 * becomes of croftd. Started with: 3 the VM's run folder, 4 a channel to croftd (see ctl.h). */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "confine.h"
#include "mem.h"
#include "reset.h"
#include "shim.h"
#include "sock.h"
#include "text.h"

#ifndef CROFT_BUILD
#define CROFT_BUILD "croft-vm"
#endif

enum { DIR = 3, CHANNEL = 4, ALIVE_NUMBER = 3 /* of the lock in QEMU */ };	/* DIR only until settle() */
#define PARKED_USEC	30000000	/* without GO, give up */
#define LINGER_USEC	1000000		/* after the end, for viewers that are behind */

struct client { int fd, slot; };
static struct shim {
	struct ctl_message launch;	/* or adopt */
	struct ctl_state state;
	struct start start;
	struct console console;
	struct record record;
	int ctl, ctl_slot, qemu_slot;
	struct client clients[CLIENTS];	/* the first is the channel, while it is open */
	unsigned nclients;
	int64_t until;			/* deadline of this phase, or 0 */
	char said[2048];
	bool done;
} shim;

static int lock_alive(void)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = openat(DIR, "alive", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fcntl(fd, F_OFD_SETLK, &whole) < 0)
		return -errno;
	return fd;
}

/* QEMU gets what came with the message, and what we make. */
static int give(struct ctl_message *m, int fd, uint32_t number, const char *what, struct err *e)
{
	struct ctl_numbers *n = &m->body.launch.numbers;
	if (fd < 0)
		return fail_errno(e, fd, "make the VM's %s", what);
	n->v = xrealloc(n->v, (n->n + 1) * sizeof(*n->v));
	n->v[n->n++] = number;
	m->fds[m->nfds++] = fd;
	return 0;
}

/* The numbers that croftd asks for must be distinct, and none of ours. */
static int launch_check(const struct ctl_message *m, struct err *e)
{
	const struct ctl_launch *l = &m->body.launch;
	const uint32_t own[] = { l->qmp, l->serial, l->agent };
	bool taken[NUMBER_MAX] = { [0 ... 9] = true };
	if (!l->argv.n || l->argv.v[0][0] != '/')
		return fail(e, ERR_BAD_REQUEST, "there is nothing to execute");
	if (l->numbers.n != m->nfds || m->nfds > CTL_FDS - (int)COUNT(own) - 1)
		return fail(e, ERR_BAD_REQUEST, "%zu descriptors came for %zu numbers", m->nfds, l->numbers.n);
	for (size_t i = 0; i < m->nfds + COUNT(own); i++) {
		uint32_t number = i < m->nfds ? l->numbers.v[i] : own[i - m->nfds];
		if (i >= m->nfds && !number)
			continue;
		if (number >= NUMBER_MAX || taken[number])
			return fail(e, ERR_BAD_REQUEST, "descriptor number %u is taken or out of range", number);
		taken[number] = true;
	}
	return 0;
}

static int make_own(struct ctl_message *m, struct err *e)
{
	const struct ctl_launch *l = &m->body.launch;
	int r = launch_check(m, e);
	if (r == 0)
		r = give(m, lock_alive(), ALIVE_NUMBER, "lock (does it run already?)", e);
	if (r == 0 && l->qmp)
		r = give(m, sock_listen_at(DIR, "qmp", SOCK_STREAM), l->qmp, "QMP socket", e);
	if (r == 0 && l->serial)
		r = give(m, sock_listen_at(DIR, "serial", SOCK_STREAM), l->serial, "serial socket", e);
	if (r == 0 && l->agent)
		r = give(m, sock_listen_at(DIR, "agent", SOCK_STREAM), l->agent, "guest agent's socket", e);
	return r;
}

static int prepare(struct shim *s, bool adopt, struct err *e)
{
	const struct ctl_launch *l = &s->launch.body.launch;
	int r = 0;
	if (!l->boot_id || !l->uuid || (adopt && s->launch.nfds != 1))
		return fail(e, ERR_BAD_REQUEST, "the message lacks a boot id, a UUID, or the pidfd");
	if (adopt)
		s->start.pidfd = TAKE_FD(s->launch.fds[0]);
	else if ((r = make_own(&s->launch, e)) < 0)
		return r;
	if ((s->ctl = sock_listen_at(DIR, "ctl", SOCK_SEQPACKET)) < 0)
		return fail_errno(e, s->ctl, "make the control socket");
	if ((r = record_open(&s->record, DIR, adopt)) < 0)
		return fail_errno(e, r, "open the log");
	if ((r = console_open(&s->console, DIR, adopt, l->console_bytes)) < 0)
		return fail_errno(e, r, "open the console");
	s->state = (struct ctl_state){ .phase = CTL_PARKED, .shim_pid = getpid(), .uid = l->uid, .adopted = adopt,
				       .shim_start_time = proc_start_time(getpid()), .pid = l->pid,
				       .start_time = l->start_time, .confinement = l->confinement, .said = s->said };
	return 0;
}

/* Write down what runs here, then give up all that is not needed to watch it. */
static int settle(struct shim *s, struct err *e)
{
	static const char *const calls[] = {
		"poll", "ppoll", "read", "write", "pread64", "pwrite64", "recvfrom", "recvmsg", "sendto", "sendmsg",
		"accept4", "close", "fcntl", "fstat", "newfstatat", "ftruncate", "shutdown", "waitid", "brk", "mmap", "munmap",
		"mremap", "madvise", "clock_gettime", "exit_group", "rt_sigreturn", "restart_syscall", NULL,
	};
	const struct ctl_launch *l = &s->launch.body.launch;
	int r = record_launch(DIR, l, &s->state);
	if (r < 0)
		return fail_errno(e, r, "write launch.json");
	for (size_t i = 0; i < s->launch.nfds; i++)	/* QEMU's disks must be open in QEMU only */
		close_at(&s->launch.fds[i]);
	s->launch.nfds = 0;
	close(DIR);
	if ((r = confine_user(l->shim_uid, l->shim_gid, e)) == 0)
		r = confine_syscalls(calls, NULL, e);
	malloc_trim(0);
	return r;
}

static int go(struct shim *s, struct err *e)
{
	int said[2];
	if (pipe2(said, O_CLOEXEC | O_NONBLOCK) < 0)
		return fail_errno(e, errno, "make a pipe");
	int r = start_fork(&s->start, &s->launch, said[1], e);
	close(said[1]);
	s->record.said = said[0];
	if (r < 0)
		return r;
	s->state.pid = s->start.pid;
	s->state.start_time = proc_start_time(s->start.pid);
	s->state.confinement = s->start.confinement;
	if ((r = settle(s, e)) < 0)
		return r;		/* the child sees its channel close, and ends */
	if ((r = start_release(&s->start, e)) < 0) {
		s->state.how = CTL_END_EXITED;
		s->state.code = 127;
		snprintf(s->said, sizeof(s->said), "%s", e->msg);
		record_end(&s->record, &s->launch.body.launch, &s->state, s->said, sizeof(s->said));
	}
	return r;
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
	uint32_t id = m->id, type = m->type;
	int r;
	if (s->state.phase != (type == CTL_GO ? CTL_PARKED : 0)) {
		r = fail(&e, ERR_STATE, "croft-vm is not in the state for this");
	} else if (type == CTL_GO) {
		r = go(s, &e);
	} else {
		s->launch = *m;			/* taken over, with its descriptors */
		memset(m, 0, sizeof(*m));
		r = prepare(s, type == CTL_ADOPT, &e);
		if (r == 0 && type == CTL_ADOPT)
			r = settle(s, &e);
	}
	if (r == 0 && type != CTL_LAUNCH) {
		s->state.phase = CTL_RUNNING;
		s->until = 0;
	}
	answer_result(s, fd, id, r, &e);
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
	s->state.phase = CTL_ENDED;
	console_drain(&s->console);
	record_end(&s->record, &s->launch.body.launch, &s->state, s->said, sizeof(s->said));
	for (unsigned i = 0; i < s->nclients; i++)
		answer_state(s, s->clients[i].fd, 0);
	s->until = mono_usec() + LINGER_USEC;
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
	int64_t left = s->until - mono_usec();
	if (poll(ps.p, ps.n, !s->until ? -1 : left < 0 ? 0 : (int)(left / 1000) + 1) < 0 && errno != EINTR)
		s->done = true;
	if (polls_got(&ps, s->record.slot))
		record_said(&s->record);
	console_work(&s->console, &ps);
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
	reset_signals();
	for (size_t i = 0; i < COUNT(ignored); i++)
		signal(ignored[i], SIG_IGN);
	reset_limits(65536);
	reset_scores();
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
	s->ctl = s->start.pidfd = s->record.said = s->console.serial = s->console.ring.fd = -1;
	s->clients[s->nclients++] = (struct client){ .fd = CHANNEL };
	s->until = mono_usec() + PARKED_USEC;
	while (!s->done)
		turn(s);
	_exit(s->state.phase == CTL_ENDED ? 0 : 1);	/* a sanitizer's leak search cannot run in here */
}
