/* volume_copy.c: the second half of volume.h: a disk made from an image.
 *
 *   open    in the source's lane: the file, its header, nobody writes to it
 *   prepare in the target's bulk lane: a plain copy of the bytes where that makes the same disk; else an empty image
 *   convert qemu-img fills that image
 *   publish in the target's bulk lane: sync, name
 * Every end but success passes through discard. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "mem.h"
#include "qemu_img.h"
#include "volfile.h"
#include "volume.h"

#define PIECE			(8ull << 20)	/* between two looks at whether it was cancelled */
#define PROGRESS_USEC		500000
#define DEADLINE_USEC(bytes)	(600 * 1000000ull + (bytes) / 2)	/* ten minutes, and 2 MB/s */

struct volume_copy {
	struct dsjob j;			/* of the stage that runs; path: the target but while opening */
	struct datastore *ds;
	sd_event *ev;
	char path[DSPATH_MAX + 1], id[37];
	uint64_t bytes;
	enum image_format format;
	bool same_datastore, published;
	bool untouched;			/* the file system says that nobody writes to the source */
	struct image_info info;
	int from, to;
	struct qemu_img *child;
	atomic_bool cancelled;
	atomic_ullong copied;
	sd_event_source *ticker;
	struct err err;			/* why it failed, while discarding */
	void (*progress)(void *arg, unsigned permille);
	storage_done done;
	void *arg;
};

static int cancelled(struct volume_copy *c, struct err *e)
{
	return atomic_load(&c->cancelled) ? fail(e, ERR_CANCELLED, "the copy was cancelled") : 0;
}

/* open */

static int open_work(struct job *job, struct err *e)
{
	struct volume_copy *c = (struct volume_copy *)job;
	int r = dsjob_open(&c->j, O_RDONLY, e), writer;

	if (r < 0)
		return r;
	c->from = r;
	writer = volfile_written(c->from);
	if (writer == 1) {
		fail(e, ERR_BUSY, "\"%.200s\" is in use: something writes to it", c->j.path);
		return err_hint(e, "shut down the VM whose disk it is, or wait until its upload has ended");
	}
	c->untouched = !writer;
	r = image_inspect(c->from, c->format, &c->info, e);
	if (!r)
		r = image_acceptable(&c->info, e);
	if (r < 0) {
		char hint[sizeof(e->hint)];

		memcpy(hint, e->hint, sizeof(hint));
		fail(e, e->code, "\"%.120s\" can't be the source of a disk: %s", c->j.path, e->msg);
		return err_hint(e, "%s", *hint ? hint :
				"qemu-img convert makes a qcow2 image of it; a raw one has a name that ends in .img or .raw");
	}
	if (!c->bytes)
		c->bytes = c->info.virtual_bytes;
	if (c->bytes < c->info.virtual_bytes) {
		fail(e, ERR_INVALID, "the disk would have %llu bytes, which is less than the image \"%.150s\" has (%llu)",
		     (unsigned long long)c->bytes, c->j.path, (unsigned long long)c->info.virtual_bytes);
		return err_hint(e, "leave size_bytes out, and it will be as large as the image");
	}
	return 0;
}

/* prepare */

