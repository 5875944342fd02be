#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "digest.h"
#include "file.h"
#include "mem.h"
#include "text.h"
#include "upload.h"
#include "volfile.h"

#define CLOSE_TRIES	400		/* of 5 ms */

struct upload_job {
	struct dsjob j;			/* path: the target */
	char temp[64];
	uint64_t bytes, durable;	/* durable: of begin; bytes that are there: of sync and finish */
	bool replace, verify;
	uint8_t sha256[32];
	int fd;
	void (*begun)(void *arg, int *fd, const struct err *);
	void (*measured)(void *arg, uint64_t bytes, const struct err *);
};

static struct upload_job *upload_job_new(const struct upload_plan *u, void *arg)
{
	struct upload_job *q = xnew(upload_job);

	snprintf(q->temp, sizeof(q->temp), ".croft-upload-%.36s", u->id);
	q->bytes = u->bytes;
	q->replace = u->replace;
	q->fd = -1;
	q->j.arg = arg;
	return q;
}

/* Open the temporary file in its folder. -ENOENT without a sentence when there is none. */
static int open_temp(const struct upload_job *q, int folder, int flags, struct err *e)
{
	int fd = file_open_beneath(folder, q->temp, flags, 0600);

	if (fd == -ENOENT)
		return fd;
	return fd < 0 ? dsjob_fail(e, fd, "open the upload to", q->j.path) : fd;
}

static int is_lost(struct err *e, const char *path)
{
	fail(e, ERR_STATE, "what was uploaded of \"%.200s\" is gone", path);
	return err_hint(e, "start the upload again");
}

/* begin */

static int check_target(const struct upload_job *q, int folder, const char *name, struct err *e)
{
	struct stat st;

	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : dsjob_fail(e, errno, "look at", q->j.path);
	if (!S_ISREG(st.st_mode))
		return fail(e, ERR_EXISTS, "\"%.200s\" is there already, and isn't a file", q->j.path);
	if (q->replace)
		return 0;
	dsjob_fail(e, EEXIST, "make", q->j.path);
	return err_hint(e, "delete it first, or say that it may be replaced (replace=true)");
}

/* Take the space now rather than fail at the end. */
static int reserve(const struct upload_job *q, int fd, struct err *e)
{
	struct statvfs v;
	uint64_t more = q->bytes - q->durable;

	if (q->bytes == UINT64_MAX || !more)
		return 0;
	if (fstatvfs(fd, &v) < 0)
		return dsjob_fail(e, errno, "ask for the space for", q->j.path);
	if (more / v.f_frsize > v.f_bavail ||
	    (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)q->durable, (off_t)more) < 0 && errno == ENOSPC)) {
		char want[24], have[24];

		text_size_format(more, want);
		text_size_format((uint64_t)v.f_bavail * v.f_frsize, have);
		return fail(e, ERR_NO_SPACE, "the upload needs %s, and the datastore has %s left", want, have);
	}
	return 0;
}

static int begin_work(struct job *job, struct err *e)
{
	struct upload_job *q = (struct upload_job *)job;
	AUTO_CLOSE int folder = -1, fd = -1;
	struct stat st;
	const char *name;
	int r = dsjob_folder(&q->j, &name, e);

	if (r < 0)
		return r;
	folder = r;
	if (q->bytes != UINT64_MAX && (q->bytes > INT64_MAX || q->durable > q->bytes))
		return fail(e, ERR_INVALID, "the size of the upload is not possible");
	r = check_target(q, folder, name, e);
	if (r < 0)
		return r;
	r = open_temp(q, folder, O_WRONLY | O_CREAT, e);
	if (r < 0)
		return r;
	fd = r;
	if (fstat(fd, &st) < 0)
		return dsjob_fail(e, errno, "look at the upload to", q->j.path);
	if ((uint64_t)st.st_size < q->durable)
		return is_lost(e, q->j.path);
	if (ftruncate(fd, (off_t)q->durable) < 0)
		return dsjob_fail(e, errno, "resume the upload to", q->j.path);
	r = reserve(q, fd, e);
	if (!r)
		r = file_sync_dir(folder);
	if (r < 0 && !q->durable)
		unlinkat(folder, q->temp, 0);
	if (!r)
		q->fd = TAKE_FD(fd);
	return r;
}

static void begin_done(struct job *job, const struct err *e)
{
	struct upload_job *q = (struct upload_job *)job;

	q->begun(q->j.arg, &q->fd, e);
	close_at(&q->fd);
	free(q);
}

void upload_begin(struct datastore *ds, const struct upload_plan *u, uint64_t durable_bytes,
		  void (*done)(void *, int *, const struct err *), void *arg)
{
	struct upload_job *q = upload_job_new(u, arg);

	q->durable = durable_bytes;
	q->begun = done;
	dsjob_run(ds, &q->j, u->path, DSJOB_BULK, begin_work, begin_done);
}

/* sync */

static int sync_work(struct job *job, struct err *e)
{
	struct upload_job *q = (struct upload_job *)job;
	AUTO_CLOSE int folder = -1, fd = -1;
	struct stat st;
	int r = dsjob_folder(&q->j, NULL, e);

	if (r < 0)
		return r;
	folder = r;
	r = open_temp(q, folder, O_RDONLY, e);
	if (r < 0)
		return r == -ENOENT ? is_lost(e, q->j.path) : r;
	fd = r;
	/* The size first: what is written while the sync runs doesn't count as durable. */
	if (fstat(fd, &st) < 0 || fdatasync(fd) < 0)
		return dsjob_fail(e, errno, "make durable the upload to", q->j.path);
	q->durable = (uint64_t)st.st_size;
	return 0;
}

