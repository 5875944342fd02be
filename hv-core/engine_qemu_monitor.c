/* engine_qemu_monitor.c: what QEMU's monitor tells, as events of the VM: two tables; and its connection. */
#include <stdio.h>
#include <string.h>
#include "engine_qemu.h"
#include "log.h"
#include "text.h"

static void note(struct guest *g, const char *text)
{
	free(g->note);
	g->note = text ? xstrdup(text) : NULL;
}

/* A QEMU that somebody has stopped stays so: that is his will. */
void guest_silent(struct guest *g, const char *why)
{
	const struct vm_proc *p = g->keeper ? keeper_proc(g->keeper) : NULL;

	if (p && proc_is_stopped(p->pid, p->start_time))
		why = "its process is stopped (SIGSTOP); it goes on by SIGCONT";
	if (g->vm->state != VM_ENDING && g->vm->state != VM_STARTING)
		note(g, why);
	vm_saw(g->vm, VM_SAW_SILENCE, NULL);
}

void guest_lost(struct guest *g, const char *why)
{
	if (g->vm->state != VM_ENDING)
		note(g, why);
	vm_saw(g->vm, VM_SAW_LOST, NULL);
}

/* ---- a disk that is full or fails (werror=stop, rerror=stop): the guest stands still, and somebody is asked ---- */

/* "disk-NAME", or the path of a part of it: "/machine/peripheral/disk-NAME/virtio-backend". */
static bool disk_name(const char *qdev, char *out, size_t cap)
{
	const char *at = qdev ? strstr(qdev, "disk-") : NULL;

	if (!at)
		return false;
	at += strlen("disk-");
	snprintf(out, cap, "%.*s", (int)strcspn(at, "/"), at);
	return *out;
}

static void on_blocks(void *arg, json_t *result, const struct err *e)
{
	struct vm_question q = { .since_usec = now_usec() };
	struct guest *g = arg;
	bool full = false;
	size_t i;
	json_t *b;

	if (!result || g->question.id || g->vm->state != VM_PAUSED)
		return;
	json_array_foreach(result, i, b) {
		const char *status = json_string_value(json_object_get(b, "io-status"));

		if (!status || !strcmp(status, "ok") || full)
			continue;
		full = !strcmp(status, "nospace");
		if (!disk_name(json_string_value(json_object_get(b, "qdev")), q.device, sizeof(q.device)))
			snprintf(q.device, sizeof(q.device), "?");
	}
	if (!*q.device)
		return;
	q.id = (uint64_t)q.since_usec;
	q.full = full;
	snprintf(q.text, sizeof(q.text), full ? "the disk %s has no space left on its datastore: make room, then retry"
		 : "the disk %s cannot be read or written: repair its datastore, then retry", q.device);
	g->question = q;
	note(g, q.text);
	vm_noted(g->vm);
}

static void ask_blocks(struct guest *g)
{
	if (!g->question.id)
		qmp_ask(g->qmp, "query-block", NULL, g->vm->vms->how.answer_usec, on_blocks, g);
}

/* ---- what the monitor tells ---- */

/* RunState in QEMU's QAPI schema. What is not here is a pause that will end by itself or by resume. */
static const struct { const char *status; enum vm_event seen; const char *note; enum vm_why crashed; } run_states[] = {
	{ "running", VM_SAW_RUNNING, NULL },
	{ "shutdown", VM_SAW_GUEST_END, NULL },
	{ "io-error", VM_SAW_PAUSED, "a disk failed or is full; resume it when that is repaired" },
	{ "guest-panicked", VM_SAW_PAUSED, "the guest's kernel panicked", VM_WHY_GUEST_PANIC },
	{ "internal-error", VM_SAW_PAUSED, "KVM could not run the guest any further", VM_WHY_CRASHED },
	{ "watchdog", VM_SAW_PAUSED, "the guest's watchdog expired" },
	{ "suspended", VM_SAW_PAUSED, "the guest sleeps" },
	{ "postmigrate", VM_SAW_PAUSED, "its memory was saved, but it was not suspended; resume it" },
	{ "inmigrate", VM_SAW_PAUSED, "its saved memory was being loaded" },
};

