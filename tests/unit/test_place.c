// LINK: hv-core
/* On which cores a VM runs, where they are of several kinds. tests/golden/argv has whole VMs on whole hosts. */
#include <string.h>
#include "mem.h"
#include "place.h"
#include "t.h"

enum { MOST = 4 };
struct type { const char *name, *list; unsigned count, capacity, max_khz; };

/* Borrows all of it: nothing is freed. */
static void place(const struct type *types, bool kvm, const char *core_type, unsigned cpus, struct vm_place *ret)
{
	static struct host_cpu_type all[MOST];
	struct vm_spec s = { .cpus = cpus, .core_type = (char *)core_type, .cpu_model = (char *)(kvm ? "host" : "cortex-a72") };
	struct host h = { .kvm.usable = kvm };

	for (; h.cpu_types.n < MOST && types[h.cpu_types.n].name; h.cpu_types.n++) {
		const struct type *t = &types[h.cpu_types.n];

		all[h.cpu_types.n] = (struct host_cpu_type){ .name = (char *)t->name, .list = (char *)t->list, .count = t->count,
							     .capacity = t->capacity, .max_khz = t->max_khz };
	}
	h.cpu_types.items = all;
	vm_place(&s, &h, ret);
}

static const struct type rk3588[MOST] = {
	{ "cortex-a55", "0-3", 4, 414, 1800000 }, { "cortex-a76", "4-7", 4, 1024, 2400000 },
};
/* Its kernel tells no capacity, and the little cores have the higher frequency (an Odroid N2). */
static const struct type s922x[MOST] = {
	{ "cortex-a53", "0-1", 2, 0, 1896000 }, { "cortex-a73", "2-5", 4, 0, 1800000 },
};
static const struct type three[MOST] = {
	{ "cortex-a520", "0-1", 2, 280, 0 }, { "cortex-a720", "2-6", 5, 900, 0 }, { "cortex-x4", "7", 1, 1024, 0 },
};
static const struct type revisions[MOST] = {	/* one name, two MIDRs */
	{ "cortex-a76", "0-3", 4, 0, 2000000 }, { "cortex-a76", "4-5", 2, 0, 2600000 },
};
static const struct type unknown[MOST] = { { "unknown", "0-3", 4, 0, 0 }, { "unknown", "4-7", 4, 0, 0 } };
static const struct type uniform[MOST] = { { "neoverse-n1", "0-127", 128, 0, 3000000 } };

TEST(the_fastest_kind_with_enough)
{
	static const struct { const struct type *types; unsigned cpus; const char *want; } all[] = {
		{ rk3588, 1, "4-7" }, { rk3588, 4, "4-7" }, { rk3588, 5, "4-7" }, { rk3588, 8, "4-7" },
		{ s922x, 1, "2-5" }, { s922x, 4, "2-5" }, { s922x, 6, "2-5" },
		{ three, 1, "7" }, { three, 2, "2-6" }, { three, 5, "2-6" }, { three, 6, "2-6" },
		{ revisions, 1, "4-5" }, { revisions, 2, "4-5" }, { revisions, 3, "0-3" }, { revisions, 5, "0-3" },
		{ unknown, 1, "0-3" }, { unknown, 9, "0-3" },
		{ uniform, 1, NULL }, { uniform, 200, NULL },
	};

	for (size_t i = 0; i < COUNT(all); i++) {
		struct vm_place p;

		place(all[i].types, true, NULL, all[i].cpus, &p);
		eq_str(p.cpus, all[i].want);
		eq_int(!*p.why, !all[i].want);
		place(all[i].types, false, NULL, all[i].cpus, &p);
		ok(!p.cpus);		/* emulated, it may run anywhere */
	}
}

TEST(the_kind_that_is_asked_for)
{
	static const struct { const struct type *types; const char *name; unsigned cpus; bool kvm; const char *want; } all[] = {
		{ rk3588, "cortex-a55", 1, true, "0-3" }, { rk3588, "cortex-a55", 6, true, "0-3" },
		{ rk3588, "cortex-a55", 1, false, "0-3" }, { rk3588, "cortex-a76", 1, true, "4-7" },
		{ rk3588, "cortex-x4", 1, true, NULL },	/* the check of the spec refuses it before */
		{ revisions, "cortex-a76", 2, true, "4-5" }, { revisions, "cortex-a76", 4, true, "0-3" },
		{ uniform, "neoverse-n1", 1, true, NULL },
	};

	for (size_t i = 0; i < COUNT(all); i++) {
		struct vm_place p;

		place(all[i].types, all[i].kvm, all[i].name, all[i].cpus, &p);
		eq_str(p.cpus, all[i].want);
	}
}

/* Whatever is asked for: one kind, and the whole of it. */
TEST(never_two_kinds)
{
	static const struct type *const hosts[] = { rk3588, s922x, three, revisions, unknown };

	for (size_t i = 0; i < COUNT(hosts); i++)
		for (unsigned cpus = 1; cpus <= 512; cpus++) {
			struct vm_place p;
			int is = 0;

			place(hosts[i], true, NULL, cpus, &p);
			for (size_t k = 0; k < MOST && hosts[i][k].name; k++)
				is += p.cpus && !strcmp(p.cpus, hosts[i][k].list);
			eq_int(is, 1);
		}
}

TEST(it_says_why)
{
	static const struct { const char *name; unsigned cpus; const char *want; } all[] = {
		{ NULL, 2, "the 4 cores of the kind cortex-a76, the fastest of which there are enough; "
			   "under KVM a VM stays on one kind" },
		{ NULL, 6, "the 4 cores of the kind cortex-a76, since no kind has enough; under KVM a VM stays on one kind; "
			   "its 6 virtual CPUs share them" },
		{ "cortex-a55", 2, "the 4 cores of the kind cortex-a55, as core_type says" },
		{ "cortex-a55", 5, "the 4 cores of the kind cortex-a55, as core_type says; its 5 virtual CPUs share them" },
	};

	for (size_t i = 0; i < COUNT(all); i++) {
		struct vm_place p;

		place(rk3588, true, all[i].name, all[i].cpus, &p);
		eq_str(p.why, all[i].want);
	}
}

T_MAIN
