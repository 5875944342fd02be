#include "run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "fields.h"
#include "file.h"
#include "mem.h"
#include "ring.h"
#include "text.h"

#define LAUNCH_MAX	(512 * 1024)
#define END_MAX		(64 * 1024)

/* launch.json and end.json are frozen interfaces (DESIGN.md): rows are only added. */
struct launch_file {
	uint64_t format, pid, start_time, shim_pid, shim_start_time, uid;
	char *uuid, *boot_id, *version, *qemu_version, *confinement;
	bool adopted;
	struct field_vec argv;
};
#define STR(m, n) { .name = #m, .type = F_STR, .off = offsetof(struct launch_file, m), .max = (n) }
#define U64(m, n) { .name = #m, .type = F_U64, .off = offsetof(struct launch_file, m), .max = (n) }
static const struct field launch_rows[] = {
	U64(format, UINT32_MAX), U64(pid, INT32_MAX), U64(start_time, UINT64_MAX), U64(shim_pid, INT32_MAX),
	U64(shim_start_time, UINT64_MAX), U64(uid, UINT32_MAX - 1),
	STR(uuid, 36), STR(boot_id, 36), STR(version, 63), STR(qemu_version, 63), STR(confinement, 255),
	{ .name = "adopted", .type = F_BOOL, .off = offsetof(struct launch_file, adopted) },
	{ .name = "argv", .type = F_STRS, .off = offsetof(struct launch_file, argv), .max = 4096 },
	{ 0 },
};
static const struct fields launch_fields = { "LaunchFile", sizeof(struct launch_file), launch_rows, NULL };
#undef STR
#undef U64

struct end_file { char *how, *said; uint64_t code; int64_t at; };
static const struct field end_rows[] = {
	{ .name = "how", .type = F_STR, .off = offsetof(struct end_file, how), .max = 16 },
	{ .name = "said", .type = F_STR, .off = offsetof(struct end_file, said), .max = 16384 },
	{ .name = "code", .type = F_U64, .off = offsetof(struct end_file, code), .max = 255 },
	{ .name = "at", .type = F_TIME, .off = offsetof(struct end_file, at) },
	{ 0 },
};
static const struct fields end_fields = { "EndFile", sizeof(struct end_file), end_rows, NULL };

static int read_json(int dir, const char *name, size_t max, const struct fields *f, void *out, struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t n;
	int r = file_read_at(dir, name, max, &text, &n);
	if (r < 0)
		return fail_errno(e, r, "read %s", name);
	if (!n)
		return fail(e, ERR_NOT_FOUND, "%s is empty", name);
	json_t *j = json_parse(text, n, max, e);
	if (!j)
		return -EINVAL;
	r = fields_decode(f, j, FIELDS_STORED, out, e);
	json_decref(j);
	return r;
}

static void copy(char *to, size_t cap, const char *from)
{
	snprintf(to, cap, "%s", from ? from : "");
}

static int read_launch(int dir, struct run_folder *r, struct err *e)
{
	struct launch_file f = { 0 };
	int ret = read_json(dir, "launch.json", LAUNCH_MAX, &launch_fields, &f, e);
	if (ret < 0)
		return ret;
	r->proc = (struct vm_proc){ .pid = f.pid, .start_time = f.start_time, .shim = f.shim_pid, .uid = f.uid,
				    .shim_start_time = f.shim_start_time, .adopted = f.adopted };
	copy(r->proc.confinement, sizeof(r->proc.confinement), f.confinement);
	copy(r->version, sizeof(r->version), f.version);
	copy(r->qemu_version, sizeof(r->qemu_version), f.qemu_version);
	copy(r->boot_id, sizeof(r->boot_id), f.boot_id);
	r->argv = xcalloc(f.argv.n + 1, sizeof(*r->argv));
	for (size_t i = 0; i < f.argv.n; i++)
		r->argv[i] = TAKE(((char **)f.argv.items)[i]);
	fields_fini(&launch_fields, &f);
	return 0;
}

static void read_end(int dir, struct run_folder *r)
{
	struct end_file f = { 0 };
	if (read_json(dir, "end.json", END_MAX, &end_fields, &f, NULL) < 0)
		return;
	r->has_end = f.how;			/* written whole, or not at all */
	r->end.how = !f.how ? VM_END_UNKNOWN : !strcmp(f.how, "exited") ? VM_END_EXITED
		     : !strcmp(f.how, "killed") ? VM_END_KILLED : VM_END_UNKNOWN;
	r->end.code = (int)f.code;
	r->end.at_usec = f.at;
	copy(r->end.said, sizeof(r->end.said), f.said);
	fields_fini(&end_fields, &f);
}

static int lock_held(int dir, bool *ret)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	AUTO_CLOSE int fd = file_open_beneath(dir, "alive", O_RDONLY | O_NONBLOCK, 0);
	if (fd == -ENOENT) {
		*ret = false;
		return 0;
	}
	if (fd < 0)
		return fd;
	if (fcntl(fd, F_OFD_GETLK, &whole) < 0)
		return -errno;
	*ret = whole.l_type != F_UNLCK;
	return 0;
}

