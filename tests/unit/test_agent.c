// LINK: hv-core
/* The agent of a VM against scripted guests at the other end of a socket: good ones, and those that hang, lie, flood or
 * leave things frozen. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent.h"
#include "engine.h"
#include "t.h"
#include "text.h"

enum how { GOOD, MUTE, HALF, JUNK, FLOOD, LONG, OLD };

static struct {
	sd_event *ev;
	struct vms *vms;
	struct vm *vm;
	int peer;			/* the guest's end */
	struct buf in;
	enum how how;
	const char *about;		/* the command that LONG is about */
	const char *refuses;		/* a command that the agent refuses */
	bool frozen, dead;		/* dead: nobody answers freeze and thaw */
	uint64_t used;
	const char *hostname;
	char seen[4096];		/* commands but syncs, each with a blank behind */
	unsigned connects, changes, newer, dones;
	struct err err;
} w;

static const char interfaces[] = "[{\"name\":\"lo\",\"ip-addresses\":[{\"ip-address\":\"127.0.0.1\",\"prefix\":8}]},"
	"{\"name\":\"eth0\",\"hardware-address\":\"52:54:00:12:34:56\",\"ip-addresses\":[{\"ip-address\":\"fe80::1\",\"prefix\":64},"
	"{\"ip-address\":\"10.0.2.15\",\"prefix\":24}]}]";

/* ---- the guest */

static void says(const void *p, size_t n)
{
	(void)!send(w.peer, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

__attribute__((format(printf, 1, 2))) static void sayf(const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	says(text, strlen(text));
	free(text);
}

static void flood(size_t n)
{
	AUTO_FREE char *x = xmalloc(n);

	memset(x, 'x', n);
	says(x, n);
}

static void answer(const char *command)
{
	bool is_freeze = !strcmp(command, "guest-fsfreeze-freeze"), is_thaw = !strcmp(command, "guest-fsfreeze-thaw");

	snprintf(w.seen + strlen(w.seen), sizeof(w.seen) - strlen(w.seen), "%s ", command);
	if (w.dead && (is_freeze || is_thaw))
		return;
	if (w.refuses && !strcmp(command, w.refuses)) {
		sayf("{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\\nway\"}}\n");
		return;
	}
	if (is_freeze || is_thaw)
		w.frozen = is_freeze;
	if (w.how == LONG && !strcmp(command, w.about)) {
		sayf("{\"return\":\"");
		flood(80000);
		sayf("\"}\n");
	} else if (!strcmp(command, "guest-fsfreeze-status")) {
		sayf("{\"return\":\"%s\"}\n", w.frozen ? "frozen" : "thawed");
	} else if (!strcmp(command, "guest-network-get-interfaces")) {
		sayf("{\"return\":%s}\n", interfaces);
	} else if (!strcmp(command, "guest-get-host-name")) {
		sayf("{\"return\":{\"host-name\":\"%s\"}}\n", w.hostname);
	} else if (!strcmp(command, "guest-get-fsinfo")) {
		sayf("{\"return\":[{\"mountpoint\":\"/\",\"type\":\"ext4\",\"total-bytes\":1000,\"used-bytes\":%llu}]}\n",
		     (unsigned long long)w.used);
	} else if (!strcmp(command, "guest-get-osinfo")) {
		sayf("{\"return\":{\"pretty-name\":\"Debian\",\"kernel-release\":\"6.1\"}}\n");
	} else {
		sayf("{\"return\":{\"version\":\"7.2\"}}\n");
	}
}

static void on_sync(const char *id)
{
	int n = (int)strspn(id, "0123456789");

	switch (w.how) {
	case MUTE:
		break;
	case HALF:
		sayf("\xff{\"return\": %.*s", n, id);
		break;
	case JUNK:
		sayf("\xff{\"return\": %.*s}\nnot even JSON\n", n, id);
		break;
	case FLOOD:
		flood(150000);
		break;
	case OLD:
		sayf("{\"return\":{\"version\":\"old\"}}\n\xff{\"return\": 1}\nhalf a li\xff{\"return\": %.*s}\n", n, id);
		break;
	case GOOD:
	case LONG:
		sayf("\xff{\"return\": %.*s}\n", n, id);
		break;
	}
}

static void guest_turn(void)
{
	char *nl, *at, name[64];
	ssize_t n;

	if (w.peer < 0)
		return;
	while ((n = recv(w.peer, buf_room(&w.in, 4096), 4096, MSG_DONTWAIT)) > 0)
		w.in.len += n;
	while (w.in.len && (nl = memchr(w.in.data, '\n', w.in.len))) {
		*nl = 0;
		if ((at = strstr(w.in.data, "\"id\":")))
			on_sync(at + 5);
		else if ((at = strstr(w.in.data, "\"execute\":\"")) && sscanf(at + 11, "%63[a-z-]", name) == 1 && w.how != MUTE &&
			 w.how != JUNK && w.how != HALF && w.how != FLOOD)
			answer(name);
		buf_drop(&w.in, nl + 1 - w.in.data);
	}
}

/* ---- the VM */

static int fake_start(struct vm *vm, const struct vm_launch *l, struct err *e)
{
	vm->run = &w;
	return 0;
}

static int fake_connect(struct vm *vm, struct err *e)
{
	int pair[2], size = 400000;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		abort();
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	close_at(&w.peer);
	w.peer = pair[0];
	buf_reset(&w.in);
	w.connects++;
	return pair[1];
}

static void fake_ask(struct vm *vm, struct vm_op *op, int fd) { vm_op_end(op, NULL); }

static void fake_detach(struct vm *vm)
{
	vm_agent_free(vm);
	vm->run = NULL;
}

static void fake_status(const struct vm *vm, struct vm_status *s) { }
static const struct engine fake = {
	.name = "fake", .start = fake_start, .agent_connect = fake_connect, .probe = vm_agent_round, .detach = fake_detach,
	.status = fake_status, .ask = fake_ask,
};

static void on_change(struct vm *vm, void *owner) { w.changes++; }
static void on_newer(struct vm *vm, void *owner) { w.newer++; }
static void on_done(void *arg, const struct err *e)
{
	w.dones++;
	w.err = e ? *e : (struct err){ 0 };
}

#define until(cond, ms) ({ \
	int64_t end_ = mono_usec() + (int64_t)(ms) * 1000; \
	while (!(cond) && mono_usec() < end_) { \
		guest_turn(); \
		sd_event_run(w.ev, 1000); \
	} \
	(cond); })

