#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "digest.h"
#include "dsjob.h"
#include "file.h"
#include "mem.h"
#include "memfile.h"
#include "text.h"

#define TEMP	"-new"
#define MARK	"\nCroft has saved this memory of a guest, for its home "	/* then the UUID, and a newline */
enum { MARK_LEN = sizeof(MARK) - 1 + 36 + 1 };

struct memjob {
	struct dsjob j;			/* path: of the file */
	char temp[DSPATH_MAX + sizeof(TEMP)];
	char home[37];			/* "": whoever's */
	int fd;
	uint64_t bytes;
	char sha256[MEMFILE_SHA256];
	void (*opened)(void *arg, int *fd, const struct err *e);
	void (*published)(void *arg, uint64_t bytes, const char *sha256, const struct err *e);
};

static struct memjob *memjob_new(const char *path, const char *home, void *arg)
{
	struct memjob *m = xnew(memjob);

	snprintf(m->home, sizeof(m->home), "%s", home ?: "");
	snprintf(m->temp, sizeof(m->temp), "%s" TEMP, path);
	m->fd = -1;
	m->j.arg = arg;
	return m;
}

/* The folder; @name and @temp get the two names in it. */
static int folder_of(const struct memjob *m, const char **name, const char **temp, struct err *e)
{
	*temp = dspath_name(m->temp);
	return dsjob_folder(&m->j, name, e);
}

static void opened_done(struct job *job, const struct err *e)
{
	struct memjob *m = (struct memjob *)job;

	m->opened(m->j.arg, &m->fd, e);
	close_at(&m->fd);
	free(m);
}

/* Never the file that a QEMU of before may still write to: another one of that name. */
static int create_work(struct job *job, struct err *e)
{
	struct memjob *m = (struct memjob *)job;
	const char *name, *temp;
	AUTO_CLOSE int folder = -1;
	int r = folder_of(m, &name, &temp, e);

	if (r < 0)
		return r;
	folder = r;
	if (unlinkat(folder, temp, 0) < 0 && errno != ENOENT)
		return dsjob_fail(e, errno, "delete", m->temp);
	m->fd = file_open_beneath(folder, temp, O_WRONLY | O_CREAT | O_EXCL, 0600);
	return m->fd < 0 ? dsjob_fail(e, m->fd, "make", m->temp) : 0;
}

void memfile_create(struct datastore *ds, const char *path, void (*done)(void *, int *, const struct err *), void *arg)
{
	struct memjob *m = memjob_new(path, NULL, arg);

	m->opened = done;
	dsjob_run(ds, &m->j, path, 0, create_work, opened_done);
}

/* ---- the mark */

/* Which home's it is; "": it has none. */
static int whose(int fd, char ret[37])
{
	char text[MARK_LEN + 1] = "";
	uint8_t uuid[16];
	struct stat st;

	*ret = '\0';
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < MARK_LEN)
		return 0;
	if (pread(fd, text, MARK_LEN, st.st_size - MARK_LEN) != MARK_LEN)
		return -EIO;
	if (memcmp(text, MARK, sizeof(MARK) - 1) != 0 || text[MARK_LEN - 1] != '\n')
		return 0;
	text[MARK_LEN - 1] = '\0';
	if (text_uuid(text + sizeof(MARK) - 1, uuid) == 0)
		text_uuid_format(uuid, ret);
	return 0;
}

/* Once: by this croftd, or by the one before it. */
static int put_mark(int fd, const char *home)
{
	AUTO_FREE char *text = xasprintf(MARK "%s\n", home);
	char is[37];
	int r = whose(fd, is);

	if (r < 0 || strcmp(is, home) == 0)
		return r;
	return lseek(fd, 0, SEEK_END) < 0 ? -errno : file_write_all(fd, text, MARK_LEN);
}

/* Its size and digest, as they are now. */
static int measure(struct memjob *m, int fd, struct err *e)
{
	uint8_t sum[32];
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return dsjob_fail(e, errno, "look at", m->j.path);
	m->bytes = (uint64_t)st.st_size;
	r = digest_sha256(fd, m->bytes, sum, e);
	if (!r)
		text_hex_format(sum, sizeof(sum), m->sha256);
	return r;
}

static int publish_work(struct job *job, struct err *e)
{
	struct memjob *m = (struct memjob *)job;
	const char *name, *temp;
	AUTO_CLOSE int folder = -1, fd = -1;
	int r = folder_of(m, &name, &temp, e);

	if (r < 0)
		return r;
	folder = r;
	fd = file_open_beneath(folder, temp, O_RDWR, 0);
	if (fd >= 0 && (r = put_mark(fd, m->home)) < 0)
		return dsjob_fail(e, r, "write", m->temp);
	if (fd == -ENOENT)			/* done before a crash */
		fd = file_open_beneath(folder, name, O_RDONLY, 0);
	if (fd < 0) {
		r = fd;
		fd = -1;
		return dsjob_fail(e, r, "open", m->j.path);
	}
	if (fsync(fd) < 0)
		return dsjob_fail(e, errno, "make durable", m->j.path);
	r = measure(m, fd, e);
	if (r < 0)
		return r;
	if (renameat(folder, temp, folder, name) < 0 && errno != ENOENT)
		return dsjob_fail(e, errno, "rename", m->temp);
	r = file_sync_dir(folder);
	return r < 0 ? dsjob_fail(e, r, "make durable", m->j.path) : 0;
}

