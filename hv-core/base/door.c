#include "door.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "list.h"
#include "loop.h"
#include "mem.h"

enum { QUEUE_MAX = 16 << 20, BUDGET = 64, SOCKET_BUFFER = 1 << 20 };
#define NO_TEXT UINT32_MAX	/* the length of a NULL text */

/* The codec: rows describe a struct, one walker for each direction. TEXT is a STR that is never NULL. */
enum row_kind { ROW_END, U32, U64, STR, TEXT, BYTES };
struct row { uint8_t kind; uint16_t off; };

#define R(s, kind, field) { kind, offsetof(struct door_##s, field) }
static const struct row request_rows[] = {
	R(request, TEXT, method), R(request, TEXT, path), R(request, STR, query), R(request, TEXT, peer),
	R(request, STR, ticket), R(request, STR, host), R(request, STR, origin), R(request, STR, authorization),
	R(request, STR, cookie), R(request, STR, content_type), R(request, STR, accept), R(request, STR, if_match),
	R(request, STR, if_none_match), R(request, STR, idempotency_key), R(request, STR, prefer),
	R(request, STR, last_event_id), R(request, STR, range), R(request, STR, upload_offset),
	R(request, STR, repr_digest), R(request, U64, content_length), R(request, U32, websocket), { 0 },
};
static const struct row hello_rows[] = {
	R(hello, TEXT, build), R(hello, U32, listeners), R(hello, U32, uid), R(hello, U32, gid),
	R(hello, STR, certificate), R(hello, STR, key), R(hello, U32, requests_max), R(hello, U32, events_credit),
	R(hello, U32, connections_max), R(hello, U32, connections_per_address), R(hello, U32, head_timeout_ms),
	R(hello, U32, idle_timeout_ms), R(hello, U64, ring_bytes), { 0 },
};
static const struct row body_rows[] = { R(body, BYTES, body), { 0 } };
static const struct row stored_rows[] = { R(stored, U64, bytes), R(stored, U32, error), { 0 } };
static const struct row sent_rows[] = { R(sent, U64, bytes), R(sent, U32, error), { 0 } };
static const struct row again_rows[] = { R(again, U64, after), { 0 } };
static const struct row ack_rows[] = { R(ack, U32, events), { 0 } };
static const struct row log_rows[] = { R(log, U32, level), R(log, TEXT, line), { 0 } };
static const struct row certificate_rows[] = { R(certificate, STR, certificate), R(certificate, STR, key), { 0 } };
static const struct row connection_rows[] = { R(connection, STR, ticket), { 0 } };
static const struct row reply_rows[] = {
	R(reply, U32, status), R(reply, STR, headers), R(reply, BYTES, body), R(reply, U32, close), { 0 },
};
static const struct row collect_rows[] = { R(collect, U64, max), { 0 } };
static const struct row store_rows[] = {
	R(store, STR, lane), R(store, U64, offset), R(store, U64, max), R(store, U64, deadline_usec), { 0 },
};
static const struct row send_rows[] = {
	R(send, U32, status), R(send, STR, headers), R(send, STR, lane), R(send, U64, offset), R(send, U64, length),
	R(send, U64, deadline_usec), { 0 },
};
static const struct row join_rows[] = { R(join, STR, protocol), { 0 } };
static const struct row follow_rows[] = { R(follow, U64, audience), R(follow, U64, from), { 0 } };
static const struct row event_rows[] = {
	R(event, U64, audience), R(event, U64, seq), R(event, U64, previous), R(event, BYTES, frame), { 0 },
};
static const struct row withdraw_rows[] = { R(withdraw, U32, unused), { 0 } };

union door_any {
#define X(name, s, f, c) struct door_##s name;
	DOOR_TABLE(X)
#undef X
};

static const struct { const struct row *rows; uint16_t size; bool from_front, from_croftd; } types[DOOR_NTYPES] = {
#define X(name, s, f, c) [DOOR_##name] = { s##_rows, sizeof(struct door_##s), f, c },
	DOOR_TABLE(X)
#undef X
};

