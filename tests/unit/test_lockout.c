// LINK: daemon hv-core storage net
#include <stdio.h>
#include "lockout.h"
#include "t.h"

#define S	1000000ll
#define MINUTE	(60 * S)

static struct lockout *l;

static unsigned fails(unsigned n, const char *user, const char *peer, int64_t at)
{
	unsigned r = 0;

	for (unsigned i = 0; i < n; i++)
		r = lockout_failed(l, user, peer, at);
	return r;
}

TEST(five_failures_lock_the_pair)
{
	l = lockout_new();
	eq_int(fails(4, "admin", "10.0.0.1", 0), 0);
	eq_int(lockout_left(l, "admin", "10.0.0.1", 0), 0);
	eq_int(fails(1, "admin", "10.0.0.1", 14 * MINUTE), 900);
	eq_int(lockout_left(l, "admin", "10.0.0.1", 14 * MINUTE), 900);
	eq_int(lockout_left(l, "admin", "10.0.0.1", 28 * MINUTE), 60);
	eq_int(lockout_left(l, "admin", "10.0.0.1", 29 * MINUTE), 0);
	lockout_free(l);
}

TEST(nobody_else_is_locked)
{
	l = lockout_new();
	fails(5, "admin", "10.0.0.1", 0);
	eq_int(lockout_left(l, "admin", "10.0.0.2", 0), 0);
	eq_int(lockout_left(l, "alice", "10.0.0.1", 0), 0);
	eq_int(lockout_left(l, "n", "10.0.0.1 admi", 0), 0);
	lockout_free(l);
}

TEST(the_window_slides)
{
	l = lockout_new();
	for (int i = 0; i < 40; i++)	/* one each four minutes: never five within fifteen */
		eq_int(fails(1, "admin", "10.0.0.1", i * 4 * MINUTE), 0);
	eq_int(fails(1, "admin", "10.0.0.1", 157 * MINUTE), 900);	/* 144, 148, 152, 156, 157 */
	lockout_free(l);
}

TEST(after_a_lock_five_more_are_needed)
{
	l = lockout_new();
	eq_int(fails(5, "admin", "10.0.0.1", 0), 900);
	eq_int(fails(4, "admin", "10.0.0.1", 15 * MINUTE), 0);
	eq_int(fails(1, "admin", "10.0.0.1", 15 * MINUTE), 900);
	lockout_free(l);
}

TEST(success_forgets_the_pair_but_not_the_address)
{
	l = lockout_new();
	for (int i = 0; i < 12; i++) {
		eq_int(fails(4, "admin", "10.0.0.1", 0), 0);
		lockout_passed(l, "admin", "10.0.0.1");
	}
	eq_int(fails(1, "bob", "10.0.0.1", 0), 0);
	eq_int(fails(1, "bob", "10.0.0.1", 0), 900);
	eq_int(lockout_left(l, "admin", "10.0.0.1", S), 899);
	eq_int(lockout_left(l, "admin", "10.0.0.2", S), 0);
	lockout_free(l);
}

static const char *address(const char *peer)
{
	static char out[64];

	lockout_address(peer, out);
	return out;
}

TEST(what_one_address_is)
{
	eq_str(address("192.0.2.7"), "192.0.2.7");
	eq_str(address("::ffff:192.0.2.7"), "192.0.2.7");
	eq_str(address("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
	eq_str(address("2001:db8:1:2::9"), "2001:db8:1:2::/64");
	eq_str(address("2001:db8:1:3::9"), "2001:db8:1:3::/64");
	eq_str(address("fe80::1%eth0"), "fe80::/64");
	eq_str(address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), "ffff:ffff:ffff:ffff::/64");
	eq_str(address("unix"), "unix");
	eq_str(address(""), "");
}

TEST(neighbours_of_a_64_are_one_address)
{
	char peer[64];

	l = lockout_new();
	for (int i = 0; i < 50; i++) {
		snprintf(peer, sizeof peer, "2001:db8::%x", i + 1);
		eq_int(fails(1, "admin", peer, 0), i < 4 || i % 5 != 4 ? 0 : 900);
	}
	eq_int(lockout_left(l, "bob", "2001:db8::ffff", 0), 900);
	eq_int(lockout_left(l, "bob", "2001:db8:0:1::1", 0), 0);
	lockout_free(l);
}

TEST(the_tables_are_bounded_and_the_oldest_goes)
{
	char peer[32];

	l = lockout_new();
	fails(5, "admin", "10.0.0.1", 0);
	fails(4, "admin", "10.0.0.2", 0);
	for (int i = 0; i < LOCKOUT_ENTRIES - 1; i++) {
		snprintf(peer, sizeof peer, "11.%d.%d.1", i / 256, i % 256);
		fails(1, "admin", peer, S);
	}
	eq_int(lockout_left(l, "admin", "10.0.0.1", S), 0);	/* pushed out */
	eq_int(fails(1, "admin", "10.0.0.2", S), 900);		/* still there */
	lockout_free(l);
}

T_MAIN
