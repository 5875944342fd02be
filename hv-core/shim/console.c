/* console.c: the serial line. What the guest says is read at once and always, into the ring; viewers follow at their
 * own pace, each with a cursor. What viewers type goes through a small buffer: when it is full, they are not read. */
#include "shim.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "file.h"
#include "sock.h"

#define CHUNK	16384

int console_open(struct console *c, int dir, bool adopt, uint64_t bytes)
{
	int r = -ENOENT;
	if (adopt)				/* go on with the history that is there */
		r = ring_open(dir, "console.ring", true, &c->ring);
	if (r < 0 && (r = ring_create(dir, "console.ring", bytes, &c->ring)) < 0)
		return r;
	/* QEMU accepts when it has come so far; until then its socket's queue holds us. When it closes, that is final. */
	c->serial = sock_connect_at(dir, "serial", SOCK_STREAM);
	return c->serial < 0 && c->serial != -ENOENT ? c->serial : 0;	/* a VM may be without a serial line */
}

bool console_view(struct console *c, int fd)
{
	if (c->nviewers == VIEWERS || fd_nonblock(fd) < 0) {
		close(fd);
		return false;
	}
	c->viewers[c->nviewers++] = (struct viewer){ .fd = fd, .slot = -1, .at = ring_oldest(&c->ring) };
	return true;
}

void console_watch(struct console *c, struct polls *ps)
{
	bool room = c->ninput < sizeof(c->input);
	c->slot = polls_add(ps, c->serial, POLLIN | (c->ninput ? POLLOUT : 0));
	for (unsigned i = 0; i < c->nviewers; i++) {
		struct viewer *v = &c->viewers[i];
		v->slot = polls_add(ps, v->fd, (v->at < c->ring.total ? POLLOUT : 0) | (room && !v->said_all ? POLLIN : 0));
	}
}

static void serial_close(struct console *c)
{
	close(c->serial);
	c->serial = -1;
}

/* false: nothing more for now. */
static bool serial_read(struct console *c)
{
	char chunk[CHUNK];
	ssize_t n = recv(c->serial, chunk, sizeof(chunk), MSG_DONTWAIT);
	if (n > 0)
		ring_add(&c->ring, chunk, n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		serial_close(c);
	return n > 0;
}

static void serial_write(struct console *c)
{
	ssize_t n = send(c->serial, c->input, c->ninput, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n <= 0)
		return;
	c->ninput -= n;
	memmove(c->input, c->input + n, c->ninput);
}

static void viewer_read(struct console *c, struct viewer *v)
{
	ssize_t n = recv(v->fd, c->input + c->ninput, sizeof(c->input) - c->ninput, MSG_DONTWAIT);
	if (n > 0)
		c->ninput += n;
	else if (n == 0)
		v->said_all = true;
}

/* Say that it has missed something; the cursor moves on only when that was said. */
static bool viewer_gap(const struct console *c, struct viewer *v)
{
	char mark[64];
	uint64_t oldest = ring_oldest(&c->ring);
	if (v->at >= oldest)
		return true;
	int n = snprintf(mark, sizeof(mark), "\r\n[croft: %llu bytes skipped]\r\n", (unsigned long long)(oldest - v->at));
	if (send(v->fd, mark, n, MSG_DONTWAIT | MSG_NOSIGNAL) != n)
		return false;
	v->at = oldest;
	return true;
}

static bool viewer_write(const struct console *c, struct viewer *v)	/* false: it has gone */
{
	char chunk[CHUNK];
	uint64_t at = v->at, skipped;
	if (!viewer_gap(c, v))
		return true;
	size_t n = ring_get(&c->ring, &at, chunk, sizeof(chunk), &skipped);
	ssize_t sent = send(v->fd, chunk, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent > 0)
		v->at += sent;
	return sent >= 0 || errno == EAGAIN || errno == EINTR;
}

static void viewers_work(struct console *c, struct polls *ps)
{
	for (unsigned i = c->nviewers; i-- > 0;) {
		struct viewer *v = &c->viewers[i];
		short got = polls_got(ps, v->slot);
		bool gone = got & (POLLHUP | POLLERR | POLLNVAL);
		if (!gone && (got & POLLIN))
			viewer_read(c, v);
		if (!gone && (got & POLLOUT))
			gone = !viewer_write(c, v);
		if (gone) {
			close(v->fd);
			*v = c->viewers[--c->nviewers];
		}
	}
}

void console_work(struct console *c, struct polls *ps)
{
	short got = polls_got(ps, c->slot);
	if (got & (POLLIN | POLLHUP | POLLERR))
		serial_read(c);
	if ((got & POLLOUT) && c->serial >= 0)
		serial_write(c);
	viewers_work(c, ps);
}

void console_drain(struct console *c)
{
	for (unsigned i = 0; i < 64 && c->serial >= 0 && serial_read(c); i++)	/* bounded: a socket holds less */
		;
	if (c->serial >= 0)
		serial_close(c);
}

bool console_behind(const struct console *c)
{
	for (unsigned i = 0; i < c->nviewers; i++)
		if (c->viewers[i].at < c->ring.total)
			return true;
	return false;
}