/* 0, or -EOPNOTSUPP where the file system can't */
static int copy_extent(struct volume_copy *c, off_t at, off_t end)
{
	off_t out = at;

	while (at < end) {
		ssize_t n;

		if (atomic_load(&c->cancelled))
			return -ECANCELED;
		n = copy_file_range(c->from, &at, c->to, &out, (uint64_t)(end - at) < PIECE ? (size_t)(end - at) : PIECE, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		atomic_store(&c->copied, (unsigned long long)at);
	}
	return 0;
}

static int copy_bytes(struct volume_copy *c)
{
	off_t size = (off_t)c->info.file_bytes, at = 0;

	if (!ioctl(c->to, FICLONE, c->from))
		return 0;
	if (ftruncate(c->to, size) < 0)
		return -errno;
	while (at < size) {
		off_t data = lseek(c->from, at, SEEK_DATA), hole;
		int r;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(c->from, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		r = copy_extent(c, data, hole);
		if (r < 0)
			return r;
		at = hole;
	}
	return 0;
}

/* The same bytes with another mark. 1: done; 0: it must be converted. */
static int copy_plainly(struct volume_copy *c, struct err *e)
{
	struct qcow2_head h;
	int r;

	if (!c->same_datastore || c->format != IMAGE_QCOW2 || c->bytes != c->info.virtual_bytes || c->info.snapshots ||
	    c->info.dirty || !c->untouched)
		return 0;
	r = copy_bytes(c);
	if (r == -ECANCELED || r == -ENOSPC)
		return r == -ENOSPC ? dsjob_fail(e, r, "copy to", c->path) : cancelled(c, e);
	if (!r)
		r = volfile_head(c->to, &h, NULL);
	if (!r)
		r = qcow2_mark(c->to, &h, c->id);
	if (!r)
		return 1;
	atomic_store(&c->copied, 0);
	return ftruncate(c->to, 0) < 0 ? dsjob_fail(e, errno, "copy to", c->path) : 0;
}

static int prepare_work(struct job *job, struct err *e)
{
	struct volume_copy *c = (struct volume_copy *)job;
	int r = volfile_mine(&c->j, c->id, e);

	if (r) {
		c->published = r == 1;
		return r < 0 ? r : 0;
	}
	r = volfile_temp(&c->j, c->id, e);
	if (r < 0)
		return r;
	c->to = r;
	r = copy_plainly(c, e);
	if (r == 1) {
		r = volfile_publish(&c->j, c->id, c->to, e);
		c->published = !r;
	} else if (!r) {
		r = qcow2_write(c->to, &(struct qcow2_new){ .bytes = c->bytes, .id = c->id, .content = -1 }, e);
	}
	return r;
}

/* publish */

static int publish_work(struct job *job, struct err *e)
{
	struct volume_copy *c = (struct volume_copy *)job;
	struct qcow2_head h;
	int r = volfile_head(c->to, &h, e);

	if (!r && strcmp(h.mark, c->id))
		r = fail(e, ERR_INTERNAL, "qemu-img has lost the volume's id");
	if (!r)
		r = volfile_publish(&c->j, c->id, c->to, e);
	return r;
}

/* the stages */

static void finish(struct volume_copy *c, const struct err *e)
{
	sd_event_source_disable_unref(c->ticker);
	qemu_img_free(c->child);
	close_at(&c->from);
	close_at(&c->to);
	fields_fini(&image_info_fields, &c->info);
	c->done(c->arg, e);
	free(c);
}

static int discard_work(struct job *job, struct err *e)
{
	struct volume_copy *c = (struct volume_copy *)job;

	return volfile_discard(&c->j, c->id, e);
}

static void discard_done(struct job *job, const struct err *e)
{
	struct volume_copy *c = (struct volume_copy *)job;

	finish(c, &c->err);		/* what it says itself matters less */
}

static void stage(struct volume_copy *c, struct datastore *ds, const char *path, unsigned flags,
		  int (*work)(struct job *, struct err *), void (*done)(struct job *, const struct err *))
{
	c->j = (struct dsjob){ 0 };
	dsjob_run(ds, &c->j, path, flags, work, done);
}

static void give_up(struct volume_copy *c, const struct err *e)
{
	struct err err = *e;

	if (cancelled(c, NULL)) {
		err = (struct err){ 0 };
		cancelled(c, &err);
	}
	c->err = err;
	qemu_img_free(TAKE(c->child));
	stage(c, c->ds, c->path, 0, discard_work, discard_done);
}

static void publish_done(struct job *job, const struct err *e)
{
	struct volume_copy *c = (struct volume_copy *)job;

	if (e)
		give_up(c, e);
	else
		finish(c, NULL);
}

static void converted(void *arg, const struct err *e)
{
	struct volume_copy *c = arg;

	qemu_img_free(TAKE(c->child));
	if (e)
		give_up(c, e);
	else
		stage(c, c->ds, c->path, DSJOB_BULK, publish_work, publish_done);
}

static void on_progress(void *arg, unsigned permille)
{
	struct volume_copy *c = arg;

	if (c->progress)
		c->progress(c->arg, permille);
}

static void prepare_done(struct job *job, const struct err *e)
{
	struct volume_copy *c = (struct volume_copy *)job;
	struct err err = { 0 };

	sd_event_source_disable_unref(TAKE(c->ticker));
	if (c->published && !e) {
		finish(c, NULL);
		return;
	}
	if (!e && cancelled(c, &err))
		e = &err;
	if (e) {
		give_up(c, e);
		return;
	}
	/* The target is there and reads as zeros; neither side is probed; no text of a user among the arguments. */
	c->child = qemu_img_start(c->ev, (const char *const []){
		"convert", "-p", "-n", "--target-is-zero", "-W", "-m", "8", "-f", image_format_names[c->format],
		"-O", "qcow2", QEMU_IMG_FD(3), QEMU_IMG_FD(4), NULL,
	}, (const int[]){ c->from, c->to }, 2, DEADLINE_USEC(c->info.virtual_bytes), on_progress, converted, c, &err);
	if (!c->child)
		give_up(c, &err);
}

static int on_tick(sd_event_source *s, uint64_t usec, void *arg)
{
	struct volume_copy *c = arg;

	if (c->info.file_bytes)
		on_progress(c, (unsigned)(atomic_load(&c->copied) * 1000 / c->info.file_bytes));
	sd_event_source_set_time_relative(s, PROGRESS_USEC);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static void open_done(struct job *job, const struct err *e)
{
	struct volume_copy *c = (struct volume_copy *)job;
	struct err err = { 0 };

	if (!e && cancelled(c, &err))
		e = &err;
	if (e) {
		err = *e;		/* nothing is there yet, and e is in the job */
		finish(c, &err);
		return;
	}
	sd_event_add_time_relative(c->ev, &c->ticker, CLOCK_MONOTONIC, PROGRESS_USEC, 0, on_tick, c);
	stage(c, c->ds, c->path, DSJOB_BULK, prepare_work, prepare_done);
}

struct volume_copy *volume_copy(struct datastore *ds, const struct volume_new *v, const struct volume_source *from,
				void (*progress)(void *, unsigned), storage_done done, void *arg)
{
	struct volume_copy *c = xnew(volume_copy);

	c->ds = ds;
	c->ev = ds->ev;
	snprintf(c->path, sizeof(c->path), "%s", v->path);
	snprintf(c->id, sizeof(c->id), "%s", v->id);
	c->bytes = v->bytes;
	c->format = from->format;
	c->same_datastore = from->ds == ds;
	c->from = c->to = -1;
	c->progress = progress;
	c->done = done;
	c->arg = arg;
	stage(c, from->ds, from->path, 0, open_work, open_done);
	return c;
}

uint64_t volume_copy_total(const struct volume_copy *c) { return c->info.virtual_bytes; }

void volume_copy_cancel(struct volume_copy *c)
{
	struct err e = { 0 };

	if (atomic_exchange(&c->cancelled, true) || !c->child)
		return;			/* the stage that runs sees it when it ends */
	cancelled(c, &e);
	give_up(c, &e);
}
