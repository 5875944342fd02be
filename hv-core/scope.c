#include "scope.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include "loop.h"
#include "mem.h"

#define SOCKET		"unix:path=/run/systemd/private"
#define SYSTEMD		"org.freedesktop.systemd1"
#define MANAGER		"/org/freedesktop/systemd1", SYSTEMD ".Manager"
#define DRAIN		"croft-guests.service"		/* ends the guests before their scopes are stopped */
#define DEADLINE_USEC	5000000
#define AGAIN_USEC	50000	/* the scope of the run before is about to go: its processes have just ended */
#define TASKS_MAX	4096	/* threads of QEMU: a virtual CPU each, and its block workers */

struct scope {
	sd_event *ev;
	sd_bus *bus;
	char unit[64];
	pid_t pid;			/* 0: only the limits are set */
	struct scope_limits limits;
	struct timer deadline, again;
	scope_done done;
	void *arg;
};

static void end(struct scope *s, const struct err *e)
{
	timer_disarm(&s->deadline);
	timer_disarm(&s->again);
	s->bus = sd_bus_close_unref(s->bus);
	s->done(s->arg, e);
}

static void end_failed(struct scope *s, int no, const char *why)
{
	struct err e = {};

	fail_errno(&e, no, "systemd has not %s the scope %s", s->pid ? "made" : "changed", s->unit);
	fail(&e, e.code, "systemd has not %s the scope %s: %s", s->pid ? "made" : "changed", s->unit, why);
	end(s, &e);
}

static void on_deadline(void *arg) { end_failed(arg, -ETIMEDOUT, "it has not answered within 5 s"); }

static int add_limits(sd_bus_message *m, const struct scope_limits *l)
{
	uint64_t quota = l->cpu_limit_percent ? l->cpu_limit_percent * 10000 : UINT64_MAX;
	int r = sd_bus_message_append(m, "(sv)", "CPUWeight", "t", l->cpu_weight);

	return r < 0 ? r : sd_bus_message_append(m, "(sv)", "CPUQuotaPerSecUSec", "t", quota);
}

static int add_properties(sd_bus_message *m, const struct scope *s)
{
	int r = sd_bus_message_open_container(m, 'a', "(sv)");

	if (r >= 0 && s->pid)
		r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)(sv)(sv)(sv)", "Description", "s", "a VM of Croft", "PIDs", "au", 1,
					  (uint32_t)s->pid, "Slice", "s", "machine.slice", "CollectMode", "s",
					  "inactive-or-failed", "Before", "as", 1, DRAIN, "After", "as", 2,
					  "network.target", "remote-fs.target", "TasksMax", "t", (uint64_t)TASKS_MAX);
	if (r >= 0)
		r = add_limits(m, &s->limits);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static void ask(void *arg);

static int on_answer(sd_bus_message *m, void *arg, sd_bus_error *ignored)
{
	struct scope *s = arg;
	const sd_bus_error *e = sd_bus_message_get_error(m);

	if (e && s->pid && sd_bus_error_has_name(e, SYSTEMD ".UnitExists"))
		timer_arm(&s->again, s->ev, AGAIN_USEC, ask, s);
	else if (e)
		end_failed(s, -sd_bus_error_get_errno(e), e->message ?: e->name);
	else if (!s->pid)
		end(s, NULL);
	return 0;			/* a new scope: its job says when it is there */
}

static int on_removed(sd_bus_message *m, void *arg, sd_bus_error *ignored)
{
	struct scope *s = arg;
	const char *job, *unit, *result;
	uint32_t id;

	if (sd_bus_message_read(m, "uoss", &id, &job, &unit, &result) < 0 || strcmp(unit, s->unit) != 0)
		return 0;
	if (strcmp(result, "done") == 0)
		end(s, NULL);
	else
		end_failed(s, -EIO, result);
	return 0;
}

static void ask(void *arg)
{
	struct scope *s = arg;
	sd_bus_message *m = NULL;
	int r = sd_bus_message_new_method_call(s->bus, &m, SYSTEMD, MANAGER, s->pid ? "StartTransientUnit" : "SetUnitProperties");

	if (r >= 0)
		r = s->pid ? sd_bus_message_append(m, "ss", s->unit, "fail") : sd_bus_message_append(m, "sb", s->unit, 1);
	if (r >= 0)
		r = add_properties(m, s);
	if (r >= 0 && s->pid)
		r = sd_bus_message_append(m, "a(sa(sv))", 0);
	if (r >= 0)
		r = sd_bus_call_async(s->bus, NULL, m, on_answer, s, DEADLINE_USEC);
	sd_bus_message_unref(m);
	if (r < 0)
		end_failed(s, r, strerror(-r));
}

/* In a callback of its own: done never comes before scope_make has returned. */
static void begin(void *arg)
{
	struct scope *s = arg;
	int r = sd_bus_new(&s->bus);

	if (r >= 0)
		r = sd_bus_set_address(s->bus, SOCKET);
	if (r >= 0)
		r = sd_bus_start(s->bus);
	if (r >= 0)
		r = sd_bus_attach_event(s->bus, s->ev, 0);
	if (r >= 0 && s->pid)
		r = sd_bus_match_signal(s->bus, NULL, NULL, MANAGER, "JobRemoved", on_removed, s);
	if (r < 0)
		end_failed(s, r, strerror(-r));
	else
		ask(s);
}

struct scope *scope_make(sd_event *ev, const char *uuid, pid_t pid, const struct scope_limits *l, scope_done done, void *arg)
{
	struct scope *s = xnew(scope);

	s->ev = ev;
	s->pid = pid;
	s->limits = *l;
	s->done = done;
	s->arg = arg;
	snprintf(s->unit, sizeof s->unit, "croft-vm-%.36s.scope", uuid);
	timer_arm(&s->deadline, ev, DEADLINE_USEC, on_deadline, s);
	timer_arm(&s->again, ev, 0, begin, s);
	return s;
}

struct scope *scope_set(sd_event *ev, const char *uuid, const struct scope_limits *l, scope_done done, void *arg)
{
	return scope_make(ev, uuid, 0, l, done, arg);
}

void scope_free(struct scope *s)
{
	if (!s)
		return;
	timer_disarm(&s->deadline);
	timer_disarm(&s->again);
	sd_bus_close_unref(s->bus);
	free(s);
}
