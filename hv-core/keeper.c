#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "file.h"
#include "log.h"
#include "loop.h"
#include "mem.h"
#include "shim_start.h"
#include "sock.h"
#include "text.h"

#define ANSWER_USEC	5000000		/* croft-vm answers within this, or is replaced */
#define EXECUTE_USEC	25000000	/* the namespace, and QEMU's execve from a slow disk */
#define DIE_USEC	3000000		/* a killed croft-vm is gone within this */
#define LOOK_USEC	500000		/* one that ends holds the lock so much longer than its connection, at most */
#define ADOPT_EVERY_USEC 5000000	/* no faster, should it die again and again */

enum state { LAUNCHING, PARKED, EXECUTING, ATTACHING, RUNNING, REPLACING, ADOPTING, ENDING, LOOKING, FAILING, OVER };

struct keeper {
	struct keeper_house house;
	const struct keeper_ops *ops;
	void *arg;
	enum state state;
	char uuid[37];
	int dir, ctl;			/* run folder; connection to croft-vm */
	int qemu, shim_fd;		/* pidfds */
	sd_event_source *ctl_src, *qemu_src;
	struct child *shim;		/* when we started it */
	struct vm_proc proc;
	struct timer late;		/* the deadline of what is awaited */
	unsigned asked;			/* requests without an answer yet */
	uint32_t id;
	bool kill_asked, was_stopped;
	bool starts;			/* it was not seen to run yet */
	bool held;			/* something holds its lock, which is not known */
	int64_t adopted_usec;
	struct err why;			/* FAILING: what is told when croft-vm has ended */
};

static const struct { uint64_t usec; const char *what; } waits[] = {
	[LAUNCHING] = { ANSWER_USEC, "croft-vm did not get ready" },
	[EXECUTING] = { EXECUTE_USEC, "croft-vm did not execute QEMU" },
	[ATTACHING] = { ANSWER_USEC, "croft-vm did not answer" },
	[REPLACING] = { DIE_USEC, "croft-vm hangs and could not be killed" },
	[ADOPTING] = { ANSWER_USEC, "the new croft-vm did not get ready" },
	[ENDING] = { DIE_USEC, "croft-vm did not tell how QEMU ended" },
	[LOOKING] = { LOOK_USEC, "something holds its lock, and it is not known what" },
	[FAILING] = { DIE_USEC, "croft-vm has failed and does not end" },
	[OVER] = { 0 },
};

static void on_late(void *arg);
static void adopt(void *arg);
static void watch_ctl(struct keeper *k, int fd, int pidfd);

/* ---- the end of a keeper ---- */

static void ctl_close(struct keeper *k)
{
	k->ctl_src = sd_event_source_disable_unref(k->ctl_src);
	close_at(&k->ctl);
	k->ctl = -1;
	k->asked = 0;
}

static void quiet(struct keeper *k)		/* nothing will call back any more */
{
	ctl_close(k);
	timer_disarm(&k->late);
	k->qemu_src = sd_event_source_disable_unref(k->qemu_src);
	k->state = OVER;
}

static void enter(struct keeper *k, enum state s)
{
	k->state = s;
	timer_disarm(&k->late);
	if (s < COUNT(waits) && waits[s].usec)
		timer_arm(&k->late, k->house.ev, waits[s].usec, on_late, k);
}

static void over_ended(struct keeper *k, const struct vm_end *end)
{
	struct vm_end copy = *end;
	quiet(k);
	k->ops->ended(k->arg, &copy);
}

static void over_failed(struct keeper *k, const struct err *e);

/* A QEMU that was never seen may hold its lock. */
static bool is_held(const struct keeper *k, struct run_folder *ret)
{
	struct err e = { 0 };
	if (run_read(k->house.run_fd, k->uuid, ret, &e) < 0)
		log_warn("VM %s: %s", k->uuid, e.msg);
	return k->qemu < 0 && (ret->state == RUN_RUNNING || (e.code && e.code != ERR_NOT_FOUND));
}

