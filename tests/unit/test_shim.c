// LINK: hv-core
/* croft-vm by itself: how it confines QEMU and itself, its frozen protocol, its bounds. The program under test runs
 * this very file as "QEMU" where it shall look around from inside: see probe(). */
#include "vmrig.h"
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include "child.h"
#include "ctl.h"
#include "pack.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* ---- what runs in QEMU's place: says on stderr what it can do ---- */

static void try(const char *what, long r)
{
	dprintf(2, "%s=%s ", what, r < 0 ? strerrorname_np(errno) : "ok");
}

static void list(const char *path)
{
	DIR *d = opendir(path);
	char *names[512];
	int n = 0;
	for (struct dirent *at; d && n < 512 && (at = readdir(d));)
		if (at->d_name[0] != '.' && (d == NULL || atoi(at->d_name) != dirfd(d) || strcmp(path, "/proc/self/fd")))
			names[n++] = strdup(at->d_name);
	dprintf(2, "%s=", path);
	for (int last = -1, i; n > 0; ) {	/* in order */
		for (last = 0, i = 1; i < n; i++)
			if (strverscmp(names[i], names[last]) < 0)
				last = i;
		dprintf(2, "%s%s", names[last], n > 1 ? "," : " ");
		names[last] = names[--n];
	}
	closedir(d);
}

static void look_around(const char *home)
{
	struct rlimit core, files;
	try("shadow", open("/etc/shadow", O_RDONLY));
	try("home", open(home, O_RDONLY));
	try("usr", open("/usr/x", O_CREAT | O_WRONLY, 0600));
	try("root", open("/x", O_CREAT | O_WRONLY, 0600));
	try("setuid", setuid(0));
	try("mount", mount("x", "/proc", "tmpfs", 0, NULL));
	try("mknod", mknod("/dev/kmsg2", S_IFCHR | 0600, 0x10b));
	try("parent", kill(getppid(), SIGKILL));
	try("init", ptrace(PTRACE_ATTACH, 1, NULL, NULL));
	try("chroot", chroot("/usr"));
	try("null", open("/dev/null", O_RDWR));
	try("self", open("/proc/self/fd/12", O_RDONLY));
	getrlimit(RLIMIT_CORE, &core);
	getrlimit(RLIMIT_NOFILE, &files);
	dprintf(2, "core=%d files=%d umask=%o nice=%d session=%d ", (int)core.rlim_cur, (int)files.rlim_cur, umask(0),
		getpriority(PRIO_PROCESS, 0), getsid(0) == getpid());
	for (char **v = environ; *v; v++)
		dprintf(2, "env:%s ", *v);
}

__attribute__((constructor)) static void probe(int argc, char **argv)
{
	if (argc < 2 || strncmp(argv[1], "probe-", 6))
		return;
	if (!strcmp(argv[1], "probe-try"))
		look_around(argv[2]);
	if (!strcmp(argv[1], "probe-fds"))
		list("/proc/self/fd");
	if (!strcmp(argv[1], "probe-list"))
		for (char **path = argv + 2; *path; path++)
			list(*path);
	if (!strcmp(argv[1], "probe-cpus")) {
		char *cpus = proc_cpus(getpid());
		dprintf(2, "cpus=%s ", cpus);
	}
	if (!strcmp(argv[1], "probe-noise"))
		for (int i = 0; i < 20000; i++) {
			dprintf(2, "this is line %d of what it has to say\n", i);
			if (i % 100 == 0)
				usleep(500);		/* the pipe does not block it, so it could lose lines */
		}
	_exit(7);
}

/* A copy of this file that any uid can reach, wherever the checkout lies. */
static void copy_self(char *path)
{
	char block[65536];
	ssize_t n;
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = mkostemp(path, O_CLOEXEC);
	while ((n = read(from, block, sizeof(block))) > 0)
		ok(write(to, block, (size_t)n) == n);
	ok(n == 0 && !fchmod(to, 0755));
	close(from);
	close(to);
}

