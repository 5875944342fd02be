// LINK: hv-core
/* Every state x event pair of the table, in the real engine under the real croft-vm: a QEMU that follows our orders (this
 * program itself, started again) brings the VM into the state, the event happens, and the VM is in the state that the
 * table says. A new state or event fails here until there is a way to it: reach[], cause[]. Needs root. */
#include <jansson.h>
#include "vmrig.h"
#include "engine_qemu.h"
#include "launch.h"
#include "vm.h"

/* ---- the QEMU: orders come by the descriptor of the kernel, a line each:
 *	open, shut: answer from now on, or be silent; status NAME: what query-status tells
 *	event NAME: tell it, and then that the guest panicked, by which we see that it has arrived; exit */

struct fake { FILE *orders; int listener, fd; bool open, greeted; char status[32], in[65536]; size_t n; };

static void say(struct fake *f, const char *text)
{
	(void)!send(f->fd, text, strlen(text), MSG_NOSIGNAL);
}

static void greet(struct fake *f)
{
	if (f->open && !f->greeted && f->fd >= 0)
		say(f, "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n");
	f->greeted |= f->open && f->fd >= 0;
}

static void answer(struct fake *f, json_t *m)
{
	const char *command = json_string_value(json_object_get(m, "execute"));
	long long id = json_integer_value(json_object_get(m, "id"));
	AUTO_FREE char *text = !strcmp(command ?: "", "query-status") ?
		xasprintf("{\"return\": {\"status\": \"%s\"}, \"id\": %lld}\r\n", f->status, id) :
		xasprintf("{\"return\": {}, \"id\": %lld}\r\n", id);

	say(f, text);
}

static void answers(struct fake *f)
{
	json_error_t je;
	json_t *m;

	while (f->open && f->n && (m = json_loadb(f->in, f->n, JSON_DISABLE_EOF_CHECK, &je))) {
		memmove(f->in, f->in + je.position, f->n -= je.position);
		answer(f, m);
		json_decref(m);
	}
}

static void take(struct fake *f)		/* croftd comes, speaks or goes */
{
	ssize_t n = f->fd < 0 ? 0 : recv(f->fd, f->in + f->n, sizeof(f->in) - f->n, MSG_DONTWAIT);

	if (n > 0) {
		f->n += n;
		answers(f);
	} else if (n == 0) {
		close_at(&f->fd);
		f->fd = accept(f->listener, NULL, NULL);
		f->n = 0;
		f->greeted = false;
		greet(f);
	}
}

static void obey(struct fake *f, char *order)
{
	struct pollfd p = { .fd = f->listener, .events = POLLIN };

	order[strcspn(order, "\n")] = 0;
	if (!strcmp(order, "exit"))
		_exit(0);
	if (!strcmp(order, "open") || !strcmp(order, "shut"))
		f->open = order[0] == 'o';
	if (!strncmp(order, "status ", 7))
		snprintf(f->status, sizeof(f->status), "%.31s", order + 7);
	if (!strncmp(order, "event ", 6)) {
		AUTO_FREE char *text = xasprintf("{\"event\": \"%s\", \"data\": {}}\r\n{\"event\": \"GUEST_PANICKED\", \"data\": "
						 "{\"action\": \"run\"}}\r\n", order + 6);

		while (poll(&p, 1, f->fd < 0 ? -1 : 0) == 1)
			take(f);	/* to whoever is there now */
		say(f, text);
	}
	greet(f);
	answers(f);
}

static int fake_main(void)
{
	static struct fake f = { .listener = RIG_QMP, .fd = -1, .status = "running" };
	char order[64];

	f.orders = fdopen(RIG_KERNEL, "r");
	setvbuf(f.orders, NULL, _IONBF, 0);
	fcntl(RIG_QMP, F_SETFL, fcntl(RIG_QMP, F_GETFL) | O_NONBLOCK);
	for (;;) {
		struct pollfd p[] = { { RIG_KERNEL, POLLIN, 0 }, { f.fd < 0 ? f.listener : f.fd, POLLIN, 0 } };

		if (poll(p, 2, -1) < 0)
			return 1;
		if (p[1].revents)
			take(&f);
		if (p[0].revents && !fgets(order, sizeof(order), f.orders))
			return 0;
		if (p[0].revents)
			obey(&f, order);
	}
}

