// LINK: hv-core
/* Host facts, read from the trees in tests/fixtures/host: NAME.tree is a machine's files, NAME.json what we make of it.
 * GOLDEN_ACCEPT=1 writes the second anew. The test of argv takes its hosts from there. No tree was taken from a machine:
 * they are written from what is known of the boards, and what KVM answers there ("=== facts") too. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "cputype.h"
#include "file.h"
#include "host.h"
#include "host_read.h"
#include "mem.h"
#include "spec.h"
#include "t.h"

#define FIXTURES "tests/fixtures/host/"

static void put_file(const char *root, const char *path, const char *text, size_t n, off_t size)
{
	AUTO_FREE char *full = xasprintf("%s/%s", root, path), *dir = xstrdup(full);

	*strrchr(dir, '/') = 0;
	ok(file_mkdirs(dir, 0755) == 0);
	AUTO_CLOSE int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ok(fd >= 0 && file_write_all(fd, text, n) == 0);
	ok(!size || ftruncate(fd, size) == 0);
}

/* "cpu{0-3}/x" stands for four paths. */
static void put_files(const char *root, const char *path, const char *text, size_t n, off_t size)
{
	const char *open = strchr(path, '{'), *close = open ? strchr(open, '}') : NULL;
	int first, last;

	if (!close || sscanf(open, "{%d-%d}", &first, &last) != 2) {
		put_file(root, path, text, n, size);
		return;
	}
	for (int i = first; i <= last; i++) {
		AUTO_FREE char *one = xasprintf("%.*s%d%s", (int)(open - path), path, i, close + 1);

		put_file(root, one, text, n, size);
	}
}

/* Sections begin with "=== PATH [size=N]"; what "=== facts" holds is returned: no file tells it. */
static char *unpack(const char *text, const char *root)
{
	char *facts = NULL;

	for (const char *s = strstr(text, "=== "), *next; s; s = next) {
		char file[256] = "";
		long size = 0;
		const char *body = strchr(s, '\n') + 1;

		next = strstr(body - 1, "\n=== ");
		next = next ? next + 1 : NULL;
		sscanf(s, "=== %255[^ \n] size=%ld", file, &size);
		if (!strcmp(file, "facts"))
			facts = next ? xstrndup(body, (size_t)(next - body)) : xstrdup(body);
		else
			put_files(root, file, body, next ? (size_t)(next - body) : strlen(body), size);
	}
	return facts;
}

static void merge(struct host *h, const char *facts)
{
	struct err e = { 0 };
	json_t *j = json_parse(facts, strlen(facts), 1 << 16, &e);

	if (!j || fields_decode(&host_fields, j, FIELDS_PATCH, h, &e))
		t_fail(__FILE__, __LINE__, "facts: %s", e.msg);
	json_decref(j);
	host_decide(h);
}

static char *to_text(const struct host *h)
{
	struct buf b = BUF_INIT(1 << 20);
	struct jw w = JW(&b);
	json_t *j;
	char *text;

	fields_encode(&host_fields, h, &w, NULL);
	j = json_loadb(b.data, b.len, 0, NULL);
	ok(j != NULL);
	text = json_dumps(j, JSON_INDENT(1));
	json_decref(j);
	buf_fini(&b);
	return text;
}

