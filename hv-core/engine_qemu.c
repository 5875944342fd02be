/* engine_qemu.c: a guest in QEMU: its processes by the keeper, its monitor by QMP. What it sees of both it tells as
 * events to the table of states.
 *
 * The monitor may fall silent, be lost or talk rubbish: then the VM is degraded, and comes back by itself when the
 * monitor does. Nothing but vm_poweroff, and a start that never came up, ends a guest. */
#include "engine_qemu.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include "child.h"
#include "launch.h"
#include "log.h"
#include "text.h"

/* ---- what the keeper tells ---- */

static void on_parked(void *arg, pid_t shim)
{
	struct guest *g = arg;
	struct vm *vm = g->vm;

	if (vm->vms->how.on_parked)
		vm->vms->how.on_parked(vm, vm->owner, shim);
	else
		keeper_go(g->keeper);
}

static void on_running(void *arg, const struct vm_proc *proc)
{
	struct guest *g = arg;

	g->found = g->serves = true;
	free(g->cpus);
	g->cpus = proc_cpus(proc->pid);
	if (g->killed)
		keeper_kill(g->keeper, NULL);
	else
		guest_connect(g);
	vm_viewers_hand_over(g->vm);
	vm_noted(g->vm);
}

static void on_shim_lost(void *arg, const struct err *why)
{
	struct guest *g = arg;

	log_warn("VM %s: %s", g->vm->name, why->msg);
	g->serves = false;
}

static void on_ended(void *arg, const struct vm_end *end)
{
	struct guest *g = arg;
	struct vm_last last;

	if (g->qmp)			/* its answer to a shutdown, and why it ended, may lie there unread */
		qmp_drain(g->qmp);
	vm_last_from_end(end, &last);
	if (g->why)
		last.why = g->why;
	else if (g->vm->state == VM_STARTING && last.exit_code && g->load < GOING)
		last.why = VM_WHY_START_FAILED;
	if (g->reason)
		snprintf(last.message, sizeof(last.message), "%s", g->reason);
	vm_saw(g->vm, VM_SAW_END, &last);
}

static void on_failed(void *arg, const struct err *e)
{
	struct guest *g = arg;
	struct vm_last last = { .why = g->why, .when_usec = now_usec(), .exit_code = -1 };

	if (!g->found && !keeper_left(g->keeper)) {
		last.why = g->why ? g->why : VM_WHY_START_FAILED;
		snprintf(last.message, sizeof(last.message), "%s", e->msg);
		vm_saw(g->vm, VM_SAW_END, &last);
		return;
	}
	bool known = keeper_knows(g->keeper);

	g->found = true;
	keeper_free(TAKE(g->keeper));
	qmp_free(TAKE(g->qmp));
	g->serves = false;
	if (known)
		guest_silent(g, e->msg);
	else
		guest_lost(g, e->msg);
	/* A round of 30 s is long for a process that is about to go, or for somebody who waits for it. */
	if (g->vm->state == VM_ENDING || g->vm->state == VM_STARTING)
		timer_arm(&g->again, g->vm->vms->how.ev, AGAIN_USEC, guest_on_again, g);
}

static const struct keeper_ops keeper_ops = {
	.parked = on_parked,
	.running = on_running,
	.degraded = on_shim_lost,
	.ended = on_ended,
	.failed = on_failed,
};

/* ---- what the VM asks ---- */

static struct guest *guest_new(struct vm *vm)
{
	struct guest *g = xnew(guest);

	g->vm = vm;
	g->load_fd = g->save_fd = -1;
	vm->run = g;
	return g;
}

static void qemu_detach(struct vm *vm)
{
	struct guest *g = TAKE(vm->run);
	struct err gone;

	fail(&gone, ERR_INTERRUPTED, "VM \"%s\" has ended, or croftd lets go of it, before its memory was saved", vm->name);
	vm_agent_free(vm);
	timer_disarm(&g->again);
	timer_disarm(&g->memory_tell);
	guest_save_end(g, &gone);
	qmp_free(TAKE(g->qmp));
	guest_change_end(g);
	keeper_free(g->keeper);
	close_at(&g->load_fd);
	free(g->note);
	free(g->cpus);
	free(g);
}

