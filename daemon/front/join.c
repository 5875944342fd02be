#include "join.h"
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "buf.h"
#include "due.h"
#include "exchange.h"
#include "front.h"
#include "http.h"
#include "mem.h"
#include "ws.h"

enum { CHUNK = 65535, CLOSE_USEC = 2000000 };

/* What could not be passed on at once; memory is held only then. */
struct rest { uint8_t *p; size_t n, off; };

struct join {
	struct xchg *x;
	int client, stream;		/* client: MHD's socket; stream: ours */
	sd_event_source *client_src, *stream_src;
	struct ws ws;
	struct rest in, out;
	size_t payload;			/* first bytes of in: unmasked already; the rest is raw */
	uint8_t control[WS_HEAD_MAX + WS_CONTROL_MAX];	/* a pong or close that waits for its turn */
	size_t control_n;
	bool closing;			/* nothing is read any more; ends when all is written */
	struct due due;
};

static uint8_t scratch[WS_HEAD_MAX + CHUNK];	/* one join uses it at a time, within one callback */
static struct dues closings;

static void rest_keep(struct rest *r, const uint8_t *p, size_t n)
{
	uint8_t *old = r->p;
	r->p = n ? xmemdup(p, n) : NULL;	/* @p may lie in the old one */
	r->n = n;
	r->off = 0;
	free(old);
}

/* Bytes that the socket took; -1 when it is dead. */
static ssize_t put(int fd, const uint8_t *p, size_t n)
{
	ssize_t r = send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	return r >= 0 ? r : errno == EAGAIN || errno == EINTR ? 0 : -1;
}

/* --- server -> client --- */

static int flush_out(struct join *j)
{
	if (j->out.p) {
		ssize_t r = put(j->client, j->out.p + j->out.off, j->out.n - j->out.off);
		if (r < 0)
			return -1;
		j->out.off += r;
		if (j->out.off < j->out.n)
			return 0;
		rest_keep(&j->out, NULL, 0);
	}
	if (j->control_n) {
		ssize_t r = put(j->client, j->control, j->control_n);
		if (r < 0)
			return -1;
		if ((size_t)r < j->control_n)
			rest_keep(&j->out, j->control + r, j->control_n - r);
		j->control_n = 0;
	}
	return 0;
}

static int say(struct join *j, enum ws_op op, const uint8_t *p, size_t n)
{
	size_t head = ws_head(j->control, op, n);

	memcpy(j->control + head, p, n);
	j->control_n = head + n;	/* an older pong that still waits is not needed any more */
	return flush_out(j);
}

static int say_close(struct join *j, unsigned code)
{
	uint8_t p[2] = { code >> 8, code };

	j->closing = true;
	due_set(&closings, &j->due, CLOSE_USEC);
	return say(j, WS_CLOSE, p, code ? 2 : 0);
}

