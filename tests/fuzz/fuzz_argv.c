// LINK: hv-core
/* JSON -> spec -> QEMU's command line. Whatever a user or a forged descriptor says: no crash, and no argument but
 * -append's that holds what was not checked. The first byte chooses how it is read and for which host. */
#include <stdlib.h>
#include <string.h>
#include "argv.h"
#include "mem.h"
#include "place.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct host make_host(bool kvm)
{
	static struct host_cpu_type kinds[] = {
		{ .name = (char *)"cortex-a55", .list = (char *)"0-3", .count = 4 },
		{ .name = (char *)"cortex-a76", .list = (char *)"4-7", .count = 4 },
	};

	return (struct host){ .memory_bytes = 1ull << 42,
			      .cpu_types = { kinds, COUNT(kinds) },
			      .kvm = { .usable = kvm, .gic = 3, .ipa_bits = 44, .max_vcpus = 512 },
			      .qemu = { .path = (char *)"/usr/bin/qemu-system-aarch64", .version = (char *)"7.2.22",
					.machine = (char *)"virt-7.2" },
			      .firmware = { .code = (char *)"/c", .vars = (char *)"/v" } };
}

/* Every option that may stand in a command line; after each comes a value that begins with no dash. */
static void check_shape(const struct argv *a)
{
	static const char *const alone[] = { "-nodefaults", "-no-user-config" };

	for (size_t i = 1; i < a->n; i++) {
		bool lonely = false;

		if (a->v[i][0] != '-')
			abort();
		for (size_t k = 0; k < COUNT(alone); k++)
			lonely = lonely || !strcmp(a->v[i], alone[k]);
		if (lonely)
			continue;
		if (i + 1 == a->n || (a->v[i + 1][0] == '-' && strcmp(a->v[i], "-append")))
			abort();
		i++;
		if (strcmp(a->v[i - 1], "-append") && strchr(a->v[i], '\n'))
			abort();
		if (!strcmp(a->v[i - 1], "-device") || !strcmp(a->v[i - 1], "-blockdev")) {
			json_t *j = json_loads(a->v[i], JSON_REJECT_DUPLICATES, NULL);

			if (!json_is_object(j))
				abort();
			json_decref(j);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct vm_plan plan = { "6e1c0f3a-52b4-4d0e-9a57-0c1d2e3f4a5b", "fuzz", 512 };
	struct vm_spec s = { 0 };
	struct err e = { 0 };
	struct argv a = { 0 };
	struct vm_place place;

	if (!n)
		return 0;
	struct host h = make_host(data[0] & 1);
	json_t *j = json_parse((const char *)data + 1, n - 1, 1 << 16, &e);
	if (j && !fields_decode(&vm_spec_fields, j, data[0] & 2 ? FIELDS_STORED : FIELDS_CREATE, &s, &e)) {
		if (!(data[0] & 4))
			vm_spec_freeze(&s, &h, plan.uuid);
		if (!argv_build(&s, &h, &plan, &a, &e)) {
			check_shape(&a);
			argv_fini(&a);
			vm_place(&s, &h, &place);
			if (!place.cpus && (s.core_type || vm_spec_accel(&s, &h) == VM_ACCEL_KVM))
				abort();
		}
	}
	json_decref(j);
	fields_fini(&vm_spec_fields, &s);
	return 0;
}