static int qemu_start(struct vm *vm, const struct vm_launch *l, struct err *e)
{
	static const char *const devices[] = { "/dev/kvm", NULL };
	AUTO_FREE struct keeper_fd *fds = xcalloc(l->argv.nfds + 1, sizeof(*fds));
	char uuid[37];
	struct keeper_launch k = {
		.uuid = uuid, .argv = (const char *const *)l->argv.v, .fds = fds, .uid = l->uid, .gid = l->gid,
		.qemu_version = l->qemu_version, .private_root = true, .devices = l->kvm ? devices : NULL,
		.cpus = l->cpus,
	};
	struct guest *g;

	for (size_t i = 0; i < l->argv.nfds; i++) {
		const struct argv_fd *f = &l->argv.fds[i];

		if (f->what == ARGV_FD_QMP)
			k.qmp = f->fd;
		else if (f->what == ARGV_FD_SERIAL)
			k.serial = f->fd;
		else if (f->what == ARGV_FD_AGENT)
			k.agent = f->fd;
		else
			fds[k.nfds++] = (struct keeper_fd){ l->fds[i], f->fd };
	}
	vm_uuid(vm, uuid);
	g = guest_new(vm);
	g->want_kvm = l->kvm;
	if (l->resumes) {
		g->load_fd = fcntl(l->memory, F_DUPFD_CLOEXEC, 3);
		g->load = LOADING;
	}
	g->keeper = keeper_start(vm->vms->how.house, &k, &keeper_ops, g, e);
	if (g->keeper)
		return 0;
	qemu_detach(vm);
	return -EIO;			/* @e says what happened */
}

static void qemu_go(struct vm *vm)
{
	struct guest *g = vm->run;

	if (g->load == LOADED)
		guest_go_on(g);
	else
		keeper_go(g->keeper);
}

static struct keeper *attach(struct guest *g, struct err *e)
{
	char uuid[37];

	vm_uuid(g->vm, uuid);
	return keeper_attach(g->vm->vms->how.house, uuid, &keeper_ops, g, e);
}

static int qemu_attach(struct vm *vm, struct err *e)
{
	struct guest *g = guest_new(vm);
	struct err why = { 0 };

	g->found = true;
	g->keeper = attach(g, &why);
	if (!g->keeper && why.code == ERR_STATE) {
		qemu_detach(vm);
		return fail(e, why.code, "%s", why.msg);
	}
	if (!g->keeper)			/* something runs, but cannot be kept: that is degraded, not off */
		timer_arm(&g->again, vm->vms->how.ev, 0, guest_on_again, g);
	return 0;
}

/* It could not be kept for a while, and has ended meanwhile: the run folder knows what there is to know. */
static void ended_unseen(struct guest *g)
{
	struct vm_last last = { .why = g->why ? g->why : VM_WHY_UNKNOWN, .when_usec = now_usec(), .exit_code = -1 };
	struct run_folder r = { 0 };
	struct err e = { 0 };
	char uuid[37];

	vm_uuid(g->vm, uuid);
	if (!g->why && run_read(g->vm->vms->how.house->run_fd, uuid, &r, &e) == 0)
		vm_last_from_run(&r, &last);
	run_folder_fini(&r);
	vm_saw(g->vm, VM_SAW_END, &last);
}

void guest_keep(struct guest *g)
{
	struct err e = { 0 };

	g->keeper = attach(g, &e);
	if (!g->keeper && e.code == ERR_STATE)
		ended_unseen(g);
	else if (!g->keeper)
		guest_lost(g, e.msg);
}