static int read_stream(struct join *j)
{
	uint8_t *p = scratch + WS_HEAD_MAX;
	uint8_t head[WS_HEAD_MAX];
	ssize_t n = recv(j->stream, p, CHUNK, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return say_close(j, WS_NORMAL);
	size_t h = ws_head(head, WS_BINARY, n);
	p -= h;
	memcpy(p, head, h);
	ssize_t r = put(j->client, p, h + n);
	if (r < 0)
		return -1;
	if ((size_t)r < h + n)
		rest_keep(&j->out, p + r, h + n - r);
	return 0;
}

/* --- client -> server --- */

/* Pass on what is in p[0..n), of which the first j->payload bytes are payload. What the stream doesn't take stays in
 * j->in. */
static int feed(struct join *j, uint8_t *p, size_t n)
{
	while (!j->closing) {
		if (j->payload) {
			ssize_t r = put(j->stream, p, j->payload);
			if (r < 0)
				return say_close(j, WS_GOING_AWAY);
			p += r;
			n -= r;
			j->payload -= r;
			if (j->payload)
				break;
		}
		uint8_t *data = NULL;
		size_t used = 0, len = 0;
		switch (ws_read(&j->ws, p, n, &used, &data, &len)) {
		case WS_MORE:
			rest_keep(&j->in, NULL, 0);
			return 0;
		case WS_DATA:
			n -= data - p;
			p = data;
			j->payload = len;
			continue;
		case WS_GOT_PING:
			if (say(j, WS_PONG, j->ws.control, j->ws.control_len))
				return -1;
			break;
		case WS_GOT_CLOSE:
			return say_close(j, j->ws.control_len ? j->ws.control[0] << 8 | j->ws.control[1] : 0);
		case WS_BROKEN:
			return say_close(j, len);
		}
		p += used;
		n -= used;
	}
	rest_keep(&j->in, p, n);
	return 0;
}

static int read_client(struct join *j)
{
	ssize_t n = recv(j->client, scratch, CHUNK, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return n <= 0 ? -1 : feed(j, scratch, n);
}

/* --- life --- */

/* Level-triggered: each side is asked only for what can go on, so nothing spins and nothing is read that has no room. */
static void ask(struct join *j)
{
	bool in = j->in.p, out = j->out.p || j->control_n;

	sd_event_source_set_io_events(j->client_src, (in || j->closing ? 0 : EPOLLIN) | (out ? EPOLLOUT : 0));
	sd_event_source_set_io_events(j->stream_src, j->closing ? 0 : (out ? 0 : EPOLLIN) | (j->payload ? EPOLLOUT : 0));
}

static void finish_turn(struct join *j, int r)
{
	if (r || (j->closing && !j->out.p && !j->control_n)) {
		sd_event_source_set_enabled(j->client_src, SD_EVENT_OFF);
		sd_event_source_set_enabled(j->stream_src, SD_EVENT_OFF);
		http_abort(j->x);	/* the rest in over() */
	} else {
		ask(j);
	}
}

static int on_client(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct join *j = arg;
	int r = 0;

	loop_what("console");
	if (events & EPOLLOUT)
		r = flush_out(j);
	if (!r && events & EPOLLIN && !j->in.p)
		r = read_client(j);
	if (events & (EPOLLHUP | EPOLLERR) && !(events & EPOLLIN))
		r = -1;
	finish_turn(j, r);
	return 0;
}

static int on_stream(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct join *j = arg;
	int r = 0;

	loop_what("console");
	if (events & EPOLLOUT && j->in.p)
		r = feed(j, j->in.p + j->in.off, j->in.n - j->in.off);
	if (!r && !j->closing && events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !j->out.p && !j->control_n)
		r = read_stream(j);
	finish_turn(j, r);
	return 0;
}

static void on_close_time(struct due *d)
{
	http_abort(CONTAINER(d, struct join, due)->x);
}

static void own(struct xchg *x, int fd, const char *p, size_t n)
{
	struct join *j = x->job;

	j->client = fd;
	if (sd_event_add_io(front.ev, &j->client_src, fd, EPOLLIN, on_client, j) < 0 ||
	    sd_event_add_io(front.ev, &j->stream_src, j->stream, EPOLLIN, on_stream, j) < 0) {
		http_abort(x);
		return;
	}
	int r = 0;
	if (n) {
		rest_keep(&j->in, (const uint8_t *)p, n);
		r = feed(j, j->in.p, n);
	}
	finish_turn(j, r);
}

static void over(struct xchg *x)
{
	struct join *j = x->job;

	sd_event_source_disable_unref(j->client_src);
	sd_event_source_disable_unref(j->stream_src);
	due_clear(&j->due);
	close_at(&j->stream);
	free(j->in.p);
	free(j->out.p);
	free(j);
}

static const struct part join = { .own = own, .over = over };

static bool offered(const char *list, const char *protocol)
{
	size_t n = strlen(protocol);

	while (list && *list) {
		list += strspn(list, " \t,");
		size_t len = strcspn(list, ", \t");
		if (len == n && !strncmp(list, protocol, n))
			return true;
		list += len;
	}
	return false;
}

/* Sec-WebSocket-Accept (RFC 6455, section 4.2.2). */
static int accept_key(const char *key, char out[32])
{
	char text[64 + 1];
	unsigned char hash[20];
	gnutls_datum_t b64;
	int n = snprintf(text, sizeof(text), "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);

	if (gnutls_hash_fast(GNUTLS_DIG_SHA1, text, n, hash) || gnutls_base64_encode2(&(gnutls_datum_t){ hash, 20 }, &b64))
		return -EIO;
	snprintf(out, 32, "%.*s", (int)b64.size, b64.data);
	gnutls_free(b64.data);
	return 0;
}

void join_begin(struct xchg *x, const void *msg, int *fds, unsigned nfds)
{
	const struct door_join *m = msg;
	struct buf AUTO_BUF head = BUF_INIT(1024);
	char key[32];

	if (!x->websocket || !nfds || !http_whole(x) || accept_key(http_header(x, "Sec-WebSocket-Key"), key)) {
		http_problem(x, ERR_BAD_REQUEST, 426, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
			     "This is a WebSocket: connect with a WebSocket client.");
		exchange_over(x);	/* croftd hears GONE */
		return;
	}
	if (!closings.fn)
		dues_init(&closings, front.ev, on_close_time);
	struct join *j = xnew(join);
	j->x = x;
	j->client = -1;
	j->stream = TAKE_FD(fds[0]);
	http_part(x, &join, j);
	buf_addf(&head, "Upgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n", key);
	if (m->protocol && offered(http_header(x, "Sec-WebSocket-Protocol"), m->protocol))
		buf_addf(&head, "Sec-WebSocket-Protocol: %s\r\n", m->protocol);
	http_upgrade(x, head.data);
}