/* Run it as QEMU until it ends; what it said is in r->end.said. */
static void run_probe(struct rig *r, struct keeper_launch *l, const char *const *args)
{
	struct err e = { 0 };
	char exe[] = "/tmp/croft-probe-XXXXXX";
	const char *argv[12] = { exe };
	copy_self(exe);
	for (int i = 0; args[i]; i++)
		argv[i + 1] = args[i];
	struct keeper_fd fd = { file_memfd("kernel", "x", 1, 0444), RIG_KERNEL };
	l->uuid = RIG_UUID;
	l->argv = argv;
	l->fds = &fd;
	l->nfds = 1;
	l->qmp = RIG_QMP;
	l->serial = RIG_SERIAL;
	l->uid = l->gid = RIG_UID;
	r->k = keeper_start(&r->house, l, &rig_ops, r, &e);
	close(fd.fd);
	if (!r->k || !rig_until(r, r->ended || r->failed, 20000) || r->end.code != 7)
		t_fail(__FILE__, __LINE__, "the probe: %s%s %s (%d)", e.msg, r->err.msg, r->end.said, r->end.code);
	unlink(exe);
}

static void said(struct rig *r, const char *what, bool want)
{
	if (!strstr(r->end.said, what) == want)
		t_fail(__FILE__, __LINE__, "%s\"%s\" in: %s", want ? "no " : "", what, r->end.said);
}

TEST(qemu_can_do_nothing)
{
	struct rig r;
	static const char *const want[] = {
		"shadow=ENOENT", "home=ENOENT", "usr=EROFS", "root=EROFS", "setuid=EPERM", "mount=EPERM", "mknod=EROFS",
		"parent=EPERM", "init=", "chroot=EPERM", "null=ok", "self=ok", "core=0 ", "files=8192", "umask=77", "nice=0",
		"session=1", "env:PATH=/usr/bin:/bin env:LANG=C.UTF-8 ",
	};
	if (!rig_init(&r))
		return;
	setenv("SECRET", "1", 1);
	struct keeper_launch l = { .private_root = true };
	run_probe(&r, &l, (const char *const[]){ "probe-try", r.home, NULL });
	for (size_t i = 0; i < COUNT(want); i++)
		said(&r, want[i], true);
	said(&r, "init=ok", false);
	said(&r, "SECRET", false);
	rig_fini(&r);
}

TEST(qemu_gets_the_listed_descriptors_only)
{
	struct rig r;
	if (!rig_init(&r))
		return;
	int leak = dup(1);		/* not CLOEXEC: must not get through */
	struct keeper_launch l = { .private_root = true };
	run_probe(&r, &l, (const char *const[]){ "probe-fds", NULL });
	said(&r, "/proc/self/fd=0,1,2,3,10,11,12 ", true);
	close(leak);
	rig_fini(&r);
}

/* The last of this machine's CPUs, so that it is not the one where everything is anyway. */
static void last_cpu(char out[16])
{
	AUTO_FREE char *all = proc_cpus(getpid());
	size_t n = strlen(all);
	while (n && strchr("0123456789", all[n - 1]))
		n--;
	snprintf(out, 16, "%s", all + n);
}

TEST(qemu_runs_on_the_listed_cpus_only)
{
	struct rig r;
	char one[16], want[32];
	if (!rig_init(&r))
		return;
	last_cpu(one);
	snprintf(want, sizeof(want), "cpus=%s ", one);
	struct keeper_launch l = { .private_root = true, .cpus = one };
	run_probe(&r, &l, (const char *const[]){ "probe-cpus", NULL });
	said(&r, want, true);
	rig_fini(&r);
}

TEST(without_its_cpus_qemu_does_not_start)
{
	struct rig r;
	struct err e = { 0 };
	const char *argv[] = { "/usr/bin/true", NULL };
	bool alive = true;
	if (!rig_init(&r))
		return;
	struct keeper_launch l = { .uuid = RIG_UUID, .argv = argv, .uid = RIG_UID, .gid = RIG_UID, .cpus = "4000-4001" };
	r.k = keeper_start(&r.house, &l, &rig_ops, &r, &e);
	ok(r.k && rig_until(&r, r.failed || r.ended, 20000));
	eq_int(r.running, 0);
	if (!strstr(r.err.msg, "run on the CPUs 4000-4001 of the host"))
		t_fail(__FILE__, __LINE__, "it says: %s", r.err.msg);
	ok(rig_until(&r, run_alive(r.house.run_fd, RIG_UUID, &alive) == 0 && !alive, 3000));
	rig_fini(&r);
}

