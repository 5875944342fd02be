#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "file.h"
#include "mem.h"
#include "qemu_img.h"
#include "volfile.h"
#include "volume.h"

#define GROW_DEADLINE_USEC	(600 * 1000000ull)

struct volume_job {
	struct dsjob j;
	char id[37];
	uint64_t bytes;
	char *host_file;
};

static struct volume_job *volume_job_new(const char *id, uint64_t bytes)
{
	struct volume_job *v = xcalloc(1, sizeof(*v));

	snprintf(v->id, sizeof(v->id), "%s", id ? id : "");
	v->bytes = bytes;
	return v;
}

/* create */

static int write_new(struct volume_job *v, int content, struct err *e)
{
	struct qcow2_new n = { .bytes = v->bytes, .id = v->id, .content = content };
	AUTO_CLOSE int fd = -1;
	int r = volfile_temp(&v->j, v->id, e);

	if (r < 0)
		return r;
	fd = r;
	if (content >= 0) {
		n.fine = true;
		n.held_bytes = VOLFILE_VARS_BYTES;
	}
	r = qcow2_write(fd, &n, e);
	if (!r)
		r = volfile_publish(&v->j, v->id, fd, e);
	if (r < 0)
		volfile_discard(&v->j, v->id, NULL);
	return r;
}