/* ---- the VM */

static struct { struct rig rig; struct vms *vms; struct vm *vm; int orders; bool brief; pid_t qemu; char self[4096]; } w;

static void on_done(void *arg, const struct err *e) {}

static void order(const char *text)
{
	(void)!send(w.orders, text, strlen(text), MSG_NOSIGNAL);
}

static void croftd_begins(void)
{
	w.vms = vms_new(&(struct vms_how){ .ev = w.rig.house.ev, .house = &w.rig.house,
			.round_usec = w.brief ? 100000 : 60000000, .answer_usec = w.brief ? 300000 : 10000000 });
	w.vm = vm_new(w.vms, &engine_qemu, RIG_UUID, "driven", &w);
}

static void croftd_ends(void)
{
	vm_free(TAKE(w.vm));
	vms_free(TAKE(w.vms));
}

static bool is(enum vm_state s) { return rig_until(&w.rig, vm_state(w.vm) == s, 10000); }

/* Ask for it. -errno when it is refused at once. */
static int start(struct err *e)
{
	struct vm_launch *l = xnew(vm_launch);
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	close(w.orders);
	w.orders = pair[0];
	l->argv = (struct argv){ .v = xcalloc(3, sizeof(char *)), .n = 2, .nfds = 3 };
	l->argv.v[0] = xstrdup(w.self);
	l->argv.v[1] = xstrdup("-fake");
	l->argv.fds = xcalloc(3, sizeof(*l->argv.fds));
	l->argv.fds[0] = (struct argv_fd){ ARGV_FD_QMP, NULL, RIG_QMP, false };
	l->argv.fds[1] = (struct argv_fd){ ARGV_FD_SERIAL, NULL, RIG_SERIAL, false };
	l->argv.fds[2] = (struct argv_fd){ ARGV_FD_KERNEL, NULL, RIG_KERNEL, false };
	l->fds = xcalloc(3, sizeof(int));
	l->fds[0] = l->fds[1] = -1;
	l->fds[2] = pair[1];
	l->uid = l->gid = RIG_UID;
	l->qemu_version = "any";
	return vm_start(w.vm, l, on_done, NULL, e);
}

/* ---- the ways to each state. They return true when it is there. */

static bool to_off(void) { return true; }

static bool to_starting(void)		/* QEMU is up and connected, and has not greeted */
{
	struct err e;
	struct vm_status s;

	return start(&e) == 0 && rig_until(&w.rig, (vm_status(w.vm, &s), s.pid > 0), 10000) && is(VM_STARTING);
}

static bool to_running(void)
{
	if (!to_starting())
		return false;
	order("open\n");
	return is(VM_RUNNING);
}

static bool to_found(void)		/* it runs, and this croftd has not looked at it yet: off, as far as it knows */
{
	if (!to_running())
		return false;
	order("shut\n");
	croftd_ends();
	croftd_begins();
	return true;
}

static bool to_attaching(void)
{
	struct err e;

	return to_found() && vm_attach(w.vm, on_done, NULL, &e) == 0 && is(VM_ATTACHING);
}

static bool after(const char *text, enum vm_state s)
{
	if (!to_running())
		return false;
	order(text);
	return is(s);
}

static bool to_paused(void) { return after("status paused\nevent STOP\n", VM_PAUSED); }
static bool to_stopping(void) { return after("event POWERDOWN\n", VM_STOPPING); }
static bool to_degraded(void) { return after("shut\n", VM_DEGRADED); }
static bool to_ending(void) { return after("event SHUTDOWN\n", VM_ENDING); }

static bool to_suspended(void)		/* the daemon has found its memory on the disk */
{
	vm_saw(w.vm, VM_SAW_SAVED, NULL);
	return true;
}

static bool to_suspending(void)
{
	if (!to_running())
		return false;
	vm_saw(w.vm, VM_SAW_SAVING, NULL);
	return true;
}

static bool to_lost(void)		/* its lock is held, and nothing tells by whom */
{
	struct err e;
	struct vm_status s;
	AUTO_FREE char *file = xasprintf("%s/%s/launch.json", w.rig.home, RIG_UUID);

	if (!to_running())
		return false;
	vm_status(w.vm, &s);
	w.qemu = s.pid;
	pid_t shim = keeper_proc(((struct guest *)w.vm->run)->keeper)->shim;
	croftd_ends();
	kill(shim, SIGKILL);
	(void)rig_until(&w.rig, kill(shim, 0) < 0, 5000);	/* the loop reaps it */
	unlink(file);
	croftd_begins();
	return vm_attach(w.vm, on_done, NULL, &e) == 0 && is(VM_LOST);
}

