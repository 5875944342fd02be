// LINK: hv-core/base
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "child.h"
#include "confine.h"
#include "mem.h"
#include "t.h"

enum { UID = 54321, GID = 54322 };

static bool need_root(void)
{
	if (geteuid())
		t_skip("needs root");
	return !geteuid();
}

/* Every test runs in its own process (t.h), so it may give up what it likes. */
static void done(int r, const struct err *e)
{
	if (r)
		t_fail(__FILE__, __LINE__, "%d: %s", r, e->msg);
}

static void in_empty_root(void)
{
	struct err e = { 0 };
	struct stat st;
	int n = 0;

	done(confine_empty_root(&e), &e);
	DIR *d = opendir("/");
	ok(d);
	while (d && readdir(d))
		n++;
	eq_int(n, 2);			/* . and .. */
	closedir(d);
	ok(stat("/etc", &st) && errno == ENOENT);
	ok(stat("/../../../proc", &st) && errno == ENOENT);
	ok(open("/x", O_CREAT | O_WRONLY, 0600) < 0);
	eq_int(errno, EROFS);
	ok(!stat("/", &st) && !(st.st_mode & 0222));
}

TEST(the_root_becomes_empty_and_read_only)
{
	int status;

	if (!need_root())
		return;
	pid_t pid = fork();
	if (!pid) {
		in_empty_root();
		_exit(0);	/* a leak check at exit would want /proc */
	}
	waitpid(pid, &status, 0);
	eq_int(status, 0);
}

/* A folder as the root, as in a chroot that somebody tries this in: / is no mount point there. */
TEST(in_a_chroot_too)
{
	char dir[] = "/tmp/croft-chroot-XXXXXX", proc[64];
	int status;

	if (!need_root())
		return;
	ok(mkdtemp(dir));
	snprintf(proc, sizeof(proc), "%s/proc", dir);
	mkdir(proc, 0755);
	pid_t pid = fork();
	if (!pid) {
		struct err e = { 0 };
		done(confine_mounts(&e), &e);
		ok(!mount("proc", proc, "proc", 0, NULL) && !chroot(dir) && !chdir("/"));
		ok(mount(NULL, "/", NULL, MS_PRIVATE, NULL) && errno == EINVAL);
		in_empty_root();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	eq_int(status, 0);
	rmdir(proc);
	rmdir(dir);
}

TEST(the_mounts_of_others_stay)
{
	struct stat st;
	struct err e = { 0 };
	int status;

	if (!need_root())
		return;
	pid_t pid = fork();
	if (!pid)
		_exit(confine_empty_root(&e) != 0);
	waitpid(pid, &status, 0);
	eq_int(status, 0);
	ok(!stat("/etc", &st));
}

TEST(a_user_has_nothing_left)
{
	struct err e = { 0 };
	gid_t groups[] = { 1, 2, 3 };

	if (!need_root())
		return;
	setgroups(3, groups);
	prctl(PR_SET_KEEPCAPS, 1);
	done(confine_user(UID, GID, &e), &e);
	eq_int(getuid(), UID);
	eq_int(geteuid(), UID);
	eq_int(getegid(), GID);
	eq_int(getgroups(0, NULL), 0);
	ok(setuid(0) < 0);
	ok(setgid(0) < 0);
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		ok(prctl(PR_CAPBSET_READ, cap) != 1);
	eq_int(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	eq_int(prctl(PR_GET_DUMPABLE), 0);
	ok(prctl(PR_GET_SECUREBITS) & SECBIT_NOROOT_LOCKED);
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];
	eq_int(syscall(SYS_capget, &head, caps), 0);
	ok(!(caps[0].permitted | caps[1].permitted | caps[0].effective | caps[1].effective | caps[0].inheritable));
	ok(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW, 0, 0) != 1);
	ok(open("/root/x", O_CREAT | O_WRONLY, 0600) < 0);
}

/* Whoever is placed stays there, and so does what it starts. */
TEST(cpus)
{
	static const char *const bad[] = { "x", "0;1", "0-1,x", "" };
	struct err e = { 0 };
	cpu_set_t before, now;
	int one = 0;

	ok(!sched_getaffinity(0, sizeof(before), &before));
	while (!CPU_ISSET(one, &before))
		one++;
	done(confine_cpus(NULL, &e), &e);
	ok(!sched_getaffinity(0, sizeof(now), &now) && CPU_EQUAL(&now, &before));
	for (size_t i = 0; i < COUNT(bad); i++)
		ok(confine_cpus(bad[i], &e) < 0 && *e.msg);
	ok(confine_cpus("4000-4095", &e) < 0 && strstr(e.msg, "4000-4095"));	/* none of them is there */
	ok(!sched_getaffinity(0, sizeof(now), &now) && CPU_EQUAL(&now, &before));

	AUTO_FREE char *list = xasprintf("%d,4090-4095", one);
	done(confine_cpus(list, &e), &e);
	ok(!sched_getaffinity(0, sizeof(now), &now) && CPU_COUNT(&now) == 1 && CPU_ISSET(one, &now));
	AUTO_FREE char *told = proc_cpus(getpid()), *want = xasprintf("%d", one);
	eq_str(told, want);
	ok(!proc_cpus(0x7fffffff));
	ok(!sched_setaffinity(0, sizeof(before), &before));
}

