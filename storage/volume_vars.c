/* volume_vars.c: the third part of volume.h: a store of UEFI variables made small again.
 *
 *   look    in the datastore's lane: is it large? Then an empty one of ours, under a temporary name
 *   convert qemu-img fills that; zeros are left out
 *   replace in the lane: sync, and the name
 * Whatever happens, the store is the old one or the new one, and whole. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "image.h"
#include "mem.h"
#include "qemu_img.h"
#include "volfile.h"
#include "volume.h"

#define LARGE_BYTES	(4ull << 20)		/* on disk; AAVMF's variables take less than one MiB */
#define BANK_MAX	(256ull << 20)		/* a flash bank has 64 MiB: anything larger is no store of ours */
#define DEADLINE_USEC	(60 * 1000000ull)

struct trim {
	struct dsjob j;			/* of the stage that runs */
	struct datastore *ds;
	char path[DSPATH_MAX + 1], id[37];
	bool large;
	int from, to;
	struct qemu_img *child;
	struct err err;			/* why it failed, while discarding */
	storage_done done;
	void *arg;
};

static int make_empty(struct trim *t, const struct image_info *info, struct err *e)
{
	struct qcow2_new n = {
		.bytes = info->virtual_bytes, .id = info->volume_id, .content = -1, .fine = true,
		.held_bytes = info->virtual_bytes < VOLFILE_VARS_BYTES ? info->virtual_bytes : VOLFILE_VARS_BYTES,
	};
	int r = volfile_temp(&t->j, t->id, e);

	if (r < 0)
		return r;
	t->to = r;
	return qcow2_write(t->to, &n, e);
}

static int look_work(struct job *job, struct err *e)
{
	struct trim *t = (struct trim *)job;
	struct image_info info = { 0 };
	struct stat st;
	int r = dsjob_open(&t->j, O_RDONLY, e);

	if (r < 0)
		return r;
	t->from = r;
	if (fstat(t->from, &st) < 0)
		return dsjob_fail(e, errno, "look at", t->path);
	r = image_inspect(t->from, IMAGE_QCOW2, &info, e) ?: image_acceptable(&info, e);
	if (r == 0 && !info.snapshots && info.virtual_bytes <= BANK_MAX)
		t->large = info.cluster_bytes != QCOW2_FINE || (uint64_t)st.st_blocks * 512 > LARGE_BYTES;
	if (t->large)
		r = make_empty(t, &info, e);
	fields_fini(&image_info_fields, &info);
	return r;
}

static int replace_work(struct job *job, struct err *e)
{
	struct trim *t = (struct trim *)job;

	return volfile_replace(&t->j, t->id, t->to, e);
}

static int discard_work(struct job *job, struct err *e)
{
	struct trim *t = (struct trim *)job;

	return volfile_discard(&t->j, t->id, e);
}

static void finish(struct trim *t, const struct err *e)
{
	qemu_img_free(t->child);
	close_at(&t->from);
	close_at(&t->to);
	t->done(t->arg, e);
	free(t);
}

static void stage(struct trim *t, int (*work)(struct job *, struct err *), void (*done)(struct job *, const struct err *))
{
	t->j = (struct dsjob){ 0 };
	dsjob_run(t->ds, &t->j, t->path, 0, work, done);
}

static void discarded(struct job *job, const struct err *e)
{
	struct trim *t = (struct trim *)job;

	finish(t, &t->err);		/* what it says itself matters less */
}

static void give_up(struct trim *t, const struct err *e)
{
	t->err = *e;
	qemu_img_free(TAKE(t->child));
	stage(t, discard_work, discarded);
}

static void replaced(struct job *job, const struct err *e)
{
	struct trim *t = (struct trim *)job;

	if (e)
		give_up(t, e);
	else
		finish(t, NULL);
}

static void converted(void *arg, const struct err *e)
{
	struct trim *t = arg;

	if (e)
		give_up(t, e);
	else
		stage(t, replace_work, replaced);
}

static void looked(struct job *job, const struct err *e)
{
	struct trim *t = (struct trim *)job;
	struct err err = { 0 };

	if (e && t->large) {
		give_up(t, e);
		return;
	}
	if (e || !t->large) {
		err = e ? *e : err;		/* it is in the job */
		finish(t, e ? &err : NULL);
		return;
	}
	/* The target reads as zeros, and what it holds of them it goes on to hold (see volume.h). */
	t->child = qemu_img_start(t->ds->ev, (const char *const []){
		"convert", "-n", "--target-is-zero", "-f", "qcow2", "-O", "qcow2", QEMU_IMG_FD(3), QEMU_IMG_FD(4), NULL,
	}, (const int[]){ t->from, t->to }, 2, DEADLINE_USEC, NULL, converted, t, &err);
	if (!t->child)
		give_up(t, &err);
}

void volume_trim_vars(struct datastore *ds, const char *path, const char *id, storage_done done, void *arg)
{
	struct trim *t = xnew(trim);

	t->ds = ds;
	snprintf(t->path, sizeof(t->path), "%s", path);
	snprintf(t->id, sizeof(t->id), "%s", id);
	t->from = t->to = -1;
	t->done = done;
	t->arg = arg;
	stage(t, look_work, looked);
}
