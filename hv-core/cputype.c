#include "cputype.h"
#include <stddef.h>
#include <string.h>
#include "mem.h"

/* Implementer (MIDR 31:24) and part number (15:4): Arm's technical reference manuals, and the kernel's cputype.h. */
static const struct { uint8_t implementer; uint16_t part; const char *name; } cores[] = {
	{ 0x41, 0xd01, "cortex-a32" },    { 0x41, 0xd02, "cortex-a34" },   { 0x41, 0xd03, "cortex-a53" },
	{ 0x41, 0xd04, "cortex-a35" },    { 0x41, 0xd05, "cortex-a55" },   { 0x41, 0xd06, "cortex-a65" },
	{ 0x41, 0xd07, "cortex-a57" },    { 0x41, 0xd08, "cortex-a72" },   { 0x41, 0xd09, "cortex-a73" },
	{ 0x41, 0xd0a, "cortex-a75" },    { 0x41, 0xd0b, "cortex-a76" },   { 0x41, 0xd0c, "neoverse-n1" },
	{ 0x41, 0xd0d, "cortex-a77" },    { 0x41, 0xd0e, "cortex-a76ae" }, { 0x41, 0xd40, "neoverse-v1" },
	{ 0x41, 0xd41, "cortex-a78" },    { 0x41, 0xd42, "cortex-a78ae" }, { 0x41, 0xd44, "cortex-x1" },
	{ 0x41, 0xd46, "cortex-a510" },   { 0x41, 0xd47, "cortex-a710" },  { 0x41, 0xd48, "cortex-x2" },
	{ 0x41, 0xd49, "neoverse-n2" },   { 0x41, 0xd4a, "neoverse-e1" },  { 0x41, 0xd4b, "cortex-a78c" },
	{ 0x41, 0xd4c, "cortex-x1c" },    { 0x41, 0xd4d, "cortex-a715" },  { 0x41, 0xd4e, "cortex-x3" },
	{ 0x41, 0xd4f, "neoverse-v2" },   { 0x41, 0xd80, "cortex-a520" },  { 0x41, 0xd81, "cortex-a720" },
	{ 0x41, 0xd82, "cortex-x4" },     { 0x41, 0xd84, "neoverse-v3" },  { 0x41, 0xd8e, "neoverse-n3" },
	{ 0x42, 0x516, "thunderx2" },     { 0x43, 0x0a1, "thunderx" },     { 0x43, 0x0af, "thunderx2" },
	{ 0x46, 0x001, "a64fx" },         { 0x48, 0xd01, "tsv110" },       { 0x48, 0xd02, "tsv200" },
	{ 0x4e, 0x003, "denver2" },       { 0x4e, 0x004, "carmel" },       { 0x50, 0x000, "xgene" },
	{ 0x51, 0x001, "oryon" },         { 0x51, 0x802, "kryo-gold" },    { 0x51, 0x803, "kryo-silver" },
	{ 0x51, 0xc00, "falkor" },        { 0xc0, 0xac3, "ampere1" },      { 0xc0, 0xac4, "ampere1a" },
	/* M1, M1 Pro, M1 Max; M2, M2 Pro, M2 Max */
	{ 0x61, 0x022, "apple-m1-icestorm" }, { 0x61, 0x023, "apple-m1-firestorm" },
	{ 0x61, 0x024, "apple-m1-icestorm" }, { 0x61, 0x025, "apple-m1-firestorm" },
	{ 0x61, 0x028, "apple-m1-icestorm" }, { 0x61, 0x029, "apple-m1-firestorm" },
	{ 0x61, 0x032, "apple-m2-blizzard" }, { 0x61, 0x033, "apple-m2-avalanche" },
	{ 0x61, 0x034, "apple-m2-blizzard" }, { 0x61, 0x035, "apple-m2-avalanche" },
	{ 0x61, 0x038, "apple-m2-blizzard" }, { 0x61, 0x039, "apple-m2-avalanche" },
};

const char *cputype_name(uint32_t midr)
{
	for (size_t i = 0; i < COUNT(cores); i++)
		if (cores[i].implementer == midr >> 24 && cores[i].part == (midr >> 4 & 0xfff))
			return cores[i].name;
	return NULL;
}

static bool one_of(const char *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(name, list[i]))
			return true;
	return false;
}

bool cputype_has_vhe(uint32_t midr)
{
	static const char *const v80[] = { "cortex-a32", "cortex-a34", "cortex-a35", "cortex-a53", "cortex-a57",
					   "cortex-a72", "cortex-a73", "thunderx", "xgene", "denver2" };
	const char *name = cputype_name(midr);

	return name && !one_of(v80, COUNT(v80), name);
}

bool cputype_is_small(const char *name)
{
	static const char *const small[] = { "cortex-a32", "cortex-a34", "cortex-a35", "cortex-a53", "cortex-a55",
					     "cortex-a510", "cortex-a520", "kryo-silver", "apple-m1-icestorm",
					     "apple-m2-blizzard" };

	return one_of(small, COUNT(small), name);
}

/* ID_AA64MMFR0_EL1.PARange of QEMU's models. */
static const struct { const char *name; unsigned bits; } models[] = {
	{ "cortex-a35", 40 }, { "cortex-a53", 40 }, { "cortex-a57", 44 }, { "cortex-a72", 44 }, { "cortex-a76", 40 },
	{ "a64fx", 48 }, { "neoverse-n1", 48 }, { "max", 52 },
};
const char cputype_tcg_list[] = "cortex-a35, cortex-a53, cortex-a57, cortex-a72, cortex-a76, a64fx, neoverse-n1, max";

unsigned cputype_tcg_bits(const char *model)
{
	for (size_t i = 0; i < COUNT(models); i++)
		if (!strcmp(models[i].name, model))
			return models[i].bits;
	return 0;
}
