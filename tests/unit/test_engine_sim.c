// LINK: hv-core
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>
#include "engine.h"
#include "launch.h"
#include "mem.h"
#include "t.h"
#include "text.h"

static struct { sd_event *ev; struct vms *vms; struct vm *vm; unsigned changes, dones; struct err last; bool inside; } w;

static void on_change(struct vm *vm, void *owner)
{
	w.changes++;
	ok(owner == &w);
}

static void begin(void)
{
	sd_event_new(&w.ev);
	w.vms = vms_new(&(struct vms_how){ .ev = w.ev, .on_change = on_change });
	w.vm = vm_new(w.vms, &engine_sim, "6c1d2c70-58a4-4a0f-8c0e-0d8f4f6d3c11", "sim1", &w);
}

static void finish(void)
{
	vm_free(w.vm);
	vms_free(w.vms);
	sd_event_unref(w.ev);
}

static void turn_for(unsigned ms)
{
	int64_t until = mono_usec() + ms * 1000;

	for (int64_t left; (left = until - mono_usec()) > 0; )
		sd_event_run(w.ev, left);
}

static void turn_until_state(struct vm *vm, enum vm_state s)
{
	for (int64_t until = mono_usec() + 5000000; vm_state(vm) != s && mono_usec() < until; )
		sd_event_run(w.ev, 100000);
	eq_str(vm_state_names[vm_state(vm)], vm_state_names[s]);
}

static void on_done(void *arg, const struct err *e)
{
	ok(!w.inside);
	w.dones++;
	w.last = e ? *e : (struct err){ 0 };
	if (arg)
		vm_free(TAKE(w.vm));
}

/* Ask; done must come later, not inside the call. */
#define ASK(call) ({ w.inside = true; int r_ = (call); w.inside = false; r_; })

TEST(all_actions)
{
	struct vm_status s;
	struct err e;

	begin();
	vm_status(w.vm, &s);
	eq_int(s.state, VM_OFF);
	eq_int(s.last->why, VM_WHY_NEVER);
	eq_int(ASK(vm_start(w.vm, NULL, on_done, NULL, &e)), 0);
	eq_int(vm_state(w.vm), VM_STARTING);
	ok(ASK(vm_start(w.vm, NULL, on_done, NULL, &e)) < 0);
	eq_int(e.code, ERR_STATE);
	eq_str(e.msg, "start is not possible: VM \"sim1\" is starting");
	turn_until_state(w.vm, VM_RUNNING);
	turn_for(5);
	eq_int(w.dones, 1);
	eq_int(w.last.code, 0);
	vm_status(w.vm, &s);
	eq_str(s.accel, "sim");
	ok(s.as_of_usec > 0);

	eq_int(ASK(vm_pause(w.vm, on_done, NULL, &e)), 0);
	turn_until_state(w.vm, VM_PAUSED);
	ok(ASK(vm_shutdown(w.vm, on_done, NULL, &e)) < 0);
	eq_str(e.hint, "resume it first");
	eq_int(ASK(vm_resume(w.vm, on_done, NULL, &e)), 0);
	turn_until_state(w.vm, VM_RUNNING);
	eq_int(ASK(vm_reset(w.vm, on_done, NULL, &e)), 0);
	eq_int(ASK(vm_shutdown(w.vm, on_done, NULL, &e)), 0);
	eq_int(vm_state(w.vm), VM_STOPPING);
	turn_until_state(w.vm, VM_OFF);
	turn_for(5);
	eq_int(w.dones, 5);
	vm_status(w.vm, &s);
	eq_int(s.last->why, VM_WHY_GUEST_SHUTDOWN);
	ok(!s.accel);
	ok(ASK(vm_poweroff(w.vm, on_done, NULL, &e)) < 0);
	ok(!vm_can(w.vm, VM_ASK_POWEROFF));

	eq_int(ASK(vm_start(w.vm, NULL, on_done, NULL, &e)), 0);
	turn_until_state(w.vm, VM_RUNNING);
	eq_int(ASK(vm_poweroff(w.vm, on_done, NULL, &e)), 0);
	eq_int(ASK(vm_poweroff(w.vm, on_done, NULL, &e)), 0);	/* asked twice: both are told */
	turn_until_state(w.vm, VM_OFF);
	turn_for(5);
	eq_int(w.dones, 8);
	vm_status(w.vm, &s);
	eq_int(s.last->why, VM_WHY_POWEROFF);
	ok(w.changes >= 9);
	finish();
}