static void publish_done(struct job *job, const struct err *e)
{
	struct memjob *m = (struct memjob *)job;

	m->published(m->j.arg, m->bytes, m->sha256, e);
	free(m);
}

void memfile_publish(struct datastore *ds, const char *path, const char *home,
		     void (*done)(void *, uint64_t, const char *, const struct err *), void *arg)
{
	struct memjob *m = memjob_new(path, home, arg);

	m->published = done;
	dsjob_run(ds, &m->j, path, DSJOB_BULK, publish_work, publish_done);
}

static int open_work(struct job *job, struct err *e)
{
	struct memjob *m = (struct memjob *)job;
	char sha256[MEMFILE_SHA256];
	uint64_t bytes = m->bytes;
	int r;

	memcpy(sha256, m->sha256, sizeof(sha256));
	m->fd = dsjob_open(&m->j, O_RDONLY, e);
	if (m->fd < 0)
		return m->fd;
	r = measure(m, m->fd, e);
	if (r < 0)
		return r;
	if (m->bytes != bytes)
		return fail(e, ERR_STATE, "\"%.200s\" has %llu bytes, and had %llu when it was saved", m->j.path,
			    (unsigned long long)m->bytes, (unsigned long long)bytes);
	if (strcmp(m->sha256, sha256))
		return fail(e, ERR_STATE, "\"%.200s\" is damaged: its SHA-256 is not the one that it had when it was saved", m->j.path);
	return 0;
}

void memfile_open(struct datastore *ds, const char *path, uint64_t bytes, const char *sha256,
		  void (*done)(void *, int *, const struct err *), void *arg)
{
	struct memjob *m = memjob_new(path, NULL, arg);

	m->bytes = bytes;
	snprintf(m->sha256, sizeof(m->sha256), "%s", sha256);
	m->opened = done;
	dsjob_run(ds, &m->j, path, DSJOB_BULK, open_work, opened_done);
}

/* The mark of the file that has the name: 0, with "" also when it has none; -ENOENT when there is no file. */
static int mark_of(struct memjob *m, int folder, const char *name, char ret[37], struct err *e)
{
	AUTO_CLOSE int fd = -1;
	int r = file_open_beneath(folder, name, O_RDONLY | O_NONBLOCK, 0);

	if (r < 0)
		return r == -ENOENT ? r : dsjob_fail(e, r, "open", m->j.path);
	fd = r;
	r = whose(fd, ret);
	return r < 0 ? dsjob_fail(e, r, "read", m->j.path) : 0;
}

static int another(const struct memjob *m, struct err *e)
{
	return fail(e, ERR_STATE, "\"%.200s\" was not saved by this Croft", m->j.path);
}

static int remove_work(struct job *job, struct err *e)
{
	struct memjob *m = (struct memjob *)job;
	const char *name, *temp;
	char mark[37] = "";
	AUTO_CLOSE int folder = -1;
	int r = folder_of(m, &name, &temp, e);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	folder = r;
	if (*m->home && (r = mark_of(m, folder, name, mark, e)) < 0 && r != -ENOENT)
		return r;
	if (*mark && strcmp(mark, m->home) != 0)
		return another(m, e);
	if ((unlinkat(folder, temp, 0) < 0 && errno != ENOENT) || (unlinkat(folder, name, 0) < 0 && errno != ENOENT))
		return dsjob_fail(e, errno, "delete", m->j.path);
	r = file_sync_dir(folder);
	return r < 0 ? dsjob_fail(e, r, "make durable the removal of", m->j.path) : 0;
}

void memfile_remove(struct datastore *ds, const char *path, const char *home, storage_done done, void *arg)
{
	dsjob_simple(ds, &memjob_new(path, home, NULL)->j, path, 0, remove_work, done, arg);
}

static int check_work(struct job *job, struct err *e)
{
	struct memjob *m = (struct memjob *)job;
	const char *name, *temp;
	char mark[37];
	AUTO_CLOSE int folder = -1;
	int r = folder_of(m, &name, &temp, e);

	if (r < 0)
		return r;
	folder = r;
	r = mark_of(m, folder, name, mark, e);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return strcmp(mark, m->home) == 0 ? 0 : another(m, e);
}

void memfile_check(struct datastore *ds, const char *path, const char *home, storage_done done, void *arg)
{
	dsjob_simple(ds, &memjob_new(path, home, NULL)->j, path, 0, check_work, done, arg);
}
