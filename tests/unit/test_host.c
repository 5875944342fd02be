// LINK: hv-core
/* Host facts, read from the trees in tests/fixtures/host: NAME.tree is a machine's files, NAME.json what we make of it.
 * GOLDEN_ACCEPT=1 writes the second anew. The test of argv takes its hosts from there. */
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
static char *unpack(const char *name, const char *root)
{
	AUTO_FREE char *path = xasprintf(FIXTURES "%s.tree", name), *text = NULL;
	char *facts = NULL;
	size_t n;

	if (file_read_at(AT_FDCWD, path, 1 << 20, &text, &n) < 0) {
		t_fail(__FILE__, __LINE__, "%s can't be read", path);
		return NULL;
	}
	for (char *s = strstr(text, "=== "), *next; s; s = next) {
		char file[256] = "";
		long size = 0;
		char *body = strchr(s, '\n') + 1;

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

static void probe_fixture(const char *name, struct host *h)
{
	char root[] = "/tmp/test-host-XXXXXX";
	struct err e = { 0 };

	ok(mkdtemp(root) != NULL);
	AUTO_FREE char *facts = unpack(name, root);
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

	probe_fixture(name, h);
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

static bool has_limit(const struct host *h, const char *what)
{
	const struct host_limit *l = h->limits.items;

	for (size_t i = 0; i < h->limits.n; i++)
		if (!strcmp(l[i].what, what))
			return !l[i].available && *l[i].reason;
	t_fail(__FILE__, __LINE__, "no limit \"%s\"", what);
	return false;
}

TEST(raspberry_pi_4)
{
	struct host h = { 0 };

	golden("pi4", &h);
	eq_str(h.board, "Raspberry Pi 4 Model B Rev 1.4");
	eq_str(type_at(&h, 0)->name, "cortex-a72");
	eq_str(type_at(&h, 0)->list, "0-3");
	eq_str(h.kvm.mode, "nvhe");
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
	ok(has_limit(&h, "uniform-cores") && has_limit(&h, "qemu") && has_limit(&h, "uefi"));
	host_fini(&h);
}

TEST(bluefield_2)
{
	struct host h = { 0 };

	golden("bluefield2", &h);
	eq_int(h.kvm.gic, 3);
	host_fini(&h);
}

TEST(arm_without_kvm)
{
	struct host h = { 0 };

	golden("armcloud", &h);
	eq_str(h.accel, "tcg");
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
#ifndef __aarch64__
	ok(!h.kvm.usable);	/* whatever /dev/kvm says: its guests are not ours */
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

TEST(kernel_lists)
{
	static const struct { const char *text; int n, sum; } all[] = {
		{ "0", 1, 0 }, { "0-3", 4, 6 }, { "0-1,3", 3, 4 }, { "2,4-5,7", 4, 18 }, { "", 0, 0 }, { "junk", 0, 0 },
		{ "3-1", 1, 3 }, { "0-99999999", 4096, 4095 * 4096 / 2 }, { "-5", 0, 0 }, { "1,,2", 1, 1 },
	};

	for (size_t i = 0; i < COUNT(all); i++) {
		const char *at = all[i].text;
		int last = -1, n = 0, sum = 0, v;

		while (n < 10000 && (v = host_list_next(&at, &last)) >= 0)
			n++, sum += v;
		eq_int(n, all[i].n);
		eq_int(sum, all[i].sum);
	}
}

T_MAIN
