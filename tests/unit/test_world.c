// LINK:
/* Clocks and the boot's id, as they are and as a test sets them. */
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
}

T_MAIN
