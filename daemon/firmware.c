#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "file.h"
#include "firmware.h"
#include "lane.h"
#include "mem.h"
#include "qcow2.h"

#define DEADLINE_USEC	(30 * 1000000ull)
#define LANE_DEPTH	4096			/* as many VMs may start at once */

struct firmware {
	sd_event *ev;
	struct lane *lane;			/* one thread, from the first use on */
	struct { int fd; struct stat of; } made;	/* the lane's; fd -1: nothing yet */
};

struct opening {
	struct job job;
	struct firmware *f;
	char *path;
	int fd;
	void (*done)(void *arg, int *fd, const struct err *e);
	void *arg;
};

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int make(struct firmware *f, int file, const struct stat *st, struct err *e)
{
	struct qcow2_new n = { .bytes = (uint64_t)st->st_size, .content = file };
	AUTO_CLOSE int fd = memfd_create("uefi-code", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r = fd < 0 ? fail_errno(e, errno, "make memory for the UEFI firmware") : qcow2_write(fd, &n, e);

	if (r < 0)
		return r;
	if ((r = file_seal(fd, 0444)) < 0)
		return fail_errno(e, r, "seal the UEFI firmware");
	close_at(&f->made.fd);
	f->made.fd = TAKE_FD(fd);
	f->made.of = *st;
	return 0;
}

/* In the lane, whose one thread owns what is made. */
static int open_work(struct job *j, struct err *e)
{
	struct opening *o = (struct opening *)j;
	struct firmware *f = o->f;
	AUTO_CLOSE int file = open(o->path, O_RDONLY | O_CLOEXEC);
	char made[32];
	struct stat st;
	int r;

	if (file < 0 || fstat(file, &st) < 0)
		return fail_errno(e, errno, "open the UEFI firmware %s", o->path);
	if ((f->made.fd < 0 || !same(&f->made.of, &st)) && (r = make(f, file, &st, e)) < 0)
		return r;
	snprintf(made, sizeof made, "/proc/self/fd/%d", f->made.fd);
	o->fd = open(made, O_RDONLY | O_CLOEXEC);
	return o->fd < 0 ? fail_errno(e, errno, "open the UEFI firmware in memory") : 0;
}

static void open_done(struct job *j, const struct err *e)
{
	struct opening *o = (struct opening *)j;

	o->done(o->arg, &o->fd, e);
	close_at(&o->fd);
	free(o->path);
	free(o);
}

void firmware_open(struct firmware *f, const char *path, void (*done)(void *arg, int *fd, const struct err *e), void *arg)
{
	struct opening *o = xnew(opening);

	if (!f->lane) {
		f->lane = lane_new(f->ev, "firmware", 1, LANE_DEPTH);
		lane_set_deadline(f->lane, DEADLINE_USEC);
	}
	o->f = f;
	o->path = xstrdup(path);
	o->fd = -1;
	o->done = done;
	o->arg = arg;
	lane_run(f->lane, &o->job, open_work, open_done);
}

struct firmware *firmware_new(sd_event *ev)
{
	struct firmware *f = xnew(firmware);

	f->ev = sd_event_ref(ev);
	f->made.fd = -1;
	return f;
}

void firmware_free(struct firmware *f)
{
	if (!f)
		return;
	lane_free(f->lane);
	close_at(&f->made.fd);
	sd_event_unref(f->ev);
	free(f);
}