/* A VM that runs, whose guest has not opened its port yet. */
static void begin_with(enum how how, uint64_t round_usec)
{
	struct err e = { 0 };

	w.how = how;
	w.peer = -1;
	w.hostname = "web";
	w.in = (struct buf)BUF_INIT(1 << 20);
	sd_event_new(&w.ev);
	w.vms = vms_new(&(struct vms_how){ .ev = w.ev, .on_change = on_change, .on_newer = on_newer, .round_usec = round_usec,
			.answer_usec = 200000 });
	w.vm = vm_new(w.vms, &fake, "3b241101-e2bb-4255-8caf-4136c566a962", "tiny", NULL);
	ok(!vm_start(w.vm, NULL, NULL, NULL, &e));
	vm_saw(w.vm, VM_SAW_RUNNING, NULL);
	w.changes = 0;
}

static void begin(enum how how)
{
	begin_with(how, 60000000);
	vm_agent_port_is(w.vm, false);
	vm_agent_port(w.vm, true);
}

static void finish(void)
{
	vm_free(w.vm);
	vms_free(w.vms);
	sd_event_unref(w.ev);
	close_at(&w.peer);
	buf_fini(&w.in);
	memset(&w, 0, sizeof(w));
}

static const struct agent_facts *facts(void) { return vm_agent_facts(w.vm); }
static bool told(void) { return facts()->as_of; }
#define IS(s) ok(until(facts()->agent == (s), 3000))
#define DONE(call) ({ struct err e_ = { 0 }; unsigned n_ = w.dones; ok((call) == 0); ok(until(w.dones > n_, 3000)); })

