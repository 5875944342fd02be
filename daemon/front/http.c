/* http.c: the only file that includes microhttpd.h. libmicrohttpd 0.9.75 in the mode "external epoll". Its traps, and
 * our rules: MHD_get_timeout is obeyed after every MHD_run; only the loop resumes, and every resume is followed by a
 * wake; a connection that waits for anything of ours is suspended, else MHD spins; while it is suspended MHD sees no
 * disconnect, so we watch the socket ourselves; a body's bytes are copied before the handler returns; a response can be
 * queued only before or after the body, so an answer in its midst is written by hand and the rest is drained. */
#include "http.h"
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "buf.h"
#include "due.h"
#include "exchange.h"
#include "front.h"
#include "head.h"
#include "list.h"
#include "mem.h"
#include "problem.h"

enum {
	POOL = 32 << 10,		/* of a connection: MHD wipes it after each request, and reads bodies by halves of it */
	BLOCK = 64 << 10,		/* of an answer's bytes */
	DISCARD_MAX = 256 << 10,	/* a body that nobody wants is still read up to this, to keep the connection */
	DRAIN_USEC = 5000000,
	ROUNDS = 4,			/* of MHD_run in one dispatch */
	HALF_USEC = 200000,		/* no more bytes will come: what is there is read by then */
};
enum phase {
	P_HEAD,
	P_ASK,		/* no body: MHD calls once more, and then an answer keeps the connection */
	P_VERDICT,	/* waits for croftd's first verdict */
	P_GO, P_BODY,	/* the next call begins the body; it comes */
	P_WHOLE,	/* it is complete; waits for an answer */
	P_DISCARD,	/* a small body that nobody wants, then the answer */
	P_DRAIN_GO, P_DRAIN,	/* the answer was written by hand; the body is thrown away */
	P_ANSWER,	/* MHD has the response */
	P_SOCKET,	/* upgraded */
};

struct conn {
	int fd;				/* MHD's */
	sd_event_source *watch;
	bool half, leaves;		/* the client has closed its sending side; that means that it has left */
	struct xchg *x;
	struct due slow;		/* the next head must be here by then; or the end of draining */
	char *ticket;
	struct list in_adding;
	char peer[];
};

static struct MHD_Daemon *mhd;
static sd_event_source *waker;
static struct timer timer;
static uint64_t timer_at;
static struct dues first_heads, next_heads, drains;
static struct list adding;		/* handed to MHD, which has not said that they have started: 1.0 does so in its next run */

/* --- the loop --- */

static void wake(void)
{
	sd_event_source_set_enabled(waker, SD_EVENT_ONESHOT);
}

static void run(void *arg)
{
	unsigned long long ms = 0;
	bool timeout = true;

	for (int i = 0; i < ROUNDS && timeout && ms == 0; i++) {
		MHD_run(mhd);
		timeout = MHD_get_timeout(mhd, &ms) == MHD_YES;
	}
	if (!timeout)
		return;
	if (ms == 0) {
		wake();
		return;
	}
	uint64_t now = 0;
	sd_event_now(front.ev, CLOCK_MONOTONIC, &now);
	if (timer_at > now && timer_at <= now + (ms + 1) * 1000)
		return;		/* it will fire early enough, and be armed again then */
	timer_at = now + (ms + 1) * 1000;
	timer_arm(&timer, front.ev, (ms + 1) * 1000, run, NULL);
}

static int on_ready(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	loop_what("HTTP");
	run(NULL);
	return 0;
}

static int on_wake(sd_event_source *s, void *arg)
{
	loop_what("HTTP");
	run(NULL);
	return 0;
}

static void suspend(struct xchg *x)
{
	if (x->suspended || x->aborted)
		return;
	x->suspended = true;
	MHD_suspend_connection(x->mhd);
}

void http_go(struct xchg *x)
{
	if (!x->suspended)
		return;
	x->suspended = false;
	MHD_resume_connection(x->mhd);
	wake();
}

void http_abort(struct xchg *x)
{
	if (x->aborted)
		return;
	x->aborted = true;
	if (x->upgrade)
		MHD_upgrade_action(x->upgrade, MHD_UPGRADE_ACTION_CLOSE);
	else
		shutdown(x->conn->fd, SHUT_RDWR);	/* MHD hears it when it isn't suspended */
	http_go(x);
	wake();
}

