// LINK: hv-core
/* tests/golden/argv/NAME.json (a config, the host that it is for, perhaps the one it was frozen on) -> NAME.argv, or
 * NAME.err when it is refused. GOLDEN_ACCEPT=1 writes those anew. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "argv.h"
#include "buf.h"
#include "file.h"
#include "host.h"
#include "mem.h"
#include "place.h"
#include "spec.h"
#include "t.h"

#define GOLDEN "tests/golden/argv/"
#define UUID "6e1c0f3a-52b4-4d0e-9a57-0c1d2e3f4a5b"

static json_t *load(const char *path)
{
	AUTO_FREE char *text = NULL;
	struct err e = { 0 };
	size_t n;

	if (file_read_at(AT_FDCWD, path, 1 << 20, &text, &n) < 0)
		return NULL;
	json_t *j = json_parse(text, n, 1 << 20, &e);
	if (!j)
		t_fail(__FILE__, __LINE__, "%s: %s", path, e.msg);
	return j;
}

/* "pi4", changed as a "host_patch" says. */
static void load_host(const char *name, json_t *patch, struct host *ret)
{
	AUTO_FREE char *path = xasprintf("tests/fixtures/host/%s.json", name);
	struct err e = { 0 };
	json_t *j = load(path);

	if (!j || fields_decode(&host_fields, j, FIELDS_STORED, ret, &e))
		t_fail(__FILE__, __LINE__, "%s: %s", path, e.msg);
	json_decref(j);
	if (patch && fields_decode(&host_fields, patch, FIELDS_PATCH, ret, &e))
		t_fail(__FILE__, __LINE__, "host_patch: %s", e.msg);
	host_decide(ret);
}

static const char *const fd_names[] = {
	[ARGV_FD_QMP] = "qmp", [ARGV_FD_SERIAL] = "serial", [ARGV_FD_FW_CODE] = "firmware code",
	[ARGV_FD_FW_VARS] = "firmware variables", [ARGV_FD_KERNEL] = "kernel", [ARGV_FD_INITRD] = "initrd",
	[ARGV_FD_DISK] = "disk", [ARGV_FD_CDROM] = "cdrom", [ARGV_FD_AGENT] = "agent",
};

static void print_argv(struct buf *b, const struct argv *a)
{
	for (size_t i = 0; i < a->n; i++)
		buf_addf(b, "%s\n", a->v[i]);
	ok(!a->v[a->n]);
	for (size_t i = 0; i < a->nfds; i++)
		buf_addf(b, "# %d: %s%s%s, %s\n", a->fds[i].fd, fd_names[a->fds[i].what], a->fds[i].name ? " " : "",
			 a->fds[i].name ? a->fds[i].name : "", a->fds[i].writable ? "read and write" : "read only");
}

static void print_err(struct buf *b, const struct err *e)
{
	buf_addf(b, "%s\n", e->msg);
	if (*e->pointer)
		buf_addf(b, "at: %s\n", e->pointer);
	if (*e->hint)
		buf_addf(b, "hint: %s\n", e->hint);
	ok(e->code && *e->msg);
}

/* The whole life: decode, freeze, check, and build on the host where it is started. True when it was built. */
static bool run_case(json_t *j, struct buf *out)
{
	const char *on = json_string_value(json_object_get(j, "host"));
	const char *born = json_string_value(json_object_get(j, "frozen_on"));
	const char *name = json_string_value(json_object_get(j, "name"));
	const json_t *cluster = json_object_get(j, "vars_cluster_bytes");	/* else as volume_create_vars makes them */
	struct vm_plan plan = {
		.uuid = UUID, .name = name ? name : "demo", .resumes = json_is_true(json_object_get(j, "resumes")),
		.vars_cluster_bytes = cluster ? (uint64_t)json_integer_value(cluster) : 512,
	};
	struct host h = { 0 }, first = { 0 };
	struct vm_spec s = { 0 };
	struct argv a = { 0 };
	struct err e = { 0 };
	int r;

	load_host(on, json_object_get(j, "host_patch"), &h);
	load_host(born ? born : on, born ? NULL : json_object_get(j, "host_patch"), &first);
	r = fields_decode(&vm_spec_fields, json_object_get(j, "config"), FIELDS_CREATE, &s, &e);
	if (!r) {
		vm_spec_freeze(&s, &first, UUID);
		r = argv_build(&s, &h, &plan, &a, &e);
	}
	if (r) {
		print_err(out, &e);
	} else {
		struct vm_place place;

		print_argv(out, &a);
		vm_place(&s, &h, &place);
		if (place.cpus)
			buf_addf(out, "# on the CPUs %s: %s\n", place.cpus, place.why);
	}
	argv_fini(&a);
	fields_fini(&vm_spec_fields, &s);
	host_fini(&h);
	host_fini(&first);
	return !r;
}