/* @more: sections that come over the tree's own. */
static void probe_fixture(const char *name, const char *more, struct host *h)
{
	AUTO_FREE char *path = xasprintf(FIXTURES "%s.tree", name), *tree = NULL;
	char root[] = "/tmp/test-host-XXXXXX";
	struct err e = { 0 };
	size_t n;

	ok(mkdtemp(root) != NULL);
	if (file_read_at(AT_FDCWD, path, 1 << 20, &tree, &n) < 0)
		t_fail(__FILE__, __LINE__, "%s can't be read", path);
	AUTO_FREE char *facts = unpack(tree ? tree : "", root);
	free(unpack(more, root));
	if (host_probe(root, h, &e))
		t_fail(__FILE__, __LINE__, "%s: %s", name, e.msg);
	eq_str(h->kvm.reason, "not probed");
	merge(h, facts ? facts : "{}");
	AUTO_CLOSE int tmp = open("/tmp", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	eq_int(file_remove_tree(tmp, root + strlen("/tmp/")), 0);
}

static void golden(const char *name, struct host *h)
{
	AUTO_FREE char *path = xasprintf(FIXTURES "%s.json", name), *want = NULL, *got = NULL;
	size_t n;

	probe_fixture(name, "", h);
	char *text = to_text(h);
	got = xasprintf("%s\n", text);
	free(text);
	if (getenv("GOLDEN_ACCEPT"))
		ok(file_publish_at(AT_FDCWD, path, got, strlen(got), 0644) == 0);
	if (file_read_at(AT_FDCWD, path, 1 << 20, &want, &n) < 0)
		t_fail(__FILE__, __LINE__, "%s can't be read", path);
	eq_str(got, want);
}

static const struct host_cpu_type *type_at(const struct host *h, size_t i)
{
	ok(i < h->cpu_types.n);
	return (const struct host_cpu_type *)h->cpu_types.items + i;
}

static const struct host_limit *limit(const struct host *h, const char *what)
{
	static const struct host_limit none;
	const struct host_limit *l = h->limits.items;

	for (size_t i = 0; i < h->limits.n; i++)
		if (!strcmp(l[i].what, what) && *l[i].reason)
			return l + i;
	t_fail(__FILE__, __LINE__, "no limit \"%s\"", what);
	return &none;
}

static bool has_limit(const struct host *h, const char *what)
{
	return !limit(h, what)->available;
}

TEST(raspberry_pi_4)
{
	struct host h = { 0 };

	golden("pi4", &h);
	eq_str(h.board, "Raspberry Pi 4 Model B Rev 1.4");
	eq_str(type_at(&h, 0)->name, "cortex-a72");
	eq_str(type_at(&h, 0)->list, "0-3");
	eq_str(h.kvm.mode, "nvhe");
	ok(strstr(limit(&h, "vhe")->reason, "the cores have no VHE"));
	eq_str(h.accel, "kvm");
	ok(has_limit(&h, "more-than-8-vcpus"));
	ok(has_limit(&h, "iommu"));
	eq_str(h.qemu.machine, "virt-7.2");
	eq_int(h.firmware.code_bytes, 67108864);
	host_fini(&h);
}

TEST(raspberry_pi_5)
{
	struct host h = { 0 };

	golden("pi5", &h);
	eq_int(h.page_bytes, 16384);
	eq_str(h.kvm.mode, "vhe");
	host_fini(&h);
}

TEST(ampere_altra_two_nodes)
{
	struct host h = { 0 };

	golden("altra", &h);
	eq_int(h.cpus, 160);
	eq_int(h.nodes.n, 2);
	eq_int(((struct host_node *)h.nodes.items)[1].cpus, 80);
	eq_str(type_at(&h, 0)->name, "neoverse-n1");
	ok(h.smmu && h.systemd && h.cgroup == 2);
	eq_int(h.iommu_devices, 4);
	ok(has_limit(&h, "one-numa-node") && !has_limit(&h, "iommu") && !has_limit(&h, "vhe"));
	host_fini(&h);
}

TEST(ampere_altra_max_128_cores)
{
	struct host h = { 0 };

	golden("altramax", &h);
	eq_int(h.cpus, 128);
	eq_int(h.cpu_types.n, 1);
	eq_str(type_at(&h, 0)->list, "0-127");
	eq_int(type_at(&h, 0)->max_khz, 3000000);
	eq_int(h.nodes.n, 1);
	ok(!has_limit(&h, "one-numa-node") && !has_limit(&h, "more-than-8-vcpus"));
	host_fini(&h);
}

TEST(kunpeng_920)
{
	struct host h = { 0 };

	golden("kunpeng920", &h);
	eq_str(type_at(&h, 0)->name, "tsv110");
	eq_int(h.nodes.n, 4);
	eq_int(h.page_bytes, 65536);
	eq_str(h.board, "Huawei TaiShan 200 (Model 2280)");
	eq_str(h.qemu.machine, "virt-8.2");
	eq_str(h.firmware.code, "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw");
	ok(has_limit(&h, "cgroup-v2"));
	host_fini(&h);
}

TEST(rk3588_two_kinds_of_cores)
{
	struct host h = { 0 };

	golden("rk3588", &h);
	eq_int(h.cpu_types.n, 2);
	eq_str(type_at(&h, 0)->name, "cortex-a55");
	eq_str(type_at(&h, 1)->list, "4-7");
	eq_str(h.kvm.mode, "nvhe");	/* its command line says so */
	eq_int(type_at(&h, 0)->capacity, 414);
	eq_int(type_at(&h, 1)->max_khz, 2400000);
	ok(has_limit(&h, "uniform-cores") && has_limit(&h, "qemu") && has_limit(&h, "uefi"));
	ok(h.smmu && has_limit(&h, "iommu"));	/* of the video decoders only */
	host_fini(&h);
}

TEST(apple_m1)
{
	struct host h = { 0 };

	golden("applem1", &h);
	eq_int(h.page_bytes, 16384);
	eq_str(type_at(&h, 0)->name, "apple-m1-icestorm");
	eq_str(type_at(&h, 1)->name, "apple-m1-firestorm");
	eq_str(h.kvm.mode, "vhe");	/* by the cores: there is no GIC to tell by */
	eq_int(host_most_memory(&h), 63ull << 30);
	ok(has_limit(&h, "uniform-cores") && has_limit(&h, "4k-pages") && has_limit(&h, "performance-counters"));
	ok(!has_limit(&h, "pointer-authentication") && !has_limit(&h, "memory-for-one-vm"));
	host_fini(&h);
}

TEST(raspberry_pi_3_has_no_gic)
{
	struct host h = { 0 };

	golden("pi3", &h);
	eq_str(h.accel, "tcg");
	ok(strstr(h.accel_reason, "without an interrupt controller"));
	host_fini(&h);
}

TEST(bluefield_2)
{
	struct host h = { 0 };

	golden("bluefield2", &h);
	eq_int(h.kvm.gic, 3);
	host_fini(&h);
}

TEST(bluefield_3)
{
	struct host h = { 0 };

	golden("bluefield3", &h);
	eq_str(type_at(&h, 0)->name, "cortex-a78ae");
	ok(h.kvm.pointer_auth && !has_limit(&h, "pointer-authentication") && !has_limit(&h, "iommu"));
	eq_int(h.iommu_devices, 2);		/* and a bridge */
	host_fini(&h);
}

/* The boards of a family differ in name and memory only: so the largest VM does. */
TEST(boards_from_1_to_32_gb)
{
	static const struct { const char *base, *model; uint64_t kib; bool nine; } all[] = {
		{ "pi3", "Raspberry Pi 3 Model B Rev 1.2", 929552, true },	/* emulated: no KVM that could say no */
		{ "pi4", "Raspberry Pi 4 Model B Rev 1.1", 949444, false },
		{ "pi4", "Raspberry Pi 4 Model B Rev 1.5", 1900428, false },
		{ "pi4", "Raspberry Pi 4 Model B Rev 1.4", 7998416, false },
		{ "pi5", "Raspberry Pi 5 Model B Rev 1.1", 2064208, false },
		{ "pi5", "Raspberry Pi 5 Model B Rev 1.0", 4132912, false },
		{ "pi5", "Raspberry Pi 5 Model B Rev 1.1", 16608208, false },
		{ "rk3588", "Orange Pi 5", 3914000, true },
		{ "rk3588", "Orange Pi 5 Plus", 32530000, true },
	};

	for (size_t i = 0; i < COUNT(all); i++) {
		AUTO_FREE char *files = xasprintf("=== proc/device-tree/model\n%s\n=== proc/meminfo\nMemTotal: %llu kB\n"
						  "=== usr/bin/qemu-system-aarch64\nQEMU emulator version 7.2.22\n",
						  all[i].model, (unsigned long long)all[i].kib);
		uint64_t most = all[i].kib / 1024 << 20;
		struct vm_spec s = { .firmware = VM_FIRMWARE_KERNEL, .kernel.image = (char *)"[local] k", .memory_bytes = most };
		struct host h = { 0 };
		struct err e = { 0 };

		probe_fixture(all[i].base, files, &h);
		eq_str(h.board, all[i].model);
		eq_int(h.memory_bytes, all[i].kib * 1024);
		s.cpus = 8;
		eq_int(vm_spec_check(&s, &h, &e), 0);
		s.memory_bytes += 1 << 20;
		eq_int(vm_spec_check(&s, &h, &e), -EINVAL);
		eq_str(e.pointer, "/memory_bytes");
		s.memory_bytes = 64 << 20;
		s.cpus = 9;
		eq_int(vm_spec_check(&s, &h, &e), all[i].nine ? 0 : -EINVAL);
		ok(all[i].nine || (!strcmp(e.pointer, "/cpus") && strstr(e.msg, "GICv2") && strstr(e.msg, "at most 8")));
		host_fini(&h);
	}
}

/* What the cores have, and what KVM makes of it. */
TEST(abilities_have_reasons)
{
	static const struct { const char *patch, *what, *reason; bool available; } all[] = {
		{ "{\"kvm\":{\"sve\":true}}", "sve", "guests have SVE", true },
		{ "{\"cpu_features\":\"fp sve\"}", "sve", "the cores have SVE, but KVM in mode vhe does not give it to guests", false },
		{ "{\"cpu_features\":\"fp sve2 psve\"}", "sve", "the cores have no SVE", false },
		{ "{\"cpu_features\":\"mte fp\"}", "memory-tagging", "the cores have memory tagging (MTE), but KVM in mode vhe "
		  "does not give it to guests", false },
		{ "{\"kvm\":{\"usable\":false}}", "sve", "KVM can't be used here: emulated guests have what their CPU model has",
		  false },
		{ "{\"kvm\":{\"pmu\":true}}", "performance-counters", "guests have performance counters (PMUv3)", true },
		{ "{\"kvm\":{\"gicv2\":true}}", "more-than-8-vcpus", "up to 512 virtual CPUs a VM under KVM, by a GICv3; VMs that "
		  "were created with a GICv2 run here too", true },
		{ "{\"kvm\":{\"ipa_bits\":36}}", "memory-for-one-vm", "KVM gives guests 36 address bits, of which devices take the "
		  "first GiB: a VM has at most 63 GiB, and the host has 503.3 GiB", false },
		{ "{\"kvm\":{\"cpu_models\":[\"host\",\"max\",\"cortex-a53\"]}}", "named-cpu-models", "KVM shows guests the host's own "
		  "CPU: cpu_model is host, max or cortex-a53; other models are emulated", true },
	};

	struct host altra = { 0 };

	probe_fixture("altra", "", &altra);
	for (size_t i = 0; i < COUNT(all); i++) {
		struct host h = { 0 };

		fields_copy(&host_fields, &altra, &h);
		merge(&h, all[i].patch);
		eq_str(limit(&h, all[i].what)->reason, all[i].reason);
		eq_int(limit(&h, all[i].what)->available, all[i].available);
		host_fini(&h);
	}
	host_fini(&altra);
}

/* The timer tells in which exception level the kernel runs; without a GIC it is the cores and the command line. */
TEST(modes)
{
	static const struct { const char *interrupts, *cmdline, *mode; } all[] = {
		{ " 11: 7 9 GICv3  26 Level     arch_timer\n", "quiet", "vhe" },
		{ " 11: 7 9 GICv3  28 Level     arch_timer\n", "quiet", "vhe" },
		{ " 11: 7 9 GICv3  30 Level     arch_timer\n", "quiet", "nvhe" },
		{ " 11: 7 9 GICv3  30 Level     arch_timer\n", "kvm-arm.mode=protected", "protected" },
		{ " 11: 7 9 GICv3  27 Level     arch_timer\n", "kvm-arm.mode=nvhe", NULL },
		{ " 10: 1 GICv3 27 Level kvm guest vtimer\n 11: 7 9 GICv3  26 Level     arch_timer\n", "quiet", "vhe" },
		{ " 11: 7 9 AIC 3 Level     arch_timer\n", "quiet", "vhe" },
		{ "", "kvm-arm.mode=nvhe", "nvhe" },
	};

	for (size_t i = 0; i < COUNT(all); i++) {
		AUTO_FREE char *files = xasprintf("=== proc/interrupts\n     CPU0 CPU1\n%s=== proc/cmdline\n%s\n", all[i].interrupts,
						  all[i].cmdline);
		struct host h = { 0 };

		probe_fixture("pi5", files, &h);
		eq_str(h.kvm.mode, all[i].mode);
		eq_int(has_limit(&h, "vhe"), !all[i].mode || strcmp(all[i].mode, "vhe"));
		ok(!strstr(limit(&h, "vhe")->reason, "the cores have no VHE"));
		host_fini(&h);
	}
}

TEST(arm_without_kvm)
{
	struct host h = { 0 };

	golden("armcloud", &h);
	eq_str(h.accel, "tcg");
	ok(!h.kvm.mode);			/* its timer is that of a guest */
	eq_str(type_at(&h, 0)->list, "0-1,3");
	eq_int(h.cpus, 3);
	host_fini(&h);
}

TEST(x86_developer)
{
	struct host h = { 0 };

	golden("x86dev", &h);
	eq_str(h.accel, "tcg");
	eq_str(type_at(&h, 0)->name, "AMD EPYC 9R14");
	eq_int(h.cgroup, 1);
	ok(has_limit(&h, "kvm") && has_limit(&h, "systemd-scopes"));
	host_fini(&h);
}

TEST(this_machine)
{
	struct host h = { 0 };
	struct err e = { 0 };
	struct utsname u;

	eq_int(host_probe("", &h, &e), 0);
	ok(uname(&u) == 0);
	eq_str(h.arch, u.machine);
	eq_str(h.kernel, u.release);
	eq_int(h.cpus, sysconf(_SC_NPROCESSORS_ONLN));
	eq_int(h.page_bytes, sysconf(_SC_PAGESIZE));
	ok(h.memory_bytes > 1 << 26);
	ok(h.kvm.reason && *h.kvm.reason);
	ok(h.kvm.usable == !strcmp(h.accel, "kvm"));
#ifdef __aarch64__
	ok(h.cpu_features && type_at(&h, 0)->midr);
	ok(!h.kvm.usable || (h.kvm.mode && h.kvm.ipa_bits >= 32 && h.kvm.max_vcpus >= 8));
	ok(!h.kvm.usable || (host_has_gic(&h, (unsigned)h.kvm.gic) && h.kvm.cpu_models.n >= 2));
#else
	ok(!h.kvm.usable && !h.kvm.mode);	/* whatever /dev/kvm says: its guests are not ours */
#endif
	if (access("/usr/bin/qemu-system-aarch64", X_OK) == 0)
		ok(h.qemu.version && strchr(h.qemu.version, '.'));
	host_fini(&h);
}

TEST(nothing_there)
{
	struct host h = { 0 };
	struct err e = { 0 };

	eq_int(host_probe("/nonexistent", &h, &e), -EIO);
	ok(*e.msg && !h.arch);
}

TEST(core_names)
{
	static const struct { uint32_t midr; const char *name; bool vhe; } all[] = {
		{ 0x410fd034, "cortex-a53", false }, { 0x410fd083, "cortex-a72", false },
		{ 0x414fd0b1, "cortex-a76", true },  { 0x412fd050, "cortex-a55", true },
		{ 0x411fd440, "cortex-x1", true },   { 0x413fd0c1, "neoverse-n1", true },
		{ 0x411fd401, "neoverse-v1", true }, { 0x410fd4f0, "neoverse-v2", true },
		{ 0x481fd010, "tsv110", true },	     { 0x611f0221, "apple-m1-icestorm", true },
		{ 0x460f0010, "a64fx", true },
	};

	for (size_t i = 0; i < COUNT(all); i++) {
		eq_str(cputype_name(all[i].midr), all[i].name);
		eq_int(cputype_has_vhe(all[i].midr), all[i].vhe);
	}
	ok(!cputype_name(0x12345678));
	ok(!cputype_name(0));
}

T_MAIN
