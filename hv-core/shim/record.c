/* record.c: what croft-vm writes down. launch.json is published whole before the guest may run. end.json and qemu.log
 * are written later, without a right to the folder: they are opened at the start, and end.json stays empty until it is
 * written by one call. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "jw.h"
#include "mem.h"
#include "text.h"

#define LOG_MAX		65536
#define LOG_KEEP	32768		/* of the end, when it is full */

int record_open(struct record *r, int dir, bool adopt)
{
	r->said = r->slot = -1;
	r->log = openat(dir, "qemu.log", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (adopt ? 0 : O_TRUNC), 0600);
	r->end = openat(dir, "end.json", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_TRUNC, 0600);
	return r->log < 0 || r->end < 0 ? -errno : 0;
}

/* Whole or not at all, but without fsync: after a crash of the host it would tell of another boot. */
static int publish(int dir, const char *text, size_t n)
{
	AUTO_CLOSE int fd = openat(dir, ".launch.json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = fd < 0 ? -errno : file_write_all(fd, text, n);
	return r < 0 ? r : renameat(dir, ".launch.json", dir, "launch.json") < 0 ? -errno : 0;
}

int record_launch(int dir, const struct ctl_launch *l, const struct ctl_state *s)
{
	AUTO_BUF struct buf b = BUF_INIT(2 * CTL_MAX);
	struct jw w = JW(&b);
	jw_obj(&w, NULL);
	jw_u64(&w, "format", 1);
	jw_str(&w, "uuid", l->uuid);
	jw_str(&w, "boot_id", l->boot_id);
	jw_str(&w, "version", l->version);
	jw_str(&w, "qemu_version", l->qemu_version);
	jw_u64(&w, "pid", s->pid);
	jw_u64(&w, "start_time", s->start_time);
	jw_u64(&w, "shim_pid", s->shim_pid);
	jw_u64(&w, "shim_start_time", s->shim_start_time);
	jw_u64(&w, "uid", l->uid);
	jw_bool(&w, "adopted", s->adopted);
	jw_str(&w, "confinement", s->confinement);
	jw_time(&w, "started", now_usec());
	jw_arr(&w, "argv");
	for (size_t i = 0; i < l->argv.n; i++)
		jw_str(&w, NULL, l->argv.v[i]);
	jw_end(&w);
	jw_end(&w);
	return b.over ? -EFBIG : publish(dir, b.data, b.len);
}

/* A full log keeps its end. */
static off_t log_make_room(int fd, off_t size)
{
	char keep[LOG_KEEP];
	ssize_t n = pread(fd, keep, sizeof(keep), size - (off_t)sizeof(keep));
	if (n < 0 || pwrite(fd, keep, n, 0) != n || ftruncate(fd, n) < 0)
		return size;
	return n;
}

void record_said(struct record *r)
{
	char chunk[4096];
	struct stat st;
	ssize_t n = read(r->said, chunk, sizeof(chunk));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		close(r->said);
		r->said = -1;
		return;
	}
	if (fstat(r->log, &st) < 0)
		return;
	if (st.st_size + n > LOG_MAX)
		st.st_size = log_make_room(r->log, st.st_size);
	(void)!pwrite(r->log, chunk, n, st.st_size);
}

static void tail(const struct record *r, char *out, size_t cap)
{
	struct stat st = { 0 };
	fstat(r->log, &st);
	ssize_t n = pread(r->log, out, cap - 1, st.st_size > (off_t)cap - 1 ? st.st_size - (off_t)(cap - 1) : 0);
	out[n < 0 ? 0 : n] = 0;
	for (char *nul; n > 0 && (nul = memchr(out, 0, n)); )
		*nul = '?';
}

void record_end(struct record *r, const struct ctl_launch *l, struct ctl_state *s, char *said, size_t cap)
{
	static const char *const how[] = { "unknown", "exited", "killed" };
	AUTO_BUF struct buf b = BUF_INIT(65536);
	struct jw w = JW(&b);
	for (int i = 0; i < 32 && r->said >= 0; i++)	/* bounded: a pipe holds less */
		record_said(r);
	if (!*said)
		tail(r, said, cap);
	s->at_usec = now_usec();
	jw_obj(&w, NULL);
	jw_u64(&w, "format", 1);
	jw_str(&w, "boot_id", l->boot_id);
	jw_str(&w, "how", how[s->how]);
	jw_u64(&w, "code", s->code);
	jw_time(&w, "at", (int64_t)s->at_usec);
	jw_str(&w, "said", said);
	jw_end(&w);
	(void)!pwrite(r->end, b.data, b.len, 0);
}
