#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "file.h"
#include "mem.h"
#include "volfile.h"

static void temp_name(const char *id, char out[64])
{
	snprintf(out, 64, ".croft-new-%.36s", id);
}

int volfile_head(int fd, struct qcow2_head *ret, struct err *e)
{
	AUTO_FREE uint8_t *head = xmalloc(QCOW2_HEAD);
	struct stat st;
	ssize_t n = pread(fd, head, QCOW2_HEAD, 0);

	if (n < 0 || fstat(fd, &st) < 0)
		return fail_errno(e, errno, "read the image");
	return qcow2_read(head, (size_t)n, (uint64_t)st.st_size, ret, e);
}

int volfile_mine(const struct dsjob *j, const char *id, struct err *e)
{
	AUTO_CLOSE int fd = -1;
	struct err err = { 0 };
	struct qcow2_head h;
	int r = dsjob_open(j, O_RDONLY, &err);

	if (r == -ENOENT)
		return 0;
	if (r >= 0) {
		fd = r;
		if (!volfile_head(fd, &h, NULL) && !strcmp(h.mark, id))
			return 1;
	} else if (err.code == ERR_FORBIDDEN) {
		if (e)
			*e = err;
		return r;
	}
	return dsjob_fail(e, EEXIST, "make", j->path);
}

int volfile_temp(const struct dsjob *j, const char *id, struct err *e)
{
	AUTO_CLOSE int folder = -1;
	char temp[64];
	int r = dsjob_folder(j, NULL, e);

	if (r < 0)
		return r;
	folder = r;
	temp_name(id, temp);
	/* A new file each time: a qemu-img of a croftd that was killed may still be writing to the old one. */
	if (unlinkat(folder, temp, 0) < 0 && errno != ENOENT)
		return dsjob_fail(e, errno, "make", j->path);
	r = file_open_beneath(folder, temp, O_RDWR | O_CREAT | O_EXCL, 0600);
	return r < 0 ? dsjob_fail(e, r, "make", j->path) : r;
}

static int publish(const struct dsjob *j, const char *id, int fd, bool over, struct err *e)
{
	AUTO_CLOSE int folder = -1;
	char temp[64];
	const char *name;
	int r = dsjob_folder(j, &name, e);

	if (r < 0)
		return r;
	folder = r;
	temp_name(id, temp);
	if (fsync(fd) < 0)
		return dsjob_fail(e, errno, "make durable", j->path);
	if (over)
		r = renameat(folder, temp, folder, name) < 0 ? -errno : 0;
	else
		r = file_rename_new(folder, temp, name);
	if (!r)
		r = file_sync_dir(folder);
	return r < 0 ? dsjob_fail(e, r, "make", j->path) : 0;
}

int volfile_publish(const struct dsjob *j, const char *id, int fd, struct err *e) { return publish(j, id, fd, false, e); }
int volfile_replace(const struct dsjob *j, const char *id, int fd, struct err *e) { return publish(j, id, fd, true, e); }

int volfile_discard(const struct dsjob *j, const char *id, struct err *e)
{
	AUTO_CLOSE int folder = -1;
	char temp[64];
	int r = dsjob_folder(j, NULL, e);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	folder = r;
	temp_name(id, temp);
	if (unlinkat(folder, temp, 0) < 0 && errno != ENOENT)
		return dsjob_fail(e, errno, "delete the temporary file of", j->path);
	return 0;
}

int volfile_written(int fd)
{
	/* A read lease is had only while nobody writes. Should somebody open the file for writing in the instant that we
	 * hold it, the kernel tells us by a signal: make it one that is ignored by default. */
	fcntl(fd, F_SETSIG, SIGWINCH);
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return errno == EAGAIN ? 1 : -errno;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return 0;
}
