#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "agent.h"
#include "drain.h"
#include "inventory.h"
#include "log.h"
#include "map.h"
#include "mem.h"
#include "task.h"
#include "text.h"

enum {
	GONE_S = 20,		/* after SIGKILL; longer means that the kernel holds it */
	ORDERS = 1001,		/* spec.c: startup_rows */
	NAMES = 5,		/* that are told */
	SUSPEND_BYTES_S = 10000000,	/* what a slow SD card writes: a VM's memory gets the time that this takes */
};
#define SECOND 1000000ll

struct draining {		/* one VM */
	int64_t due;		/* of its shutdown, then of its end; CLOCK_MONOTONIC; 0: it has not been its turn */
	int64_t half;		/* of the time of its shutdown is over: then its agent is asked, too */
	bool resumed, asked, agent, suspended, killed, stuck, off;
};

struct drain {
	struct croft *c;
	struct drain_how how;
	struct watcher watcher;
	struct timer next;	/* the earliest of what is due; at once after a change */
	struct map *vms;	/* id -> struct draining, owned */
	int64_t bound;		/* CLOCK_MONOTONIC; 0: none */
	int64_t wake;		/* the earliest that this turn has found */
	int order;		/* whose turn it is; -1: nobody's yet */
	double shortened;	/* the times of the VMs: 1, or less so that all of them end before bound */
	size_t most, told;	/* VMs that were alive at once; left that was told last */
	struct err err;		/* of the first one that is stuck */
};

/* What is lost cannot be asked, nor ended: it is told, and left alone. */
static bool alive(const struct machine *m)
{
	return m->vm && vm_state_alive(vm_state(m->vm)) && vm_state(m->vm) != VM_LOST;
}

static int action_of(const struct drain *d, const struct machine *m)
{
	static const int of_policy[] = {
		[VM_STOP_SHUTDOWN] = DRAIN_SHUTDOWN, [VM_STOP_SUSPEND] = DRAIN_SUSPEND, [VM_STOP_POWEROFF] = DRAIN_POWEROFF,
	};

	int action = d->how.action == DRAIN_POLICY ? of_policy[m->spec.shutdown.action] : d->how.action;

	return action == DRAIN_SUSPEND && d->c->frozen.code ? DRAIN_SHUTDOWN : action;	/* what was saved could not be recorded */
}

static uint64_t timeout_s(const struct drain *d, const struct machine *m)
{
	uint64_t s = d->how.timeout_s ?: m->spec.shutdown.timeout_s;
	int action = action_of(d, m);

	return action == DRAIN_POWEROFF ? 0 : s + (action == DRAIN_SUSPEND && task_kind_named("vm.suspend")
						   ? m->spec.memory_bytes / SUSPEND_BYTES_S : 0);
}

static struct draining *draining(struct drain *d, const struct machine *m)
{
	struct draining *v = map_get(d->vms, m->id);

	if (!v) {
		v = xnew(draining);
		map_set(d->vms, m->id, v);
	}
	return v;
}

static void tell(const struct drain *d, const struct machine *m, const char *text)
{
	if (d->how.tell)
		d->how.tell(d->how.arg, m->name, text);
}

static void wake_at(struct drain *d, int64_t usec)
{
	if (!d->wake || usec < d->wake)
		d->wake = usec;
}

static void done(void *arg, const struct err *e)
{
	if (e && e->code != ERR_INTERRUPTED)
		log_warn("%s", e->msg);
}

static void power_off(struct drain *d, struct machine *m, struct draining *v, const char *text)
{
	struct err e = {};

	if (m->task)
		task_cancel_for(m->task, "croft");
	v->killed = true;
	v->due = mono_usec() + GONE_S * SECOND;
	if (!vm_can(m->vm, VM_ASK_POWEROFF))
		return;
	tell(d, m, text);
	if (vm_poweroff(m->vm, done, NULL, &e) < 0)
		log_error("%s: %s", m->name, e.msg);
}

static void stuck(struct drain *d, struct machine *m, struct draining *v)
{
	v->stuck = true;
	tell(d, m, "its process is not gone 20 s after it was killed; the kernel holds it");
	if (!d->err.code) {
		fail(&d->err, ERR_TIMEOUT, "the process of %s is not gone %d s after it was killed", m->name, GONE_S);
		err_hint(&d->err, "the kernel holds it, most often because of storage that does not answer");
	}
}