static bool (*const reach[VM_NSTATES])(void) = {
	[VM_OFF] = to_off, [VM_STARTING] = to_starting, [VM_ATTACHING] = to_attaching, [VM_RUNNING] = to_running,
	[VM_SUSPENDED] = to_suspended, [VM_SUSPENDING] = to_suspending, [VM_LOST] = to_lost, [VM_PAUSED] = to_paused,
	[VM_STOPPING] = to_stopping, [VM_DEGRADED] = to_degraded, [VM_ENDING] = to_ending,
};

/* ---- what makes each event. ask: and what its yes means; event: QEMU's; fn: anything else. */

static int screen(struct vm *vm, vm_done done, void *arg, struct err *e)
{
	return vm_screen_viewer(vm, open("/dev/null", O_RDWR | O_CLOEXEC), done, arg, e);
}

static int start_again(struct vm *vm, vm_done done, void *arg, struct err *e) { return start(e); }

static void goes(void)
{
	order("exit\n");
}

/* It is looked at again, and the lock is free. */
static void ends_lost(void)
{
	kill(w.qemu, SIGKILL);
	(void)rig_until(&w.rig, vm_state(w.vm) == VM_OFF || (w.vm->engine->probe(w.vm), vm_state(w.vm) == VM_OFF), 10000);
}

static void falls_silent(void)
{
	order("shut\n");
	(void)rig_until(&w.rig, vm_state(w.vm) == VM_DEGRADED, 700);	/* twice the deadline, and a round */
}

/* Its croft-vm dies, and nothing is left that tells whose lock it is. */
static void loses_it(void)
{
	struct guest *g = w.vm->run;

	guest_lost(g, "told");		/* what guest_keep() makes of a run folder without a record: see to_lost() */
}

static void ignores(void)		/* 3 minutes: its timer is where it is armed */
{
	struct timer *t = &w.vm->patience;

	if (vm_state(w.vm) == VM_STOPPING)
		t->fn(t->arg);
	else
		vm_saw(w.vm, VM_SAW_IGNORED, NULL);
}

static const struct {
	int (*ask)(struct vm *vm, vm_done done, void *arg, struct err *e);
	enum vm_event yes;		/* 0 (start): none */
	const char *event;
	void (*fn)(void);
	bool table;			/* what brings it about is not the engine: the table's word is what there is to try */
} cause[VM_NEVENTS] = {
	[VM_ASK_START] = { .ask = start_again },
	[VM_ASK_ATTACH] = { .ask = vm_attach },
	[VM_ASK_SHUTDOWN] = { .ask = vm_shutdown, .yes = VM_SAW_TOLD },
	[VM_ASK_RESET] = { .ask = vm_reset, .yes = VM_SAW_RESET },
	[VM_ASK_PAUSE] = { .ask = vm_pause, .yes = VM_SAW_PAUSED },
	[VM_ASK_RESUME] = { .ask = vm_resume, .yes = VM_SAW_RUNNING },
	[VM_ASK_SCREEN] = { .ask = screen },
	[VM_ASK_CHANGE] = { .table = true },	/* test_hot.c */
	[VM_ASK_SUSPEND] = { .table = true },
	[VM_ASK_DISCARD] = { .table = true },
	[VM_SAW_SAVING] = { .table = true },
	[VM_SAW_SAVED] = { .table = true },
	[VM_SAW_LOST] = { .fn = loses_it },
	[VM_ASK_POWEROFF] = { .ask = vm_poweroff },
	[VM_SAW_RUNNING] = { .event = "RESUME" },
	[VM_SAW_PAUSED] = { .event = "STOP" },
	[VM_SAW_TOLD] = { .event = "POWERDOWN" },
	[VM_SAW_IGNORED] = { .fn = ignores },
	[VM_SAW_RESET] = { .event = "RESET" },
	[VM_SAW_SILENCE] = { .fn = falls_silent },
	[VM_SAW_GUEST_END] = { .event = "SHUTDOWN" },
	[VM_SAW_END] = { .fn = goes },
};

