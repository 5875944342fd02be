#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "dsjob.h"
#include "file.h"
#include "loop.h"
#include "mem.h"

static void refused(void *arg)
{
	struct job *j = arg;

	j->done(j, &j->err);
}

void dsjob_run(struct datastore *ds, struct dsjob *j, const char *path, unsigned flags,
	       int (*work)(struct job *, struct err *), void (*done)(struct job *, const struct err *))
{
	j->dirfd = ds->dirfd;
	j->job.done = done;
	j->job.ret = datastore_usable(ds, &j->job.err);
	if (!j->job.ret)
		j->job.ret = dspath_check(path, flags & DSJOB_TOP, &j->job.err);
	if (j->job.ret < 0) {
		loop_defer(ds->ev, refused, &j->job);
		return;
	}
	memcpy(j->path, path, strlen(path) + 1);
	lane_run(flags & DSJOB_BULK ? ds->bulk : ds->lane, &j->job, work, done);
}

static void simple_done(struct job *job, const struct err *e)
{
	struct dsjob *j = (struct dsjob *)job;

	j->done(j->arg, e);
	free(j);
}

void dsjob_simple(struct datastore *ds, struct dsjob *j, const char *path, unsigned flags,
		  int (*work)(struct job *, struct err *), storage_done done, void *arg)
{
	j->done = done;
	j->arg = arg;
	dsjob_run(ds, j, path, flags, work, simple_done);
}

int dsjob_fail(struct err *e, int no, const char *doing, const char *path)
{
	switch (no < 0 ? -no : no) {
	case ENOENT:
		fail(e, ERR_NOT_FOUND, "there is no \"%.200s\" on the datastore", path);
		return err_hint(e, "list the datastore's files for its name; a file has to be uploaded, a folder to be made first");
	case ENOTDIR:
		return fail(e, ERR_INVALID, "\"%.200s\" leads through a file that isn't a folder", path);
	case ELOOP:
	case EXDEV:
		return fail(e, ERR_FORBIDDEN, "\"%.200s\" leads through a symbolic link, which isn't followed", path);
	case EEXIST:
		return fail(e, ERR_EXISTS, "\"%.200s\" is there already", path);
	case ENOTEMPTY:
		fail(e, ERR_STATE, "the folder \"%.200s\" isn't empty", path);
		return err_hint(e, "delete what is in it first, or the VM that it belongs to");
	}
	return fail_errno(e, no, "%s \"%.200s\"", doing, path);
}

int dsjob_open_folder(int dirfd, const char *folder, struct err *e)
{
	int fd = *folder ? file_open_dir(dirfd, folder, false, 0)
			 : openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd == -1 && !*folder)
		fd = -errno;
	return fd < 0 ? dsjob_fail(e, fd, "open the folder", folder) : fd;
}

int dsjob_folder(const struct dsjob *j, const char **name, struct err *e)
{
	char folder[DSPATH_MAX + 1];

	dspath_folder(j->path, folder);
	if (name)
		*name = dspath_name(j->path);
	return dsjob_open_folder(j->dirfd, folder, e);
}

int dsjob_open(const struct dsjob *j, int flags, struct err *e)
{
	AUTO_CLOSE int fd = -1;
	struct stat st;

	/* EAGAIN: the other lane looks just now whether anybody writes to it (volfile_written) */
	for (int tries = 0; tries < 20 && (fd = file_open_beneath(j->dirfd, j->path, flags | O_NONBLOCK | O_NOCTTY, 0)) == -EAGAIN;
	     tries++)
		usleep(1000);
	if (fd == -EISDIR)
		return fail(e, ERR_INVALID, "\"%.200s\" is a folder", j->path);
	if (fd < 0) {
		int r = fd;

		fd = -1;
		return dsjob_fail(e, r, "open", j->path);
	}
	if (fstat(fd, &st) < 0)
		return dsjob_fail(e, errno, "look at", j->path);
	if (!S_ISREG(st.st_mode))
		return fail(e, ERR_INVALID, "\"%.200s\" isn't a regular file", j->path);
	if (fcntl(fd, F_SETFL, flags & ~O_CREAT) < 0)
		return dsjob_fail(e, errno, "open", j->path);
	return TAKE_FD(fd);
}