/* QEMU is gone and croft-vm too: what it wrote down must do. */
static void over_by_record(struct keeper *k)
{
	struct run_folder r = { .state = RUN_UNKNOWN };
	struct err e = { 0 };
	k->held = is_held(k, &r);
	if (k->held && k->state != LOOKING) {
		enter(k, LOOKING);
	} else if (!k->held && (k->qemu >= 0 || !k->starts)) {
		over_ended(k, &r.end);
	} else {
		if (k->held)
			fail(&e, ERR_UNAVAILABLE, "the run folder of %s: %s", k->uuid, waits[LOOKING].what);
		else if (k->kill_asked)
			fail(&e, ERR_CANCELLED, "the start of %s was given up", k->uuid);
		else
			fail(&e, ERR_INTERNAL, "croft-vm of %s ended before QEMU ran", k->uuid);
		over_failed(k, &e);
	}
	run_folder_fini(&r);
}

static bool qemu_gone(const struct keeper *k)
{
	struct pollfd p = { .fd = k->qemu, .events = POLLIN };
	return k->qemu < 0 || poll(&p, 1, 0) == 1;
}

static void told_failed(struct keeper *k, const struct err *e)
{
	struct err copy = *e;			/* the callback may free us */
	quiet(k);
	k->ops->failed(k->arg, &copy);
}

/* A croft-vm that cannot adopt a guest which has just ended has not failed. One that cannot start it is waited for: as long as it
 * has the VM's files, the next start would find them in use. */
static void over_failed(struct keeper *k, const struct err *e)
{
	if (k->qemu >= 0 && qemu_gone(k)) {
		over_by_record(k);
	} else if (k->starts && k->shim && !k->held && k->qemu < 0) {
		k->why = *e;
		enter(k, FAILING);
	} else {
		told_failed(k, e);
	}
}

/* ---- QEMU's process ---- */

static int on_qemu(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct keeper *k = arg;
	loop_what("QEMU's end");
	k->qemu_src = sd_event_source_disable_unref(k->qemu_src);
	if (k->state == RUNNING && k->ctl >= 0)
		enter(k, ENDING);		/* croft-vm will say how */
	else if (k->state != ATTACHING && k->state != ENDING)
		over_by_record(k);
	return 0;
}

/* A pid is believed only together with its start time, looked at after the pidfd holds the process. */
static void qemu_watch(struct keeper *k)
{
	if (k->qemu >= 0 || k->proc.pid <= 0)
		return;
	k->qemu = pidfd_open(k->proc.pid, 0);
	if (k->qemu >= 0 && proc_start_time(k->proc.pid) != k->proc.start_time) {
		close(k->qemu);
		k->qemu = -1;
	}
	if (k->qemu >= 0 && sd_event_add_io(k->house.ev, &k->qemu_src, k->qemu, EPOLLIN, on_qemu, k) < 0)
		abort();
}

/* ---- croft-vm's process ---- */

static void on_shim_end(void *arg, int wstatus, const char *said)
{
	struct keeper *k = arg;
	if (WIFSIGNALED(wstatus) || *said)
		log_warn("croft-vm of %s: %s%d %s", k->uuid, WIFSIGNALED(wstatus) ? "ended by signal " : "exit status ",
			 WIFSIGNALED(wstatus) ? WTERMSIG(wstatus) : WEXITSTATUS(wstatus), said);
	child_free(TAKE(k->shim));		/* what follows from it comes by the closed connection */
	if (k->state == FAILING) {
		told_failed(k, &k->why);
		return;
	}
	struct run_folder r = { .state = RUN_UNKNOWN };
	bool free_now = k->state == LOOKING && !is_held(k, &r);
	run_folder_fini(&r);
	if (free_now)				/* it was itself what held the lock */
		over_by_record(k);
}

/* Who listens at the other end: while the connection is up, its pid cannot have become another process's. */
static int peer_pidfd(int ctl)
{
	struct ucred who;
	socklen_t n = sizeof(who);
	struct pollfd p = { .fd = ctl, .events = POLLIN };
	AUTO_CLOSE int fd = getsockopt(ctl, SOL_SOCKET, SO_PEERCRED, &who, &n) < 0 ? -1 : pidfd_open(who.pid, 0);
	return fd >= 0 && (poll(&p, 1, 0) == 0 || !(p.revents & POLLHUP)) ? TAKE_FD(fd) : -1;
}