static void on_status(void *arg, json_t *result, const struct err *e)
{
	const char *status = json_string_value(json_object_get(result, "status"));
	struct guest *g = arg;
	enum vm_event seen = VM_SAW_PAUSED;
	bool was_degraded = g->vm->state == VM_DEGRADED || g->vm->state == VM_LOST;

	if (!result) {
		if (e->code == ERR_TIMEOUT)
			guest_silent(g, e->msg);
		return;
	}
	timer_disarm(&g->again);	/* the first answer */
	if (was_degraded)
		note(g, NULL);
	for (size_t i = 0; status && i < COUNT(run_states); i++) {
		if (strcmp(status, run_states[i].status))
			continue;
		seen = run_states[i].seen;
		g->crashed = run_states[i].crashed;
		if (run_states[i].note && !g->note)	/* an event has told it better */
			note(g, run_states[i].note);
	}
	if (status && strcmp(status, "io-error"))
		g->question.id = 0;
	else
		ask_blocks(g);
	guest_saw(g, seen);
}

void guest_ask_status(struct guest *g)
{
	qmp_ask(g->qmp, "query-status", NULL, g->vm->vms->how.answer_usec, on_status, g);
}

static void on_kvm(void *arg, json_t *result, const struct err *e)
{
	struct guest *g = arg;

	if (!result)
		return;
	g->accel = json_is_true(json_object_get(result, "enabled")) ? "kvm" : "tcg";
	if (g->vm->state != VM_STARTING || !g->want_kvm || !strcmp(g->accel, "kvm"))
		return;
	g->reason = "KVM was asked for, but QEMU runs the guest by emulation";
	guest_kill(g, VM_WHY_START_FAILED);
	vm_saw(g->vm, VM_ASK_POWEROFF, NULL);
}

/* Has the machine a port for the agent, and is it open? From here on an event tells. */
static void on_chardevs(void *arg, json_t *result, const struct err *e)
{
	struct guest *g = arg;
	json_t *item;
	size_t i;

	json_array_foreach(result, i, item) {
		const char *label = json_string_value(json_object_get(item, "label"));

		if (label && !strcmp(label, "agent"))
			vm_agent_port_is(g->vm, json_is_true(json_object_get(item, "frontend-open")));
	}
}

static void on_ready(void *arg)
{
	struct guest *g = arg;

	qmp_ask(g->qmp, "query-chardev", NULL, g->vm->vms->how.answer_usec, on_chardevs, g);
	if (g->load_fd >= 0)
		guest_load(g);
	if (!g->accel)
		qmp_ask(g->qmp, "query-kvm", NULL, g->vm->vms->how.answer_usec, on_kvm, g);
	guest_memory_ask(g);
	guest_usb_ask(g);
	guest_ask_status(g);
}

static void on_late(void *arg)
{
	guest_ask_status(arg);		/* first: at a monitor that is slow, the other questions are too many for one deadline */
	on_ready(arg);
}

static void on_shutdown(struct guest *g, json_t *data)
{
	if (!g->why)
		g->why = vm_why_from_qemu(json_string_value(json_object_get(data, "reason")));
}

/* It is asked when the guest stands still: STOP comes behind this one. */
static void on_io_error(struct guest *g, json_t *data)
{
	const char *action = json_string_value(json_object_get(data, "action"));

	if (action && !strcmp(action, "stop"))
		ask_blocks(g);
}

static void on_port(struct guest *g, json_t *data)
{
	const char *id = json_string_value(json_object_get(data, "id"));

	if (id && !strcmp(id, "agent"))
		vm_agent_port(g->vm, json_is_true(json_object_get(data, "open")));
}

static void on_panic(struct guest *g, json_t *data)
{
	const char *action = json_string_value(json_object_get(data, "action"));

	note(g, "the guest's kernel panicked");
	if (action && !strcmp(action, "pause"))
		g->crashed = VM_WHY_GUEST_PANIC;
}

/* The event does not say why. */
static void on_stop(struct guest *g, json_t *data)
{
	if (!g->crashed && !g->saving)
		guest_ask_status(g);
}

