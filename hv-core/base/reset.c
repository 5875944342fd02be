#include "reset.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"

void reset_signals(void)
{
	sigset_t none;
	for (int n = 1; n < NSIG; n++)
		signal(n, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void reset_limits(uint64_t memlock_bytes)
{
	const struct { int which; rlim_t soft, hard; } limits[] = {
		{ RLIMIT_CORE, 0, 0 }, { RLIMIT_NOFILE, 8192, 8192 }, { RLIMIT_NPROC, 4096, 4096 },
		{ RLIMIT_MEMLOCK, memlock_bytes, memlock_bytes }, { RLIMIT_STACK, 8 << 20, RLIM_INFINITY },
		{ RLIMIT_AS, RLIM_INFINITY, RLIM_INFINITY }, { RLIMIT_DATA, RLIM_INFINITY, RLIM_INFINITY },
		{ RLIMIT_CPU, RLIM_INFINITY, RLIM_INFINITY }, { RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY },
		{ RLIMIT_RTPRIO, 0, 0 }, { RLIMIT_NICE, 0, 0 },
	};
	for (size_t i = 0; i < COUNT(limits); i++) {
		struct rlimit r = { limits[i].soft, limits[i].hard };
		setrlimit(limits[i].which, &r);
	}
}

void reset_scores(void)
{
	umask(077);
	setpriority(PRIO_PROCESS, 0, 0);
	AUTO_CLOSE int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)!write(fd, "0", 1);
}