static void measured_done(struct job *job, const struct err *e)
{
	struct upload_job *q = (struct upload_job *)job;

	q->measured(q->j.arg, e ? 0 : q->durable, e);
	free(q);
}

void upload_sync(struct datastore *ds, const struct upload_plan *u,
		 void (*done)(void *, uint64_t, const struct err *), void *arg)
{
	struct upload_job *q = upload_job_new(u, arg);

	q->measured = done;
	dsjob_run(ds, &q->j, u->path, DSJOB_BULK, sync_work, measured_done);
}

/* finish */

static int verify(struct upload_job *q, int fd, struct err *e)
{
	char want[65], got[65];
	uint8_t sum[32];
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return dsjob_fail(e, errno, "look at the upload to", q->j.path);
	q->durable = (uint64_t)st.st_size;
	if (q->bytes != UINT64_MAX && q->durable != q->bytes) {
		fail(e, ERR_STATE, "%llu of %llu bytes were uploaded", (unsigned long long)q->durable,
		     (unsigned long long)q->bytes);
		return err_hint(e, "go on with the upload where it stopped");
	}
	if (!q->verify)
		return 0;
	r = digest_sha256(fd, q->durable, sum, e);
	if (r < 0)
		return r;
	if (!memcmp(sum, q->sha256, sizeof(sum)))
		return 0;
	text_hex_format(q->sha256, sizeof(sum), want);
	text_hex_format(sum, sizeof(sum), got);
	fail(e, ERR_INVALID, "what arrived has another SHA-256 than was announced: %s instead of %s", got, want);
	return err_hint(e, "start the upload again");
}

/* The temporary file is gone: was it this upload, before a crash, that gave it its name? */
static int finished_before(struct upload_job *q, struct err *e)
{
	AUTO_CLOSE int fd = -1;
	int r = dsjob_open(&q->j, O_RDONLY, NULL);

	if (r < 0)
		return is_lost(e, q->j.path);
	fd = r;
	return verify(q, fd, NULL) < 0 ? is_lost(e, q->j.path) : 0;
}

static int give_name(const struct upload_job *q, int folder, const char *name, struct err *e)
{
	int r = check_target(q, folder, name, e);

	if (r < 0)
		return r;
	if (!q->replace)
		r = file_rename_new(folder, q->temp, name);
	else if (renameat(folder, q->temp, folder, name) < 0)
		r = -errno;
	if (!r)
		r = file_sync_dir(folder);
	return r < 0 ? dsjob_fail(e, r, "make", q->j.path) : 0;
}

static int finish_work(struct job *job, struct err *e)
{
	struct upload_job *q = (struct upload_job *)job;
	AUTO_CLOSE int folder = -1, fd = -1;
	const char *name;
	int r = dsjob_folder(&q->j, &name, e);

	if (r < 0)
		return r;
	folder = r;
	r = open_temp(q, folder, O_RDONLY, e);
	if (r == -ENOENT)
		return finished_before(q, e);
	if (r < 0)
		return r;
	fd = r;
	/* croft-front says that it is done and closes its descriptor in a lane of its own: give it a moment. */
	for (int i = 0; (r = volfile_written(fd)) == 1 && i < CLOSE_TRIES; i++)
		usleep(5000);
	if (r == 1)
		return fail(e, ERR_BUSY, "the upload to \"%.200s\" is still being written", q->j.path);
	if (fsync(fd) < 0)
		return dsjob_fail(e, errno, "make durable the upload to", q->j.path);
	r = verify(q, fd, e);
	return r < 0 ? r : give_name(q, folder, name, e);
}

void upload_finish(struct datastore *ds, const struct upload_plan *u, const uint8_t *sha256,
		   void (*done)(void *, uint64_t, const struct err *), void *arg)
{
	struct upload_job *q = upload_job_new(u, arg);

	if (sha256) {
		q->verify = true;
		memcpy(q->sha256, sha256, sizeof(q->sha256));
	}
	q->measured = done;
	dsjob_run(ds, &q->j, u->path, DSJOB_BULK, finish_work, measured_done);
}

/* abort */

static int abort_work(struct job *job, struct err *e)
{
	struct upload_job *q = (struct upload_job *)job;
	AUTO_CLOSE int folder = -1;
	int r = dsjob_folder(&q->j, NULL, e);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	folder = r;
	if (unlinkat(folder, q->temp, 0) < 0 && errno != ENOENT)
		return dsjob_fail(e, errno, "delete the upload to", q->j.path);
	r = file_sync_dir(folder);	/* its row goes next: after a power loss nobody would know the file */
	return r < 0 ? dsjob_fail(e, r, "make durable the end of the upload to", q->j.path) : 0;
}

void upload_abort(struct datastore *ds, const struct upload_plan *u, storage_done done, void *arg)
{
	dsjob_simple(ds, &upload_job_new(u, arg)->j, u->path, DSJOB_BULK, abort_work, done, arg);
}
