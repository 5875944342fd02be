// LINK: hv-core
/* croftd's side of croft-vm, with the real QEMU: start, console, re-attach, and all that may die or hang. */
#include "vmrig.h"
#include <sys/pidfd.h>

static char text[2 << 20];

TEST(starts_talks_and_ends)
{
	struct rig r;
	if (!rig_init(&r))
		return;
	if (rig_boot(&r)) {
		eq_int(r.parked, 1);
		eq_int(r.proc.shim, r.shim_pid);
		eq_int(r.proc.uid, RIG_UID);
		ok(!r.proc.adopted);
		int v = rig_viewer(&r, 0);
		ok(rig_expect(&r, v, "R", 5000, text, sizeof(text)));
		ok(write(v, "hello", 5) == 5);
		ok(rig_expect(&r, v, "hello", 5000, text, sizeof(text)));
		ok(write(v, "q", 1) == 1);
		ok(rig_until(&r, r.ended, 5000));
		eq_int(r.end.how, VM_END_EXITED);
		eq_int(r.end.code, 0);
		ok(r.end.at_usec > 0);
		eq_int(read(v, text, 1), 0);
		close(v);
		char *history;
		size_t n;
		bool alive = true;
		eq_int(run_alive(r.house.run_fd, RIG_UUID, &alive), 0);
		ok(!alive);
		eq_int(run_history(r.house.run_fd, RIG_UUID, &history, &n, NULL), 0);
		eq_str(history, "Rhello");
		free(history);
	}
	rig_fini(&r);
}

TEST(qmp_greets)
{
	struct rig r;
	struct err e = { 0 };
	if (!rig_init(&r))
		return;
	if (rig_boot(&r)) {
		int fd = keeper_qmp_connect(r.k, &e);
		ok(fd >= 0);
		ok(rig_expect(&r, fd, "}\r\n", 5000, text, sizeof(text)));
		ok(strstr(text, "\"QMP\""));
		close(fd);
	}
	rig_fini(&r);
}

TEST(never_started_twice)
{
	struct rig r;
	struct err e = { 0 };
	if (!rig_init(&r))
		return;
	if (rig_boot(&r)) {
		struct keeper *first = r.k;
		ok(!rig_start(&r, &e));
		eq_int(e.code, ERR_BUSY);
		keeper_free(first);		/* croftd is gone: still not */
		ok(!rig_start(&r, &e));
		eq_int(e.code, ERR_BUSY);
		kill(r.proc.shim, SIGKILL);	/* croft-vm is gone: still not */
		usleep(100000);
		ok(!rig_start(&r, &e));
		eq_int(e.code, ERR_BUSY);
		ok(kill(r.proc.pid, 0) == 0);
	}
	rig_fini(&r);
}

TEST(parked_is_locked_and_gives_up_without_croftd)
{
	struct rig r;
	struct err e = { 0 };
	bool alive = false;
	if (!rig_init(&r))
		return;
	r.hold = true;
	ok(rig_start(&r, &e));
	ok(rig_until(&r, r.parked, 5000));
	struct keeper *first = r.k;
	ok(!rig_start(&r, &e));
	eq_int(e.code, ERR_BUSY);
	keeper_free(first);
	for (int i = 0; i < 200 && run_alive(r.house.run_fd, RIG_UUID, &alive) == 0 && alive; i++)
		usleep(10000);
	ok(!alive);
	rig_fini(&r);
}

TEST(parked_can_be_killed)
{
	struct rig r;
	struct err e = { 0 };
	if (!rig_init(&r))
		return;
	r.hold = true;
	ok(rig_start(&r, &e));
	ok(rig_until(&r, r.parked, 5000));
	eq_int(keeper_kill(r.k, &e), 0);
	ok(rig_until(&r, r.failed, 5000));
	eq_int(r.err.code, ERR_CANCELLED);
	rig_fini(&r);
}