TEST(what_runs_afterwards_has_nothing_either)
{
	struct err e = { 0 };
	int p[2], status;
	char out[512] = "";

	if (!need_root())
		return;
	eq_int(pipe(p), 0);
	pid_t pid = fork();
	if (!pid) {
		dup2(p[1], 1);
		if (!confine_user(UID, GID, &e))
			execl("/bin/grep", "grep", "-E", "^(Cap|NoNewPrivs|Groups|Uid)", "/proc/self/status", NULL);
		_exit(1);
	}
	close(p[1]);
	for (ssize_t n, at = 0; (n = read(p[0], out + at, sizeof(out) - 1 - at)) > 0; at += n)
		;
	waitpid(pid, &status, 0);
	eq_int(status, 0);
	ok(strstr(out, "CapPrm:\t0000000000000000"));
	ok(strstr(out, "CapEff:\t0000000000000000"));
	ok(strstr(out, "CapBnd:\t0000000000000000"));
	ok(strstr(out, "CapInh:\t0000000000000000"));
	ok(strstr(out, "CapAmb:\t0000000000000000"));
	ok(strstr(out, "NoNewPrivs:\t1"));
	ok(strstr(out, "Uid:\t54321\t54321\t54321\t54321"));
}

TEST(without_the_right_to_it_it_fails_and_says_so)
{
	struct err e = { 0 };

	if (!geteuid() && setuid(UID))
		return t_skip("cannot become a user");
	ok(confine_user(UID + 1, GID, &e) < 0);
	ok(*e.msg);
	e = (struct err){ 0 };
	ok(confine_empty_root(&e) < 0);
	ok(*e.msg);
}

static const char *const usual[] = {
	"read", "write", "close", "exit", "exit_group", "brk", "mmap", "munmap", "rt_sigreturn", "getpid", "futex",
	"no_such_call_on_any_machine", "arm_fadvise64_64", NULL,
};
static const char *const refused[] = { "socket", "openat", NULL };

/* Run @fn under the filter in a child; returns its wait status. */
static int filtered(void (*fn)(void))
{
	int status;

	fflush(NULL);
	pid_t pid = fork();
	if (!pid) {
		struct err e = { 0 };
		int r = confine_syscalls(usual, refused, &e);
		done(r, &e);
		if (!r)
			fn();
		_exit(r != 0);
	}
	waitpid(pid, &status, 0);
	return status;
}

static void allowed(void)
{
	if (syscall(SYS_getpid) <= 1)
		_exit(2);
}

static void denied(void)
{
	if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0 || errno != EPERM)
		_exit(2);
}

static void forbidden(void)
{
	syscall(SYS_chroot, "/");
	_exit(2);
}

TEST(a_filter_allows_refuses_and_kills)
{
	eq_int(filtered(allowed), 0);
	eq_int(filtered(denied), 0);
	int status = filtered(forbidden);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

#ifdef __x86_64__
static void old_abi(void)
{
	long r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory");	/* getpid of i386: 20; of x86_64: writev */
	_exit(2);
}

TEST(the_32_bit_calls_are_closed)
{
	int status = filtered(old_abi);
	ok(WIFSIGNALED(status) && (WTERMSIG(status) == SIGSYS || WTERMSIG(status) == SIGSEGV));
}
#endif

static void *count_one(void *arg)
{
	syscall(SYS_getpid);
	return arg;
}

static int gate[1];

static void with_threads(void)
{
	pthread_t t;
	void *ret = NULL;
	if (pthread_create(&t, NULL, count_one, gate) || pthread_join(t, &ret) || ret != gate)
		_exit(2);
	if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= 0 || errno != EPERM)
		_exit(3);
	_exit(0);
}

TEST(threads_can_be_allowed_without_processes)
{
	static const char *const calls[] = {
		"read", "write", "close", "exit", "exit_group", "mmap", "munmap", "mprotect", "madvise", "futex",
		"getpid", "rt_sigaction", "rt_sigprocmask", "set_robust_list", "rseq", "gettid", "sigaltstack", "brk",
		"sched_getaffinity", CONFINE_THREADS, NULL,
	};
	int status;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return t_skip("sanitizers fork");
#endif
	pid_t pid = fork();
	if (!pid) {
		struct err e = { 0 };
		int r = confine_syscalls(calls, NULL, &e);
		done(r, &e);
		with_threads();
	}
	waitpid(pid, &status, 0);
	eq_int(status, 0);
}

TEST(descriptors_are_closed_but_those_that_are_kept)
{
	int fd[6], keep[] = { -1, 0, 0, 0 };

	for (int i = 0; i < 6; i++)
		fd[i] = dup(0);
	keep[1] = fd[4];
	keep[2] = fd[1];
	eq_int(confine_close_from(fd[0], keep, 4), 0);
	for (int i = 0; i < 6; i++)
		eq_int(fcntl(fd[i], F_GETFD) >= 0, i == 1 || i == 4);
	ok(fcntl(0, F_GETFD) >= 0);
	eq_int(confine_close_from(fd[0], NULL, 0), 0);
	ok(fcntl(fd[1], F_GETFD) < 0);
}

T_MAIN
