#include "sandbox.h"
#include <stddef.h>
#include "confine.h"

/* By what needs them. None opens, names, executes or connects anything. */
static const char *const allowed[] = {
	/* the loop */
	"epoll_wait", "epoll_pwait", "epoll_pwait2", "epoll_ctl", "epoll_create1", "timerfd_create", "timerfd_settime", "eventfd2",
	"clock_gettime", "clock_nanosleep", "gettimeofday", "time", "getpid", "gettid", "poll", "ppoll", "restart_syscall",
	/* sockets that exist, and pairs between our own halves */
	"accept4", "recvfrom", "recvmsg", "sendto", "sendmsg", "shutdown", "socketpair", "getsockopt", "setsockopt",
	"getsockname", "getpeername",
	/* descriptors that croftd hands over */
	"read", "readv", "write", "writev", "pread64", "pwrite64", "preadv", "pwritev", "sendfile", "close", "fcntl", "fstat",
	"newfstatat", "lseek", "memfd_create", "ftruncate", "fchmod", "dup", "fadvise64", "sync_file_range",
	/* memory, threads of the lanes */
	"mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "futex", CONFINE_THREADS, "set_robust_list", "rseq",
	"rt_sigprocmask", "rt_sigaction", "rt_sigreturn", "sched_getaffinity", "sched_yield", "prctl", "exit", "exit_group",
	"getrandom", "tgkill",
	NULL
};

int sandbox_enter(struct err *e)
{
	/* An attempt to open something is an error for the library that tries (GnuTLS looks for its configuration), all
	 * else unknown is the end. */
	static const char *const denied[] = { "openat", "open", "access", "faccessat", "stat", "lstat", "readlink",
		"readlinkat", "ioctl", "socket", NULL };
	return confine_syscalls(allowed, denied, e);
}