TEST(qemu_is_missing)
{
	struct rig r;
	struct err e = { 0 };
	if (!rig_init(&r))
		return;
	r.qemu = "/usr/bin/qemu-system-nothing";
	ok(rig_start(&r, &e));
	ok(rig_until(&r, r.failed, 5000));
	ok(r.shim_pid > 0 && kill(r.shim_pid, 0) < 0);	/* croft-vm is gone, with all that it had open */
	eq_str(r.err.msg, "execute QEMU: No such file or directory");
	eq_int(r.err.code, ERR_NOT_FOUND);
	eq_int(r.running, 0);
	keeper_free(TAKE(r.k));
	r.qemu = "/usr/bin/qemu-system-aarch64";	/* and the next start is not held up by it */
	r.failed = 0;
	ok(rig_boot(&r));
	rig_fini(&r);
}

TEST(qemu_refuses_its_arguments)
{
	struct rig r;
	struct err e = { 0 };
	if (!rig_init(&r))
		return;
	const char *argv[] = { r.qemu, "-machine", "nonsense", NULL };
	struct keeper_launch l = { .uuid = RIG_UUID, .argv = argv, .uid = RIG_UID, .gid = RIG_UID, .private_root = true };
	r.k = keeper_start(&r.house, &l, &rig_ops, &r, &e);
	ok(rig_until(&r, r.ended, 10000));
	eq_int(r.end.how, VM_END_EXITED);
	eq_int(r.end.code, 1);
	ok(strstr(r.end.said, "unsupported machine type") || (printf("# said: %s\n", r.end.said), false));
	rig_fini(&r);
}

TEST(kill_is_recorded)
{
	struct rig r;
	struct run_folder f;
	if (!rig_init(&r))
		return;
	if (rig_boot(&r)) {
		int64_t from = mono_usec();
		eq_int(keeper_kill(r.k, NULL), 0);
		ok(rig_until(&r, r.ended, 5000));
		printf("# killed to told: %lld us\n", (long long)(mono_usec() - from));
		eq_int(r.end.how, VM_END_KILLED);
		eq_int(r.end.code, SIGKILL);
		eq_int(run_read(r.house.run_fd, RIG_UUID, &f, NULL), 0);
		eq_int(f.state, RUN_ENDED);
		ok(f.has_end);
		eq_int(f.end.how, VM_END_KILLED);
		eq_int(f.end.code, SIGKILL);
		eq_int(f.proc.pid, r.proc.pid);
		eq_str(f.argv[0], r.qemu);
		run_folder_fini(&f);
	}
	rig_fini(&r);
}

TEST(two_viewers_and_a_late_one)
{
	struct rig r;
	if (!rig_init(&r))
		return;
	if (rig_boot(&r)) {
		int a = rig_viewer(&r, 0), b = rig_viewer(&r, 0);
		ok(rig_expect(&r, a, "R", 5000, text, sizeof(text)));
		ok(rig_expect(&r, b, "R", 5000, text, sizeof(text)));
		ok(write(a, "x", 1) == 1);
		ok(rig_expect(&r, a, "x", 5000, text, sizeof(text)));
		ok(rig_expect(&r, b, "x", 5000, text, sizeof(text)));
		ok(write(b, "y", 1) == 1);
		ok(rig_expect(&r, a, "y", 5000, text, sizeof(text)));
		close(a);			/* one that leaves disturbs nobody */
		ok(write(b, "z", 1) == 1);
		ok(rig_expect(&r, b, "yz", 5000, text, sizeof(text)));
		int c = rig_viewer(&r, 0);
		ok(rig_expect(&r, c, "Rxyz", 5000, text, sizeof(text)));
		eq_str(text, "Rxyz");
		shutdown(c, SHUT_WR);		/* only listens from now on */
		ok(write(b, "u", 1) == 1);
		ok(rig_expect(&r, c, "u", 5000, text, sizeof(text)));
		close(b);
		close(c);
	}
	rig_fini(&r);
}

