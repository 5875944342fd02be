/* t.c: see t.h. Every test runs in a process of its own, so that a crash, a leak that the sanitizer sees or a hang is
 * a failed test and not the end of the run. */
#include "t.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_MS 60000

/* Shared with the child of the running test. */
static struct outcome { int failed, skipped, ended; char why[1024]; } *outcome;
static struct t_case *first, **last = &first;

void t_add(struct t_case *c)
{
	*last = c;
	last = &c->next;
}

void t_fail(const char *file, int line, const char *fmt, ...)
{
	char why[900];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if (!outcome->failed++)
		snprintf(outcome->why, sizeof(outcome->why), "%s:%d: %s", file, line, why);
	else
		printf("# also %s:%d: %s\n", file, line, why);
}

void t_skip(const char *why)
{
	outcome->skipped = 1;
	snprintf(outcome->why, sizeof(outcome->why), "%s", why);
}

void t_eq_str(const char *file, int line, const char *got, const char *want)
{
	if (!got || !want ? got != want : strcmp(got, want))
		t_fail(file, line, "got \"%s\", want \"%s\"", got ? got : "(null)", want ? want : "(null)");
}

void t_eq_int(const char *file, int line, const char *expr, long long got, long long want)
{
	if (got != want)
		t_fail(file, line, "%s is %lld, want %lld", expr, got, want);
}

static void run_child(struct t_case *c)
{
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	c->fn();
	outcome->ended = 1;
	exit(0);	/* runs the leak check of a sanitizer build */
}

/* Wait, at most until the deadline; what the test left behind in its process group is killed. */
static int reap(pid_t pid)
{
	int status = 0, fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n;

	do
		n = fd < 0 ? 1 : poll(&p, 1, DEADLINE_MS);
	while (n < 0 && errno == EINTR);
	if (fd >= 0)
		kill(-pid, SIGKILL);
	if (!n)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (fd >= 0)
		close(fd);
	if (!n)
		snprintf(outcome->why, sizeof(outcome->why), "it took over %d s", DEADLINE_MS / 1000);
	else if (!outcome->failed && WIFSIGNALED(status))
		snprintf(outcome->why, sizeof(outcome->why), "killed by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else if (!outcome->failed && WEXITSTATUS(status))
		snprintf(outcome->why, sizeof(outcome->why), "exited with %d", WEXITSTATUS(status));
	else if (!outcome->failed && !outcome->ended)
		snprintf(outcome->why, sizeof(outcome->why), "it left its process before its end");
	return !n || status || !outcome->ended;
}

/* 0 passed, 1 failed, 2 skipped */
static int run_one(struct t_case *c)
{
	memset(outcome, 0, sizeof(*outcome));
	fflush(NULL);
	pid_t pid = fork();
	if (!pid)
		run_child(c);
	if (pid < 0)
		snprintf(outcome->why, sizeof(outcome->why), "fork: %s", strerror(errno));
	bool bad = pid < 0 || reap(pid) || outcome->failed;
	if (bad)
		printf("not ok %s: %s\n", c->name, outcome->why);
	else if (outcome->skipped)
		printf("skip %s: %s\n", c->name, outcome->why);
	else
		printf("ok %s\n", c->name);
	return bad ? 1 : outcome->skipped ? 2 : 0;
}

static bool chosen(const struct t_case *c, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strstr(c->name, argv[i]))
			return true;
	return argc < 2;
}

int t_main(int argc, char **argv)
{
	unsigned count[3] = { 0 };

	outcome = mmap(NULL, sizeof(*outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (outcome == MAP_FAILED) {
		perror("mmap");
		return 2;
	}
	for (struct t_case *c = first; c; c = c->next)
		if (chosen(c, argc, argv))
			count[run_one(c)]++;
	printf("%u passed, %u failed, %u skipped\n", count[0], count[1], count[2]);
	if (!count[0] && !count[1] && !count[2])
		printf("# no such test\n");
	return count[1] || !(count[0] + count[2]);
}