/* One machine, one build: numbers travel as they lie in memory. */
struct head { uint32_t type, length, nfds, zero; uint64_t id; };

size_t door_size(enum door_type type)
{
	return type > DOOR_NONE && type < DOOR_NTYPES ? types[type].size : 0;
}

struct span { char *p, *end; };

static int put(struct span *s, const void *p, size_t n)
{
	if ((size_t)(s->end - s->p) < n)
		return -EBADMSG;
	if (n)
		memcpy(s->p, p, n);
	s->p += n;
	return 0;
}

static int put_text(struct span *s, const char *p, size_t n)
{
	uint32_t len = n;
	if (n > DOOR_MAX || put(s, &len, sizeof(len)) || put(s, p, n))
		return -EBADMSG;
	return put(s, "", 1);
}

static int put_row(struct span *s, enum row_kind kind, const char *field)
{
	const char *text;
	struct door_bytes bytes;
	uint32_t none = NO_TEXT;

	switch (kind) {
	case U32:
		return put(s, field, sizeof(uint32_t));
	case U64:
		return put(s, field, sizeof(uint64_t));
	case STR:
	case TEXT:
		memcpy(&text, field, sizeof(text));
		if (text)
			return put_text(s, text, strlen(text));
		return kind == TEXT ? put_text(s, "", 0) : put(s, &none, sizeof(none));
	case BYTES:
		memcpy(&bytes, field, sizeof(bytes));
		return put_text(s, bytes.p, bytes.n);
	case ROW_END:
		break;
	}
	return -EBADMSG;
}

int door_encode(enum door_type type, uint64_t id, const void *msg, unsigned nfds, void *out, size_t cap,
		size_t *ret_len)
{
	struct head h = { .type = type, .nfds = nfds, .id = id };
	struct span s = { out, (char *)out + cap };

	if (!door_size(type) || nfds > DOOR_FDS || put(&s, &h, sizeof(h)))
		return -EBADMSG;
	for (const struct row *r = types[type].rows; r->kind; r++)
		if (put_row(&s, r->kind, (const char *)msg + r->off))
			return -EBADMSG;
	h.length = s.p - (char *)out;
	memcpy(out, &h, sizeof(h));
	*ret_len = h.length;
	return 0;
}

struct view { const char *p, *end; };

static int get(struct view *v, void *to, size_t n)
{
	if ((size_t)(v->end - v->p) < n)
		return -EBADMSG;
	memcpy(to, v->p, n);
	v->p += n;
	return 0;
}

static int get_text(struct view *v, const char **ret, size_t *ret_n)
{
	uint32_t n;

	*ret = NULL;
	*ret_n = 0;
	if (get(v, &n, sizeof(n)))
		return -EBADMSG;
	if (n == NO_TEXT)
		return 0;
	if ((size_t)(v->end - v->p) <= n || v->p[n])
		return -EBADMSG;
	*ret = v->p;
	*ret_n = n;
	v->p += n + 1;
	return 0;
}

static int get_row(struct view *v, enum row_kind kind, char *field)
{
	struct door_bytes b;

	switch (kind) {
	case U32:
		return get(v, field, sizeof(uint32_t));
	case U64:
		return get(v, field, sizeof(uint64_t));
	case STR:
	case TEXT:
		if (get_text(v, &b.p, &b.n) || (b.p && memchr(b.p, 0, b.n)) || (!b.p && kind == TEXT))
			return -EBADMSG;
		memcpy(field, &b.p, sizeof(b.p));
		return 0;
	case BYTES:
		if (get_text(v, &b.p, &b.n) || !b.p)
			return -EBADMSG;
		memcpy(field, &b, sizeof(b));
		return 0;
	case ROW_END:
		break;
	}
	return -EBADMSG;
}