TEST(slow_viewer_gets_a_gap)
{
	struct rig r;
	unsigned long long skipped = 0;
	if (!rig_init(&r))
		return;
	r.console_bytes = 16384;
	if (rig_boot(&r)) {
		int slow = rig_viewer(&r, 4096), quick = rig_viewer(&r, 0);
		ok(write(slow, "f", 1) == 1);
		ok(rig_expect(&r, quick, "~", 20000, text, sizeof(text)));	/* the guest went on all the same */
		ok(rig_expect(&r, slow, "~", 5000, text, sizeof(text)));
		char *mark = strstr(text, "\r\n[croft: ");
		ok(mark && sscanf(mark, "\r\n[croft: %llu bytes skipped]", &skipped) == 1);
		/* What came and what was skipped is all that the guest has said. */
		char *after = mark ? strstr(mark, "skipped]\r\n") + 10 : text;
		ok(!strstr(after, "[croft: "));
		eq_int(mark - text + skipped + strlen(after), 0x40000 + 2);
		close(slow);
		close(quick);
	}
	rig_fini(&r);
}

/* Input that the guest doesn't take yet stops the viewer, nobody else, and nothing is lost. */
TEST(input_is_bounded)
{
	struct rig r;
	static char much[64 << 10];
	if (!rig_init(&r))
		return;
	memset(much, 'a', sizeof(much));
	much[sizeof(much) - 1] = 'E';
	if (rig_boot(&r)) {
		int v = rig_viewer(&r, 0), w = rig_viewer(&r, 0);
		fcntl(v, F_SETFL, O_NONBLOCK);
		kill(r.proc.pid, SIGSTOP);
		ssize_t n = write(v, much, sizeof(much));
		ok(n > 0);
		usleep(100000);
		kill(r.proc.pid, SIGCONT);
		for (ssize_t m; n < (ssize_t)sizeof(much); n += m > 0 ? m : 0) {
			struct pollfd p = { .fd = v, .events = POLLOUT };
			if (poll(&p, 1, 5000) != 1)
				break;
			m = write(v, much + n, sizeof(much) - n);
			(void)!recv(w, text, sizeof(text), MSG_DONTWAIT);
		}
		eq_int(n, sizeof(much));
		ok(rig_expect(&r, w, "E", 20000, text, sizeof(text)));
		close(v);
		close(w);
	}
	rig_fini(&r);
}

TEST(croftd_comes_back)
{
	struct rig r;
	if (!rig_init(&r))
		return;
	if (rig_boot(&r)) {
		struct vm_proc before = r.proc;
		int v = rig_viewer(&r, 0);
		ok(rig_expect(&r, v, "R", 5000, text, sizeof(text)));
		keeper_free(TAKE(r.k));
		ok(write(v, "1", 1) == 1);	/* a console goes on without croftd */
		ok(rig_expect(&r, v, "1", 5000, text, sizeof(text)));
		ok(rig_attach(&r));
		ok(rig_until(&r, r.running, 5000));
		ok(before.pid == r.proc.pid && before.start_time == r.proc.start_time && before.shim == r.proc.shim);
		eq_str(r.proc.confinement, before.confinement);
		int w = rig_viewer(&r, 0);
		ok(rig_expect(&r, w, "R1", 5000, text, sizeof(text)));
		ok(write(w, "q", 1) == 1);
		ok(rig_until(&r, r.ended, 5000));
		eq_int(r.end.how, VM_END_EXITED);
		close(v);
		close(w);
	}
	rig_fini(&r);
}

TEST(ended_while_croftd_was_away)
{
	struct rig r;
	struct run_folder f;
	struct err e = { 0 };
	if (!rig_init(&r))
		return;
	if (rig_boot(&r)) {
		ok(rig_guest_up(&r));
		keeper_free(TAKE(r.k));
		kill(r.proc.pid, SIGTERM);	/* QEMU ends by itself, with 0 */
		bool alive = true;
		for (int i = 0; i < 300 && alive; i++, usleep(10000))
			run_alive(r.house.run_fd, RIG_UUID, &alive);
		usleep(50000);
		eq_int(run_read(r.house.run_fd, RIG_UUID, &f, &e), 0);
		eq_int(f.state, RUN_ENDED);
		ok(f.has_end);
		eq_int(f.end.how, VM_END_EXITED);
		ok(strstr(f.end.said, "terminating on signal 15"));
		run_folder_fini(&f);
		ok(!keeper_attach(&r.house, RIG_UUID, &rig_ops, &r, &e));
		eq_int(e.code, ERR_STATE);
	}
	rig_fini(&r);
}