static void check_case(const char *base)
{
	AUTO_FREE char *in = xasprintf(GOLDEN "%s.json", base), *want = NULL;
	AUTO_BUF struct buf got = BUF_INIT(1 << 20);
	json_t *j = load(in);
	size_t n;

	bool built = run_case(j, &got);
	AUTO_FREE char *out = xasprintf(GOLDEN "%s.%s", base, built ? "argv" : "err");
	AUTO_FREE char *other = xasprintf(GOLDEN "%s.%s", base, built ? "err" : "argv");
	if (getenv("GOLDEN_ACCEPT")) {
		ok(file_publish_at(AT_FDCWD, out, got.data, got.len, 0644) == 0);
		unlink(other);
	}
	if (access(other, F_OK) == 0 || file_read_at(AT_FDCWD, out, 1 << 20, &want, &n) < 0)
		t_fail(__FILE__, __LINE__, "%s: was to be %s: %s", base, built ? "refused" : "built", got.data);
	else if (strcmp(got.data, want))
		t_fail(__FILE__, __LINE__, "%s: is now\n%s", base, got.data);
	json_decref(j);
}

TEST(golden)
{
	struct dirent **list;
	int n = scandir(GOLDEN, &list, NULL, alphasort), cases = 0;

	for (int i = 0; i < n; i++) {
		char *dot = strrchr(list[i]->d_name, '.');

		if (dot && !strcmp(dot, ".json")) {
			*dot = 0;
			check_case(list[i]->d_name);
			cases++;
		}
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	printf("# %d golden command lines\n", cases);
	ok(cases >= 40);
}

static void simple_spec(struct vm_spec *s, const struct host *h, const char *text)
{
	struct err e = { 0 };
	json_t *j = json_parse(text, strlen(text), 4096, &e);

	ok(j && fields_decode(&vm_spec_fields, j, FIELDS_CREATE, s, &e) == 0);
	json_decref(j);
	vm_spec_freeze(s, h, UUID);
}

TEST(same_input_same_output)
{
	AUTO_BUF struct buf one = BUF_INIT(1 << 20), two = BUF_INIT(1 << 20);
	json_t *j = load(GOLDEN "altra-uefi-everything.json");

	ok(run_case(j, &one) && run_case(j, &two));
	eq_str(one.data, two.data);
	json_decref(j);
}

TEST(names_and_uuids_are_checked)
{
	static const char *const bad[] = { "", "-x", "a,b", "a b", "a=b", "x\ny", "../x" };
	struct host h = { 0 };
	struct vm_spec s = { 0 };
	struct argv a = { 0 };
	struct err e = { 0 };

	load_host("x86dev", NULL, &h);
	simple_spec(&s, &h, "{}");
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct vm_plan p = { UUID, bad[i], 0 };

		ok(argv_build(&s, &h, &p, &a, &e) < 0 && e.code == ERR_INTERNAL && !a.v);
	}
	ok(argv_build(&s, &h, &(struct vm_plan){ "not-a-uuid", "demo", 0 }, &a, &e) < 0);
	eq_int(argv_build(&s, &h, &(struct vm_plan){ UUID, "demo", 0 }, &a, &e), 0);
	argv_fini(&a);
	fields_fini(&vm_spec_fields, &s);
	host_fini(&h);
}

/* What was not frozen, or is simulated, has no command line. */
TEST(unfrozen_is_refused)
{
	static const char *const texts[] = {
		"{}", "{\"disks\":{\"a\":{\"size_bytes\":512}}}", "{\"nics\":{\"a\":{}}}", "{\"cdroms\":{\"a\":{}}}",
	};
	struct vm_plan p = { UUID, "demo", 0 };
	struct host h = { 0 };
	struct argv a = { 0 };
	struct err e = { 0 };

	load_host("x86dev", NULL, &h);
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct vm_spec s = { 0 };
		json_t *j = json_parse(texts[i], strlen(texts[i]), 4096, &e);

		ok(j && fields_decode(&vm_spec_fields, j, FIELDS_CREATE, &s, &e) == 0);
		if (i) {
			s.machine = xstrdup("virt-7.2");
			s.cpu_model = xstrdup("cortex-a72");
			s.gic = VM_GIC_3;
		}
		eq_int(argv_build(&s, &h, &p, &a, &e), -EIO);
		json_decref(j);
		fields_fini(&vm_spec_fields, &s);
	}
	struct vm_spec s = { 0 };
	simple_spec(&s, &h, "{\"engine\":\"sim\"}");
	ok(argv_build(&s, &h, &p, &a, &e) < 0 && strstr(e.msg, "simulated"));
	fields_fini(&vm_spec_fields, &s);
	host_fini(&h);
}

T_MAIN