/* A zombie has ended, even where nobody reaps it. */
static bool process_runs(pid_t pid, uint64_t start_time)
{
	AUTO_CLOSE int fd = pid > 0 && start_time ? pidfd_open(pid, 0) : -1;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	return fd >= 0 && proc_start_time(pid) == start_time && poll(&p, 1, 0) == 0;
}

/* The lock is the truth; the process that launch.json names is a second witness, for a QEMU that has let go of it. */
static int see(int dir, struct run_folder *r, struct err *e)
{
	char boot[37];
	bool held = false;
	int ret = lock_held(dir, &held);
	if (ret < 0)
		return fail_errno(e, ret, "look at the lock of the run folder %s", r->uuid);
	boot_id(boot);
	bool ours = !strcmp(r->boot_id, boot);
	if (ours && process_runs(r->proc.pid, r->proc.start_time))
		held = true;
	r->state = held ? RUN_RUNNING : ours || !r->boot_id[0] ? RUN_ENDED : RUN_HISTORY;
	return 0;
}

int run_read(int run_fd, const char *uuid, struct run_folder *ret, struct err *e)
{
	struct run_folder r = { .state = RUN_UNKNOWN };
	uint8_t bytes[16];
	if (text_uuid(uuid, bytes) < 0)
		return fail(e, ERR_INVALID, "\"%s\" is no UUID", uuid);
	copy(r.uuid, sizeof(r.uuid), uuid);
	AUTO_CLOSE int dir = file_open_dir(run_fd, uuid, false, 0);
	if (dir < 0)
		return fail_errno(e, dir, "open the run folder %s", uuid);
	if (read_launch(dir, &r, &r.why) < 0 && r.why.code == ERR_NOT_FOUND)
		r.why = (struct err){ 0 };	/* it was never started */
	read_end(dir, &r);
	int seen = see(dir, &r, e);
	if (seen < 0) {
		run_folder_fini(&r);
		return seen;
	}
	*ret = r;
	return 0;
}

void run_folder_fini(struct run_folder *r)
{
	for (char **a = r->argv; a && *a; a++)
		free(*a);
	free(r->argv);
	*r = (struct run_folder){ .state = RUN_UNKNOWN };
}

int run_scan(int run_fd, void (*fn)(void *arg, const struct run_folder *r), void *arg, struct err *e)
{
	uint8_t bytes[16];
	int fd = openat(run_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return fail_errno(e, errno, "open the run folders");
	for (struct dirent *at; (at = readdir(d));) {
		struct run_folder r = { .state = RUN_UNKNOWN };
		if (text_uuid(at->d_name, bytes) < 0)
			continue;
		if (run_read(run_fd, at->d_name, &r, &r.why) < 0)
			text_uuid_format(bytes, r.uuid);
		fn(arg, &r);
		run_folder_fini(&r);
	}
	closedir(d);
	return 0;
}

int run_alive(int run_fd, const char *uuid, bool *ret)
{
	struct run_folder r;
	struct err e = { 0 };
	int got = run_read(run_fd, uuid, &r, &e);
	if (e.code == ERR_NOT_FOUND) {
		*ret = false;
		return 0;
	}
	if (got < 0)
		return got;
	*ret = r.state == RUN_RUNNING;
	run_folder_fini(&r);
	return 0;
}

int run_history(int run_fd, const char *uuid, char **ret, size_t *ret_len, struct err *e)
{
	struct ring ring;
	uint64_t at = 0, skipped;
	size_t len = 0;
	uint8_t bytes[16];
	AUTO_CLOSE int dir = text_uuid(uuid, bytes) < 0 ? -EINVAL : file_open_dir(run_fd, uuid, false, 0);
	int r = dir < 0 ? dir : ring_open(dir, "console.ring", false, &ring);
	if (r == -ENOENT) {
		*ret = xstrdup("");
		*ret_len = 0;
		return 0;
	}
	if (r < 0)
		return fail_errno(e, r, "read the console's history of %s", uuid);
	char *text = xmalloc(ring.size + 1);
	for (size_t n; len < ring.size && (n = ring_get(&ring, &at, text + len, ring.size - len, &skipped)) > 0;)
		len += n;
	text[len] = 0;
	ring_close(&ring);
	*ret = text;
	*ret_len = len;
	return 0;
}

int run_remove(int run_fd, const char *uuid, struct err *e)
{
	bool alive;
	int r = run_alive(run_fd, uuid, &alive);
	if (r == 0 && alive)
		return fail(e, ERR_BUSY, "the VM %s still runs", uuid);
	if (r == 0)
		r = file_remove_tree(run_fd, uuid);
	return r < 0 && r != -ENOENT ? fail_errno(e, r, "remove the run folder %s", uuid) : 0;
}