TEST(dead_shim_is_replaced)
{
	struct rig r;
	if (!rig_init(&r))
		return;
	if (rig_boot(&r)) {
		struct vm_proc before = r.proc;
		int v = rig_viewer(&r, 0);
		ok(write(v, "old", 3) == 3);
		ok(rig_expect(&r, v, "Rold", 5000, text, sizeof(text)));
		close(v);
		kill(r.proc.shim, SIGKILL);
		ok(rig_until(&r, r.running == 2, 5000));
		eq_int(r.degraded, 1);
		ok(r.proc.adopted);
		eq_int(r.proc.pid, before.pid);
		ok(r.proc.shim != before.shim);
		eq_str(r.proc.confinement, before.confinement);
		v = rig_viewer(&r, 0);			/* with its history, and both ways */
		ok(rig_expect(&r, v, "Rold", 5000, text, sizeof(text)));
		ok(write(v, "new", 3) == 3);
		ok(rig_expect(&r, v, "new", 5000, text, sizeof(text)));
		keeper_free(TAKE(r.k));			/* the new one is found again like any other */
		ok(rig_attach(&r));
		ok(rig_until(&r, r.running, 5000));
		ok(r.proc.adopted);
		eq_int(keeper_kill(r.k, NULL), 0);
		ok(rig_until(&r, r.ended, 5000));
		eq_int(r.end.how, VM_END_UNKNOWN);
		close(v);
	}
	rig_fini(&r);
}

/* Whatever the new croft-vm makes of a guest that goes: it has ended, and is not a guest that cannot be kept. */
TEST(qemu_ends_while_it_is_adopted)
{
	struct rig r;

	for (unsigned after_ms = 1; after_ms < 32; after_ms *= 2) {
		if (!rig_init(&r))
			return;
		if (rig_boot(&r)) {
			kill(r.proc.shim, SIGKILL);
			(void)rig_until(&r, false, after_ms);
			kill(r.proc.pid, SIGKILL);
			ok(rig_until(&r, r.ended || r.failed, 5000));
			eq_int(r.failed, 0);
		}
		rig_fini(&r);
	}
}

TEST(shim_died_while_croftd_was_away)
{
	struct rig r;
	if (!rig_init(&r))
		return;
	if (rig_boot(&r)) {
		ok(rig_guest_up(&r));
		keeper_free(TAKE(r.k));
		kill(r.proc.shim, SIGKILL);
		usleep(100000);
		ok(rig_attach(&r));
		ok(rig_until(&r, r.running, 5000));
		ok(r.proc.adopted);
		int v = rig_viewer(&r, 0);
		ok(rig_expect(&r, v, "R", 5000, text, sizeof(text)));
		close(v);
	}
	rig_fini(&r);
}

/* croft-vm dies before it has answered, and nothing else tells which process QEMU is: the lock alone says that it runs. */
TEST(shim_dies_in_an_attach_that_knows_nothing)
{
	for (int runs = 0; runs < 2; runs++) {
		struct rig r;
		struct err e = { 0 };

		if (!rig_init(&r))
			return;
		if (rig_boot(&r) && rig_guest_up(&r)) {
			AUTO_FREE char *file = xasprintf("%s/%s/launch.json", r.home, RIG_UUID);

			keeper_free(TAKE(r.k));
			kill(r.proc.shim, SIGSTOP);
			unlink(file);
			ok(rig_attach(&r));
			if (!runs)
				kill(r.proc.pid, SIGKILL);
			kill(r.proc.shim, SIGKILL);
			ok(rig_until(&r, r.ended || r.failed, 5000));
			eq_int(r.ended, !runs);
			eq_int(r.failed, runs);
			ok(!runs || !keeper_knows(r.k));
			keeper_free(TAKE(r.k));
			ok(!runs || (!rig_start(&r, &e) && e.code == ERR_BUSY));
			kill(r.proc.pid, SIGKILL);
		}
		rig_fini(&r);
	}
}

