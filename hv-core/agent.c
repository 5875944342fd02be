/* agent.c: the agent of one VM: when it is connected, what it is asked and when, and the promise that a guest that was
 * frozen is thawed.
 *
 * QEMU tells when the guest opens or closes the port; a guest without an agent costs nothing. While the port is open the
 * connection stays (an agent whose port nobody holds wakes up ten times a second to look), but nothing is read from it
 * unless a call is under way. The rounds of vms.c are the heartbeat. */
#include "agent.h"
#include <string.h>
#include "agent_wire.h"
#include "engine.h"
#include "log.h"
#include "text.h"

enum {
	THAW_ANSWERS = 2,		/* of the time that an answer may take: a thaw writes first */
	LOOK_USEC = 300000000,		/* so often it is asked for everything, */
	YOUNG_USEC = 120000000,		/* but in each round while the guest may still be booting, */
	YOUNG_LOOK_USEC = 2000000,	/* and then as often as this when somebody looks */
	PAUSED_USEC = 5000000,		/* after a pause as long as this the guest's clock is set */
	TELL_MAX = 8,			/* changes that are told at once in a round: a guest cannot make events at will */
	OPEN_MAX = 4,			/* the same of connections */
};

struct vm_agent {
	struct vm *vm;
	struct agent_wire *wire;	/* owned; NULL: not connected */
	struct agent_facts facts, next;	/* what is shown, and what it is being asked for */
	unsigned at;			/* index in looks[] of what is asked for next; LOOKS: nothing */
	bool looking;			/* looks[at] was asked */
	unsigned told, opened;		/* in this round */
	bool open;			/* the guest has the port open */
	bool checked;			/* and has told since whether it was left frozen */
	bool untold;			/* there were too many changes to tell: the next round does */
	int64_t looked_usec, open_usec;	/* CLOCK_MONOTONIC; 0: never */
	struct timer ice;		/* armed while the guest is frozen, or may be: then it is thawed */
};

static const struct {
	const char *command;
	void (*read)(struct agent_facts *f, json_t *result);
} looks[] = {
	{ "guest-info", agent_facts_version },
	{ "guest-get-osinfo", agent_facts_os },
	{ "guest-get-host-name", agent_facts_hostname },
	{ "guest-network-get-interfaces", agent_facts_addresses },
	{ "guest-get-fsinfo", agent_facts_file_systems },
};
enum { LOOKS = COUNT(looks) };

bool vm_agent_answers(const struct vm *vm)
{
	return vm->agent && vm->agent->facts.agent == AGENT_ANSWERS;
}

const struct agent_facts *vm_agent_facts(const struct vm *vm)
{
	static const struct agent_facts absent = { .agent = AGENT_ABSENT };

	return vm->agent ? &vm->agent->facts : &absent;
}

static bool runs(const struct vm *vm)
{
	return vm->state == VM_RUNNING || vm->state == VM_STOPPING;
}

static void newer(struct vm_agent *a)
{
	if (a->vm->vms->how.on_newer)
		a->vm->vms->how.on_newer(a->vm, a->vm->owner);
}

static void tell(struct vm_agent *a)
{
	a->untold = a->told++ >= TELL_MAX;
	if (a->untold)
		newer(a);
	else
		vm_noted(a->vm);
}

static void become(struct vm_agent *a, enum agent_state s)
{
	if (a->facts.agent == (int)s)
		return;
	a->facts.agent = s;
	tell(a);
}

/* The agent said no: then it is there, and the connection goes on. */
static bool is_refusal(const struct err *e)
{
	return e->code == ERR_STATE || e->code == ERR_UNSUPPORTED;
}

static void call(struct vm_agent *a, const char *command, agent_wire_done done)
{
	agent_wire_call(a->wire, command, NULL, true, a->vm->vms->how.answer_usec, done, a);
}

/* ---- the facts ---- */

static void on_fact(void *arg, json_t *result, const struct err *e);