TEST(what_it_tells)
{
	const struct agent_address *a;

	begin(GOOD);
	eq_int(facts()->agent, AGENT_ABSENT);
	ok(until(told(), 3000));
	ok(vm_agent_answers(w.vm));
	eq_int(w.changes, 2);			/* it answers; and what it tells */
	eq_str(facts()->version, "7.2");
	eq_str(facts()->os, "Debian");
	eq_str(facts()->kernel, "6.1");
	eq_str(facts()->hostname, "web");
	eq_str(facts()->address, "10.0.2.15");
	eq_int(facts()->addresses.n, 2);
	a = facts()->addresses.items;
	eq_str(a[1].address, "10.0.2.15");
	eq_str(a[1].mac, "52:54:00:12:34:56");
	eq_int(facts()->file_systems.n, 1);
	vm_agent_port(w.vm, false);		/* it is gone, and what it told with it */
	eq_int(facts()->agent, AGENT_ABSENT);
	ok(!facts()->hostname && !facts()->addresses.n && !told());
	finish();
}

TEST(heartbeats_are_no_events)
{
	begin_with(GOOD, 20000);
	vm_agent_port(w.vm, true);
	ok(until(told(), 3000));
	w.changes = w.newer = 0;
	w.used = 500;
	ok(until(w.newer >= 3, 3000));		/* while it is young, each round looks */
	eq_int(w.changes, 0);
	eq_int(((struct agent_file_system *)facts()->file_systems.items)->used_bytes, 500);
	w.hostname = "db";
	ok(until(w.changes, 3000));
	eq_int(w.changes, 1);
	eq_str(facts()->hostname, "db");
	eq_int(w.connects, 1);
	finish();
}

TEST(no_agent_costs_nothing)
{
	struct err e = { 0 };

	begin_with(GOOD, 10000);
	ok(vm_agent_set_time(w.vm, on_done, NULL, &e) < 0);
	ok(strstr(e.msg, "without a port"));
	vm_agent_port(w.vm, false);
	until(false, 100);
	eq_int(w.connects, 0);
	eq_int(w.changes, 0);
	ok(vm_agent_freeze(w.vm, 5, on_done, NULL, &e) < 0);
	ok(strstr(e.msg, "no agent runs"));
	finish();
}

TEST(hanging_halves_and_junk_are_silence)
{
	static const enum how hows[] = { MUTE, HALF, JUNK, FLOOD };

	for (size_t i = 0; i < COUNT(hows); i++) {
		begin_with(hows[i], 300000);
		vm_agent_port(w.vm, true);
		IS(AGENT_SILENT);
		ok(!told() && w.peer >= 0);
		eq_int(w.changes, 1);
		w.how = GOOD;			/* it recovers: the next round finds it */
		ok(until(told(), 3000));
		ok(vm_agent_answers(w.vm));
		finish();
	}
}

TEST(old_answers_and_halves_are_passed_over)
{
	begin(OLD);
	ok(until(told(), 3000));
	eq_str(facts()->version, "7.2");
	eq_int(w.connects, 1);
	finish();
}

/* A list that is too long for us is not told; the rest is, and the agent is a good one. */
TEST(an_answer_that_is_too_long)
{
	w.about = "guest-network-get-interfaces";
	begin_with(LONG, 50000);
	vm_agent_port(w.vm, true);
	ok(until(told(), 3000));
	ok(vm_agent_answers(w.vm));
	eq_int(facts()->addresses.n, 0);
	eq_int(facts()->file_systems.n, 1);
	finish();
}