static int recorded_pidfd(const struct vm_proc *p)	/* the one that launch.json names, if it is still that one */
{
	AUTO_CLOSE int fd = p->shim > 0 ? pidfd_open(p->shim, 0) : -1;
	return fd >= 0 && proc_start_time(p->shim) == p->shim_start_time ? TAKE_FD(fd) : -1;
}

/* There is never more than one croft-vm for a VM: before the next one starts, the last one is made sure to be gone. */
static void shim_kill(struct keeper *k)
{
	if (k->shim_fd >= 0)
		pidfd_send_signal(k->shim_fd, SIGKILL, NULL, 0);
}

/* croft-vm hangs: kill it; when its connection has closed, adopt() follows. */
static void replace(struct keeper *k, const char *why)
{
	struct err e = { 0 };
	fail(&e, ERR_TIMEOUT, "croft-vm of %s hangs and is being replaced: %s", k->uuid, why);
	shim_kill(k);
	enter(k, REPLACING);
	if (k->ops->degraded)
		k->ops->degraded(k->arg, &e);
}

static void lost(struct keeper *k)
{
	struct err e = { 0 };
	int64_t ago = mono_usec() - k->adopted_usec;
	fail(&e, ERR_UNAVAILABLE, "croft-vm of %s died and is being replaced", k->uuid);
	bool told = k->state == REPLACING;
	shim_kill(k);
	enter(k, REPLACING);
	timer_arm(&k->late, k->house.ev, k->adopted_usec && ago < ADOPT_EVERY_USEC ? ADOPT_EVERY_USEC - ago : 1, adopt, k);
	if (!told && k->ops->degraded)
		k->ops->degraded(k->arg, &e);
}

static void adopt(void *arg)
{
	struct keeper *k = arg;
	struct run_folder r;
	struct err e = { 0 };
	int ctl = -1;
	if (qemu_gone(k)) {
		over_by_record(k);
		return;
	}
	if (run_read(k->house.run_fd, k->uuid, &r, &e) < 0) {
		over_failed(k, &e);
		return;
	}
	r.proc.pid = k->proc.pid;		/* what the pidfd holds, whatever the file says by now */
	r.proc.start_time = k->proc.start_time;
	k->adopted_usec = mono_usec();
	child_release(TAKE(k->shim));
	k->shim = shim_start(&k->house, k->dir, k->uuid, true, on_shim_end, k, &ctl, &e);
	if (k->shim)
		watch_ctl(k, ctl, child_pidfd(k->shim));
	if (k->shim && shim_send_adopt(&k->house, ctl, &r, k->qemu, &e) == 0)
		enter(k, ADOPTING);
	else
		over_failed(k, &e);
	run_folder_fini(&r);
}

/* ---- what croft-vm says ---- */

/* What an older croft-vm does not send is zero: what is known already stays. */
static void learn(struct keeper *k, const struct ctl_state *s)
{
	k->proc.pid = s->pid ? (pid_t)s->pid : k->proc.pid;
	k->proc.start_time = s->start_time ? s->start_time : k->proc.start_time;
	k->proc.shim = s->shim_pid ? (pid_t)s->shim_pid : k->proc.shim;
	k->proc.shim_start_time = s->shim_pid ? s->shim_start_time : k->proc.shim_start_time;
	k->proc.uid = s->uid ? s->uid : k->proc.uid;
	k->proc.adopted = s->adopted;
	if (s->confinement)
		snprintf(k->proc.confinement, sizeof(k->proc.confinement), "%s", s->confinement);
}

static void on_ended(struct keeper *k, const struct ctl_state *s)
{
	struct vm_end end = { .code = (int)s->code, .at_usec = (int64_t)s->at_usec };
	end.how = s->how == CTL_END_EXITED ? VM_END_EXITED : s->how == CTL_END_KILLED ? VM_END_KILLED : VM_END_UNKNOWN;
	snprintf(end.said, sizeof(end.said), "%s", s->said ? s->said : "");
	over_ended(k, &end);
}

