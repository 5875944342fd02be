/* qmp.c: framing, the line of calls, deadlines. Nothing is sent or ended inside qmp_call: the loop does it. */
#include "qmp.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include "buf.h"
#include "fields.h"
#include "file.h"
#include "list.h"
#include "loop.h"
#include "mem.h"
#include "text.h"

enum { READ_MAX = 4096, DRAIN_TIMES = 256, FOREVER = -1 };

struct call {
	struct list in_line;
	char *text;			/* owned: the message */
	size_t len, sent;
	uint64_t id;
	int64_t until;			/* CLOCK_MONOTONIC; FOREVER */
	int fd;				/* owned, until it was sent */
	bool late;			/* done has been called; QEMU still owes the answer */
	qmp_done done;
	void *arg;
	char command[48];
};

struct qmp {
	struct qmp_how how;
	sd_event_source *src;
	struct timer deadline;
	struct list line;		/* of calls; the first may be under way */
	struct buf in;
	size_t scanned;			/* no newline in in[0..scanned) */
	uint64_t last_id;
	int64_t heard_usec;
	int fd;				/* owned; -1 once ended */
	int depth;			/* callbacks of ours on the stack */
	bool greeted, ready, freed;
};

static void call_end(struct call *c, json_t *result, const struct err *e)
{
	qmp_done done = c->late ? NULL : c->done;
	void *arg = c->arg;

	list_remove(&c->in_line);
	close_at(&c->fd);
	free(c->text);
	free(c);
	if (done)
		done(arg, result, e);
}

static struct call *first(const struct qmp *q)
{
	return list_empty(&q->line) ? NULL : LIST_ENTRY(q->line.next, struct call, in_line);
}

static void disconnect(struct qmp *q)
{
	q->src = sd_event_source_disable_unref(q->src);
	timer_disarm(&q->deadline);
	close_at(&q->fd);
	q->fd = -1;
}

static void end_calls(struct qmp *q, enum err_code code, const char *why)
{
	struct err e;

	while (!list_empty(&q->line)) {
		struct call *c = first(q);

		fail(&e, code, "%s: %s", c->command, why);
		call_end(c, NULL, &e);
	}
}

static void leave(struct qmp *q)
{
	if (--q->depth || !q->freed)
		return;
	buf_fini(&q->in);
	free(q);
}

void qmp_free(struct qmp *q)
{
	if (!q || q->freed)
		return;
	q->freed = true;
	q->depth++;
	disconnect(q);
	end_calls(q, ERR_INTERRUPTED, "the monitor was let go");
	leave(q);
}

/* The connection is over. Within enter/leave only. */
static void end(struct qmp *q, const char *why)
{
	if (q->fd < 0)
		return;
	disconnect(q);
	end_calls(q, ERR_UNAVAILABLE, why);
	if (!q->freed)
		q->how.ended(q->how.arg, why);
}

/* ---- out ---- */

/* The head of the line may go out once QEMU has greeted; before capabilities are agreed on, only that call is there to
 * be first. */
static bool may_send(const struct qmp *q)
{
	const struct call *c = first(q);

	return q->greeted && c && c->sent < c->len;
}