/* --- answers --- */

static void add_headers(struct MHD_Response *r, const char *headers)
{
	AUTO_FREE char *copy = xstrdup(headers);
	char *save = NULL;

	for (char *line = strtok_r(copy, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
		char *colon = strchr(line, ':');
		if (!colon)
			continue;
		*colon = '\0';
		MHD_add_response_header(r, line, colon + 1 + strspn(colon + 1, " "));
	}
}

static struct MHD_Response *make(const struct answer *a)
{
	struct MHD_Response *r;
	struct stat st;

	if (a->fd >= 0 && !fstat(a->fd, &st))
		r = MHD_create_response_from_fd64(st.st_size, a->fd);	/* closes it */
	else
		r = MHD_create_response_from_buffer(a->n, (void *)a->body,
						    a->lasting ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_COPY);
	if (!r)
		abort();
	if (a->headers)
		add_headers(r, a->headers);
	if (a->close)
		MHD_add_response_header(r, "Connection", "close");
	return r;
}

static void queue(struct xchg *x, unsigned status, struct MHD_Response *r)
{
	enum MHD_Result ok = MHD_queue_response(x->mhd, status, r);

	MHD_destroy_response(r);
	x->answered = true;
	x->phase = P_ANSWER;
	if (ok == MHD_YES)
		http_go(x);
	else
		http_abort(x);
}

/* The answer in the midst of a body, by hand; the rest of the body is drained, so that the client reads the answer and
 * not a reset connection. */
static void answer_raw(struct xchg *x, const struct answer *a)
{
	struct buf AUTO_BUF b = BUF_INIT(128 << 10);
	struct stat st;
	size_t n = a->n;
	const char *why = MHD_get_reason_phrase_for(a->status);

	if (a->fd >= 0)
		n = !fstat(a->fd, &st) && st.st_size < (64 << 10) ? (size_t)st.st_size : 0;
	buf_addf(&b, "HTTP/1.1 %u %s\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n", a->status, why ? why : "",
		 n, a->headers ? a->headers : "");
	char *room = buf_room(&b, n);
	if (room && a->fd < 0)
		memcpy(room, a->body, n);
	if (!room || (a->fd >= 0 && pread(a->fd, room, n, 0) != (ssize_t)n)) {
		http_abort(x);
		return;
	}
	b.len += n;
	x->answered = true;
	x->phase = x->phase == P_VERDICT || x->phase == P_GO ? P_DRAIN_GO : P_DRAIN;
	if (send(x->conn->fd, b.data, b.len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)b.len) {
		http_abort(x);
		return;
	}
	shutdown(x->conn->fd, SHUT_WR);
	due_set(&drains, &x->conn->slow, DRAIN_USEC);
	http_go(x);
}

bool http_whole(const struct xchg *x)
{
	return !x->answered && !x->aborted && (x->phase == P_WHOLE || (x->phase == P_VERDICT && !x->length));
}

void http_reply(struct xchg *x, const struct answer *a)
{
	bool small = x->length != DOOR_NO_LENGTH && x->length - x->got <= DISCARD_MAX;

	if (x->answered || x->aborted || x->phase < P_VERDICT || x->phase > P_WHOLE) {
		if (a->fd >= 0)
			close(a->fd);
		http_abort(x);
	} else if (http_whole(x) || (x->phase == P_VERDICT && (x->expects || x->bad))) {
		queue(x, a->status, make(a));
	} else if (small) {
		x->later = make(a);
		x->later_status = a->status;
		x->phase = P_DISCARD;
		http_go(x);
	} else {
		answer_raw(x, a);
		if (a->fd >= 0)
			close(a->fd);
	}
}

void http_problem(struct xchg *x, enum err_code code, unsigned status, const char *headers, const char *detail)
{
	struct buf AUTO_BUF body = BUF_INIT(4096), head = BUF_INIT(4096);

	problem(code, status, detail, &body);
	buf_addf(&head, "Content-Type: application/problem+json\r\nCache-Control: no-store\r\n%s", headers ? headers : "");
	http_reply(x, &(struct answer){ .status = status ? status : (unsigned)err_http(code), .headers = head.data,
		.body = body.data, .n = body.len, .fd = -1, .close = x->bad });
}

static ssize_t on_give(void *arg, uint64_t pos, char *p, size_t max)
{
	struct xchg *x = arg;
	ssize_t n = HTTP_FAIL;

	if (!x->aborted && x->part && x->part->give)
		n = x->part->give(x, p, max);
	if (x->aborted)
		n = HTTP_FAIL;
	if (n == 0)
		suspend(x);
	return n == HTTP_END ? MHD_CONTENT_READER_END_OF_STREAM : n < 0 ? MHD_CONTENT_READER_END_WITH_ERROR : n;
}

void http_give(struct xchg *x, const struct answer *a, uint64_t total)
{
	struct MHD_Response *r = MHD_create_response_from_callback(total, BLOCK, on_give, x, NULL);

	if (!r)
		abort();
	if (a->headers)
		add_headers(r, a->headers);
	queue(x, a->status, r);
}

static void on_upgrade(void *arg, struct MHD_Connection *con, void *ctx, const char *p, size_t n, int fd,
		       struct MHD_UpgradeResponseHandle *urh)
{
	struct xchg *x = arg;

	x->upgrade = urh;
	x->phase = P_SOCKET;
	x->conn->watch = sd_event_source_disable_unref(x->conn->watch);	/* the part watches now */
	if (x->aborted)
		MHD_upgrade_action(urh, MHD_UPGRADE_ACTION_CLOSE);
	else
		x->part->own(x, fd, p, n);
}

void http_upgrade(struct xchg *x, const char *headers)
{
	struct MHD_Response *r = MHD_create_response_for_upgrade(on_upgrade, x);

	if (!r)
		abort();
	add_headers(r, headers);
	queue(x, MHD_HTTP_SWITCHING_PROTOCOLS, r);
}

/* --- requests --- */

void http_part(struct xchg *x, const struct part *part, void *job)
{
	const struct part *old = x->part;

	x->part = NULL;
	if (old && old->over)
		old->over(x);
	x->part = part;
	x->job = job;
}

void http_read(struct xchg *x)
{
	if (x->phase != P_VERDICT)
		return;
	if (x->length) {
		x->phase = P_GO;
		http_go(x);
	} else {
		x->phase = P_WHOLE;
		x->part->end(x);
	}
}

struct each { bool (*fn)(void *arg, const char *name, size_t nlen, const char *value); void *arg; };

static enum MHD_Result on_header(void *arg, enum MHD_ValueKind kind, const char *name, size_t nlen, const char *value,
				 size_t vlen)
{
	struct each *e = arg;
	return e->fn(e->arg, name, nlen, value ? value : "") ? MHD_YES : MHD_NO;
}

void http_headers(struct xchg *x, bool (*fn)(void *arg, const char *name, size_t nlen, const char *value), void *arg)
{
	struct each e = { fn, arg };
	MHD_get_connection_values_n(x->mhd, MHD_HEADER_KIND, on_header, &e);
}

const char *http_header(struct xchg *x, const char *name)
{
	return MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, name);
}