static void asked(enum vm_state s, enum vm_event ev, const char *pair)
{
	enum vm_state want = vm_state_next(s, ev);
	struct err e = { 0 };
	int r = 0;

	if (cause[ev].table) {
		if (vm_can(w.vm, ev) != (want != VM_NSTATES))
			t_fail(__FILE__, __LINE__, "%s: it is %s", pair, want == VM_NSTATES ? "not refused" : "refused");
		if (want != VM_NSTATES)
			vm_saw(w.vm, ev, NULL);
	} else {
		r = cause[ev].ask(w.vm, on_done, NULL, &e);
	}

	if (want == VM_NSTATES) {
		if ((!cause[ev].table && (r >= 0 || e.code != ERR_STATE)) || vm_state(w.vm) != s)
			t_fail(__FILE__, __LINE__, "%s was not refused, and is %s", pair, vm_state_names[vm_state(w.vm)]);
		return;
	}
	if (r < 0 || vm_state(w.vm) != want)
		t_fail(__FILE__, __LINE__, "%s: %s, want %s %s", pair, vm_state_names[vm_state(w.vm)], vm_state_names[want], e.msg);
	if (cause[ev].yes && !is(vm_state_next(want, cause[ev].yes)))
		t_fail(__FILE__, __LINE__, "%s, and a yes: %s", pair, vm_state_names[vm_state(w.vm)]);
}

static bool told(void)
{
	struct vm_status s;

	vm_status(w.vm, &s);
	return s.note && strstr(s.note, "panicked");
}

static void seen(enum vm_state s, enum vm_event ev, const char *pair)
{
	enum vm_state want = vm_state_next(s, ev);
	AUTO_FREE char *event = cause[ev].event ? xasprintf("event %s\n", cause[ev].event) : NULL;

	/* there is nobody who could tell it */
	bool direct = !vm_state_alive(s) || cause[ev].table || (s == VM_LOST && (event || ev == VM_SAW_SILENCE));

	if (direct)
		vm_saw(w.vm, ev, NULL);
	else if (s == VM_LOST && ev == VM_SAW_END)
		ends_lost();
	else if (event)
		order(event);
	else
		cause[ev].fn();
	if (!direct && event && !rig_until(&w.rig, told(), 5000))
		t_fail(__FILE__, __LINE__, "%s: QEMU's event was not heard", pair);
	if (!is(want))
		t_fail(__FILE__, __LINE__, "%s: %s, want %s", pair, vm_state_names[vm_state(w.vm)], vm_state_names[want]);
}

static void drive(enum vm_state s, enum vm_event ev)
{
	AUTO_FREE char *pair = xasprintf("%s x %s", vm_state_names[s], vm_event_name(ev));
	bool (*way)(void) = s == VM_OFF && ev == VM_ASK_ATTACH ? to_found : reach[s];

	if (!way || (!cause[ev].ask && !cause[ev].event && !cause[ev].fn && !cause[ev].table)) {
		t_fail(__FILE__, __LINE__, "%s: there is no way to it in reach[] or cause[]", pair);
		return;
	}
	if (!rig_init(&w.rig))
		return;
	w.brief = s == VM_DEGRADED || ev == VM_SAW_SILENCE;
	w.orders = -1;
	croftd_begins();
	if (!way() || vm_state(w.vm) != s)
		t_fail(__FILE__, __LINE__, "%s: it cannot be brought there, it is %s", pair, vm_state_names[vm_state(w.vm)]);
	else if (vm_event_asked(ev))
		asked(s, ev, pair);
	else
		seen(s, ev, pair);
	croftd_ends();
	close(w.orders);		/* the fake ends with it */
	rig_fini(&w.rig);
}

static void row(enum vm_state s)
{
	(void)!readlink("/proc/self/exe", w.self, sizeof(w.self) - 1);
	for (int ev = 0; ev < VM_NEVENTS; ev++)
		drive(s, ev);
}

#define X(id, name, alive, help) TEST(from_##id) { row(VM_##id); }
VM_STATES(X)
#undef X

int main(int argc, char **argv)
{
	return argc > 1 && !strcmp(argv[1], "-fake") ? fake_main() : t_main(argc, argv);
}