/* While nothing was asked nothing is read: the guest fills the socket and stops itself. */
TEST(a_flood_that_nobody_asked_for)
{
	char x[65536] = "";
	size_t sent = 0;
	ssize_t n;

	begin(GOOD);
	ok(until(told(), 3000));
	w.changes = w.newer = 0;
	while ((n = send(w.peer, x, sizeof(x), MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
		sent += n;
	eq_int(errno, EAGAIN);
	for (int i = 0; i < 20; i++)
		eq_int(sd_event_run(w.ev, 1000), 0);	/* no wake-up */
	ok(send(w.peer, x, 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0);
	eq_int(w.changes + w.newer, 0);
	vm_agent_round(w.vm);				/* but then somebody asks */
	IS(AGENT_SILENT);
	finish();
}

TEST(events_at_will_are_not_to_be_had)
{
	begin(GOOD);
	for (int i = 0; i < 200; i++) {
		vm_agent_port(w.vm, true);
		until(vm_agent_answers(w.vm), i < 10 ? 200 : 0);
		vm_agent_port(w.vm, false);
	}
	ok(w.changes <= 8 && w.connects <= 8);
	vm_agent_round(w.vm);				/* what is so in the end is told */
	eq_int(facts()->agent, AGENT_ABSENT);
	ok(w.changes <= 9);
	finish();
}

TEST(frozen_and_thawed)
{
	begin(GOOD);
	ok(until(told(), 3000));
	DONE(vm_agent_freeze(w.vm, 60, on_done, NULL, &e_));
	ok(!w.err.code && w.frozen && facts()->frozen);
	struct err e = { 0 };
	ok(vm_agent_freeze(w.vm, 60, on_done, NULL, &e) < 0);
	ok(strstr(e.msg, "frozen already"));
	w.seen[0] = 0;
	vm_agent_round(w.vm);				/* asks nothing that a frozen guest's agent refuses */
	ok(until(*w.seen, 1000));
	eq_str(w.seen, "guest-ping ");
	DONE(vm_agent_thaw(w.vm, on_done, NULL, &e_));
	ok(!w.err.code && !w.frozen && !facts()->frozen);
	finish();
}

TEST(a_frozen_guest_is_thawed_before_it_shuts_down)
{
	begin(GOOD);
	ok(until(told(), 3000));
	DONE(vm_agent_freeze(w.vm, 60, on_done, NULL, &e_));
	DONE(vm_shutdown(w.vm, on_done, NULL, &e_));
	ok(until(!w.frozen, 1000));
	finish();
}

TEST(frozen_for_a_second_only)
{
	begin(GOOD);
	ok(until(told(), 3000));
	DONE(vm_agent_freeze(w.vm, 1, on_done, NULL, &e_));
	ok(w.frozen);
	ok(until(!w.frozen && !facts()->frozen, 5000));
	finish();
}

/* It said no, or nothing: it may have frozen some of them. */
TEST(a_freeze_that_fails_is_thawed)
{
	begin(GOOD);
	ok(until(told(), 3000));
	w.refuses = "guest-fsfreeze-freeze";
	DONE(vm_agent_freeze(w.vm, 60, on_done, NULL, &e_));
	eq_int(w.err.code, ERR_STATE);
	ok(strstr(w.err.msg, "no?way"));
	ok(until(!facts()->frozen, 1000));
	ok(strstr(w.seen, "guest-fsfreeze-thaw"));
	finish();
}

TEST(a_freeze_that_is_never_answered_is_thawed)
{
	begin(GOOD);
	ok(until(told(), 3000));
	w.dead = true;
	DONE(vm_agent_freeze(w.vm, 1, on_done, NULL, &e_));
	eq_int(w.err.code, ERR_TIMEOUT);
	IS(AGENT_SILENT);
	ok(facts()->frozen);
	w.frozen = true;
	w.dead = false;
	w.seen[0] = 0;
	ok(until(!w.frozen && !facts()->frozen, 8000));
	ok(vm_agent_answers(w.vm));
	finish();
}

TEST(what_was_left_frozen_is_thawed)
{
	w.frozen = true;
	begin(GOOD);
	ok(until(told(), 3000));
	ok(!w.frozen && !facts()->frozen);
	DONE(vm_agent_freeze(w.vm, 60, on_done, NULL, &e_));
	ok(w.frozen);
	vm_free(w.vm);					/* croftd ends: its last word */
	until(false, 10);
	ok(!w.frozen);
	w.vm = NULL;
	finish();
}

/* Right after croftd has begun, before it knows that the last one left it frozen. */
TEST(a_freeze_of_what_was_left_frozen)
{
	w.frozen = true;
	begin(GOOD);
	DONE(vm_agent_freeze(w.vm, 60, on_done, NULL, &e_));
	ok(!w.err.code && w.frozen && facts()->frozen);
	ok(strstr(w.seen, "thaw") && strstr(w.seen, "thaw") < strstr(w.seen, "freeze-freeze"));
	finish();
}

/* Asked while it is being looked at: the look goes on, once. */
TEST(a_thaw_amid_a_look)
{
	begin(GOOD);
	for (int i = 0; i < 4; i++)
		DONE(vm_agent_thaw(w.vm, on_done, NULL, &e_));
	ok(until(told(), 3000));
	until(false, 50);
	eq_int(w.changes, 2);
	ok(strstr(w.seen, "guest-info") && !strstr(strstr(w.seen, "guest-info") + 1, "guest-info"));
	finish();
}

TEST(after_a_long_pause_the_clock_is_set)
{
	begin(GOOD);
	ok(until(told(), 3000));
	for (int seconds = 1; seconds < 10; seconds += 8) {
		w.seen[0] = 0;
		vm_saw(w.vm, VM_SAW_PAUSED, NULL);
		w.vm->since_usec -= seconds * 1000000ll;
		vm_saw(w.vm, VM_SAW_RUNNING, NULL);
		until(*w.seen, 100);
		eq_str(w.seen, seconds < 5 ? "" : "guest-set-time ");
	}
	finish();
}

/* Whether its agent has answered already or not: the clock of a guest that was woken is of then. */
TEST(what_wakes_gets_the_time)
{
	for (int early = 0; early < 2; early++) {
		begin_with(GOOD, 50000);
		if (!early)
			vm_agent_woke(w.vm);	/* it has no port: nothing happens */
		vm_agent_port(w.vm, true);
		if (!early)
			ok(until(told(), 3000));
		vm_agent_woke(w.vm);
		ok(until(strstr(w.seen, "guest-set-time ") != NULL, 3000));
		finish();
	}
}

/* A paused guest answers nothing, and that is no fault of its agent. */
TEST(a_pause_is_no_silence)
{
	begin_with(GOOD, 50000);
	vm_agent_port(w.vm, true);
	ok(until(told(), 3000));
	w.how = MUTE;
	w.seen[0] = 0;
	vm_agent_round(w.vm);
	vm_saw(w.vm, VM_SAW_PAUSED, NULL);
	until(false, 500);
	ok(vm_agent_answers(w.vm));
	w.how = GOOD;
	vm_saw(w.vm, VM_SAW_RUNNING, NULL);
	w.newer = 0;
	ok(until(w.newer, 3000));
	ok(vm_agent_answers(w.vm));
	finish();
}

TEST(shutdown_has_no_answer)
{
	begin(GOOD);
	ok(until(told(), 3000));
	DONE(vm_agent_shutdown(w.vm, on_done, NULL, &e_));
	ok(!w.err.code && until(strstr(w.seen, "guest-shutdown"), 1000));
	w.how = MUTE;
	DONE(vm_agent_set_time(w.vm, on_done, NULL, &e_));
	eq_int(w.err.code, ERR_TIMEOUT);
	ok(strstr(w.err.msg, "guest-set-time"));
	finish();
}

TEST(what_is_asked_ends_with_the_vm)
{
	struct err e = { 0 };

	begin(MUTE);
	ok(!vm_agent_set_time(w.vm, on_done, NULL, &e));
	ok(!vm_agent_freeze(w.vm, 5, on_done, NULL, &e));
	vm_free(TAKE(w.vm));
	ok(until(w.dones == 2, 1000));
	eq_int(w.err.code, ERR_INTERRUPTED);
	finish();
}

/* Guests of every kind, asks, pauses, ports that open and close: each ask ends once, and in the end all is well. */
TEST(anything_in_any_order)
{
	unsigned asked = 0, was = 0;

	begin_with(GOOD, 3000);
	w.about = "guest-get-fsinfo";
	srand(7);
	for (int i = 0; i < 4000; i++) {
		struct err e = { 0 };

		switch (rand() % 12) {
		case 0: vm_agent_port(w.vm, rand() % 4); break;
		case 1: w.how = rand() % (OLD + 1); break;
		case 2: w.how = GOOD; w.dead = false; w.refuses = NULL; break;
		case 3: asked += vm_agent_freeze(w.vm, 1, on_done, NULL, &e) == 0; break;
		case 4: asked += vm_agent_thaw(w.vm, on_done, NULL, &e) == 0; break;
		case 5: asked += vm_agent_set_time(w.vm, on_done, NULL, &e) == 0; break;
		case 6: asked += vm_agent_shutdown(w.vm, on_done, NULL, &e) == 0; break;
		case 7: vm_saw(w.vm, rand() % 3 ? VM_SAW_RUNNING : VM_SAW_PAUSED, NULL); w.vm->since_usec -= rand() % 9000000; break;
		case 8: vm_agent_look(w.vm); break;
		case 9: w.dead = rand() % 2; w.refuses = rand() % 3 ? NULL : "guest-get-osinfo"; break;
		case 10: w.frozen = rand() % 3 == 0; break;
		case 11: if (rand() % 8 == 0) close_at(&w.peer), w.peer = -1; break;
		}
		w.seen[0] = 0;
		until(false, i % 7 ? 0 : 2);
		guest_turn();
		sd_event_run(w.ev, 0);
		was += vm_agent_answers(w.vm);
	}
	ok(asked > 100 && was > 100);
	w.how = GOOD;
	w.dead = w.frozen = false;
	w.refuses = NULL;
	vm_saw(w.vm, VM_SAW_RUNNING, NULL);
	vm_agent_port(w.vm, true);
	w.seen[0] = 0;
	ok(until(told() && !facts()->frozen, 5000));
	ok(until(w.dones == asked, 5000));
	finish();
}

static void read_into(struct agent_facts *f, void (*read)(struct agent_facts *f, json_t *result), const char *json)
{
	json_t *j = json_loads(json, 0, NULL);

	ok(j != NULL);
	read(f, j);
	json_decref(j);
}

TEST(texts_of_strangers)
{
	struct agent_facts f = { 0 };

	read_into(&f, agent_facts_hostname, "{\"host-name\": \"a\\u001b[2J\\u202e\\u009bb\\u00e9\"}");
	eq_str(f.hostname, "a?[2J?????b\xc3\xa9");
	read_into(&f, agent_facts_hostname, "{\"host-name\": 5}");
	ok(!f.hostname);
	read_into(&f, agent_facts_file_systems, "[{\"mountpoint\":\"/\",\"total-bytes\":-1},{\"mountpoint\":\"\"},7,null]");
	eq_int(f.file_systems.n, 1);
	eq_int(((struct agent_file_system *)f.file_systems.items)->total_bytes, 0);
	read_into(&f, agent_facts_addresses, "{\"no\": \"list\"}");
	read_into(&f, agent_facts_addresses, "[{\"name\":\"e\",\"hardware-address\":\"x\",\"ip-addresses\":[{\"ip-address\":\"evil\"},"
		  "{\"ip-address\":\"169.254.0.1\"},{\"ip-address\":\"2001:db8::1\",\"prefix\":64}]}]");
	eq_int(f.addresses.n, 2);
	eq_str(f.address, "2001:db8::1");
	ok(!((struct agent_address *)f.addresses.items)->mac);
	agent_facts_fini(&f);
}

TEST(lists_have_an_end)
{
	struct agent_facts f = { 0 };
	json_t *list = json_array(), *ips = json_array();

	for (int i = 0; i < 1000; i++) {
		json_array_append_new(list, json_pack("{s:s}", "mountpoint", "/x"));
		json_array_append_new(ips, json_pack("{s:s}", "ip-address", "10.0.0.1"));
	}
	agent_facts_file_systems(&f, list);
	eq_int(f.file_systems.n, AGENT_ITEMS_MAX);
	json_decref(list);
	list = json_pack("[{s:s, s:o}]", "name", "eth0", "ip-addresses", ips);
	agent_facts_addresses(&f, list);
	eq_int(f.addresses.n, AGENT_ITEMS_MAX);
	json_decref(list);
	agent_facts_fini(&f);
}

T_MAIN
