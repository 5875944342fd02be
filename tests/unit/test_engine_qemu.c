// LINK: hv-core
/* A VM in the real QEMU: every action, every way to end, and all that may fall silent or die. Needs root. */
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "vmrig.h"
#include "child.h"
#include "engine_qemu.h"
#include "launch.h"
#include "vm.h"

static struct {
	struct rig rig;
	struct vms *vms;
	struct vm *vm;
	unsigned changes, dones;
	struct err err;
	pid_t parked;
	bool hold;
	uint64_t round, start;
} w;

static void on_change(struct vm *vm, void *owner) { w.changes++; }
static void on_parked(struct vm *vm, void *owner, pid_t shim)
{
	w.parked = shim;
	if (!w.hold)
		vm_go(vm);
}

static void on_done(void *arg, const struct err *e)
{
	w.dones++;
	w.err = e ? *e : (struct err){ 0 };
}

static void croftd_begins(void)
{
	w.vms = vms_new(&(struct vms_how){ .ev = w.rig.house.ev, .house = &w.rig.house, .on_change = on_change,
			.on_parked = on_parked, .round_usec = w.round ? w.round : 200000, .answer_usec = 1000000,
			.start_usec = w.start ? w.start : 20000000 });
	w.vm = vm_new(w.vms, &engine_qemu, RIG_UUID, "tiny", &w);
}

static void croftd_ends(void)
{
	vm_free(TAKE(w.vm));
	vms_free(TAKE(w.vms));
}

static bool begin(void)
{
	if (!rig_init(&w.rig))
		return false;
	croftd_begins();
	return true;
}

static void finish(void)
{
	croftd_ends();
	rig_fini(&w.rig);
}

static void words(struct argv *a, const char *const *v)
{
	for (a->n = 0; v[a->n]; a->n++)
		;
	a->v = xcalloc(a->n + 1, sizeof(char *));
	for (size_t i = 0; i < a->n; i++)
		a->v[i] = xstrdup(v[i]);
}

static struct vm_launch *launch(const char *machine)
{
	const char *argv[] = {
		w.rig.qemu, "-nodefaults", "-no-user-config", "-display", "none", "-vnc", "none", "-machine", machine, "-cpu",
		"cortex-a57", "-accel", "tcg", "-m", "32", "-sandbox",
		"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", "-kernel", "/proc/self/fd/12",
		"-chardev", "socket,id=ser,fd=11,server=on,wait=on", "-serial", "chardev:ser", "-chardev",
		"socket,id=mon,fd=10,server=on,wait=off", "-mon", "chardev=mon,mode=control", "-device", "virtio-gpu-pci", NULL,
	};
	struct vm_launch *l = xnew(vm_launch);

	words(&l->argv, argv);
	l->argv.nfds = 3;
	l->argv.fds = xcalloc(3, sizeof(*l->argv.fds));
	l->argv.fds[0] = (struct argv_fd){ ARGV_FD_QMP, NULL, RIG_QMP, false };
	l->argv.fds[1] = (struct argv_fd){ ARGV_FD_SERIAL, NULL, RIG_SERIAL, false };
	l->argv.fds[2] = (struct argv_fd){ ARGV_FD_KERNEL, NULL, RIG_KERNEL, false };
	l->fds = xcalloc(3, sizeof(int));
	l->fds[0] = l->fds[1] = -1;
	l->fds[2] = file_memfd("kernel", rig_guest, sizeof(rig_guest), 0444);
	l->uid = l->gid = RIG_UID;
	l->qemu_version = "any";
	return l;
}

#define until(cond, ms) rig_until(&w.rig, cond, ms)

static void turn_for(unsigned ms)
{
	(void)until(false, ms);
}

static void state_is(int line, enum vm_state s)
{
	if (!until(vm_state(w.vm) == s, 10000))
		t_fail(__FILE__, line, "%s, want %s", vm_state_names[vm_state(w.vm)], vm_state_names[s]);
}
#define IS(s) state_is(__LINE__, s)