static void begin(struct xchg *x)
{
	x->phase = P_VERDICT;
	if (x->bad)
		http_problem(x, ERR_BAD_REQUEST, x->bad_status, NULL, x->bad);
	else
		exchange_begin(x);
	if (!x->answered && x->phase == P_VERDICT)
		suspend(x);
}

static void on_head(struct xchg *x, const char *method, const char *version)
{
	const union MHD_ConnectionInfo *size = MHD_get_connection_info(x->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

	due_clear(&x->conn->slow);
	x->method = method;
	x->http10 = !strcmp(version, "HTTP/1.0");
	head_check(x);
	if (size && size->header_size > HTTP_HEAD_MAX && !x->bad) {
		x->bad = "The head of the request is larger than 16 KiB.";
		x->bad_status = 431;
	}
	if (x->length)
		begin(x);
	else
		x->phase = P_ASK;	/* MHD keeps a connection only if it is answered in the second call */
}

/* After a short read MHD waits for the next edge of its epoll; the end of the client's sending may have been told along
 * with the bytes before it, so that none comes. A connection that is resumed is read again. */
static void nudge(struct xchg *x)
{
	if (x->suspended || (x->phase != P_BODY && x->phase != P_DISCARD && x->phase != P_DRAIN))
		return;
	suspend(x);
	http_go(x);
}

static void on_body(struct xchg *x, const char *p, size_t *n)
{
	size_t took = x->part && x->part->take ? x->part->take(x, p, *n) : 0;

	if (x->phase == P_DISCARD || x->phase == P_DRAIN)
		took = *n;	/* an answer was given meanwhile */
	x->got += took;
	*n -= took;
	if (*n)
		suspend(x);
	else if (x->conn->half)
		nudge(x);
}

static void on_whole(struct xchg *x)
{
	x->phase = P_WHOLE;
	if (x->part && x->part->end)
		x->part->end(x);
	if (!x->answered)
		suspend(x);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *con, const char *url, const char *method,
				  const char *version, const char *p, size_t *n, void **ctx)
{
	struct xchg *x = *ctx;

	if (!x || x->aborted)
		return MHD_NO;
	switch ((enum phase)x->phase) {
	case P_HEAD:
		on_head(x, method, version);
		break;
	case P_ASK:
		begin(x);
		break;
	case P_GO:
		x->phase = P_BODY;
		break;
	case P_BODY:
		if (*n)
			on_body(x, p, n);
		else
			on_whole(x);
		break;
	case P_DISCARD:
		x->got += *n;
		if (!*n && x->got >= x->length)
			queue(x, x->later_status, TAKE(x->later));
		*n = 0;
		break;
	case P_DRAIN_GO:
		x->phase = P_DRAIN;
		break;
	case P_DRAIN:
		if (!*n)
			return MHD_NO;
		*n = 0;
		break;
	case P_VERDICT:
	case P_WHOLE:
		suspend(x);
		break;
	case P_ANSWER:
	case P_SOCKET:
		break;
	}
	return x->aborted ? MHD_NO : MHD_YES;
}

static void *on_target(void *arg, const char *target, struct MHD_Connection *con)
{
	struct conn *c = MHD_get_connection_info(con, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
	size_t n = target ? strlen(target) : 0;
	bool fits = n <= HTTP_TARGET_MAX;
	struct xchg *x = xcalloc(1, sizeof(*x) + (fits ? n : 0) + 1);

	if (fits && n)
		memcpy(x->target, target, n);
	x->conn = c;
	x->mhd = con;
	x->peer = c->peer;
	x->ticket = c->ticket;
	x->path = x->target;
	char *q = strchr(x->target, '?');
	if (q) {
		*q = '\0';
		x->query = q + 1;
	}
	if (!fits) {
		x->bad = "The target of the request is longer than 8 KiB.";
		x->bad_status = 414;
	}
	c->x = x;
	return x;
}

static void on_completed(void *arg, struct MHD_Connection *con, void **ctx, enum MHD_RequestTerminationCode why)
{
	struct xchg *x = *ctx;

	if (!x)
		return;
	*ctx = NULL;
	x->conn->x = NULL;
	x->aborted = true;
	http_part(x, NULL, NULL);
	exchange_over(x);
	if (x->later)
		MHD_destroy_response(x->later);
	due_set(&next_heads, &x->conn->slow, x->conn->half ? HALF_USEC :
		(uint64_t)(front.idle_timeout_ms + front.head_timeout_ms) * 1000);
	free(x);
}

/* --- connections --- */

static int on_hangup(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct conn *c = arg;

	loop_what("HTTP hang-up");
	if (!(events & (EPOLLHUP | EPOLLERR)) && !c->leaves) {
		c->half = true;
		if (c->x)
			nudge(c->x);
		else
			due_set(&first_heads, &c->slow, HALF_USEC);
		return 0;
	}
	sd_event_source_set_enabled(s, SD_EVENT_OFF);
	if (c->x)
		http_abort(c->x);
	return 0;
}

void http_watch(struct xchg *x)
{
	x->conn->leaves = true;
	if (x->conn->watch)
		sd_event_source_set_io_events(x->conn->watch, EPOLLRDHUP | EPOLLET);
}

static struct conn *take_adding(struct MHD_Connection *con)
{
	int fd = MHD_get_connection_info(con, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;

	LIST_FOR(c, &adding, struct conn, in_adding)
		if (c->fd == fd) {
			list_remove(&c->in_adding);
			return c;
		}
	return NULL;
}

static struct conn *last_adding(void)
{
	return list_empty(&adding) ? NULL : LIST_ENTRY(adding.prev, struct conn, in_adding);
}

static void conn_free(struct conn *c)
{
	free(c->ticket);
	free(c);
}

static void on_connection(void *arg, struct MHD_Connection *con, void **ctx, enum MHD_ConnectionNotificationCode code)
{
	struct conn *c = *ctx;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		c = *ctx = take_adding(con);
		sd_event_add_io(front.ev, &c->watch, c->fd, EPOLLRDHUP | EPOLLET, on_hangup, c);
		due_set(&first_heads, &c->slow, (uint64_t)front.head_timeout_ms * 1000);
	} else if (c) {
		due_clear(&c->slow);
		sd_event_source_disable_unref(c->watch);
		conn_free(c);
	}
}

static void on_slow_head(struct due *d)
{
	struct conn *c = CONTAINER(d, struct conn, slow);
	struct buf AUTO_BUF body = BUF_INIT(4096), all = BUF_INIT(8192);

	problem(ERR_TIMEOUT, 408, "The head of the request did not come in time.", &body);
	buf_addf(&all, "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/problem+json\r\n"
		 "Content-Length: %zu\r\nConnection: close\r\n\r\n%s", body.len, body.data);
	send(c->fd, all.data, all.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (c->x)
		http_abort(c->x);
	else
		shutdown(c->fd, SHUT_RDWR);
}

static void on_drained(struct due *d)
{
	struct conn *c = CONTAINER(d, struct conn, slow);
	if (c->x)
		http_abort(c->x);
}

void http_add(int fd, const char *peer, const char *ticket)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t n = strlen(peer) + 1;
	struct conn *c = xcalloc(1, sizeof(*c) + n);

	memcpy(c->peer, peer, n);
	c->ticket = ticket ? xstrdup(ticket) : NULL;
	c->fd = fd;
	list_append(&adding, &c->in_adding);
	/* The socket is closed by MHD when this fails. */
	if (MHD_add_connection(mhd, fd, (struct sockaddr *)&sa, sizeof(sa.sun_family)) != MHD_YES && c == last_adding()) {
		list_remove(&c->in_adding);
		conn_free(c);
	}
	wake();
}

static size_t no_unescape(void *arg, struct MHD_Connection *con, char *s)
{
	return strlen(s);	/* croftd splits the path first and decodes each part once */
}

int http_start(struct err *e)
{
	unsigned idle_s = (front.idle_timeout_ms + 999) / 1000;
	sd_event_source *src;

	list_init(&adding);
	dues_init(&first_heads, front.ev, on_slow_head);
	dues_init(&next_heads, front.ev, on_slow_head);
	dues_init(&drains, front.ev, on_drained);
	mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_UPGRADE | MHD_ALLOW_SUSPEND_RESUME, 0,
			       NULL, NULL, on_request, NULL,
			       MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL,
			       MHD_OPTION_CONNECTION_LIMIT, front.connections_max + 64u,
			       MHD_OPTION_CONNECTION_TIMEOUT, idle_s ? idle_s : 1u,
			       MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL,
			       MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, NULL,
			       MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
			       MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL,
			       MHD_OPTION_STRICT_FOR_CLIENT, 1,
			       MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
			       MHD_OPTION_END);
	if (!mhd)
		return fail_errno(e, errno, "libmicrohttpd cannot start");
	int fd = MHD_get_daemon_info(mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	int r = sd_event_add_io(front.ev, &src, fd, EPOLLIN, on_ready, NULL);
	if (r >= 0)
		r = sd_event_source_set_floating(src, true);
	if (r >= 0)
		r = sd_event_add_defer(front.ev, &waker, on_wake, NULL);
	if (r >= 0)
		r = sd_event_source_set_enabled(waker, SD_EVENT_OFF);
	return r < 0 ? fail_errno(e, r, "sd-event") : 0;
}
