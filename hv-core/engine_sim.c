/* engine_sim.c: guests that exist in croftd only: for load tests, demos and people who write clients. They obey every
 * power action within milliseconds, have no process, and are gone when croftd ends. An idle one has no timer. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "engine.h"
#include "text.h"

enum { MOMENT_USEC = 2000, VIEWERS_MAX = 16 };

struct sim {
	struct timer soon;		/* boot, shutdown or death on its way */
	struct list viewers;
	unsigned nviewers;
	enum vm_why why;
};
struct sim_viewer {
	struct list in_sim;
	struct sim *sim;
	int fd;				/* owned */
	sd_event_source *src;
	size_t held;			/* of buf: what the viewer has not taken yet */
	char buf[32 * 1024];
};

static void viewer_free(struct sim_viewer *w)
{
	list_remove(&w->in_sim);
	w->sim->nviewers--;
	sd_event_source_disable_unref(w->src);
	close_at(&w->fd);
	free(w);
}

/* The simulated guest types back what it reads, and reads no faster than its viewer does. */
static int on_typed(sd_event_source *src, int fd, uint32_t events, void *arg)
{
	struct sim_viewer *w = arg;
	ssize_t n = w->held ? (ssize_t)w->held : recv(fd, w->buf, sizeof(w->buf), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		viewer_free(w);
		return 0;
	}
	if (n < 0)
		return 0;
	ssize_t sent = send(fd, w->buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent < 0 && errno != EAGAIN && errno != EINTR) {
		viewer_free(w);
		return 0;
	}
	bool had = w->held;

	w->held = n - (sent > 0 ? sent : 0);
	if (w->held && sent > 0)
		memmove(w->buf, w->buf + sent, w->held);
	if (had != !!w->held)
		sd_event_source_set_io_events(src, w->held ? EPOLLOUT : EPOLLIN);
	return 0;
}

static int sim_serial(struct vm *vm, int fd)
{
	struct sim *sim = vm->run;
	struct sim_viewer *w;
	char banner[160];
	int n;

	if (sim->nviewers == VIEWERS_MAX) {
		close_at(&fd);
		return 0;
	}
	w = xnew(sim_viewer);
	w->sim = sim;
	w->fd = fd;
	list_append(&sim->viewers, &w->in_sim);
	sim->nviewers++;
	n = snprintf(banner, sizeof(banner), "Simulated VM %s: no guest runs here; what you type comes back.\r\n",
		     vm->name);
	if (send(fd, banner, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ||
	    sd_event_add_io(vm->vms->how.ev, &w->src, fd, EPOLLIN, on_typed, w) < 0)
		viewer_free(w);
	return 0;
}

static void on_end(void *arg)
{
	struct vm *vm = arg;
	struct sim *sim = vm->run;
	struct vm_last last = { .why = sim->why, .when_usec = now_usec(), .exit_code = -1 };

	vm_saw(vm, VM_SAW_END, &last);
}

static void on_booted(void *arg)
{
	struct vm *vm = arg;
	struct sim *sim = vm->run;

	timer_disarm(&sim->soon);
	vm_saw(vm, VM_SAW_RUNNING, NULL);
}

static void soon(struct vm *vm, void (*fn)(void *arg))
{
	struct sim *sim = vm->run;

	timer_arm(&sim->soon, vm->vms->how.ev, MOMENT_USEC, fn, vm);
}

static int sim_start(struct vm *vm, const struct vm_launch *l, struct err *e)
{
	struct sim *sim = xnew(sim);

	list_init(&sim->viewers);
	vm->run = sim;
	soon(vm, on_booted);
	vm_viewers_hand_over(vm);
	return 0;
}

static void sim_kill(struct vm *vm, enum vm_why why)
{
	struct sim *sim = vm->run;

	if (vm->state != VM_ENDING)
		sim->why = why;
	soon(vm, on_end);
}

static void sim_ask(struct vm *vm, struct vm_op *op, int fd)
{
	struct sim *sim = vm->run;
	struct err e = { 0 };

	close_at(&fd);
	switch (op->ask) {
	case VM_ASK_SHUTDOWN:
		sim->why = VM_WHY_GUEST_SHUTDOWN;
		soon(vm, on_end);
		vm_saw(vm, VM_SAW_TOLD, NULL);
		break;
	case VM_ASK_RESET:
		timer_disarm(&sim->soon);
		vm_saw(vm, VM_SAW_RESET, NULL);
		break;
	case VM_ASK_PAUSE:
		timer_disarm(&sim->soon);
		vm_saw(vm, VM_SAW_PAUSED, NULL);
		break;
	case VM_ASK_RESUME:
		vm_saw(vm, VM_SAW_RUNNING, NULL);
		break;
	case VM_ASK_SUSPEND:		/* there is no memory to be saved */
		timer_disarm(&sim->soon);
		vm_saw(vm, VM_SAW_SAVING, NULL);
		break;
	default:
		fail(&e, ERR_UNSUPPORTED, "VM \"%s\" is simulated: it has no screen", vm->name);
		break;
	}
	vm_op_end(op, e.code ? &e : NULL);
}

/* What is simulated is as it is wanted. */
static void sim_change(struct vm *vm, struct vm_op *op, const struct hot_step *s, const struct vm_spec *is,
		       const struct vm_spec *wanted, int fd)
{
	close_at(&fd);
	vm_op_end(op, NULL);
}

static void sim_detach(struct vm *vm)
{
	struct sim *sim = vm->run;

	timer_disarm(&sim->soon);
	LIST_FOR(w, &sim->viewers, struct sim_viewer, in_sim)
		viewer_free(w);
	free(TAKE(vm->run));
}

static void sim_status(const struct vm *vm, struct vm_status *s)
{
	s->accel = "sim";
	s->as_of_usec = now_usec();
}

const struct engine engine_sim = {
	.name = "sim",
	.start = sim_start,
	.ask = sim_ask,
	.change = sim_change,
	.kill = sim_kill,
	.serial = sim_serial,
	.detach = sim_detach,
	.status = sim_status,
};