TEST(qemu_sees_the_listed_root_only)
{
	struct rig r;
	if (!rig_init(&r))
		return;
	mkdir("/tmp/croft-not-there", 0755);
	struct keeper_launch l = { .private_root = true };
	run_probe(&r, &l, (const char *const[]){ "probe-list", "/", "/dev", "/etc", NULL });
	printf("# %s\n", r.end.said);
	said(&r, "/dev=full,null,random,urandom,zero ", true);
	said(&r, "dev,etc,", true);
	said(&r, "passwd", false);
	said(&r, "home", false);
	said(&r, "tmp/", false);
	rmdir("/tmp/croft-not-there");
	rig_fini(&r);
}

TEST(qemu_sees_itself_only_in_proc)
{
	struct rig r;
	if (!rig_init(&r))
		return;
	struct keeper_launch l = { .private_root = true };
	run_probe(&r, &l, (const char *const[]){ "probe-list", "/proc", NULL });
	char own[64];
	snprintf(own, sizeof(own), "/proc=%d,self,thread-self ", r.proc.pid);
	if (strstr(r.proc.confinement, "proc=own"))
		said(&r, own, true);
	else
		t_skip("this kernel refuses a fresh proc");
	rig_fini(&r);
}

TEST(devices_belong_to_the_vm)
{
	struct rig r;
	static const char *const devices[] = { "/dev/tty", NULL }, *const binds[] = { "/sys/kernel", NULL };
	if (!rig_init(&r))
		return;
	struct keeper_launch l = { .private_root = true, .devices = devices, .binds = binds };
	run_probe(&r, &l, (const char *const[]){ "probe-list", "/dev", "/sys", NULL });
	said(&r, "/dev=full,null,random,tty,urandom,zero ", true);
	said(&r, "/sys=kernel ", true);
	rig_fini(&r);
}

TEST(without_a_private_root_it_says_so)
{
	struct rig r;
	static const char *const devices[] = { "/dev/croft-has-no-such-node", NULL };
	if (!rig_init(&r))
		return;
	struct keeper_launch l = { .private_root = true, .devices = devices };
	run_probe(&r, &l, (const char *const[]){ "probe-try", r.home, NULL });
	eq_str(r.proc.confinement, "root=host (make /dev/croft-has-no-such-node: No such file or directory)");
	said(&r, "setuid=EPERM", true);
	said(&r, "shadow=EACCES", true);
	said(&r, "home=EACCES", true);
	rig_fini(&r);
}

TEST(its_log_is_bounded)
{
	struct rig r;
	struct stat st;
	char path[160];
	if (!rig_init(&r))
		return;
	struct keeper_launch l = { .private_root = true };
	run_probe(&r, &l, (const char *const[]){ "probe-noise", NULL });
	said(&r, "this is line 19999 of what it has to say\n", true);
	snprintf(path, sizeof(path), "%s/%s/qemu.log", r.home, RIG_UUID);
	ok(stat(path, &st) == 0 && st.st_size > 16384 && st.st_size <= 65536);
	rig_fini(&r);
}

TEST(bad_descriptor_numbers_are_refused)
{
	static const struct { unsigned number, qmp, serial; } bad[] = {
		{ 3, 10, 11 }, { 10, 10, 11 }, { 12, 11, 11 }, { 512, 10, 11 }, { UINT32_MAX, 10, 11 }, { 12, 2, 11 },
	};
	struct rig r;
	struct err e = { 0 };
	const char *argv[] = { "/usr/bin/true", NULL };
	if (!rig_init(&r))
		return;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct keeper_fd fd = { r.house.run_fd, bad[i].number };
		struct keeper_launch l = { .uuid = RIG_UUID, .argv = argv, .fds = &fd, .nfds = 1, .qmp = bad[i].qmp,
					   .serial = bad[i].serial, .uid = RIG_UID, .gid = RIG_UID };
		r.failed = 0;
		r.k = keeper_start(&r.house, &l, &rig_ops, &r, &e);
		ok(rig_until(&r, r.failed, 5000));
		ok(strstr(r.err.msg, "is taken or out of range"));
		keeper_free(TAKE(r.k));
	}
	rig_fini(&r);
}

/* ---- from outside, by /proc ---- */

static void status_line(pid_t pid, const char *key, char *out, size_t cap)
{
	char path[64], line[256];
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *f = fopen(path, "re");
	out[0] = 0;
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':') {
			line[strcspn(line, "\n")] = 0;
			snprintf(out, cap, "%s", line + strlen(key) + 1 + strspn(line + strlen(key) + 1, " \t"));
		}
	if (f)
		fclose(f);
}