static void look_end(struct vm_agent *a)
{
	bool same;

	a->next.agent = a->facts.agent;
	a->next.frozen = a->facts.frozen;
	a->next.as_of = now_usec();
	same = agent_facts_same(&a->facts, &a->next);
	agent_facts_fini(&a->facts);
	a->facts = a->next;
	a->next = (struct agent_facts){ 0 };
	if (same)
		newer(a);
	else
		tell(a);
}

/* Go on with a look: a frozen guest's agent answers nothing of it. */
static void look_on(struct vm_agent *a)
{
	if (a->at == LOOKS) {
		look_end(a);
	} else if (!a->facts.frozen && !a->looking) {
		a->looking = true;
		call(a, looks[a->at].command, on_fact);
	}
}

static void look_begin(struct vm_agent *a)
{
	agent_facts_fini(&a->next);
	a->at = 0;
	a->looked_usec = mono_usec();
	look_on(a);
}

static void on_fact(void *arg, json_t *result, const struct err *e)
{
	struct vm_agent *a = arg;

	a->looking = false;
	if (e && !is_refusal(e)) {
		a->at += e->code == ERR_TOO_LARGE;	/* the next round goes on behind it */
		return;
	}
	become(a, AGENT_ANSWERS);
	if (result)
		looks[a->at].read(&a->next, result);
	a->at++;
	look_on(a);
}

static bool look_is_due(const struct vm_agent *a)
{
	int64_t now = mono_usec();

	return !a->looked_usec || a->at < LOOKS || now - a->looked_usec >= LOOK_USEC || now - a->open_usec < YOUNG_USEC;
}

void vm_agent_look(struct vm *vm)
{
	struct vm_agent *a = vm->agent;
	int64_t now = mono_usec(), age = vm->vms->how.round_usec;

	if (!a || !a->wire || !vm_agent_answers(vm) || !runs(vm) || a->at < LOOKS || agent_wire_busy(a->wire))
		return;
	if (now - a->open_usec < YOUNG_USEC && age > YOUNG_LOOK_USEC)
		age = YOUNG_LOOK_USEC;
	if (now - a->looked_usec >= age)
		look_begin(a);
}

/* ---- ice ---- */

static void on_ice(void *arg);

static void thawed(struct vm_agent *a, const struct err *e)
{
	if (e && e->code != ERR_UNSUPPORTED)
		return;				/* the timer is armed */
	timer_disarm(&a->ice);
	become(a, AGENT_ANSWERS);
	if (a->facts.frozen) {
		a->facts.frozen = false;
		tell(a);
	}
	if (!a->looked_usec)
		look_begin(a);
	else if (a->at < LOOKS)
		look_on(a);
}

static void on_thawed(void *arg, json_t *result, const struct err *e)
{
	thawed(arg, e);
}

static void ice_in(struct vm_agent *a, uint64_t usec)
{
	timer_arm(&a->ice, a->vm->vms->how.ev, usec, on_ice, a);
}

static void thaw(struct vm_agent *a)
{
	uint64_t deadline = THAW_ANSWERS * a->vm->vms->how.answer_usec;

	ice_in(a, deadline + a->vm->vms->how.answer_usec);
	agent_wire_call(a->wire, "guest-fsfreeze-thaw", NULL, true, deadline, on_thawed, a);
}

/* ---- the connection ---- */

static void on_broken(void *arg, const struct err *e)
{
	struct vm_agent *a = arg;
	bool its_fault = e->code == ERR_TIMEOUT || e->code == ERR_BAD_REQUEST;

	log_debug("VM %s: %s", a->vm->name, e->msg);
	agent_wire_free(TAKE(a->wire));
	if (its_fault && runs(a->vm))
		become(a, AGENT_SILENT);
}

/* The first answer on a connection. A frozen guest that we don't hold was left so by somebody who is no more. */
static void on_first(void *arg, json_t *result, const struct err *e)
{
	const char *status = json_string_value(result);
	struct vm_agent *a = arg;

	if (e && !is_refusal(e))
		return;
	a->checked = true;
	become(a, AGENT_ANSWERS);
	if (!a->facts.frozen && status && !strcmp(status, "frozen")) {
		log_warn("VM %s: its file systems were left frozen, and are thawed", a->vm->name);
		a->facts.frozen = true;
		thaw(a);
	} else if (look_is_due(a) && a->at == LOOKS) {
		look_begin(a);
	} else if (a->at < LOOKS) {
		look_on(a);
	}
}

