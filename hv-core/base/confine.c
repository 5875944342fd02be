#include "confine.h"
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "text.h"

#if defined(__has_feature)
#define HAS(x) __has_feature(x)
#else
#define HAS(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || HAS(address_sanitizer) || \
	HAS(thread_sanitizer) || HAS(undefined_behavior_sanitizer)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Any folder can carry the empty root for the moment until it becomes the root. */
static const char *const mount_points[] = { "/run", "/tmp", "/mnt", "/proc", NULL };

static int enter_root(const char *point, struct err *e)
{
	if (chdir(point))
		return fail_errno(e, errno, "chdir to the empty root");
	if (!syscall(SYS_pivot_root, ".", ".")) {	/* the old root lies on top of the new one now */
		if (umount2(".", MNT_DETACH))
			return fail_errno(e, errno, "unmount the old root");
	} else if (mount(".", "/", NULL, MS_MOVE, NULL)) {	/* an initramfs can't be pivoted away, only covered */
		return fail_errno(e, errno, "move the empty root to /");
	}
	if (chroot(".") || chdir("/"))
		return fail_errno(e, errno, "chroot into the empty root");
	return 0;
}

/* In a chroot / need not be a mount point: then nobody can make it private, nor pivot away from it. So a copy of the tree
 * is mounted on /proc, which is one and can be made private first, and becomes our root. */
static int root_as_mount(void)
{
	if (mount(NULL, "/proc", NULL, MS_PRIVATE, NULL) || mount("/", "/proc", NULL, MS_BIND | MS_REC, NULL) ||
	    chdir("/proc") || chroot(".") || chdir("/"))
		return -errno;
	return 0;
}

int confine_mounts(struct err *e)
{
	if (unshare(CLONE_NEWNS))
		return fail_errno(e, errno, "make a mount namespace");
	int r = mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ? -errno : 0;
	if (r == -EINVAL && !(r = root_as_mount()))
		r = mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ? -errno : 0;
	return r ? fail_errno(e, r, "make the mounts private") : 0;
}

int confine_empty_root(struct err *e)
{
	const char *const *point = mount_points;
	struct stat st;
	int r = confine_mounts(e);

	if (r)
		return r;
	while (*point && (lstat(*point, &st) || !S_ISDIR(st.st_mode)))
		point++;
	if (!*point)
		return fail(e, ERR_UNSUPPORTED, "no folder to mount an empty root on");
	if (mount("croft-empty", *point, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=1,mode=0555") ||
	    mount(NULL, *point, NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=1"))
		return fail_errno(e, errno, "mount an empty root");
	return enter_root(*point, e);
}

enum { BITS = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
	      SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED };

static int drop_bounding_set(struct err *e)
{
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			return fail_errno(e, errno, "drop capability %d from the bounding set", cap);
	return 0;
}

static int cap_call(long number, struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	return syscall(number, &head, data);
}

/* Nothing is believed that can be read back. */
static int verify(uid_t uid, gid_t gid, struct err *e)
{
	uid_t u[3];
	gid_t g[3];
	struct __user_cap_data_struct caps[2];
	const char *bad = NULL;

	if (getresuid(&u[0], &u[1], &u[2]) || u[0] != uid || u[1] != uid || u[2] != uid)
		bad = "user id";
	else if (getresgid(&g[0], &g[1], &g[2]) || g[0] != gid || g[1] != gid || g[2] != gid || getgroups(0, NULL))
		bad = "group ids";
	else if (cap_call(SYS_capget, caps) || caps[0].effective | caps[0].permitted | caps[0].inheritable |
		 caps[1].effective | caps[1].permitted | caps[1].inheritable)
		bad = "capabilities";
	else if (prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) != BITS)
		bad = "securebits";
	else if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		bad = "no_new_privs";
	else if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0))
		bad = "dumpable flag";
	for (int cap = 0, r; !bad && (r = prctl(PR_CAPBSET_READ, cap, 0, 0, 0)) >= 0; cap++)
		if (r)
			bad = "bounding set";
	if (!bad && uid && !setuid(0))
		bad = "user id (root could be had again)";
	return bad ? fail(e, ERR_INTERNAL, "the privileges were not given up: %s", bad) : 0;
}