static void on_running(struct keeper *k)
{
	if (k->state == RUNNING)
		return;
	qemu_watch(k);
	if (k->qemu < 0) {			/* it is gone already */
		enter(k, ENDING);
		return;
	}
	k->starts = false;
	enter(k, RUNNING);
	if (k->kill_asked)
		keeper_kill(k, NULL);
	k->ops->running(k->arg, &k->proc);
}

static void on_state(struct keeper *k, const struct ctl_state *s)
{
	learn(k, s);
	if (s->phase == CTL_ENDED) {
		on_ended(k, s);
	} else if (s->phase == CTL_RUNNING) {
		on_running(k);
	} else if (k->state == LAUNCHING) {
		enter(k, PARKED);
		k->ops->parked(k->arg, k->proc.shim);
	} else if (k->state == ATTACHING) {	/* its croftd has gone, so it gives up: see on_closed() */
		enter(k, ENDING);
	}
}

static void on_failed(struct keeper *k, const struct ctl_failed *f)
{
	struct err e = { 0 };
	const char *what = f->what ? f->what : "no reason was given";
	if (k->state == LAUNCHING || k->state == EXECUTING || k->state == ADOPTING) {
		fail_errno(&e, (int)f->error, "croft-vm");	/* for the code that suits the errno */
		fail(&e, e.code, "%s", what);
		over_failed(k, &e);
	} else {
		log_warn("croft-vm of %s: %s", k->uuid, what);
	}
}

static void on_message(struct keeper *k, const struct ctl_message *m)
{
	if (m->id && k->asked && --k->asked == 0 && k->state == RUNNING)
		timer_disarm(&k->late);
	switch (m->type) {
	case CTL_STATE: on_state(k, &m->body.state); break;
	case CTL_FAILED: on_failed(k, &m->body.failed); break;
	case CTL_UNSUPPORTED:
		log_note("croft-vm of %s is older and does not know request %u", k->uuid, m->body.unsupported.type);
		break;
	default: break;				/* HELLO, DONE, and what a newer one may say unasked */
	}
}

static void on_closed(struct keeper *k)
{
	struct run_folder r;
	struct err e = { 0 };
	enum state was = k->state;
	ctl_close(k);
	if (was == LOOKING || was == FAILING)
		return;
	if (was == LAUNCHING || was == PARKED || was == EXECUTING) {
		/* The worst case: it died after it had executed QEMU, before it could tell. */
		if (run_read(k->house.run_fd, k->uuid, &r, &e) == 0) {
			k->proc = r.proc;
			if (r.state == RUN_RUNNING)
				qemu_watch(k);
			run_folder_fini(&r);
		}
		if (qemu_gone(k))
			over_by_record(k);
		else
			lost(k);
	} else if (was == ADOPTING) {
		fail(&e, ERR_UNAVAILABLE, "the new croft-vm of %s ended at once", k->uuid);
		over_failed(k, &e);
	} else if (qemu_gone(k)) {
		over_by_record(k);
	} else {
		lost(k);
	}
}

static int on_ctl(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct keeper *k = arg;
	struct ctl_message m;
	loop_what("croft-vm's message");
	int r = ctl_recv(k->ctl, &m);		/* one a turn; the callback may free us */
	if (r > 0) {
		on_message(k, &m);
		ctl_fini(&m);
	} else if (r != -EAGAIN) {
		on_closed(k);
	}
	return 0;
}

/* @pidfd: of our child, or -1: whoever listens there. */
static void watch_ctl(struct keeper *k, int fd, int pidfd)
{
	ctl_close(k);
	close_at(&k->shim_fd);
	k->shim_fd = pidfd >= 0 ? fcntl(pidfd, F_DUPFD_CLOEXEC, 3) : peer_pidfd(fd);
	k->ctl = fd;
	if (sd_event_add_io(k->house.ev, &k->ctl_src, fd, EPOLLIN, on_ctl, k) < 0)
		abort();
}

