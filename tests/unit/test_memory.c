// LINK: hv-core
#include <string.h>
#include "host.h"
#include "memory.h"
#include "spec.h"
#include "t.h"

#define MIB (1ull << 20)

TEST(block_is_a_huge_page)
{
	struct host h = { .page_bytes = 4096 };

	eq_int(memory_block_bytes(&h), 2 * MIB);
	h.page_bytes = 16384;
	eq_int(memory_block_bytes(&h), 32 * MIB);
	h.page_bytes = 65536;
	eq_int(memory_block_bytes(&h), 512 * MIB);
}

TEST(what_can_be_plugged_in)
{
	struct host h = { .page_bytes = 4096 };
	struct vm_spec s = { .memory_bytes = 513 * MIB };

	eq_int(memory_hot_bytes(&s, &h), 0);
	s.memory_max_bytes = 513 * MIB;
	eq_int(memory_hot_bytes(&s, &h), 0);
	s.memory_max_bytes = 1024 * MIB;
	eq_int(memory_hot_bytes(&s, &h), 512 * MIB);	/* whole blocks */
}

/* What QEMU is told, for what is wanted and what the guest has taken so far. */
TEST(targets)
{
	static const struct { unsigned wanted, plugged, plug, balloon; } rows[] = {
		{ 512, 0, 0, 512 },		/* as it was started */
		{ 300, 0, 0, 300 },		/* less */
		{ 768, 0, 256, 512 },		/* more: the guest has not taken it yet */
		{ 768, 128, 256, 512 },
		{ 768, 256, 256, 512 },
		{ 767, 0, 256, 512 },		/* no multiple of a block: */
		{ 767, 256, 256, 511 },		/* what is too much is taken once it is there */
		{ 300, 256, 0, 300 },		/* less again: what leaves by itself is not taken away twice */
		{ 600, 256, 88, 512 },
	};
	struct memory m = { .boot_bytes = 512 * MIB, .hot_bytes = 512 * MIB, .block_bytes = 2 * MIB };

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		m.wanted_bytes = rows[i].wanted * MIB;
		m.plugged_bytes = rows[i].plugged * MIB;
		eq_int(memory_to_plug(&m) / MIB, rows[i].plug);
		eq_int(memory_balloon(&m) / MIB, rows[i].balloon);
	}
}

TEST(reach)
{
	struct memory m = { .boot_bytes = 512 * MIB, .hot_bytes = 512 * MIB, .block_bytes = 2 * MIB };
	struct err e = { 0 };

	eq_int(memory_reach(&m, 1024 * MIB, &e), 0);
	ok(memory_reach(&m, 1025 * MIB, &e) < 0);
	eq_int(e.code, ERR_UNSUPPORTED);
	eq_str(e.msg, "it was started so that it can grow to 1 GiB");
	m.hot_bytes = m.block_bytes = 0;
	eq_int(memory_reach(&m, 100 * MIB, &e), 0);
	ok(memory_reach(&m, 513 * MIB, &e) < 0);
	ok(strstr(e.msg, "512 MiB"));
	m.wanted_bytes = 600 * MIB;
	eq_int(memory_to_plug(&m), 0);
}

T_MAIN
