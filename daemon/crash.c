#include <stdio.h>
#include "crash.h"
#include "log.h"
#include "maintenance.h"
#include "mem.h"
#include "tasks_vm.h"
#include "text.h"

#define SECOND		1000000ll
#define FIRST_S		1
#define LONGEST_S	300
#define RAN_USEC	(600 * SECOND)	/* it ran so long: the next crash is a first one */
#define BUSY_USEC	SECOND		/* a task holds it: looked at again */

struct crash {
	struct timer again;		/* armed while it waits */
	unsigned times, tries;		/* in a row: crashes, and starts whose task could not be kept since the last one */
	int64_t up_usec;		/* since when it runs; 0: it does not */
	int64_t end_usec;		/* of the crash that was counted last */
	char note[300];
	bool waits;
};

static const struct { enum vm_why why; const char *text; } crashes[] = {
	{ VM_WHY_CRASHED, "its process failed" },
	{ VM_WHY_KILLED, "its process was killed" },
	{ VM_WHY_GUEST_PANIC, "its kernel panicked" },
};

static const char *crash_text(enum vm_why why)
{
	for (size_t i = 0; i < COUNT(crashes); i++)
		if (crashes[i].why == why)
			return crashes[i].text;
	return NULL;
}

bool crash_waits(const struct machine *m) { return m->crash && m->crash->waits; }
const char *crash_note(const struct machine *m) { return crash_waits(m) ? m->crash->note : NULL; }

static void waits_no_more(struct machine *m)
{
	m->crash->waits = false;
	timer_disarm(&m->crash->again);
}

void crash_stop(struct machine *m)
{
	if (!crash_waits(m))
		return;
	waits_no_more(m);
	inventory_publish(m);
}

void crash_free(struct machine *m)
{
	if (m->crash)
		timer_disarm(&m->crash->again);
	free(TAKE(m->crash));
}

static bool wanted(const struct machine *m, struct err *e)
{
	return m->spec.on_crash == VM_CRASH_RESTART && !m->c->stopping && !m->c->opt.stop && host_may_start(m->c, e) == 0;
}

static void again(void *arg);

/* 1 s before the first start, then twice as long each time. */
static void wait_some(struct machine *m, const char *what)
{
	struct crash *cr = m->crash;
	int64_t s = FIRST_S;
	char at[32];

	for (unsigned i = 1; i < cr->times + cr->tries && s < LONGEST_S; i++)
		s *= 2;
	s = s < LONGEST_S ? s : LONGEST_S;
	text_time_format(now_usec() + s * SECOND, at);
	snprintf(cr->note, sizeof cr->note, "%s; it is started again at %.19sZ (crash %u in a row, on_crash: restart)", what, at,
		 cr->times);
	log_warn("%s: %s", m->name, cr->note);
	cr->waits = true;
	timer_arm(&cr->again, m->c->ev, (uint64_t)(s * SECOND), again, m);
}

/* The disk was full or gone: nothing has begun. */
static void begun(struct change *ch, const struct err *e)
{
	AUTO_FREE char *id = ch->arg;
	struct machine *m = inventory_get(ch->c->inv, id);
	char what[160];

	if (m && !e)
		m->crash->tries = 0;
	if (!m || !e || vm_state(m->vm) != VM_OFF)
		return;
	snprintf(what, sizeof what, "its start after a crash could not be begun (%.100s)", e->msg);
	m->crash->tries++;
	wait_some(m, what);
	inventory_publish(m);
}

static void again(void *arg)
{
	struct machine *m = arg;
	struct err e = {};

	if (m->task || m->claim.held) {
		timer_arm(&m->crash->again, m->c->ev, BUSY_USEC, again, m);
		return;
	}
	if (!wanted(m, &e) || machine_usable(m, &e) < 0 || !vm_can(m->vm, VM_ASK_START)) {
		if (e.code)
			log_warn("%s is not started again after its crash: %s", m->name, e.msg);
		crash_stop(m);
		return;
	}
	waits_no_more(m);
	struct change *ch = change_new(m->c, NULL);

	ch->arg = xstrdup(m->id);
	ch->fini = begun;
	task_begin(m->c, NULL, ch, task_start_kind(m), m, json_object());
}

static void wait_for_it(struct machine *m, const struct vm_last *last)
{
	struct crash *cr = m->crash = m->crash ?: xnew(crash);
	int64_t now = now_usec();
	struct err e = {};

	if (cr->waits || cr->end_usec == last->when_usec || !wanted(m, &e))
		return;
	cr->end_usec = last->when_usec;
	if (cr->up_usec && now - cr->up_usec >= RAN_USEC)
		cr->times = 0;
	cr->up_usec = 0;
	cr->times++;
	wait_some(m, crash_text(last->why));
}

/* Who wants it to end does not want it back; a reboot starts it by itself. */
static bool is_ending(const struct task *t)
{
	return t && (t->kind == &task_vm_shutdown || t->kind == &task_vm_poweroff || t->kind == &task_vm_reboot || t->kind->gone);
}

void crash_changed(struct machine *m)
{
	struct vm_status st;
	struct err e = {};

	vm_status(m->vm, &st);
	if (st.state != VM_OFF && crash_waits(m))
		waits_no_more(m);
	if (st.state == VM_RUNNING && m->crash && !m->crash->up_usec)
		m->crash->up_usec = now_usec();
	if (st.state == VM_OFF && crash_text(st.last->why) && !is_ending(m->task))
		wait_for_it(m, st.last);
	if (st.state == VM_PAUSED && st.crashed != VM_WHY_NEVER && m->spec.on_crash != VM_CRASH_KEEP && !m->c->opt.stop &&
	    vm_end_crashed(m->vm, NULL, NULL, &e) < 0)
		log_warn("%s: %s", m->name, e.msg);
}

void crash_begin(struct croft *c)
{
	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		struct machine *m = inventory_at(c->inv, i);
		struct vm_status st;

		if (m->invalid || !m->was_on || m->task)
			continue;
		vm_status(m->vm, &st);
		if (st.state == VM_OFF && crash_text(st.last->why))
			wait_for_it(m, st.last);
		if (crash_waits(m))
			inventory_publish(m);
	}
}