TEST(a_start_that_is_powered_off_has_failed)
{
	struct err e;

	begin();
	eq_int(ASK(vm_start(w.vm, NULL, on_done, NULL, &e)), 0);
	eq_int(ASK(vm_poweroff(w.vm, NULL, NULL, &e)), 0);
	turn_until_state(w.vm, VM_OFF);
	turn_for(5);
	eq_int(w.dones, 1);
	eq_str(w.last.msg, "VM \"sim1\" did not start: it was powered off");
	finish();
}

TEST(freed_in_done_and_with_open_asks)
{
	struct err e;

	begin();
	vm_start(w.vm, NULL, on_done, NULL, &e);
	turn_until_state(w.vm, VM_RUNNING);
	turn_for(5);
	vm_pause(w.vm, on_done, &w, &e);		/* frees the VM in its done */
	vm_poweroff(w.vm, on_done, NULL, &e);		/* is told that nobody waits any more */
	turn_for(20);
	ok(!w.vm);
	eq_int(w.dones, 3);
	eq_int(w.last.code, ERR_INTERRUPTED);
	finish();
}

TEST(unsupported)
{
	struct err e;
	int pair[2];

	begin();
	eq_int(vm_attach(w.vm, on_done, NULL, &e), -ENOSYS);
	vm_start(w.vm, NULL, NULL, NULL, &e);
	turn_until_state(w.vm, VM_RUNNING);
	socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
	eq_int(vm_screen_viewer(w.vm, pair[0], on_done, NULL, &e), 0);
	turn_for(5);
	eq_int(w.last.code, ERR_UNSUPPORTED);
	eq_int(read(pair[1], &e, 1), 0);		/* it was closed */
	close(pair[1]);
	finish();
}

static int viewer(void)
{
	struct err e;
	int pair[2];

	socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
	eq_int(vm_serial_viewer(w.vm, pair[0], &e), 0);
	return pair[1];
}

TEST(serial_line)
{
	char got[300] = "";
	struct err e;
	int a, b, c;

	begin();
	a = viewer();					/* before power-on: waits */
	c = viewer();
	eq_int(write(a, "lost", 4), 4);
	close(c);
	turn_for(5);
	eq_int(recv(a, got, sizeof(got), MSG_DONTWAIT), -1);
	vm_start(w.vm, NULL, NULL, NULL, &e);
	turn_until_state(w.vm, VM_RUNNING);
	b = viewer();
	ok(recv(a, got, sizeof(got) - 1, MSG_DONTWAIT) > 20);
	ok(strstr(got, "Simulated VM sim1"));
	eq_int(write(a, "hello", 5), 5);
	turn_for(5);
	memset(got, 0, sizeof(got));
	eq_int(recv(a, got, sizeof(got), MSG_DONTWAIT), 5);
	eq_str(got, "hello");
	close(a);
	turn_for(5);
	vm_poweroff(w.vm, NULL, NULL, &e);
	turn_until_state(w.vm, VM_OFF);
	ok(recv(b, got, sizeof(got), MSG_DONTWAIT) > 0);
	eq_int(recv(b, got, sizeof(got), MSG_DONTWAIT), 0);	/* closed at the end of the run */
	close(b);
	a = viewer();
	finish();					/* with one that waits */
	eq_int(read(a, got, 1), 0);
	close(a);
}