static void expect_confined(pid_t pid, unsigned uid)
{
	char got[256], want[64];
	snprintf(want, sizeof(want), "%u\t%u\t%u\t%u", uid, uid, uid, uid);
	status_line(pid, "Uid", got, sizeof(got));
	eq_str(got, want);
	status_line(pid, "Gid", got, sizeof(got));
	eq_str(got, want);
	static const struct { const char *key, *want; } lines[] = {
		{ "Groups", "" }, { "CapInh", "0000000000000000" }, { "CapPrm", "0000000000000000" },
		{ "CapEff", "0000000000000000" }, { "CapBnd", "0000000000000000" }, { "CapAmb", "0000000000000000" },
		{ "NoNewPrivs", "1" }, { "Seccomp", "2" },
	};
	for (size_t i = 0; i < COUNT(lines); i++) {
		status_line(pid, lines[i].key, got, sizeof(got));
		got[strcspn(got, " ")] = 0;
		if (strcmp(got, lines[i].want))
			t_fail(__FILE__, __LINE__, "%s of %d is %s", lines[i].key, pid, got);
	}
}

/* "0:/dev/null 1:/dev/null 2:pipe 3:/x/y ...": inode numbers are left out. */
static void fds_of(pid_t pid, char *out, size_t cap)
{
	char path[64], to[256];
	size_t n = 0;
	for (int fd = 0; fd < 600 && n < cap - 300; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		ssize_t len = readlink(path, to, sizeof(to) - 1);
		if (len < 0)
			continue;
		to[len] = 0;
		if (to[0] != '/' && strncmp(to, "anon_inode:", 11))
			to[strcspn(to, ":")] = 0;
		n += snprintf(out + n, cap - n, "%d:%s ", fd, to);
	}
	out[n] = 0;
}

TEST(both_are_confined)
{
	struct rig r;
	char fds[8192], want[512];
	if (!rig_init(&r))
		return;
	if (rig_boot(&r) && rig_guest_up(&r)) {
		expect_confined(r.proc.pid, RIG_UID);
		expect_confined(r.proc.shim, RIG_SHIM_UID);
		printf("# %s\n", r.proc.confinement);
		usleep(100000);			/* the viewer that has gone was noticed */
		fds_of(r.proc.shim, fds, sizeof(fds));
		printf("# %s\n", fds);
		snprintf(want, sizeof(want), "0:/dev/null 1:/dev/null 2:pipe 4:socket ");
		ok(!strncmp(fds, want, strlen(want)));
		ok(!strstr(fds, "alive") && !strstr(fds, "kernel"));	/* QEMU's are open in QEMU only */
		static const char *const once[] = { "/console.ring ", "/qemu.log ", "/end.json ", "anon_inode:[pidfd] " };
		for (size_t i = 0; i < COUNT(once); i++) {
			char *at = strstr(fds, once[i]);
			ok(at && !strstr(at + 1, once[i]));
		}
		int n = 0;
		for (char *at = fds; *at; at++)
			n += *at == ' ';
		eq_int(n, 11);		/* and ctl, serial, QEMU's stderr */
		fds_of(r.proc.pid, fds, sizeof(fds));
		printf("# %s\n", fds);
		snprintf(want, sizeof(want), "0:/dev/null 1:pipe 2:pipe 3:%s/%s/alive ", r.home, RIG_UUID);
		ok(!strncmp(fds, want, strlen(want)));
	}
	rig_fini(&r);
}

TEST(memory)
{
	struct rig r;
	char path[64], line[128];
	unsigned long pss = 0, anon = 0;
	if (!rig_init(&r))
		return;
	if (rig_boot(&r) && rig_guest_up(&r)) {
		snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", r.proc.shim);
		FILE *f = fopen(path, "re");
		while (f && fgets(line, sizeof(line), f)) {
			sscanf(line, "Pss: %lu", &pss);
			sscanf(line, "Pss_Anon: %lu", &anon);
		}
		if (f)
			fclose(f);
		printf("# croft-vm: PSS %lu KiB, anonymous %lu KiB\n", pss, anon);
		ok(pss > 0 && (SANITIZED || pss < 1024));
	}
	rig_fini(&r);
}

/* ---- system calls put into the running process ---- */