static int connect_it(struct vm_agent *a, struct err *e)
{
	const struct agent_wire_how how = { .ev = a->vm->vms->how.ev, .broken = on_broken, .arg = a };
	int fd;

	if (a->wire)
		return 0;
	fd = a->vm->engine->agent_connect(a->vm, e);
	if (fd < 0)
		return fd;
	a->wire = agent_wire_new(&how, fd);
	call(a, "guest-fsfreeze-status", on_first);
	return 0;
}

static void on_ice(void *arg)
{
	struct vm_agent *a = arg;

	ice_in(a, a->vm->vms->how.answer_usec);
	if (a->open && runs(a->vm) && connect_it(a, NULL) == 0)
		thaw(a);
}

static void opened(struct vm_agent *a)
{
	a->open_usec = mono_usec();
	if (a->opened++ < OPEN_MAX)
		connect_it(a, NULL);		/* else, or if that failed, the next round does */
}

/* What the guest told was of an agent that is no more. */
static void closed(struct vm_agent *a)
{
	int was = a->facts.agent;

	agent_wire_free(TAKE(a->wire));
	timer_disarm(&a->ice);
	agent_facts_fini(&a->next);
	a->at = LOOKS;
	a->looked_usec = 0;
	a->checked = false;
	agent_facts_fini(&a->facts);
	a->facts.agent = AGENT_ABSENT;
	if (was != AGENT_ABSENT)
		tell(a);
}

void vm_agent_port(struct vm *vm, bool open)
{
	struct vm_agent *a = vm->agent;

	if (!a) {
		a = vm->agent = xnew(vm_agent);
		a->vm = vm;
		a->at = LOOKS;
		a->facts.agent = AGENT_ABSENT;
	} else if (a->open) {
		closed(a);
	}
	a->open = open;
	if (open)
		opened(a);
}

void vm_agent_port_is(struct vm *vm, bool open)
{
	if (!vm->agent || vm->agent->open != open)
		vm_agent_port(vm, open);
}

static void on_ping(void *arg, json_t *result, const struct err *e)
{
	if (!e || is_refusal(e))
		become(arg, AGENT_ANSWERS);
}

void vm_agent_round(struct vm *vm)
{
	struct vm_agent *a = vm->agent;

	if (!a)
		return;
	a->told = a->opened = 0;
	if (a->untold)
		tell(a);
	if (!a->open || !runs(vm))
		return;
	if (!a->wire)
		connect_it(a, NULL);
	else if (agent_wire_busy(a->wire))
		return;
	else if (a->facts.frozen || !look_is_due(a))
		call(a, "guest-ping", on_ping);
	else if (a->at < LOOKS)
		look_on(a);
	else
		look_begin(a);
}

void vm_agent_free(struct vm *vm)
{
	struct vm_agent *a = TAKE(vm->agent);

	if (!a)
		return;
	if (a->facts.frozen && a->wire)
		agent_wire_last_word(a->wire, "guest-fsfreeze-thaw");
	agent_wire_free(a->wire);
	timer_disarm(&a->ice);
	agent_facts_fini(&a->facts);
	agent_facts_fini(&a->next);
	free(a);
}

/* ---- what is asked ---- */

int vm_agent_usable(const struct vm *vm, struct err *e)
{
	const struct vm_agent *a = vm->agent;

	if (!runs(vm)) {
		fail(e, ERR_STATE, "VM \"%s\" is %s: its agent can be asked while it runs", vm->name, vm_state_names[vm->state]);
		return err_hint(e, "start or resume it first");
	}
	if (!a) {
		fail(e, ERR_STATE, "VM \"%s\" was started without a port for a guest agent", vm->name);
		return vm->engine->agent_connect ? err_hint(e, "set guest_agent to true and start it anew")
						 : err_hint(e, "a simulated guest has none: create the VM with engine qemu");
	}
	if (!a->open) {
		fail(e, ERR_STATE, "no agent runs in the guest of VM \"%s\"", vm->name);
		return err_hint(e, "install and start qemu-guest-agent in it");
	}
	return 0;
}