TEST(hung_shim_is_replaced)
{
	struct rig r;
	if (!rig_init(&r))
		return;
	if (rig_boot(&r)) {
		pid_t before = r.proc.shim;
		kill(before, SIGSTOP);
		int64_t from = mono_usec();
		keeper_free(TAKE(r.k));
		ok(rig_attach(&r));
		ok(rig_until(&r, r.running, 9000));
		int64_t took = mono_usec() - from;
		ok(took > 4500000 && took < 7500000);
		ok(r.proc.adopted && r.proc.shim != before);
		eq_int(r.degraded, 1);
	}
	rig_fini(&r);
}

TEST(hung_shim_is_found_by_the_probe)
{
	struct rig r;
	if (!rig_init(&r))
		return;
	if (rig_boot(&r) && rig_guest_up(&r)) {
		pid_t before = r.proc.shim;
		rig_until(&r, false, 100);
		kill(before, SIGSTOP);
		keeper_probe(r.k);
		ok(rig_until(&r, r.running == 2, 9000));
		eq_int(r.degraded, 1);
		ok(r.proc.adopted && r.proc.shim != before);
		ok(rig_guest_up(&r));
	}
	rig_fini(&r);
}

static void stop(struct rig *r)
{
	kill(r->proc.shim, SIGSTOP);
	ok(rig_until(r, proc_is_stopped(r->proc.shim, r->proc.shim_start_time), 5000));
}

TEST(stopped_shim_goes_on_at_a_look)
{
	struct rig r;
	if (!rig_init(&r))
		return;
	if (rig_boot(&r) && rig_guest_up(&r)) {
		pid_t before = r.proc.shim;
		for (int i = 0; i < 2; i++) {
			stop(&r);
			keeper_look(r.k);
			ok(rig_until(&r, !proc_is_stopped(before, r.proc.shim_start_time), 5000));
			keeper_look(r.k);		/* all is well: the next stop is a first one */
			ok(rig_guest_up(&r));
		}
		eq_int(r.degraded, 0);
		eq_int(r.running, 1);
		stop(&r);
		keeper_look(r.k);
		stop(&r);
		keeper_look(r.k);			/* it does not stay so */
		ok(rig_until(&r, r.running == 2, 5000));
		eq_int(r.degraded, 1);
		ok(r.proc.adopted && r.proc.shim != before);
		ok(rig_guest_up(&r));
	}
	rig_fini(&r);
}

TEST(stopped_qemu_is_left_alone)
{
	struct rig r;
	if (!rig_init(&r))
		return;
	if (rig_boot(&r) && rig_guest_up(&r)) {
		kill(r.proc.pid, SIGSTOP);
		ok(rig_until(&r, proc_is_stopped(r.proc.pid, r.proc.start_time), 5000));
		keeper_look(r.k);
		keeper_look(r.k);
		ok(proc_is_stopped(r.proc.pid, r.proc.start_time));
		eq_int(r.degraded, 0);
		kill(r.proc.pid, SIGCONT);
	}
	rig_fini(&r);
}

/* A connection may end while its croft-vm lives: there must not be two of them. */
TEST(lost_connection_leaves_one_shim)
{
	struct rig r;
	if (!rig_init(&r))
		return;
	if (rig_boot(&r) && rig_guest_up(&r)) {
		pid_t before = r.proc.shim;
		int crowd[12];
		for (size_t i = 0; i < COUNT(crowd); i++) {	/* pushes croftd's own out */
			crowd[i] = rig_dial(&r);
			usleep(5000);
		}
		ok(rig_until(&r, r.running == 2, 5000));
		ok(r.proc.shim != before);
		ok(rig_until(&r, kill(before, 0) < 0, 2000));
		ok(rig_guest_up(&r));
		for (size_t i = 0; i < COUNT(crowd); i++)
			close(crowd[i]);
	}
	rig_fini(&r);
}

T_MAIN