#if defined(__x86_64__)
static bool set_syscall(pid_t pid, long number)
{
	return ptrace(PTRACE_POKEUSER, pid, 15 * 8, number) == 0;	/* orig_rax */
}
#elif defined(__aarch64__)
static bool set_syscall(pid_t pid, long number)
{
	int nr = (int)number;
	struct iovec io = { &nr, sizeof(nr) };
	return ptrace(PTRACE_SETREGSET, pid, 0x404, &io) == 0;		/* NT_ARM_SYSTEM_CALL */
}
#endif

/* Change the next system call that @pid makes into @number. Returns the signal that it died of, or 0 with *ret what the
 * call returned. */
static int inject(pid_t pid, long number, int64_t *ret)
{
	struct __ptrace_syscall_info info = { 0 };
	int status;
	*ret = 0;
	if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACESYSGOOD) || ptrace(PTRACE_INTERRUPT, pid, NULL, NULL))
		return -1;
	waitpid(pid, &status, 0);
	for (bool changed = false;;) {
		ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
		if (waitpid(pid, &status, 0) != pid)
			return -1;
		if (WIFSIGNALED(status))
			return WTERMSIG(status);
		if (WIFEXITED(status))
			return -1;
		if (WSTOPSIG(status) == SIGSYS) {		/* a trap that it would die of */
			kill(pid, SIGKILL);
			return SIGSYS;
		}
		ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info);
		if (changed && info.op == PTRACE_SYSCALL_INFO_EXIT)
			*ret = info.exit.rval;			/* the signal, if any, comes after it */
		if (changed && info.op == PTRACE_SYSCALL_INFO_ENTRY) {	/* it lives on, and makes its next call */
			ptrace(PTRACE_DETACH, pid, NULL, NULL);
			return 0;
		}
		if (!changed && info.op == PTRACE_SYSCALL_INFO_ENTRY)
			changed = set_syscall(pid, number);
	}
}

static const struct { const char *name; long number; } forbidden[] = {
	{ "openat", SYS_openat }, { "execve", SYS_execve }, { "socket", SYS_socket }, { "ptrace", SYS_ptrace },
	{ "setuid", SYS_setuid }, { "clone", SYS_clone }, { "kill", SYS_kill }, { "connect", SYS_connect },
	{ "bpf", SYS_bpf }, { "io_uring_setup", SYS_io_uring_setup },
};

TEST(shim_dies_of_forbidden_calls)
{
	struct rig r;
	int64_t ret;
	if (SANITIZED) {
		t_skip("a sanitizer build allows more");
		return;
	}
	for (size_t i = 0; i < COUNT(forbidden); i++) {
		if (!rig_init(&r))
			return;
		if (rig_boot(&r)) {
			keeper_free(TAKE(r.k));		/* it is to wait for its child no more than we for ours */
			pid_t waker = fork();
			if (!waker) {			/* connections wake it up again and again */
				for (int n = 0; n < 100; n++, usleep(20000)) {
					int v = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
					rig_connect(&r, v);	/* refused once it is dead */
					close(v);
				}
				_exit(0);
			}
			int sig = inject(r.proc.shim, forbidden[i].number, &ret);
			if (sig != SIGSYS)
				t_fail(__FILE__, __LINE__, "%s: signal %d, returned %lld", forbidden[i].name, sig, (long long)ret);
			kill(waker, SIGKILL);
			waitpid(waker, NULL, 0);
			ok(kill(r.proc.pid, 0) == 0);		/* and its QEMU goes on */
		}
		rig_fini(&r);
	}
}

TEST(qemu_is_denied_spawning_and_privileges)
{
	static const struct { const char *name; long number; } denied[] = {
		{ "execve", SYS_execve }, { "setuid", SYS_setuid }, { "reboot", SYS_reboot }, { "sched_setaffinity",
		SYS_sched_setaffinity },
	};
	struct rig r;
	struct err e = { 0 };
	int64_t ret;
	for (size_t i = 0; i < COUNT(denied); i++) {
		if (!rig_init(&r))
			return;
		if (rig_boot(&r) && rig_guest_up(&r)) {
			pid_t waker = fork();
			if (!waker) {
				for (int n = 0; n < 100; n++, usleep(20000))
					close(keeper_qmp_connect(r.k, &e));
				_exit(0);
			}
			int sig = inject(r.proc.pid, denied[i].number, &ret);
			if (sig != SIGSYS && ret != -EPERM)
				t_fail(__FILE__, __LINE__, "%s: signal %d, returned %lld", denied[i].name, sig, (long long)ret);
			kill(waker, SIGKILL);
			waitpid(waker, NULL, 0);
		}
		rig_fini(&r);
	}
}