int confine_user(uid_t uid, gid_t gid, struct err *e)
{
	struct __user_cap_data_struct none[2] = { 0 };

	if (drop_bounding_set(e))
		return -EPERM;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		return fail_errno(e, errno, "clear the ambient capabilities");
	if (prctl(PR_SET_SECUREBITS, BITS, 0, 0, 0))
		return fail_errno(e, errno, "set securebits");
	if (setgroups(0, NULL))
		return fail_errno(e, errno, "drop all groups");
	if (setresgid(gid, gid, gid))
		return fail_errno(e, errno, "become group %u", gid);
	if (setresuid(uid, uid, uid))
		return fail_errno(e, errno, "become user %u", uid);
	if (cap_call(SYS_capset, none))
		return fail_errno(e, errno, "drop all capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return fail_errno(e, errno, "set no_new_privs");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return fail_errno(e, errno, "clear the dumpable flag");
	return verify(uid, gid, e);
}

int confine_cpus(const char *list, struct err *e)
{
	cpu_set_t cpus[4096 / CPU_SETSIZE] = { 0 };
	const char *at = list;
	int last = -1, n;

	while (list && (n = text_list_next(&at, &last)) >= 0)
		CPU_SET_S((size_t)n, sizeof(cpus), cpus);
	if (!list)
		return 0;
	if (*at)
		return fail(e, ERR_INTERNAL, "\"%s\" is no list of CPUs", list);
	if (sched_setaffinity(0, sizeof(cpus), cpus))
		return fail_errno(e, errno, "run on the CPUs %s of the host", list);
	return 0;
}

/* What the sanitizers' run time does besides: symbolizing, leak search, shadow memory. */
static const char *const sanitizer_calls[] = {
	"brk", "clock_nanosleep", "clone", "clone3", "close", "dup", "dup2", "execve", "exit", "exit_group",
	"fcntl", "fork", "fstat", "futex", "getcwd", "getdents64", "getpid", "getppid", "getrandom", "getrlimit",
	"getrusage", "gettid", "ioctl", "kill", "lseek", "madvise", "mincore", "mmap", "mprotect", "mremap",
	"msync", "munmap", "nanosleep", "newfstatat", "open", "openat", "personality", "pipe", "pipe2", "prctl",
	"prlimit64", "process_vm_readv", "ptrace", "read", "readlink", "readlinkat", "rt_sigaction",
	"rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_yield", "setrlimit", "sigaltstack", "stat",
	"statx", "tgkill", "wait4", "waitid", "write", NULL,
};

/* A thread is a clone() with CLONE_THREAD. The flags of clone3() lie in memory where a filter can't see them; told that
 * the kernel has none, the C library falls back to clone(). */
static int add_threads(scmp_filter_ctx ctx, struct err *e)
{
	struct scmp_arg_cmp thread = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD);
	struct scmp_arg_cmp process = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0);
	int r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, thread);

	if (!r)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, process);
	if (!r)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return r ? fail_errno(e, r, "seccomp rule for threads") : 0;
}

static bool listed(const char *const *list, const char *name)
{
	for (; list && *list; list++)
		if (!strcmp(*list, name))
			return true;
	return false;
}

/* A name that this machine's architecture does not have is skipped. */
static int add_rules(scmp_filter_ctx ctx, uint32_t action, const char *const *names, const char *const *but,
		     struct err *e)
{
	for (; names && *names; names++) {
		if (!strcmp(*names, CONFINE_THREADS)) {
			int r = SANITIZED ? 0 : add_threads(ctx, e);
			if (r)
				return r;
			continue;
		}
		int number = seccomp_syscall_resolve_name(*names);
		if (number < 0 || listed(but, *names))
			continue;
		int r = seccomp_rule_add(ctx, action, number, 0);
		if (r && r != -EEXIST)
			return fail_errno(e, r, "seccomp rule for %s", *names);
	}
	return 0;
}

int confine_syscalls(const char *const *allowed, const char *const *denied, struct err *e)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r;

	if (!ctx)
		return fail(e, ERR_INTERNAL, "seccomp_init failed");
	seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);	/* a tree: some filters have a hundred calls */
	r = add_rules(ctx, SCMP_ACT_ERRNO(EPERM), denied, SANITIZED ? sanitizer_calls : NULL, e);
	if (!r)
		r = add_rules(ctx, SCMP_ACT_ALLOW, allowed, denied, e);
	if (!r && SANITIZED)
		r = add_rules(ctx, SCMP_ACT_ALLOW, sanitizer_calls, NULL, e);
	if (!r && (r = seccomp_load(ctx)))
		r = fail_errno(e, r, "load the seccomp filter");
	seccomp_release(ctx);
	return r;
}

int confine_close_from(int first, const int *keep, size_t n)
{
	unsigned from = first;

	for (;;) {
		unsigned next = ~0U;	/* the lowest that is kept, from here on */
		for (size_t i = 0; i < n; i++)
			if (keep[i] >= 0 && (unsigned)keep[i] >= from && (unsigned)keep[i] < next)
				next = keep[i];
		if (next > from && syscall(SYS_close_range, from, next == ~0U ? ~0U : next - 1, 0))
			return -errno;
		if (next == ~0U)
			return 0;
		from = next + 1;
	}
}