TEST(a_viewer_that_reads_late_misses_nothing)
{
	static char out[64 * 1024], in[64 * 1024];
	size_t sent = 0, got = 0;
	struct err e;

	begin();
	vm_start(w.vm, NULL, NULL, NULL, &e);
	turn_until_state(w.vm, VM_RUNNING);
	int v = viewer();

	turn_for(5);
	while (recv(v, in, sizeof(in), MSG_DONTWAIT) > 0)	/* the greeting */
		;
	for (int stuck = 0; stuck < 3; ) {			/* until no buffer has room */
		for (size_t i = 0; i < sizeof(out); i++)
			out[i] = (char)((sent + i) % 251);
		ssize_t n = send(v, out, sizeof(out), MSG_DONTWAIT);

		sent += n > 0 ? (size_t)n : 0;
		stuck = n > 0 ? 0 : stuck + 1;
		turn_for(5);
	}
	ok(sent > 2 * sizeof(out));
	for (ssize_t n; (n = recv(v, in, sizeof(in), MSG_DONTWAIT)) > 0 || got < sent; turn_for(1)) {
		for (ssize_t i = 0; i < n; i++, got++)
			if (in[i] != (char)(got % 251))
				ok(!"a byte is missing");
		if (n == 0)
			break;
	}
	eq_int(got, sent);
	close(v);
	finish();
}

TEST(waiting_viewers_are_bounded)
{
	int pair[2], fds[64], n = 0;
	struct err e = { 0 };

	begin();
	for (; n < 64; n++) {
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
		fds[n] = pair[1];
		if (vm_serial_viewer(w.vm, pair[0], &e) < 0)
			break;
	}
	eq_int(n, 16);
	eq_int(e.code, ERR_BUSY);
	for (int i = 0; i <= n; i++)
		close(fds[i]);
	turn_for(5);
	close(viewer());				/* room again */
	finish();
}

static long rss_kib(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	ok(f && fscanf(f, "%*s %ld", &pages) == 1);
	fclose(f);
	return pages * sysconf(_SC_PAGESIZE) / 1024;
}

static unsigned left;
static void on_each(void *arg, const struct err *e)
{
	ok(!e);
	left--;
}

static void turn_until_all(void)
{
	for (int64_t until = mono_usec() + 20000000; left && mono_usec() < until; )
		sd_event_run(w.ev, 100000);
	eq_int(left, 0);
}

TEST(five_thousand)
{
	enum { N = 5000 };
	struct vm **all = xcalloc(N, sizeof(*all));
	long before = rss_kib(), defined;
	int64_t t0 = mono_usec();
	struct err e;

	begin();
	for (int i = 0; i < N; i++) {
		char uuid[37], name[16];

		text_uuid_random(uuid);
		snprintf(name, sizeof(name), "vm%d", i);
		all[i] = vm_new(w.vms, &engine_sim, uuid, name, &w);
	}
	defined = rss_kib() - before;
	for (int i = 0; i < N; i++, left++)
		ok(!vm_start(all[i], NULL, on_each, NULL, &e));
	turn_until_all();
	printf("# %d defined: %ld KiB (struct vm: %zu bytes); powered on: %ld KiB\n", N, defined, sizeof(struct vm),
	       rss_kib() - before);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	ok(defined < 2500);
#endif
	for (int i = 0; i < N; i++) {
		eq_int(vm_state(all[i]), VM_RUNNING);
		ok(!((struct vm *)all[i])->in_live.next);	/* no round, no timer */
	}
	eq_int(sd_event_run(w.ev, 50000), 0);		/* idle: nothing wakes up */
	for (int i = 0; i < N; i++, left++)
		ok(!vm_poweroff(all[i], on_each, NULL, &e));
	turn_until_all();
	printf("# all on and off: %lld ms\n", (long long)(mono_usec() - t0) / 1000);
	for (int i = 0; i < N; i++)
		vm_free(all[i]);
	free(all);
	finish();
}

T_MAIN