static int ready(struct vm *vm, struct err *e)
{
	int r = vm_agent_usable(vm, e);

	return r < 0 ? r : connect_it(vm->agent, e);
}

static void on_asked(void *arg, json_t *result, const struct err *e)
{
	struct vm_op *op = arg;

	if (e)
		log_debug("VM %s: %s", op->vm->name, e->msg);
	if (op->vm->agent && (!e || is_refusal(e)))
		become(op->vm->agent, AGENT_ANSWERS);
	vm_op_end(op, e);
}

static int ask(struct vm *vm, const char *command, json_t *args, bool answered, vm_done done, void *arg, struct err *e)
{
	int r = ready(vm, e);

	if (r < 0) {
		json_decref(args);
		return r;
	}
	agent_wire_call(vm->agent->wire, command, args, answered, vm->vms->how.answer_usec, on_asked, vm_op_agent(vm, done, arg));
	return 0;
}

int vm_agent_set_time(struct vm *vm, vm_done done, void *arg, struct err *e)
{
	return ask(vm, "guest-set-time", json_pack("{s:I}", "time", (json_int_t)now_usec() * 1000), true, done, arg, e);
}

int vm_agent_shutdown(struct vm *vm, vm_done done, void *arg, struct err *e)
{
	return ask(vm, "guest-shutdown", json_pack("{s:s}", "mode", "powerdown"), false, done, arg, e);
}

void vm_agent_resumed(struct vm *vm, int64_t paused_usec)
{
	struct vm_agent *a = vm->agent;

	if (paused_usec < PAUSED_USEC || !a || !a->open)
		return;
	if (a->wire && agent_wire_busy(a->wire))	/* a call that the pause came into: its time has run out */
		agent_wire_free(TAKE(a->wire));
	vm_agent_set_time(vm, NULL, NULL, NULL);
}

static void on_frozen(void *arg, json_t *result, const struct err *e)
{
	struct vm_op *op = arg;
	struct vm_agent *a = op->vm->agent;

	if (a && !e)
		tell(a);
	else if (a && is_refusal(e))		/* it may have frozen some of them */
		thaw(a);
	else if (a)				/* the connection is over */
		ice_in(a, op->vm->vms->how.answer_usec);
	vm_op_end(op, e);
}

int vm_agent_freeze(struct vm *vm, unsigned seconds, vm_done done, void *arg, struct err *e)
{
	struct vm_agent *a = vm->agent;
	int r = ready(vm, e);

	if (r < 0)
		return r;
	if (a->facts.frozen) {
		fail(e, ERR_STATE, "the file systems of VM \"%s\" are frozen already", vm->name);
		return err_hint(e, "thaw them first: vmctl thaw %s", vm->name);
	}
	if (!seconds || seconds > AGENT_FREEZE_MAX_S)
		seconds = AGENT_FREEZE_MAX_S;
	if (!a->checked)
		call(a, "guest-fsfreeze-thaw", on_ping);	/* it may have been left frozen */
	a->facts.frozen = true;
	ice_in(a, (uint64_t)seconds * 1000000);
	agent_wire_call(a->wire, "guest-fsfreeze-freeze", NULL, true, (uint64_t)seconds * 1000000, on_frozen,
			vm_op_agent(vm, done, arg));
	return 0;
}

static void on_asked_thaw(void *arg, json_t *result, const struct err *e)
{
	struct vm_op *op = arg;

	if (op->vm->agent)
		thawed(op->vm->agent, e);
	vm_op_end(op, e);
}

int vm_agent_thaw(struct vm *vm, vm_done done, void *arg, struct err *e)
{
	int r = ready(vm, e);

	if (r < 0)
		return r;
	agent_wire_call(vm->agent->wire, "guest-fsfreeze-thaw", NULL, true, THAW_ANSWERS * vm->vms->how.answer_usec,
			on_asked_thaw, vm_op_agent(vm, done, arg));
	return 0;
}
