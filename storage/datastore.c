#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "datastore.h"
#include "file.h"
#include "mem.h"
#include "text.h"

#define MARKER		".croft-datastore.json"
#define MARKER_MAX	4096
#define LANE_DEPTH	1024

static const char *const state_names[] = {
	[DATASTORE_OPENING] = "opening", [DATASTORE_READY] = "ready", [DATASTORE_UNAVAILABLE] = "unavailable", NULL
};
static const char *const kind_names[] = { "folder", NULL };

const struct fields datastore_status_fields = {
	.name = "DatastoreStatus", .size = sizeof(struct datastore_status), .help = "What was seen of a datastore last",
	.rows = (const struct field[]){
		{ "state", F_ENUM, offsetof(struct datastore_status, state), FIELD_READ_ONLY, .names = state_names,
		  .help = "unavailable: see reason; its VMs keep what they have open" },
		{ "reason", F_STR, offsetof(struct datastore_status, reason), FIELD_READ_ONLY | FIELD_NULLABLE,
		  .help = "why it is unavailable" },
		{ "filesystem", F_STR, offsetof(struct datastore_status, filesystem), FIELD_READ_ONLY | FIELD_NULLABLE,
		  .help = "kind of file system" },
		{ "capacity_bytes", F_U64, offsetof(struct datastore_status, capacity_bytes), FIELD_READ_ONLY,
		  .help = "size of the file system" },
		{ "free_bytes", F_U64, offsetof(struct datastore_status, free_bytes), FIELD_READ_ONLY,
		  .help = "what is left of it" },
		{ "reflink", F_BOOL, offsetof(struct datastore_status, reflink), FIELD_READ_ONLY,
		  .help = "copies share their blocks, so they take no time and no space" },
		{ "as_of", F_TIME, offsetof(struct datastore_status, as_of), FIELD_READ_ONLY | FIELD_NULLABLE,
		  .help = "when this was seen" },
		{ 0 },
	},
};

static bool is_absolute(const char *s)
{
	return s[0] == '/';
}

const struct fields datastore_config_fields = {
	.name = "DatastoreConfig", .size = sizeof(struct datastore_config), .help = "A place for disks and images",
	.rows = (const struct field[]){
		{ "kind", F_ENUM, offsetof(struct datastore_config, kind), FIELD_CREATE_ONLY, .names = kind_names,
		  .def = "\"folder\"", .help = "folder: a folder of this host" },
		{ "path", F_STR, offsetof(struct datastore_config, path), FIELD_REQUIRED | FIELD_CREATE_ONLY, 2, 1024,
		  .check = is_absolute, .rule = "an absolute path", .help = "the folder, made if it isn't there" },
		{ 0 },
	},
};

struct datastore *datastore_new(sd_event *ev, const char *name, const char *path, const char *id)
{
	struct datastore *ds = xnew(datastore);
	AUTO_FREE char *lane = xasprintf("ds:%s", name), *bulk = xasprintf("ds:%s:bulk", name);

	ds->ev = sd_event_ref(ev);
	ds->name = xstrdup(name);
	ds->path = xstrdup(path);
	ds->dirfd = -1;
	snprintf(ds->id, sizeof(ds->id), "%s", id ? id : "");
	ds->lane = lane_new(ev, lane, 1, LANE_DEPTH);
	ds->bulk = lane_new(ev, bulk, 1, LANE_DEPTH);
	return ds;
}

void datastore_free(struct datastore *ds)
{
	if (!ds)
		return;
	ds->closing = true;
	lane_free(ds->lane);
	lane_free(ds->bulk);
	close_at(&ds->dirfd);
	fields_fini(&datastore_status_fields, &ds->status);
	free(ds->name);
	free(ds->path);
	sd_event_unref(ds->ev);
	free(ds);
}

int datastore_usable(const struct datastore *ds, struct err *e)
{
	if (ds->closing)
		return fail(e, ERR_UNAVAILABLE, "datastore \"%s\" is being closed", ds->name);
	if (ds->dirfd >= 0)
		return 0;
	if (ds->status.state == DATASTORE_OPENING)
		fail(e, ERR_UNAVAILABLE, "datastore \"%s\" is still being opened", ds->name);
	else
		fail(e, ERR_UNAVAILABLE, "datastore \"%s\" is unavailable: %s", ds->name,
		     ds->status.reason ? ds->status.reason : "not opened");
	if (e)
		e->retry_after_s = 5;
	return -EAGAIN;
}

/* opening, and the figures: in the lane */

struct refresh {
	struct job job;
	struct datastore *ds;		/* not for work(); alive, since datastore_free waits for the lane */
	bool create;
	char id[37], *path;
	int dirfd, opened;		/* opened: what work() opened, or -1 */
	struct datastore_status status;
	storage_done done;
	void *arg;
};

static int refuse_system_folder(const char *path, struct err *e)
{
	static const char *const system[] = { "/proc", "/sys", "/dev", "/etc", "/usr", "/boot", "/bin", "/sbin", "/lib" };

	if (path[0] != '/' || strspn(path, "/") == strlen(path))
		return fail_at(e, "/config/path", "a datastore's path is absolute and not the root folder");
	for (size_t i = 0; i < COUNT(system); i++) {
		size_t n = strlen(system[i]);

		if (!strncmp(path, system[i], n) && (!path[n] || path[n] == '/'))
			return fail_at(e, "/config/path", "\"%s\" belongs to the system: choose another folder", system[i]);
	}
	return 0;
}