static void on_reset(struct guest *g, json_t *data)
{
	g->crashed = VM_WHY_NEVER;
}

static void on_migration(struct guest *g, json_t *data)
{
	const char *status = json_string_value(json_object_get(data, "status"));

	if (status)
		guest_migration(g, status);
}

static void on_resume(struct guest *g, json_t *data)
{
	note(g, NULL);
	g->question.id = 0;
	g->crashed = VM_WHY_NEVER;
}

/* QEMU's events. seen is VM_NEVENTS where the state stays; what SHUTDOWN or a panic means stands in why or note. quiet:
 * fn tells by itself what there is to tell. */
static const struct {
	const char *name;
	enum vm_event seen;
	void (*fn)(struct guest *g, json_t *data);
	bool quiet;
} events[] = {
	{ "STOP", VM_SAW_PAUSED, on_stop },
	{ "RESUME", VM_SAW_RUNNING, on_resume },
	{ "RESET", VM_SAW_RESET, on_reset },
	{ "POWERDOWN", VM_SAW_TOLD, NULL },
	{ "SHUTDOWN", VM_SAW_GUEST_END, on_shutdown },
	{ "BLOCK_IO_ERROR", VM_NEVENTS, on_io_error },
	{ "GUEST_PANICKED", VM_NEVENTS, on_panic },
	{ "VSERPORT_CHANGE", VM_NEVENTS, on_port, true },
	{ "DEVICE_DELETED", VM_NEVENTS, guest_unplugged },
	{ "BALLOON_CHANGE", VM_NEVENTS, guest_memory_ballooned, .quiet = true },
	{ "MEMORY_DEVICE_SIZE_CHANGE", VM_NEVENTS, guest_memory_plugged, .quiet = true },
	{ "MIGRATION", VM_NEVENTS, on_migration, .quiet = true },
};

static void on_event(void *arg, const char *name, json_t *data)
{
	struct guest *g = arg;

	for (size_t i = 0; i < COUNT(events); i++) {
		if (strcmp(name, events[i].name))
			continue;
		if (events[i].fn)
			events[i].fn(g, data);
		if (events[i].seen != VM_NEVENTS)
			guest_saw(g, events[i].seen);
		else if (!events[i].quiet)
			vm_noted(g->vm);
		return;
	}
}

/* ---- the monitor's connection ---- */

void guest_on_again(void *arg)
{
	struct guest *g = arg;

	if (!g->keeper)
		guest_keep(g);
	else if (g->qmp)		/* it was the deadline of the first answer */
		guest_silent(g, "its monitor does not answer");
	else
		guest_connect(g);
}

static void on_monitor_end(void *arg, const char *why)
{
	struct guest *g = arg;
	bool degraded = g->vm->state == VM_DEGRADED;
	struct err e;

	log_debug("VM %s: monitor: %s", g->vm->name, why);
	qmp_free(TAKE(g->qmp));
	timer_disarm(&g->again);
	fail(&e, ERR_UNAVAILABLE, "QEMU's monitor was lost while the memory of VM \"%s\" was saved", g->vm->name);
	guest_save_end(g, &e);
	if (!degraded && g->vm->state != VM_ENDING)	/* degraded: the next round is soon enough */
		timer_arm(&g->again, g->vm->vms->how.ev, AGAIN_USEC, guest_on_again, g);
}

void guest_connect(struct guest *g)
{
	struct qmp_how how = {
		.ev = g->vm->vms->how.ev, .ready = on_ready, .event = on_event, .late = on_late,
		.ended = on_monitor_end, .arg = g,
	};
	struct err e = { 0 };
	int fd;

	if (g->qmp || !g->keeper)
		return;
	fd = keeper_qmp_connect(g->keeper, &e);
	if (fd < 0) {
		guest_silent(g, e.msg);
		return;
	}
	g->qmp = qmp_new(&how, fd);
	if (g->vm->state != VM_STARTING)	/* a start has a deadline of its own, and QEMU may take a while */
		timer_arm(&g->again, how.ev, g->vm->vms->how.answer_usec, guest_on_again, g);
}