static void watch(struct qmp *q)
{
	if (q->fd >= 0)
		sd_event_source_set_io_events(q->src, may_send(q) ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void send_some(struct qmp *q)
{
	union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = { 0 };
	struct call *c = first(q);
	struct iovec iov = { c->text + c->sent, c->len - c->sent };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (c->fd >= 0) {		/* goes with the first byte */
		struct cmsghdr *h = &control.align;

		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &c->fd, sizeof(int));
	}
	n = sendmsg(q->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		end(q, errno == EPIPE || errno == ECONNRESET ? "QEMU closed its monitor" : strerror(errno));
		return;
	}
	close_at(&c->fd);
	c->fd = -1;
	c->sent += n;
}

static int64_t next_deadline(const struct qmp *q)
{
	int64_t at = INT64_MAX;

	LIST_FOR(c, &q->line, struct call, in_line) {
		if (c->until != FOREVER && !c->late && c->until < at)
			at = c->until;
	}
	return at;
}

static void on_deadline(void *arg);

static void arm(struct qmp *q)
{
	int64_t at = next_deadline(q), now = mono_usec();

	if (at == INT64_MAX)
		timer_disarm(&q->deadline);
	else
		timer_arm(&q->deadline, q->how.ev, at > now ? at - now : 0, on_deadline, q);
}

/* The first call that is past its deadline, or NULL. */
static struct call *overdue(const struct qmp *q, int64_t now)
{
	LIST_FOR(c, &q->line, struct call, in_line) {
		if (c->until != FOREVER && !c->late && c->until <= now)
			return c;
	}
	return NULL;
}

static void on_deadline(void *arg)
{
	struct qmp *q = arg;
	int64_t now = mono_usec();
	struct call *c;
	struct err e;

	q->depth++;
	while (!q->freed && (c = overdue(q, now))) {
		fail(&e, ERR_TIMEOUT, "%s: QEMU's monitor did not answer in time", c->command);
		if (c->sent) {			/* it keeps its place until QEMU answers: one at a time */
			c->late = true;
			if (c->done)
				c->done(c->arg, NULL, &e);
		} else {
			call_end(c, NULL, &e);
		}
	}
	if (!q->freed) {
		arm(q);
		watch(q);
	}
	leave(q);
}

static struct call *call_new(struct qmp *q, const char *command, json_t *args, int fd, qmp_done done, void *arg)
{
	struct call *c = xnew(call);
	json_t *m = json_pack("{s:s, s:o*, s:I}", "execute", command, "arguments", args,
			      "id", (json_int_t)++q->last_id);

	c->text = m ? json_dumps(m, JSON_COMPACT) : NULL;
	json_decref(m);
	if (!c->text)
		abort();		/* out of memory: our own calls are valid JSON */
	c->len = strlen(c->text);
	c->id = q->last_id;
	c->fd = fd;
	c->until = FOREVER;
	c->done = done;
	c->arg = arg;
	snprintf(c->command, sizeof(c->command), "%s", command);
	return c;
}

void qmp_call(struct qmp *q, const char *command, json_t *args, int fd, uint64_t deadline_usec, qmp_done done,
	      void *arg)
{
	struct call *c = call_new(q, command, args, fd, done, arg);

	c->until = mono_usec() + deadline_usec;
	list_append(&q->line, &c->in_line);
	arm(q);
	watch(q);
}

void qmp_ask(struct qmp *q, const char *command, json_t *args, uint64_t deadline_usec, qmp_done done, void *arg)
{
	LIST_FOR(c, &q->line, struct call, in_line) {
		if (c->sent || c->done != done || c->arg != arg || strcmp(c->command, command))
			continue;
		json_decref(args);
		return;
	}
	qmp_call(q, command, args, -1, deadline_usec, done, arg);
}

/* ---- in ---- */

static const char *text_of(json_t *j, const char *key, const char *otherwise)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : otherwise;
}

static void refusal(const char *command, json_t *error, struct err *e)
{
	const char *class = text_of(error, "class", "no class");
	enum err_code code = !strcmp(class, "CommandNotFound") ? ERR_UNSUPPORTED :
		!strcmp(class, "DeviceNotFound") ? ERR_NOT_FOUND : ERR_STATE;

	fail(e, code, "QEMU refused %s: %.200s (%.32s)", command, text_of(error, "desc", "no reason given"), class);
}

static const char *on_answer(struct qmp *q, json_t *m)
{
	json_t *id = json_object_get(m, "id"), *error = json_object_get(m, "error");
	struct call *c = first(q);
	bool was_late;
	struct err e;

	if (!c || !c->sent || !json_is_integer(id) || (uint64_t)json_integer_value(id) != c->id)
		return "QEMU answered what was not asked";
	was_late = c->late;
	if (error)
		refusal(c->command, error, &e);
	call_end(c, error ? NULL : json_object_get(m, "return"), error ? &e : NULL);
	if (was_late && !q->freed && q->how.late)
		q->how.late(q->how.arg);
	return NULL;
}