static int read_marker(int dirfd, const char *path, char id[37], struct err *e)
{
	AUTO_FREE char *text = NULL;
	uint8_t uuid[16];
	const char *found;
	json_t *j;
	size_t n;
	int r = file_read_at(dirfd, MARKER, MARKER_MAX, &text, &n);

	if (r == -ENOENT)
		return r;
	if (r < 0)
		return fail_errno(e, r, "read %s/" MARKER, path);
	j = json_parse(text, n, MARKER_MAX, NULL);
	found = json_string_value(json_object_get(j, "id"));
	if (!found || text_uuid(found, uuid) < 0)
		r = fail(e, ERR_STATE, "%s/" MARKER " can't be read: it should hold the datastore's id", path);
	else
		text_uuid_format(uuid, id);
	json_decref(j);
	return r;
}

static int check_marker(struct refresh *q, int dirfd, struct err *e)
{
	char id[37] = "", text[80];
	int r = read_marker(dirfd, q->path, id, e);

	if (r == -ENOENT && !q->create) {
		fail(e, ERR_STATE, "%s has no marker of a datastore", q->path);
		return err_hint(e, "is its file system mounted? It should hold datastore %s", q->id);
	}
	if (r == -ENOENT) {
		text_uuid_random(id);
		snprintf(text, sizeof(text), "{\"format\":1,\"id\":\"%s\"}\n", id);
		r = file_publish_at(dirfd, MARKER, text, strlen(text), 0600);
		if (r < 0)
			return fail_errno(e, r, "write %s/" MARKER, q->path);
	}
	if (r < 0)
		return r;
	if (!q->create && strcmp(id, q->id))
		return fail(e, ERR_STATE, "%s holds another datastore: %s instead of %s", q->path, id, q->id);
	memcpy(q->id, id, sizeof(q->id));
	return 0;
}

static const char *filesystem_name(long type)
{
	static const struct { unsigned long type; const char *name; } table[] = {
		{ EXT4_SUPER_MAGIC, "ext4" }, { XFS_SUPER_MAGIC, "xfs" }, { BTRFS_SUPER_MAGIC, "btrfs" },
		{ TMPFS_MAGIC, "tmpfs" }, { NFS_SUPER_MAGIC, "nfs" }, { OVERLAYFS_SUPER_MAGIC, "overlay" },
		{ F2FS_SUPER_MAGIC, "f2fs" }, { 0x2fc12fc1, "zfs" }, { 0xff534d42, "cifs" }, { 0xfe534d42, "smb" },
		{ FUSE_SUPER_MAGIC, "fuse" }, { MSDOS_SUPER_MAGIC, "vfat" }, { 0x2011bab0, "exfat" }, { V9FS_MAGIC, "9p" },
	};

	for (size_t i = 0; i < COUNT(table); i++)
		if (table[i].type == (unsigned long)type)
			return table[i].name;
	return "other";
}

static bool can_reflink(int dirfd)
{
	AUTO_CLOSE int a = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	AUTO_CLOSE int b = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	static const char block[4096];

	return a >= 0 && b >= 0 && !file_write_all(a, block, sizeof(block)) && !ioctl(b, FICLONE, a);
}

static int open_folder(struct refresh *q, struct err *e)
{
	AUTO_CLOSE int fd = -1;
	int r = refuse_system_folder(q->path, e);

	if (!r && q->create) {
		r = file_mkdirs(q->path, 0700);
		if (r < 0)
			return fail_errno(e, r, "make the folder %s", q->path);
	}
	if (r < 0)
		return r;
	fd = open(q->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail_errno(e, errno, "open the folder %s", q->path);
	r = check_marker(q, fd, e);
	if (r < 0)
		return r;
	q->status.reflink = can_reflink(fd);
	q->opened = q->dirfd = TAKE_FD(fd);
	return 0;
}

static int refresh_work(struct job *job, struct err *e)
{
	struct refresh *q = (struct refresh *)job;
	struct statvfs v;
	struct statfs f;
	int r = q->dirfd >= 0 ? 0 : open_folder(q, e);

	if (r < 0)
		return r;
	if (fstatvfs(q->dirfd, &v) < 0 || fstatfs(q->dirfd, &f) < 0)
		return fail_errno(e, errno, "ask %s for its free space", q->path);
	q->status.capacity_bytes = (uint64_t)v.f_blocks * v.f_frsize;
	q->status.free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	q->status.filesystem = xstrdup(filesystem_name(f.f_type));
	return 0;
}

static void refresh_done(struct job *job, const struct err *e)
{
	struct refresh *q = (struct refresh *)job;
	struct datastore *ds = q->ds;

	if (e) {
		q->status.reason = xasprintf("%s%s%s", e->msg, *e->hint ? "; " : "", e->hint);
		q->status.state = DATASTORE_UNAVAILABLE;
		close_at(&q->opened);
	} else {
		q->status.state = DATASTORE_READY;
		if (q->opened >= 0 && ds->dirfd < 0)
			ds->dirfd = TAKE_FD(q->opened);
		else if (q->opened < 0)
			q->status.reflink = ds->status.reflink;
		close_at(&q->opened);
		memcpy(ds->id, q->id, sizeof(ds->id));
	}
	q->status.as_of = now_usec();
	fields_fini(&datastore_status_fields, &ds->status);
	ds->status = q->status;
	q->done(q->arg, e);
	free(q->path);
	free(q);
}

void datastore_refresh(struct datastore *ds, storage_done done, void *arg)
{
	struct refresh *q = xnew(refresh);

	q->ds = ds;
	q->path = xstrdup(ds->path);
	q->create = !*ds->id;
	memcpy(q->id, ds->id, sizeof(q->id));
	q->dirfd = ds->dirfd;
	q->opened = -1;
	q->done = done;
	q->arg = arg;
	lane_run(ds->lane, &q->job, refresh_work, refresh_done);
}