void guest_kill(struct guest *g, enum vm_why why)
{
	struct vm *vm = g->vm;
	struct err e = { 0 };

	if (!g->keeper) {
		guest_keep(g);		/* it may have ended, and then there is no guest any more */
		if (vm->state == VM_OFF || vm->state == VM_LOST)
			return;
	}
	g->killed = true;		/* also one that is kept again later */
	if (!g->why)
		g->why = why;
	if (g->keeper && keeper_kill(g->keeper, &e) < 0)
		log_error("VM %s: %s", g->vm->name, e.msg);
}

static void qemu_kill(struct vm *vm, enum vm_why why)
{
	guest_kill(vm->run, why);
}

static void qemu_probe(struct vm *vm)
{
	struct guest *g = vm->run;

	if (!g->keeper) {
		guest_keep(g);
		return;
	}
	if (vm->state == VM_STARTING || vm->state == VM_ATTACHING || vm->state == VM_ENDING)
		return;				/* these have deadlines of their own */
	keeper_probe(g->keeper);
	vm_agent_round(vm);
	if (!g->qmp)
		guest_connect(g);
	else if (vm->state == VM_DEGRADED ||
		 mono_usec() - qmp_heard_usec(g->qmp) >= (int64_t)vm->vms->how.round_usec / 2)
		guest_ask_status(g);
}

static void qemu_look(struct vm *vm)
{
	struct guest *g = vm->run;

	if (g->keeper)
		keeper_look(g->keeper);
}

static int qemu_serial(struct vm *vm, int fd)
{
	struct guest *g = vm->run;
	struct err e;

	if (!g->serves)
		return -EAGAIN;
	if (keeper_viewer(g->keeper, fd, &e) < 0)
		log_warn("VM %s: serial viewer: %s", vm->name, e.msg);
	return 0;
}

static int qemu_agent_connect(struct vm *vm, struct err *e)
{
	struct guest *g = vm->run;

	if (!g->keeper)
		return fail(e, ERR_UNAVAILABLE, "the processes of VM \"%s\" are being looked for", vm->name);
	return keeper_agent_connect(g->keeper, e);
}

static void qemu_status(const struct vm *vm, struct vm_status *s)
{
	const struct guest *g = vm->run;

	s->accel = g->accel;
	s->pid = g->keeper ? keeper_proc(g->keeper)->pid : 0;
	s->began_usec = s->pid ? proc_began_usec(keeper_proc(g->keeper)->start_time) : 0;
	s->as_of_usec = g->qmp ? now_usec() - (mono_usec() - qmp_heard_usec(g->qmp)) : vm->since_usec;
	s->note = g->note;
	s->crashed = g->crashed;
	s->question = g->question.id ? &g->question : NULL;
	s->host_cpus = g->cpus;
	s->has_usb = g->has_usb;
	s->plugged = g->plugged;
	s->nplugged = g->nplugged;
	s->memory_boot_bytes = g->memory.boot_bytes;
	s->memory_bytes = g->memory.current_bytes;
	s->memory_as_of_usec = g->memory_usec;
}

/* What is asked of the monitor, and what its yes means. */
static const struct { const char *command; enum vm_event seen; } asks[VM_NEVENTS] = {
	[VM_ASK_SHUTDOWN] = { "system_powerdown", VM_SAW_TOLD },
	[VM_ASK_RESET] = { "system_reset", VM_SAW_RESET },
	[VM_ASK_PAUSE] = { "stop", VM_SAW_PAUSED },
	[VM_ASK_RESUME] = { "cont", VM_SAW_RUNNING },
	[VM_ASK_SCREEN] = { NULL, VM_NEVENTS },	/* getfd, add_client */
};

static void on_asked(void *arg, json_t *result, const struct err *e)
{
	struct vm_op *op = arg;
	struct vm *vm = op->vm;
	struct guest *g = vm->run;
	enum vm_event seen = asks[op->ask].seen;
	struct err silent;

	if (e && e->code == ERR_TIMEOUT) {
		fail(&silent, ERR_TIMEOUT, "VM \"%s\": QEMU (process %d) has not answered \"%s\" within %u s", vm->name,
		     g->keeper ? (int)keeper_proc(g->keeper)->pid : 0, vm_event_name(op->ask),
		     (unsigned)(vm->vms->how.answer_usec / 1000000));
		err_hint(&silent, "it may still do so when it can again; vmctl poweroff %s ends it at once", vm->name);
		e = &silent;
	}
	vm_op_end(op, e);
	if (e && e->code == ERR_TIMEOUT)
		guest_silent(vm->run, e->msg);
	else if (!e && seen != VM_NEVENTS)
		vm_saw(vm, seen, NULL);
}