static void on_late(void *arg)
{
	struct keeper *k = arg;
	struct err e = { 0 };
	const char *what = waits[k->state].usec ? waits[k->state].what : "it did not answer a request";
	fail(&e, ERR_TIMEOUT, "%s (VM %s, after %d s)", what, k->uuid,
	     (int)((waits[k->state].usec ? waits[k->state].usec : ANSWER_USEC) / 1000000));
	switch (k->state) {
	case LAUNCHING: case EXECUTING:
		if (k->shim)
			child_kill(k->shim, SIGKILL);
		on_closed(k);			/* it may have executed QEMU all the same */
		break;
	case ATTACHING: case RUNNING: replace(k, what); break;
	case ENDING:
		if (qemu_gone(k)) {
			shim_kill(k);		/* it hangs, and would stay for ever */
			over_by_record(k);
		} else {
			replace(k, what);
		}
		break;
	case REPLACING: case ADOPTING: over_failed(k, &e); break;
	case LOOKING: over_by_record(k); break;
	case FAILING:
		child_kill(k->shim, SIGKILL);
		told_failed(k, &k->why);
		break;
	case PARKED: case OVER: break;
	}
}

static int ask(struct keeper *k, enum ctl_type type, const void *body, int fd, struct err *e)
{
	if (k->ctl < 0)
		return fail(e, ERR_UNAVAILABLE, "croft-vm of %s is being replaced, try again in a moment", k->uuid);
	int r = ctl_send(k->ctl, type, ++k->id ? k->id : ++k->id, body, &fd, fd >= 0);
	if (r < 0)
		return fail_errno(e, r, "croft-vm of %s does not take requests", k->uuid);
	if (k->state == RUNNING && !k->asked)
		timer_arm(&k->late, k->house.ev, ANSWER_USEC, on_late, k);
	k->asked++;
	return 0;
}

/* ---- the face ---- */

static struct keeper *new(const struct keeper_house *h, const char *uuid, const struct keeper_ops *ops, void *arg)
{
	struct keeper *k = xnew(keeper);
	k->house = *h;
	k->ops = ops;
	k->arg = arg;
	k->dir = k->ctl = k->qemu = k->shim_fd = -1;
	snprintf(k->uuid, sizeof(k->uuid), "%s", uuid);
	return k;
}

struct keeper *keeper_start(const struct keeper_house *h, const struct keeper_launch *l, const struct keeper_ops *ops,
			    void *arg, struct err *e)
{
	bool alive;
	int ctl, r = run_alive(h->run_fd, l->uuid, &alive);
	if (r < 0)
		return fail_errno(e, r, "look at the run folder of %s", l->uuid), NULL;
	if (alive)
		return fail(e, ERR_BUSY, "the VM %s runs already: its run folder is locked", l->uuid), NULL;
	struct keeper *k = new(h, l->uuid, ops, arg);
	k->starts = true;
	k->proc.uid = l->uid;
	if ((k->dir = shim_folder(h->run_fd, l->uuid, e)) < 0 ||
	    !(k->shim = shim_start(h, k->dir, l->uuid, false, on_shim_end, k, &ctl, e)))
		goto bad;
	watch_ctl(k, ctl, child_pidfd(k->shim));
	if (shim_send_launch(h, ctl, l, e) < 0)
		goto bad;
	enter(k, LAUNCHING);
	return k;
bad:
	keeper_free(k);
	return NULL;
}

static void say_hello(struct keeper *k)
{
	struct ctl_hello hello = { (char *)k->house.version };
	struct err e = { 0 };
	enter(k, ATTACHING);
	if (ask(k, CTL_HELLO, &hello, -1, &e) < 0 || ask(k, CTL_STATUS, &(struct ctl_empty){ 0 }, -1, &e) < 0)
		log_warn("%s", e.msg);		/* its deadline runs */
}