/* ---- the frozen protocol, against the real croft-vm ---- */

/* What it answers to these bytes: 1 with a message, 0 when it hangs up. */
static int answer_to(int fd, const struct buf *b, struct ctl_message *m)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	if (b)
		ok(send(fd, b->data, b->len, MSG_NOSIGNAL) == (ssize_t)b->len);
	if (poll(&p, 1, 5000) != 1)
		return -ETIMEDOUT;
	return ctl_recv(fd, m);
}

static void raw(struct buf *b, uint32_t version, uint32_t type, uint32_t id, const char *body, size_t n)
{
	buf_reset(b);
	pack_u32(b, version);
	pack_u32(b, type);
	pack_u32(b, id);
	pack_bytes(b, body, n);
}

TEST(protocol)
{
	struct rig r;
	struct ctl_message m;
	AUTO_BUF struct buf b = BUF_INIT(CTL_MAX);
	if (!rig_init(&r))
		return;
	if (rig_boot(&r)) {
		int fd = rig_dial(&r);
		raw(&b, 1, 999, 5, "whatever", 8);		/* a request of the future */
		eq_int(answer_to(fd, &b, &m), 1);
		ok(m.type == CTL_UNSUPPORTED && m.id == 5 && m.body.unsupported.type == 999);
		ctl_fini(&m);
		raw(&b, 7, CTL_STATUS, 6, "more fields than it knows", 25);	/* a known one, of a newer croftd */
		eq_int(answer_to(fd, &b, &m), 1);
		ok(m.type == CTL_STATE && m.id == 6 && m.version == 1);
		ok(m.body.state.pid == (uint32_t)r.proc.pid && m.body.state.phase == CTL_RUNNING);
		ctl_fini(&m);
		static const uint32_t late[] = { CTL_LAUNCH, CTL_ADOPT, CTL_GO, CTL_VIEWER };
		for (size_t i = 0; i < COUNT(late); i++) {
			raw(&b, 1, late[i], 7, "", 0);
			eq_int(answer_to(fd, &b, &m), 1);
			ok(m.type == CTL_FAILED && m.id == 7);
			ctl_fini(&m);
		}
		buf_reset(&b);
		buf_adds(&b, "garbage");
		eq_int(answer_to(fd, &b, &m), 0);
		close(fd);
		fd = rig_dial(&r);
		raw(&b, 1, CTL_HELLO, 1, "\xff\0\0\0x", 5);	/* a text longer than its message */
		eq_int(answer_to(fd, &b, &m), 0);
		close(fd);
		ok(kill(r.proc.shim, 0) == 0 && kill(r.proc.pid, 0) == 0);
	}
	rig_fini(&r);
}

TEST(clients_that_hang_or_crowd_stop_nothing)
{
	struct rig r;
	AUTO_BUF struct buf b = BUF_INIT(CTL_MAX);
	int crowd[40];
	char text[64];
	if (!rig_init(&r))
		return;
	if (rig_boot(&r)) {
		int fd = rig_dial(&r);
		raw(&b, 1, CTL_STATUS, 6, "", 0);
		for (int i = 0; i < 20000; i++)		/* asks, and never reads */
			if (send(fd, b.data, b.len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
				break;
		int v = rig_viewer(&r, 0);
		ok(rig_expect(&r, v, "R", 5000, text, sizeof(text)));
		for (size_t i = 0; i < COUNT(crowd); i++) {	/* more than it serves at once */
			crowd[i] = rig_dial(&r);
			usleep(2000);
		}
		struct ctl_message m;
		eq_int(answer_to(crowd[COUNT(crowd) - 1], &b, &m), 1);
		ctl_fini(&m);
		ok(rig_until(&r, r.running >= 1 && !r.failed, 100));
		ok(write(v, "k", 1) == 1);
		ok(rig_expect(&r, v, "k", 5000, text, sizeof(text)));
		for (size_t i = 0; i < COUNT(crowd); i++)
			close(crowd[i]);
		close(fd);
		close(v);
	}
	rig_fini(&r);
}

T_MAIN