static json_t *fd_name(const struct vm_op *op)
{
	return json_sprintf("viewer-%zx", (size_t)op);		/* unique while it is under way */
}

static void on_screen(void *arg, json_t *result, const struct err *e)
{
	struct vm_op *op = arg;
	struct guest *g = op->vm->run;

	if (e && e->code == ERR_STATE)		/* QEMU did not take it: it must not keep it either */
		qmp_call(g->qmp, "closefd", json_pack("{s:o}", "fdname", fd_name(op)), -1,
			 g->vm->vms->how.answer_usec, NULL, NULL);
	on_asked(op, NULL, e);
}

/* getfd has put the viewer's socket into QEMU; now it becomes a VNC client. */
static void on_screen_sent(void *arg, json_t *result, const struct err *e)
{
	struct vm_op *op = arg;
	struct guest *g = op->vm->run;

	if (e)
		on_asked(op, NULL, e);
	else
		qmp_call(g->qmp, "add_client", json_pack("{s:s, s:o, s:b}", "protocol", "vnc", "fdname", fd_name(op),
			 "skipauth", 1), -1, g->vm->vms->how.answer_usec, on_screen, op);
}

static void qemu_ask(struct vm *vm, struct vm_op *op, int fd)
{
	struct guest *g = vm->run;
	uint64_t deadline = vm->vms->how.answer_usec;

	if (!g->qmp) {
		close_at(&fd);
		fail(&op->err, ERR_UNAVAILABLE, "the monitor of VM \"%s\" is being connected again", vm->name);
		vm_op_end(op, &op->err);
	} else if (op->ask == VM_ASK_SUSPEND) {
		guest_save(g, op, fd);
	} else if (op->ask == VM_ASK_SCREEN) {
		qmp_call(g->qmp, "getfd", json_pack("{s:o}", "fdname", fd_name(op)), fd, deadline, on_screen_sent, op);
	} else {
		qmp_call(g->qmp, asks[op->ask].command, NULL, -1, deadline, on_asked, op);
	}
}

struct asked_usernet { void (*done)(void *arg, const char *text, const struct err *e); void *arg; };

static void on_usernet(void *arg, json_t *result, const struct err *e)
{
	AUTO_FREE struct asked_usernet *a = arg;

	a->done(a->arg, json_string_value(result), e);
}

static int qemu_usernet(struct vm *vm, void (*done)(void *arg, const char *text, const struct err *e), void *arg, struct err *e)
{
	struct guest *g = vm->run;

	if (!g->qmp)
		return fail(e, ERR_UNAVAILABLE, "the monitor of VM \"%s\" is being connected again", vm->name);
	struct asked_usernet *a = xnew(asked_usernet);

	*a = (struct asked_usernet){ done, arg };
	qmp_call(g->qmp, "human-monitor-command", json_pack("{s:s}", "command-line", "info usernet"), -1, vm->vms->how.answer_usec,
		 on_usernet, a);
	return 0;
}

static void qemu_cancel(struct vm *vm)
{
	guest_save_cancel(vm->run);
}

const struct engine engine_qemu = {
	.name = "qemu",
	.start = qemu_start,
	.go = qemu_go,
	.attach = qemu_attach,
	.ask = qemu_ask,
	.change = guest_change,
	.cancel = qemu_cancel,
	.kill = qemu_kill,
	.usernet = qemu_usernet,
	.serial = qemu_serial,
	.agent_connect = qemu_agent_connect,
	.probe = qemu_probe,
	.look = qemu_look,
	.detach = qemu_detach,
	.status = qemu_status,
};