/* ---- suspend: the task vm.suspend, where there is one; what it leaves is resumed at the next boot */

static int mark_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	return db_exec(tx, e, "INSERT INTO settings (key, value) VALUES ('resume ' || ?1, '') ON CONFLICT DO NOTHING", "s",
		       (const char *)ch->arg);
}
static void mark_fini(struct change *ch, const struct err *e) { free(ch->arg); }

static bool suspend(struct drain *d, struct machine *m)
{
	const struct task_kind *kind = task_kind_named("vm.suspend");
	struct change *ch = NULL;

	if (!kind)
		return false;
	if (d->how.host_ends) {
		ch = change_new(d->c, NULL);
		ch->work = mark_work;
		ch->fini = mark_fini;
		ch->arg = xstrdup(m->id);
	}
	tell(d, m, "suspended");
	task_begin(d->c, NULL, ch, kind, m, json_object());
	return true;
}

/* ---- one VM whose turn it is */

static void ask(struct drain *d, struct machine *m, struct draining *v, int64_t now)
{
	enum vm_state s = vm_state(m->vm);
	struct err e = {};
	int r = 0;

	if (m->memory) {		/* it was about to go on, and has not: so it is suspended again */
		power_off(d, m, v, "suspended, as it was");
		return;
	}
	if (s == VM_STOPPING)
		v->asked = false;	/* if it runs again, it has ignored that, or was reset */
	if (action_of(d, m) == DRAIN_SUSPEND && !v->suspended && (s == VM_RUNNING || s == VM_PAUSED)) {
		v->suspended = true;	/* once: what could not be suspended is shut down */
		if (suspend(d, m))
			return;
	}
	if (s == VM_PAUSED && !v->resumed) {	/* who stands still cannot shut down */
		v->resumed = true;
		r = vm_resume(m->vm, done, NULL, &e);
	} else if (now >= v->half && !v->agent && vm_agent_answers(m->vm)) {
		v->agent = true;	/* it has ignored its power button for half of its time */
		r = vm_agent_shutdown(m->vm, done, NULL, &e);
	} else if (s == VM_RUNNING && !v->asked) {
		v->asked = true;
		tell(d, m, "asked to shut down");
		r = vm_shutdown(m->vm, done, NULL, &e);
	}
	if (r < 0)
		log_warn("%s: %s", m->name, e.msg);
}

static void act(struct drain *d, struct machine *m, int64_t now)
{
	struct draining *v = draining(d, m);

	if (action_of(d, m) == DRAIN_WAIT)
		return;
	if (!v->due) {
		v->due = now + (int64_t)((double)timeout_s(d, m) * SECOND * d->shortened);
		v->half = (now + v->due) / 2;
	}
	if (now >= v->due && v->killed)
		stuck(d, m, v);
	else if (now >= v->due)
		power_off(d, m, v, timeout_s(d, m) ? "powered off, since the guest has not ended" : "powered off");
	else if (!v->killed && !m->task)	/* a task may be about to end it, or must not be cut off at once */
		ask(d, m, v, now);
	if (!v->stuck)
		wake_at(d, now < v->half ? v->half : v->due);
}

/* ---- whose turn it is */

/* All orders from @order down, at their longest, have to fit into what is left. */
static double shorten(const struct drain *d, int order, int64_t now)
{
	uint16_t most[ORDERS] = {};
	int64_t sum = 0, left = d->bound - now;

	for (size_t i = 0; d->bound && i < inventory_len(d->c->inv); i++) {
		const struct machine *m = inventory_at(d->c->inv, i);
		uint64_t s = alive(m) ? timeout_s(d, m) : 0, at = m->spec.startup.order;

		if (at < ORDERS && (int)at <= order && s > most[at])
			most[at] = (uint16_t)s;
	}
	for (int i = 0; i < ORDERS; i++)
		sum += most[i] * SECOND;
	return !d->bound || sum <= left ? 1 : left <= 0 ? 0 : (double)left / (double)sum;
}

struct left { size_t n; int order; struct buf names; };