int door_decode(const void *p, size_t n, enum door_type *type, uint64_t *id, unsigned *nfds, void *msg, size_t msg_cap)
{
	struct view v = { p, (const char *)p + n };
	struct head h;

	if (n > DOOR_MAX || get(&v, &h, sizeof(h)) || h.length != n || h.zero || h.nfds > DOOR_FDS ||
	    h.type >= DOOR_NTYPES || !door_size(h.type) || door_size(h.type) > msg_cap)
		return -EBADMSG;
	memset(msg, 0, door_size(h.type));
	for (const struct row *r = types[h.type].rows; r->kind; r++)
		if (get_row(&v, r->kind, (char *)msg + r->off))
			return -EBADMSG;
	if (v.p != v.end)
		return -EBADMSG;
	*type = h.type;
	*id = h.id;
	*nfds = h.nfds;
	return 0;
}

struct queued {
	struct list in_queue;
	int fds[DOOR_FDS];
	unsigned nfds;
	size_t n;
	char data[];
};

struct door {
	sd_event_source *io, *end;
	int fd;
	bool of_front, busy, freed, writing;
	bool deaf;		/* the other end is closed: what it said before is still to be read */
	door_fn fn;
	void (*ended)(void *arg, const char *why);
	void *arg;
	struct list queue;
	size_t queued;
	const char *why;	/* the door has ended */
	char in[DOOR_MAX], out[DOOR_MAX];
};

static void close_fds(const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void queue_drop(struct door *d, struct queued *q)
{
	list_remove(&q->in_queue);
	d->queued -= q->n;
	free(q);
}

static int on_end(sd_event_source *s, void *arg)
{
	struct door *d = arg;
	loop_what("door end");
	if (d->ended)
		d->ended(d->arg, d->why);
	return 0;
}

/* ended() is told from the loop, so that door_send is safe everywhere. */
static void door_end(struct door *d, const char *why)
{
	if (d->why)
		return;
	d->why = why;
	sd_event_source_set_enabled(d->io, SD_EVENT_OFF);
	LIST_FOR(q, &d->queue, struct queued, in_queue) {
		close_fds(q->fds, q->nfds);
		queue_drop(d, q);
	}
	int r = sd_event_add_defer(sd_event_source_get_event(d->io), &d->end, on_end, d);
	if (r < 0 && r != -ESTALE)	/* a loop that has ended tells nobody anything */
		abort();
}

/* 0: sent. -EAGAIN: later. Any other: the door is at its end, or deaf. */
static int send_now(struct door *d, const void *p, size_t n, const int *fds, unsigned nfds)
{
	union { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(int) * DOOR_FDS)]; } control;
	struct iovec iov = { (void *)p, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds) {
		memset(&control, 0, sizeof(control));
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	for (;;) {
		if (sendmsg(d->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN || errno == ENOBUFS)
			return -EAGAIN;
		if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
			d->deaf = true;
		else
			door_end(d, "a message could not be sent");
		return -EPIPE;
	}
}

static void want_out(struct door *d, bool on)
{
	if (d->writing != on)
		sd_event_source_set_io_events(d->io, EPOLLIN | (on ? EPOLLOUT : 0));
	d->writing = on;
}

static void flush(struct door *d)
{
	while (!list_empty(&d->queue) && !d->why) {
		struct queued *q = LIST_ENTRY(d->queue.next, struct queued, in_queue);
		if (!d->deaf && send_now(d, q->data, q->n, q->fds, q->nfds) == -EAGAIN)
			return;
		if (d->why)
			return;
		close_fds(q->fds, q->nfds);
		queue_drop(d, q);
	}
	if (!d->why)
		want_out(d, false);
}

void door_send(struct door *d, enum door_type type, uint64_t id, const void *msg, const int *fds, unsigned nfds)
{
	size_t n;

	if (d->why || d->deaf || d->freed)
		return close_fds(fds, nfds);
	if (door_encode(type, id, msg, nfds, d->out, sizeof(d->out), &n)) {
		door_end(d, "a message of our own is too large");
		return close_fds(fds, nfds);
	}
	if (list_empty(&d->queue) && send_now(d, d->out, n, fds, nfds) != -EAGAIN)
		return close_fds(fds, nfds);
	if (d->queued + n > QUEUE_MAX) {
		door_end(d, "the other end takes no messages");
		return close_fds(fds, nfds);
	}
	struct queued *q = xmalloc(sizeof(*q) + n);
	q->n = n;
	q->nfds = nfds;
	if (nfds)
		memcpy(q->fds, fds, sizeof(int) * nfds);
	memcpy(q->data, d->out, n);
	list_append(&d->queue, &q->in_queue);
	d->queued += n;
	want_out(d, true);
}

size_t door_queued(const struct door *d)
{
	return d->queued;
}

static unsigned take_fds(struct msghdr *m, int fds[DOOR_FDS], bool *torn)
{
	unsigned n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < k; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (n < DOOR_FDS) {
				fds[n++] = fd;
			} else {
				close(fd);
				*torn = true;
			}
		}
	}
	return n;
}