static struct vm_status status(void)
{
	struct vm_status s;

	vm_status(w.vm, &s);
	return s;
}

/* Ask, and wait until it was answered. */
#define ASK(call) ({ struct err e_ = { 0 }; unsigned n_ = w.dones; int r_ = (call); \
	if (r_ < 0) w.err = e_; else ok(until(w.dones > n_, 10000)); !r_ && !w.err.code; })
#define OK(call) do { if (!ASK(call)) t_fail(__FILE__, __LINE__, "%s: %s (%s)", #call, w.err.msg, w.err.hint); } while (0)

static bool boot(void)
{
	OK(vm_start(w.vm, launch("virt"), on_done, NULL, &e_));
	IS(VM_RUNNING);
	return vm_state(w.vm) == VM_RUNNING;
}

static int viewer(void)
{
	struct err e = { 0 };
	int pair[2];

	ok(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	if (vm_serial_viewer(w.vm, pair[1], &e) < 0)
		t_fail(__FILE__, __LINE__, "%s", e.msg);
	return pair[0];
}

static bool reads(int fd, const char *want)
{
	char got[4096] = "";
	size_t n = 0;

	for (int i = 0; i < 300 && !strstr(got, want) && n < sizeof(got) - 1; i++) {
		ssize_t r = recv(fd, got + n, sizeof(got) - 1 - n, MSG_DONTWAIT);

		n += r > 0 ? r : 0;
		got[n] = 0;
		turn_for(10);
	}
	return strstr(got, want);
}

TEST(actions)
{
	int v;

	if (!begin())
		return;
	v = viewer();					/* waits for power-on */
	if (boot()) {
		ok(w.parked > 0);
		ok(reads(v, "R"));
		eq_str(status().accel, "tcg");
		ok(status().pid > 0);
		ok(status().as_of_usec > now_usec() - 5000000);
		eq_int(status().last->why, VM_WHY_NEVER);
		ok(!ASK(vm_start(w.vm, NULL, on_done, NULL, &e_)));
		eq_int(w.err.code, ERR_STATE);

		OK(vm_pause(w.vm, on_done, NULL, &e_));
		eq_int(vm_state(w.vm), VM_PAUSED);
		ok(!ASK(vm_pause(w.vm, on_done, NULL, &e_)));
		OK(vm_resume(w.vm, on_done, NULL, &e_));
		eq_int(vm_state(w.vm), VM_RUNNING);
		ok(write(v, "x", 1) == 1);
		ok(reads(v, "x"));
		OK(vm_reset(w.vm, on_done, NULL, &e_));
		ok(reads(v, "R"));			/* it boots anew, in the same process */
		OK(vm_shutdown(w.vm, on_done, NULL, &e_));
		eq_int(vm_state(w.vm), VM_STOPPING);
		OK(vm_reset(w.vm, on_done, NULL, &e_));
		IS(VM_RUNNING);
		OK(vm_shutdown(w.vm, on_done, NULL, &e_));
		OK(vm_poweroff(w.vm, on_done, NULL, &e_));
		eq_int(vm_state(w.vm), VM_OFF);
		eq_int(status().last->why, VM_WHY_POWEROFF);
		eq_int(status().last->signal, SIGKILL);
		eq_int(status().pid, 0);
		ok(!status().accel);
		ok(w.changes > 8);
		turn_for(50);
		eq_int(sd_event_run(w.rig.house.ev, 400000), 0);	/* two rounds: nothing wakes up for a VM that is off */
		close(v);
		v = viewer();				/* off: what the last run said */
		ok(reads(v, "RxR"));
	}
	close(v);
	finish();
}

/* Every thread of QEMU, whatever it makes later. */
static bool threads_are_on(pid_t pid, const char *cpus)
{
	AUTO_FREE char *path = xasprintf("/proc/%d/task", (int)pid);
	DIR *d = opendir(path);
	int n = 0, there = 0;

	for (struct dirent *at; d && (at = readdir(d));) {
		AUTO_FREE char *on = at->d_name[0] == '.' ? NULL : proc_cpus((pid_t)strtol(at->d_name, NULL, 10));

		n += on != NULL;
		there += on && !strcmp(on, cpus);
	}
	if (d)
		closedir(d);
	return n > 2 && there == n;
}

TEST(it_stays_on_its_cpus)
{
	struct vm_launch *l;
	AUTO_FREE char *all = proc_cpus(getpid()), *one = NULL;

	if (!begin())
		return;
	one = xstrndup(all, strspn(all, "0123456789"));
	l = launch("virt");
	l->cpus = one;
	OK(vm_start(w.vm, l, on_done, NULL, &e_));
	IS(VM_RUNNING);
	eq_str(status().host_cpus, one);
	ok(threads_are_on(status().pid, one));
	croftd_ends();					/* the next croftd sees it, though it was not there */
	croftd_begins();
	OK(vm_attach(w.vm, on_done, NULL, &e_));
	IS(VM_RUNNING);
	eq_str(status().host_cpus, one);
	OK(vm_reset(w.vm, on_done, NULL, &e_));
	ok(threads_are_on(status().pid, one));
	OK(vm_poweroff(w.vm, on_done, NULL, &e_));
	ok(!status().host_cpus);
	OK(vm_start(w.vm, launch("virt"), on_done, NULL, &e_));	/* without a list it runs wherever we may */
	IS(VM_RUNNING);
	eq_str(status().host_cpus, all);
	OK(vm_poweroff(w.vm, on_done, NULL, &e_));
	finish();
}

TEST(power_off_is_fast)
{
	int64_t best = INT64_MAX;

	if (!begin())
		return;
	for (int i = 0; i < 10 && best >= 15000 && boot(); i++) {	/* other work on this machine is no fault of ours */
		turn_for(100);
		int64_t t = mono_usec();

		OK(vm_poweroff(w.vm, on_done, NULL, &e_));
		t = mono_usec() - t;
		best = t < best ? t : best;
	}
	printf("# poweroff, best of up to 10: %lld us\n", (long long)best);
	double load = 0;
	(void)!getloadavg(&load, 1);
#ifndef __SANITIZE_ADDRESS__
	if (load < 1.5 * sysconf(_SC_NPROCESSORS_ONLN))	/* else it says nothing about us */
		ok(best < 15000);
#endif
	finish();
}

TEST(the_guest_ends_itself)
{
	if (!begin())
		return;
	if (boot()) {
		int v = viewer();

		ok(reads(v, "R"));
		ok(write(v, "q", 1) == 1);
		IS(VM_OFF);
		eq_str(vm_why_names[status().last->why], "guest-shutdown");
		eq_int(status().last->exit_code, 0);
		eq_str(status().last->message, "");
		close(v);
	}
	ok(boot());					/* and again */
	finish();
}

TEST(croftd_restarts)
{
	pid_t pid;

	if (!begin())
		return;
	if (boot()) {
		pid = status().pid;
		croftd_ends();
		ok(kill(pid, 0) == 0);
		croftd_begins();
		OK(vm_attach(w.vm, on_done, NULL, &e_));
		eq_int(vm_state(w.vm), VM_RUNNING);
		eq_int(status().pid, pid);
		eq_str(status().accel, "tcg");
		ok(!ASK(vm_start(w.vm, launch("virt"), on_done, NULL, &e_)));
		OK(vm_pause(w.vm, on_done, NULL, &e_));
		croftd_ends();
		croftd_begins();
		ok(!ASK(vm_start(w.vm, launch("virt"), on_done, NULL, &e_)));	/* nobody attached: still not twice */
		eq_int(w.err.code, ERR_BUSY);
		OK(vm_attach(w.vm, on_done, NULL, &e_));
		eq_int(vm_state(w.vm), VM_PAUSED);
		OK(vm_resume(w.vm, on_done, NULL, &e_));
		int v = viewer();
		ok(reads(v, "R"));			/* with its history */
		ok(write(v, "q", 1) == 1);
		IS(VM_OFF);
		eq_str(vm_why_names[status().last->why], "guest-shutdown");
		close(v);
	}
	finish();
}

TEST(it_ends_while_croftd_is_away)
{
	struct vm_last last;
	struct run_folder f;

	if (!begin())
		return;
	if (boot()) {
		pid_t pid = status().pid;

		croftd_ends();
		kill(pid, SIGKILL);
		croftd_begins();
		for (int i = 0; i < 200; i++) {
			ok(run_read(w.rig.house.run_fd, RIG_UUID, &f, NULL) == 0);
			if (f.state == RUN_ENDED && f.has_end)
				break;
			run_folder_fini(&f);
			usleep(10000);
		}
		vm_last_from_run(&f, &last);
		run_folder_fini(&f);
		eq_str(vm_why_names[last.why], "killed");
		eq_int(last.signal, SIGKILL);
		ok(!ASK(vm_attach(w.vm, on_done, NULL, &e_)));
		eq_int(w.err.code, ERR_STATE);
		eq_int(vm_state(w.vm), VM_OFF);
		vm_set_last(w.vm, &last);
		eq_int(status().last->why, VM_WHY_KILLED);
	}
	finish();
}

TEST(a_silent_monitor_is_degraded_and_comes_back)
{
	if (!begin())
		return;
	if (boot()) {
		kill(status().pid, SIGSTOP);
		IS(VM_DEGRADED);			/* found by the round */
		ok(status().note);
		ok(!ASK(vm_pause(w.vm, on_done, NULL, &e_)));
		eq_int(w.err.code, ERR_STATE);
		kill(status().pid, SIGCONT);
		IS(VM_RUNNING);
		ok(!status().note);
		kill(status().pid, SIGSTOP);
		ok(!ASK(vm_pause(w.vm, on_done, NULL, &e_)));	/* found by a command's deadline, if the round was not first */
		IS(VM_DEGRADED);
		croftd_ends();				/* and a new croftd finds it so */
		croftd_begins();
		ok(!ASK(vm_attach(w.vm, on_done, NULL, &e_)));
		eq_int(vm_state(w.vm), VM_DEGRADED);
		kill(status().pid, SIGCONT);
		ok(until(vm_state(w.vm) == VM_RUNNING || vm_state(w.vm) == VM_PAUSED, 10000));
		kill(status().pid, SIGSTOP);
		IS(VM_DEGRADED);
		OK(vm_poweroff(w.vm, on_done, NULL, &e_));	/* always possible */
		eq_int(status().last->why, VM_WHY_POWEROFF);
	}
	finish();
}

TEST(killed_or_crashed_by_others)
{
	if (!begin())
		return;
	if (boot()) {
		kill(status().pid, SIGKILL);
		IS(VM_OFF);
		eq_str(vm_why_names[status().last->why], "killed");
		eq_int(status().last->signal, SIGKILL);
	}
	if (boot()) {
		kill(status().pid, SIGSEGV);
		IS(VM_OFF);
		eq_str(vm_why_names[status().last->why], "crashed");
	}
	if (boot()) {
		kill(status().pid, SIGTERM);		/* QEMU says why */
		IS(VM_OFF);
		eq_str(vm_why_names[status().last->why], "killed");
	}
	finish();
}

TEST(croft_vm_dies)
{
	if (!begin())
		return;
	if (boot()) {
		struct vm_status s = status();

		kill(w.parked, SIGKILL);
		turn_for(500);
		eq_int(vm_state(w.vm), VM_RUNNING);
		eq_int(status().pid, s.pid);
		OK(vm_pause(w.vm, on_done, NULL, &e_));
		OK(vm_resume(w.vm, on_done, NULL, &e_));
		OK(vm_poweroff(w.vm, on_done, NULL, &e_));
		eq_int(status().last->why, VM_WHY_POWEROFF);
	}
	finish();
}

/* Nothing tells which process QEMU is, but its lock is held: it does not count as off, and nobody is killed. */
TEST(what_cannot_be_known_is_lost)
{
	if (!begin())
		return;
	for (int attach = 0; attach < 2 && boot(); attach++) {
		AUTO_FREE char *file = xasprintf("%s/%s/launch.json", w.rig.home, RIG_UUID);
		struct guest *g = w.vm->run;
		pid_t qemu = status().pid;

		unlink(file);
		if (attach) {			/* croft-vm dies before it has told */
			croftd_ends();
			croftd_begins();
			kill(w.parked, SIGSTOP);
			ok(vm_attach(w.vm, on_done, NULL, &w.err) == 0);
			kill(w.parked, SIGKILL);
		} else {			/* it could not be kept, and then the record went */
			keeper_free(TAKE(g->keeper));
			qmp_free(TAKE(g->qmp));
			kill(w.parked, SIGKILL);
			usleep(100000);
			guest_silent(g, "told");
			ok(!ASK(vm_poweroff(w.vm, on_done, NULL, &e_)));
			eq_int(w.err.code, ERR_UNAVAILABLE);
		}
		IS(VM_LOST);
		ok(!ASK(vm_start(w.vm, launch("virt"), on_done, NULL, &e_)));
		ok(!ASK(vm_poweroff(w.vm, on_done, NULL, &e_)));
		eq_int(w.err.code, ERR_STATE);
		kill(qemu, SIGKILL);
		IS(VM_OFF);
	}
	finish();
}

/* In a start, croft-vm is killed when it has executed QEMU and is about to tell so: by its first sendmsg after GO. Returns
 * QEMU's pid, or 0. */
static pid_t dies_untold(bool keep)
{
	AUTO_FREE char *file = xasprintf("%s/%s/launch.json", w.rig.home, RIG_UUID);
	struct __ptrace_syscall_info i = { 0 };
	struct run_folder f = { 0 };
	int status;

	eq_int(ptrace(PTRACE_SEIZE, w.parked, NULL, PTRACE_O_TRACESYSGOOD), 0);
	eq_int(ptrace(PTRACE_INTERRUPT, w.parked, NULL, NULL), 0);
	vm_go(w.vm);
	while (waitpid(w.parked, &status, __WALL) == w.parked && WIFSTOPPED(status)) {
		if (WSTOPSIG(status) == (SIGTRAP | 0x80) && ptrace(PTRACE_GET_SYSCALL_INFO, w.parked, sizeof(i), &i) > 0 &&
		    i.op == PTRACE_SYSCALL_INFO_ENTRY && i.entry.nr == SYS_sendmsg)
			break;
		ptrace(PTRACE_SYSCALL, w.parked, NULL, NULL);
	}
	ok(run_read(w.rig.house.run_fd, RIG_UUID, &f, NULL) == 0 && f.state == RUN_RUNNING);
	pid_t qemu = f.proc.pid;

	run_folder_fini(&f);
	if (!keep)
		unlink(file);
	kill(w.parked, SIGKILL);
	return qemu;
}

static void parks(void)
{
	w.hold = true;
	w.parked = 0;
	eq_int(vm_start(w.vm, launch("virt"), on_done, NULL, &w.err), 0);
	ok(until(w.parked, 5000));
	w.hold = false;
}

TEST(a_start_whose_qemu_cannot_be_known_is_lost)
{
	if (!begin())
		return;
	parks();
	unsigned asked = w.dones;
	pid_t qemu = dies_untold(false);

	IS(VM_LOST);
	ok(until(w.dones > asked, 5000));
	eq_int(w.err.code, ERR_UNAVAILABLE);
	ok(kill(qemu, 0) == 0);
	ok(!ASK(vm_start(w.vm, launch("virt"), on_done, NULL, &e_)));
	kill(qemu, SIGKILL);
	IS(VM_OFF);
	ok(boot());
	OK(vm_poweroff(w.vm, on_done, NULL, &e_));
	finish();
}

/* The croft-vm that is to adopt it cannot be had for a while. */
TEST(a_start_whose_qemu_is_not_kept_goes_on)
{
	if (!begin())
		return;
	parks();
	w.rig.shim[0] = 'x';
	struct guest *g = w.vm->run;
	pid_t qemu = dies_untold(true);

	ok(until(!g->keeper, 5000));
	eq_int(vm_state(w.vm), VM_STARTING);
	w.rig.shim[0] = '/';
	IS(VM_RUNNING);
	eq_int(status().pid, qemu);
	OK(vm_poweroff(w.vm, on_done, NULL, &e_));
	finish();
}

TEST(starts_that_fail)
{
	struct vm_launch *l;

	if (!begin())
		return;
	ok(!ASK(vm_start(w.vm, launch("nonsense"), on_done, NULL, &e_)));
	eq_int(vm_state(w.vm), VM_OFF);
	eq_str(vm_why_names[status().last->why], "start-failed");
	ok(strstr(status().last->message, "unsupported machine type"));
	ok(strstr(w.err.hint, "unsupported machine type"));

	w.rig.qemu = "/usr/bin/qemu-system-nothing";
	ok(!ASK(vm_start(w.vm, launch("virt"), on_done, NULL, &e_)));
	eq_str(vm_why_names[status().last->why], "start-failed");
	ok(strstr(w.err.hint, "No such file"));

	w.rig.qemu = "/usr/bin/qemu-system-aarch64";
	l = launch("virt");
	l->kvm = true;					/* but the argv says tcg */
	ok(!ASK(vm_start(w.vm, l, on_done, NULL, &e_)));
	eq_int(vm_state(w.vm), VM_OFF);
	eq_str(vm_why_names[status().last->why], "start-failed");
	ok(strstr(w.err.hint, "KVM was asked for"));

	w.hold = true;					/* parked, and powered off */
	struct err e;
	unsigned n = w.dones;
	w.parked = 0;
	ok(!vm_start(w.vm, launch("virt"), on_done, NULL, &e));
	ok(until(w.parked, 5000));
	ok(!vm_poweroff(w.vm, on_done, NULL, &e));
	ok(until(w.dones == n + 2, 5000));
	eq_int(vm_state(w.vm), VM_OFF);
	w.hold = false;
	ok(boot());
	finish();
}

TEST(a_start_has_a_deadline)
{
	w.start = 1000000;
	if (!begin())
		return;
	w.hold = true;
	ok(!ASK(vm_start(w.vm, launch("virt"), on_done, NULL, &e_)));
	eq_str(w.err.msg, "VM \"tiny\" did not come up within 1 s");
	eq_int(w.err.code, ERR_TIMEOUT);
	IS(VM_OFF);
	eq_str(vm_why_names[status().last->why], "start-failed");
	finish();
}

/* Something that is no QEMU at the other end of the monitor: python3 runs @script with the socket as s. */
static struct vm_launch *impostor(const char *script)
{
	AUTO_FREE char *code = xasprintf("import socket, time, json\ns = socket.socket(fileno=10); s.setblocking(True)\n"
		"def answer(c, r):\n m = json.loads(c.recv(4096)); c.sendall(json.dumps({'return': r, 'id': m['id']}).encode() + b'\\n')\n"
		"def greet():\n c = s.accept()[0]; c.sendall(b'{\"QMP\": {}}\\n'); answer(c, {}); return c\n"
		"def memory(c): answer(c, {'base-memory': 33554432}); answer(c, []); answer(c, {'actual': 16777216}); answer(c, [])\n"
		"%s\ntime.sleep(60)\n", script);
	const char *argv[] = { "/usr/bin/python3", "-c", code, NULL };
	struct vm_launch *l = launch("virt");

	for (size_t i = 0; i < l->argv.n; i++)
		free(l->argv.v[i]);
	free(l->argv.v);
	words(&l->argv, argv);
	return l;
}

#define UP "c = greet(); answer(c, []); answer(c, {'enabled': False}); memory(c); answer(c, {'status': 'running'})\n"

TEST(a_monitor_that_turns_hostile)
{
	if (!begin())
		return;
	OK(vm_start(w.vm, impostor(UP "time.sleep(0.2); c.sendall(b'\\x00{[junk' + b'\\n' * 100000)\n"), on_done, NULL, &e_));
	IS(VM_DEGRADED);
	eq_str(status().note, "its monitor does not answer");
	turn_for(500);
	eq_int(vm_state(w.vm), VM_DEGRADED);
	OK(vm_poweroff(w.vm, on_done, NULL, &e_));
	finish();
}

TEST(a_lost_monitor_is_connected_again)
{
	w.round = 60000000;
	if (!begin())
		return;
	OK(vm_start(w.vm, impostor(UP "c.close(); c = greet(); answer(c, []); memory(c); answer(c, {'status': 'paused'})\n"),
		    on_done, NULL, &e_));
	eq_int(vm_state(w.vm), VM_RUNNING);
	turn_for(200);
	ok(!ASK(vm_reset(w.vm, on_done, NULL, &e_)));
	eq_int(w.err.code, ERR_UNAVAILABLE);
	IS(VM_PAUSED);
	finish();
}

TEST(why_a_guest_is_paused)
{
	if (!begin())
		return;
	OK(vm_start(w.vm, impostor(UP
		"def say(e, d): c.sendall(json.dumps({'event': e, 'data': d}).encode() + b'\\n')\n"
		"say('BLOCK_IO_ERROR', {'node-name': 'disk9', 'action': 'stop', 'nospace': True}); say('STOP', {})\n"
		"answer(c, [{'device': ''}, {'io-status': 'nospace', 'qdev': '/machine/peripheral/disk-data/virtio-backend'}])\n"
		"answer(c, {'status': 'io-error'})\n"
		"answer(c, {})\n"
		"say('RESUME', {}); say('GUEST_PANICKED', {'action': 'pause'}); say('STOP', {})\n"
		"answer(c, {})\n"
		"say('SHUTDOWN', {'guest': True, 'reason': 'guest-reset'})\n"), on_done, NULL, &e_));
	IS(VM_PAUSED);
	eq_int(status().memory_boot_bytes, 32 << 20);
	eq_int(status().memory_bytes, 16 << 20);
	ok(until(status().question, 3000));
	eq_str(status().question->device, "data");
	eq_str(status().note, "the disk data has no space left on its datastore: make room, then retry");
	OK(vm_resume(w.vm, on_done, NULL, &e_));
	ok(until(!status().question, 3000));
	ok(until(vm_state(w.vm) == VM_PAUSED && status().note, 3000));
	eq_str(status().note, "the guest's kernel panicked");
	eq_int(status().crashed, VM_WHY_GUEST_PANIC);
	OK(vm_reset(w.vm, on_done, NULL, &e_));
	IS(VM_ENDING);
	OK(vm_poweroff(w.vm, on_done, NULL, &e_));
	eq_str(vm_why_names[status().last->why], "guest-reset");
	finish();
}

TEST(screen)
{
	struct err e = { 0 };
	int pair[2], other[2];

	if (!begin())
		return;
	if (boot()) {
		unsigned n = w.dones;

		ok(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
		ok(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other));
		ok(!vm_screen_viewer(w.vm, pair[1], on_done, NULL, &e));
		ok(!vm_screen_viewer(w.vm, other[1], on_done, NULL, &e));	/* two at once */
		ok(until(w.dones == n + 2, 5000));
		eq_int(w.err.code, 0);
		ok(reads(pair[0], "RFB 003.008"));
		ok(reads(other[0], "RFB 003.008"));
		close(pair[0]);
		close(other[0]);
	}
	finish();
}

T_MAIN