static void on_capabilities(void *arg, json_t *result, const struct err *e)
{
	struct qmp *q = arg;

	if (!result)
		return;			/* over, or QEMU refuses; who waits for ready has a deadline */
	q->ready = true;
	q->how.ready(q->how.arg);
}

static const char *on_greeting(struct qmp *q)
{
	struct call *c;

	if (q->greeted)
		return "QEMU greeted twice";
	q->greeted = true;
	c = call_new(q, "qmp_capabilities", NULL, -1, on_capabilities, q);
	list_insert(&q->line, &c->in_line);
	return NULL;
}

/* Returns what is wrong with it, or NULL. */
static const char *on_line(struct qmp *q, const char *p, size_t n)
{
	json_t *m = json_parse(p, n, QMP_LINE_MAX, NULL);
	const char *bad = NULL, *event;

	if (!json_is_object(m))
		bad = "QEMU sent something that is no JSON object";
	else if ((event = text_of(m, "event", NULL)))
		q->how.event(q->how.arg, event, json_object_get(m, "data"));
	else if (json_object_get(m, "QMP"))
		bad = on_greeting(q);
	else if (json_object_get(m, "return") || json_object_get(m, "error"))
		bad = on_answer(q, m);
	else
		bad = "QEMU sent something that is no answer and no event";
	json_decref(m);
	return bad;
}

static void take_lines(struct qmp *q)
{
	const char *bad = NULL;
	size_t from = 0;

	while (q->fd >= 0 && !bad) {
		char *start = q->in.data + from, *nl = memchr(q->in.data + q->scanned, '\n', q->in.len - q->scanned);

		if (!nl)
			break;
		q->scanned = nl + 1 - q->in.data;
		from = q->scanned;
		q->heard_usec = mono_usec();
		if (nl > start && nl[-1] == '\r')
			nl--;
		bad = nl > start ? on_line(q, start, nl - start) : NULL;
	}
	if (q->freed)
		return;
	if (!bad && q->in.len - from > QMP_LINE_MAX)
		bad = "QEMU sent a line that is too long";
	if (bad)
		end(q, bad);
	if (q->fd < 0)
		return;
	buf_drop(&q->in, from);
	q->scanned = q->in.len;
	if (!q->in.len)
		buf_fini(&q->in);	/* most monitors are silent for hours */
}

/* True: there may be more. */
static bool read_some(struct qmp *q)
{
	void *room = buf_room(&q->in, READ_MAX);
	ssize_t n = recv(q->fd, room, READ_MAX, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		end(q, "QEMU closed its monitor");
		return false;
	}
	q->in.len += n;
	take_lines(q);
	return q->fd >= 0;
}

void qmp_drain(struct qmp *q)
{
	q->depth++;
	for (unsigned i = 0; q->fd >= 0 && i < DRAIN_TIMES && read_some(q); i++)
		;
	leave(q);
}

static int on_io(sd_event_source *src, int fd, uint32_t events, void *arg)
{
	struct qmp *q = arg;

	q->depth++;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		read_some(q);
	if (q->fd >= 0 && (events & EPOLLOUT) && may_send(q))
		send_some(q);
	if (q->fd >= 0) {
		arm(q);
		watch(q);
	}
	leave(q);
	return 0;
}

struct qmp *qmp_new(const struct qmp_how *how, int fd)
{
	struct qmp *q = xnew(qmp);

	q->how = *how;
	q->fd = fd;
	q->in.max = QMP_LINE_MAX + 2 * READ_MAX;
	list_init(&q->line);
	q->heard_usec = mono_usec();
	if (fd_nonblock(fd) < 0 || sd_event_add_io(how->ev, &q->src, fd, EPOLLIN, on_io, q) < 0)
		abort();		/* a bad descriptor, or out of memory */
	return q;
}

int64_t qmp_heard_usec(const struct qmp *q)
{
	return q->heard_usec;
}