static void deliver(struct door *d, size_t n, int *fds, unsigned nfds, bool torn)
{
	union door_any msg;
	enum door_type type;
	uint64_t id;
	unsigned want;

	if (torn || door_decode(d->in, n, &type, &id, &want, &msg, sizeof(msg)) || want != nfds ||
	    !(d->of_front ? types[type].from_croftd : types[type].from_front)) {
		door_end(d, "the other end sent a torn or unknown message");
	} else {
		d->busy = true;
		d->fn(d->arg, type, id, &msg, fds, nfds);
		d->busy = false;
	}
	close_fds(fds, nfds);
}

/* false: nothing more for now */
static bool receive(struct door *d)
{
	union { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(int) * DOOR_FDS)]; } control;
	struct iovec iov = { d->in, sizeof(d->in) };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
	};
	int fds[DOOR_FDS];
	ssize_t n = recvmsg(d->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0) {
		if (errno == EINTR || errno == ECONNRESET)	/* what was sent before the reset can still be read */
			return true;
		if (errno != EAGAIN)
			door_end(d, "the socket failed");
		return false;
	}
	bool torn = m.msg_flags & (MSG_TRUNC | MSG_CTRUNC);
	unsigned nfds = take_fds(&m, fds, &torn);
	if (!n && !nfds) {
		door_end(d, "the other end has gone");
		return false;
	}
	deliver(d, n, fds, nfds, torn);
	return true;
}

static int on_io(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct door *d = arg;

	loop_what("door");
	if (events & EPOLLOUT)
		flush(d);
	for (int i = 0; i < BUDGET && !d->why && !d->freed; i++)
		if (!receive(d))
			break;
	if (d->freed)
		free(d);
	return 0;
}

struct door *door_new(sd_event *ev, int fd, enum door_side side, door_fn fn,
		      void (*ended)(void *arg, const char *why), void *arg)
{
	struct door *d = xnew(door);
	int size = SOCKET_BUFFER;

	d->fd = fd;
	d->of_front = side == DOOR_OF_FRONT;
	d->fn = fn;
	d->ended = ended;
	d->arg = arg;
	list_init(&d->queue);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)))	/* root only */
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (sd_event_add_io(ev, &d->io, fd, EPOLLIN, on_io, d) < 0)
		abort();
	sd_event_source_set_description(d->io, "door");
	return d;
}

void door_free(struct door *d)
{
	if (!d || d->freed)
		return;
	LIST_FOR(q, &d->queue, struct queued, in_queue) {
		close_fds(q->fds, q->nfds);
		queue_drop(d, q);
	}
	sd_event_source_disable_unref(d->io);
	sd_event_source_disable_unref(d->end);
	close_at(&d->fd);
	d->freed = true;
	if (!d->busy)	/* else on_io frees it */
		free(d);
}