static int create_work(struct job *job, struct err *e)
{
	struct volume_job *v = (struct volume_job *)job;
	AUTO_CLOSE int content = -1;
	int r = volfile_mine(&v->j, v->id, e);

	if (r)
		return r < 0 ? r : 0;
	if (v->host_file) {
		content = open(v->host_file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (content < 0)
			return fail_errno(e, errno, "open %s", v->host_file);
	}
	return write_new(v, content, e);
}

static void create_done(struct job *job, const struct err *e)
{
	struct volume_job *v = (struct volume_job *)job;

	v->j.done(v->j.arg, e);
	free(v->host_file);
	free(v);
}

static void create(struct datastore *ds, const struct volume_new *n, const char *host_file, storage_done done, void *arg)
{
	struct volume_job *v = volume_job_new(n->id, n->bytes);

	v->host_file = host_file ? xstrdup(host_file) : NULL;
	v->j.done = done;
	v->j.arg = arg;
	dsjob_run(ds, &v->j, n->path, 0, create_work, create_done);
}

void volume_create(struct datastore *ds, const struct volume_new *n, storage_done done, void *arg)
{
	create(ds, n, NULL, done, arg);
}

void volume_create_vars(struct datastore *ds, const struct volume_new *n, const char *host_file,
			storage_done done, void *arg)
{
	create(ds, n, host_file, done, arg);
}

/* undo, delete */

static int unlink_target(struct dsjob *j, struct err *e)
{
	AUTO_CLOSE int folder = -1;
	const char *name;
	int r = dsjob_folder(j, &name, e);

	if (r < 0)
		return r;
	folder = r;
	if (unlinkat(folder, name, 0) < 0 && errno != ENOENT)
		return dsjob_fail(e, errno, "delete", j->path);
	r = file_sync_dir(folder);
	return r < 0 ? dsjob_fail(e, r, "make durable the deletion of", j->path) : 0;
}

static int undo_work(struct job *job, struct err *e)
{
	struct volume_job *v = (struct volume_job *)job;
	int r = volfile_discard(&v->j, v->id, e);

	if (r < 0 || volfile_mine(&v->j, v->id, NULL) != 1)
		return r;
	return unlink_target(&v->j, e);
}

void volume_undo(struct datastore *ds, const char *path, const char *id, storage_done done, void *arg)
{
	dsjob_simple(ds, &volume_job_new(id, 0)->j, path, 0, undo_work, done, arg);
}

static int delete_work(struct job *job, struct err *e)
{
	int r = unlink_target((struct dsjob *)job, e);

	return r == -ENOENT ? 0 : r;	/* neither is its folder there */
}

void volume_delete(struct datastore *ds, const char *path, storage_done done, void *arg)
{
	dsjob_simple(ds, xnew(dsjob), path, 0, delete_work, done, arg);
}

/* inspect */

struct inspector {
	struct dsjob j;
	enum image_format format;
	struct image_info info;
	void (*done)(void *arg, const struct image_info *, const struct err *);
};

static int inspect_work(struct job *job, struct err *e)
{
	struct inspector *i = (struct inspector *)job;
	AUTO_CLOSE int fd = -1;
	int r = dsjob_open(&i->j, O_RDONLY, e);

	if (r < 0)
		return r;
	fd = r;
	return image_inspect(fd, i->format, &i->info, e);
}

static void inspect_done(struct job *job, const struct err *e)
{
	struct inspector *i = (struct inspector *)job;

	i->done(i->j.arg, e ? NULL : &i->info, e);
	fields_fini(&image_info_fields, &i->info);
	free(i);
}

void volume_inspect(struct datastore *ds, const char *path, enum image_format format,
		    void (*done)(void *, const struct image_info *, const struct err *), void *arg)
{
	struct inspector *i = xnew(inspector);

	i->format = format;
	i->done = done;
	i->j.arg = arg;
	dsjob_run(ds, &i->j, path, 0, inspect_work, inspect_done);
}

/* grow: the header is looked at in the lane, qemu-img does the work */

struct grower {
	struct volume_job v;
	sd_event *ev;
	struct qemu_img *child;
	uint64_t now_bytes;
	int fd;
};

static int grow_work(struct job *job, struct err *e)
{
	struct grower *g = (struct grower *)job;
	struct qcow2_head h;
	int r = dsjob_open(&g->v.j, O_RDWR, e);

	if (r < 0)
		return r;
	g->fd = r;
	r = volfile_head(g->fd, &h, e);
	if (r < 0)
		return r;
	if (g->v.bytes < h.virtual_bytes)
		return fail(e, ERR_INVALID, "a disk can't be made smaller: it has %llu bytes already",
			    (unsigned long long)h.virtual_bytes);
	if (g->v.bytes > IMAGE_MAX || g->v.bytes % 512)
		return fail(e, ERR_INVALID, "the size of a disk is a multiple of 512 bytes, and at most 16 TiB");
	if (h.backing_file || h.data_file || h.encrypted || h.corrupt)
		return fail(e, ERR_STATE, "\"%.200s\" isn't a disk that can grow", g->v.j.path);
	g->now_bytes = h.virtual_bytes;
	return 0;
}

static void grow_end(void *arg, const struct err *e)
{
	struct grower *g = arg;

	g->v.j.done(g->v.j.arg, e);
	qemu_img_free(g->child);
	close_at(&g->fd);
	free(g);
}

static void grow_done(struct job *job, const struct err *e)
{
	struct grower *g = (struct grower *)job;
	struct err err = { 0 };
	char size[24];

	if (e || g->now_bytes == g->v.bytes) {
		grow_end(g, e);
		return;
	}
	snprintf(size, sizeof(size), "%llu", (unsigned long long)g->v.bytes);
	g->child = qemu_img_start(g->ev, (const char *const []){ "resize", "-q", "-f", "qcow2", QEMU_IMG_FD(3), size, NULL },
				  &g->fd, 1, GROW_DEADLINE_USEC, NULL, grow_end, g, &err);
	if (!g->child)
		grow_end(g, &err);
}

void volume_grow(struct datastore *ds, const char *path, uint64_t bytes, storage_done done, void *arg)
{
	struct grower *g = xnew(grower);

	g->v.bytes = bytes;
	g->v.j.done = done;
	g->v.j.arg = arg;
	g->ev = ds->ev;
	g->fd = -1;
	dsjob_run(ds, &g->v.j, path, 0, grow_work, grow_done);
}
