// LINK:
/* Clocks and the boot's id, as they are and as a test sets them. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "t.h"
#include "world.h"

#define YEAR (365 * 86400ll * 1000000)

TEST(the_wall_clock_jumps)
{
	static struct world w;
	int64_t now = now_usec(), mono = mono_usec(), steady = steady_usec();

	ok(steady >= now && steady - now < 60000000);
	world_set(&w);
	w.ahead_usec = YEAR;
	ok(now_usec() >= now + YEAR);
	ok(mono_usec() - mono < 60000000);
	ok(steady_usec() >= steady && steady_usec() - steady < 60000000);
	w.ahead_usec = -YEAR;
	ok(now_usec() < now);
	ok(mono_usec() >= mono);
	ok(steady_usec() >= steady && steady_usec() - steady < 60000000);
	world_set(NULL);
	ok(now_usec() >= now && now_usec() - now < 60000000);
}

TEST(another_boot)
{
	static const struct world w = { .boot_id = "11111111-2222-3333-4444-555555555555" };
	char mine[37], other[37];

	boot_id(mine);
	world_set(&w);
	boot_id(other);
	eq_str(other, w.boot_id);
	world_set(NULL);
	boot_id(other);
	eq_str(other, mine);
}

TEST(processes)
{
	ok(proc_start_time(getpid()) > 0);
	eq_int(proc_start_time(0x3fffffff), 0);
	ok(!proc_is_stopped(getpid(), proc_start_time(getpid())));
}

TEST(a_stopped_process)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		pause();
		_exit(1);
	}
	uint64_t start = proc_start_time(pid);

	ok(!proc_is_stopped(pid, start));
	kill(pid, SIGSTOP);
	eq_int(waitpid(pid, &status, WUNTRACED), pid);
	ok(proc_is_stopped(pid, start));
	ok(!proc_is_stopped(pid, start + 1));		/* another one of this number */
	kill(pid, SIGCONT);
	eq_int(waitpid(pid, &status, WCONTINUED), pid);
	ok(!proc_is_stopped(pid, start));
	kill(pid, SIGKILL);
	eq_int(waitpid(pid, &status, 0), pid);
	ok(!proc_is_stopped(pid, start));
}

T_MAIN