static void look(struct drain *d, struct left *l)
{
	l->order = -1;
	for (size_t i = 0; i < inventory_len(d->c->inv); i++) {
		const struct machine *m = inventory_at(d->c->inv, i);

		struct draining *v = alive(m) ? draining(d, m) : map_get(d->vms, m->id);

		if (!alive(m) && v && !v->off && !m->task)
			tell(d, m, "off");
		if (v)
			v->off = !alive(m);
		if (!alive(m) || v->stuck)
			continue;
		if (l->n++ < NAMES)
			buf_addf(&l->names, "%s%s", l->n > 1 ? ", " : "", m->name);
		if ((int)m->spec.startup.order > l->order)
			l->order = (int)m->spec.startup.order;
	}
	if (l->n > NAMES)
		buf_adds(&l->names, ", ...");
	if (l->n > d->most)
		d->most = l->n;
	if (d->how.left && l->n != d->told)
		d->how.left(d->how.arg, l->n, d->most, l->names.data ?: "");
	d->told = l->n;
}

static void turn(void *arg)
{
	struct drain *d = arg;
	struct left l = { .names = BUF_INIT(4096) };
	int64_t now = mono_usec();

	d->wake = 0;
	look(d, &l);
	buf_fini(&l.names);
	if (!l.n) {
		d->how.over(d->how.arg, d->err.code ? &d->err : NULL);
		return;
	}
	if (l.order != d->order)
		d->shortened = shorten(d, l.order, now);
	d->order = l.order;
	bool late = d->bound && now >= d->bound;	/* then orders are of no account any more */

	for (size_t i = 0; i < inventory_len(d->c->inv); i++) {
		struct machine *m = inventory_at(d->c->inv, i);

		if (!alive(m) || (!late && (int)m->spec.startup.order != d->order) || draining(d, m)->stuck)
			continue;
		struct draining *v = draining(d, m);

		if (late && !v->killed && (!v->due || v->due > now + SECOND / 10))
			power_off(d, m, v, "powered off, since the time for all is over");
		act(d, m, now);
	}
	if (d->bound && !late)
		wake_at(d, d->bound);
	if (d->wake)
		timer_arm(&d->next, d->c->ev, (uint64_t)(d->wake > now ? d->wake - now : 0), turn, d);
}

static void changed(struct watcher *w, struct machine *m)
{
	struct drain *d = LIST_ENTRY(w, struct drain, watcher);

	timer_arm(&d->next, d->c->ev, 0, turn, d);
}

struct drain *drain_new(struct croft *c, const struct drain_how *how)
{
	struct drain *d = xnew(drain);

	d->c = c;
	d->how = *how;
	d->vms = map_new();
	d->order = -1;
	d->told = SIZE_MAX;
	d->bound = how->bound_s ? mono_usec() + (int64_t)how->bound_s * SECOND : 0;
	d->watcher.changed = changed;
	inventory_watch(c->inv, &d->watcher);
	timer_arm(&d->next, c->ev, 0, turn, d);
	return d;
}

void drain_free(struct drain *d)
{
	struct draining *v;

	if (!d)
		return;
	list_remove(&d->watcher.in);
	timer_disarm(&d->next);
	for (size_t i = 0; (v = map_next(d->vms, &i, NULL)); )
		free(v);
	map_free(d->vms);
	free(d);
}

/* ---- croftd --stop */

static void print(void *arg, const char *vm, const char *text)
{
	printf("%s: %s\n", vm, text);
	fflush(stdout);
}

static void host_over(void *arg, const struct err *e)
{
	struct croft *c = arg;

	sd_event_exit(c->ev, e ? -ETIME : 0);
}

void drain_host(struct croft *c, uint64_t bound_s)
{
	size_t orphans = inventory_orphans(c->inv)->n, n = 0;
	struct drain_how how = { .bound_s = bound_s, .host_ends = true, .tell = print, .over = host_over, .arg = c };

	for (size_t i = 0; i < inventory_len(c->inv); i++)
		n += alive(inventory_at(c->inv, i));
	if (orphans)
		printf("%zu guest%s without a VM run%s on: see the log, and orphans in vmctl host\n", orphans, orphans == 1 ? "" : "s",
		       orphans == 1 ? "s" : "");
	if (!n)
		printf(orphans ? "no VM of this home runs but for that\n" : "no VM of this home runs\n");
	drain_new(c, &how);	/* for as long as this process lives */
}