struct keeper *keeper_attach(const struct keeper_house *h, const char *uuid, const struct keeper_ops *ops, void *arg,
			     struct err *e)
{
	struct run_folder r;
	if (run_read(h->run_fd, uuid, &r, e) < 0)
		return NULL;
	bool running = r.state == RUN_RUNNING;
	struct keeper *k = new(h, uuid, ops, arg);
	k->proc = r.proc;
	run_folder_fini(&r);
	if (!running) {
		fail(e, ERR_STATE, "the VM %s does not run", uuid);
		goto bad;
	}
	if ((k->dir = file_open_dir(h->run_fd, uuid, false, 0)) < 0) {
		fail_errno(e, k->dir, "open the run folder %s", uuid);
		goto bad;
	}
	qemu_watch(k);
	int ctl = sock_connect_at(k->dir, "ctl", SOCK_SEQPACKET);
	if (ctl >= 0) {
		watch_ctl(k, ctl, -1);
		say_hello(k);
	} else if (k->qemu < 0) {
		fail(e, ERR_UNAVAILABLE, "somebody holds the run folder of %s, but neither croft-vm nor QEMU is known: %s",
		     uuid, strerror(-ctl));
		goto bad;
	} else {				/* nobody listens: it is dead; its queue is full: it hangs */
		enter(k, REPLACING);
		k->shim_fd = recorded_pidfd(&k->proc);
		shim_kill(k);
		timer_arm(&k->late, h->ev, ctl == -EAGAIN ? 100000 : 1, adopt, k);
	}
	return k;
bad:
	keeper_free(k);
	return NULL;
}

void keeper_free(struct keeper *k)
{
	if (!k)
		return;
	quiet(k);
	close_at(&k->qemu);
	close_at(&k->shim_fd);
	close_at(&k->dir);
	child_release(k->shim);
	free(k);
}

void keeper_go(struct keeper *k)
{
	struct err e = { 0 };
	if (k->state != PARKED)
		return;
	enter(k, EXECUTING);
	if (ask(k, CTL_GO, &(struct ctl_empty){ 0 }, -1, &e) < 0)
		log_warn("%s", e.msg);		/* its deadline runs */
}

int keeper_viewer(struct keeper *k, int fd, struct err *e)
{
	AUTO_CLOSE int owned = fd;
	if (k->state != RUNNING)
		return fail(e, ERR_UNAVAILABLE, "the console of %s is not ready, try again in a moment", k->uuid);
	return ask(k, CTL_VIEWER, &(struct ctl_empty){ 0 }, owned, e);
}

void keeper_probe(struct keeper *k)
{
	if (k->state == RUNNING && !k->asked)
		ask(k, CTL_STATUS, &(struct ctl_empty){ 0 }, -1, NULL);
}

void keeper_look(struct keeper *k)
{
	if (k->state != RUNNING || k->shim_fd < 0)	/* the other states have deadlines */
		return;
	if (!proc_is_stopped(k->proc.shim, k->proc.shim_start_time)) {
		k->was_stopped = false;
	} else if (k->was_stopped) {
		k->was_stopped = false;
		replace(k, "it was stopped again after it was let go on");
	} else {
		log_warn("croft-vm of %s was stopped (SIGSTOP), and is let go on: its guest waits for it", k->uuid);
		k->was_stopped = true;
		pidfd_send_signal(k->shim_fd, SIGCONT, NULL, 0);
	}
}

int keeper_qmp_connect(struct keeper *k, struct err *e)
{
	int fd = sock_connect_at(k->dir, "qmp", SOCK_STREAM);
	return fd < 0 ? fail_errno(e, fd, "connect to the monitor of %s", k->uuid) : fd;
}

int keeper_agent_connect(struct keeper *k, struct err *e)
{
	int fd = sock_connect_at(k->dir, "agent", SOCK_STREAM);
	return fd < 0 ? fail_errno(e, fd, "connect to the guest agent's port of %s", k->uuid) : fd;
}

int keeper_kill(struct keeper *k, struct err *e)
{
	k->kill_asked = true;
	if (k->qemu >= 0 && pidfd_send_signal(k->qemu, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return fail_errno(e, errno, "kill QEMU of %s", k->uuid);
	if (k->qemu < 0 && (k->state == LAUNCHING || k->state == PARKED) && k->shim)
		child_kill(k->shim, SIGKILL);
	return 0;
}

bool keeper_left(const struct keeper *k)
{
	return k->qemu >= 0 ? !qemu_gone(k) : k->held;
}

bool keeper_knows(const struct keeper *k)
{
	return k->qemu >= 0;
}

const struct vm_proc *keeper_proc(const struct keeper *k)
{
	return &k->proc;
}
