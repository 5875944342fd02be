#include "agent_wire.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include "buf.h"
#include "fields.h"
#include "file.h"
#include "list.h"
#include "loop.h"
#include "mem.h"

enum { SENTINEL = 0xff, READ_MAX = 16384 };

struct call {
	struct list in_line;
	char *text;			/* owned: the sync and the command */
	size_t len, sent;
	json_int_t id;			/* of the sync */
	uint64_t deadline_usec;
	bool answered, armed;
	agent_wire_done done;
	void *arg;
	char command[40];
};

struct agent_wire {
	struct agent_wire_how how;
	sd_event_source *src;
	struct timer deadline;		/* of the first call */
	struct list line;
	struct buf in;			/* what came for the first call and is not read yet */
	size_t came;			/* bytes that came for it */
	bool synced;			/* its answer is what comes next */
	int fd;				/* owned; -1 once broken */
	int depth;			/* callbacks of ours on the stack */
	bool freed;
};

static struct call *first(const struct agent_wire *w)
{
	return list_empty(&w->line) ? NULL : LIST_ENTRY(w->line.next, struct call, in_line);
}

bool agent_wire_busy(const struct agent_wire *w)
{
	return first(w);
}

static void call_end(struct agent_wire *w, struct call *c, json_t *result, const struct err *e)
{
	agent_wire_done done = c->done;
	void *arg = c->arg;

	buf_fini(&w->in);		/* most agents say nothing for minutes */
	w->came = 0;
	w->synced = false;
	list_remove(&c->in_line);
	free(c->text);
	free(c);
	done(arg, result, e);
}

static void disconnect(struct agent_wire *w)
{
	w->src = sd_event_source_disable_unref(w->src);
	timer_disarm(&w->deadline);
	close_at(&w->fd);
	w->fd = -1;
}

static void end_calls(struct agent_wire *w, const struct err *e)
{
	while (!list_empty(&w->line))
		call_end(w, first(w), NULL, e);
}

static void leave(struct agent_wire *w)
{
	if (--w->depth || !w->freed)
		return;
	buf_fini(&w->in);
	free(w);
}

void agent_wire_free(struct agent_wire *w)
{
	struct err e;

	if (!w || w->freed)
		return;
	w->freed = true;
	w->depth++;
	disconnect(w);
	fail(&e, ERR_INTERRUPTED, "the guest's agent was let go");
	end_calls(w, &e);
	leave(w);
}

/* The connection is over. Within depth only. */
static void broken(struct agent_wire *w, enum err_code code, const char *why)
{
	struct err e;

	if (w->fd < 0)
		return;
	disconnect(w);
	fail(&e, code, "%s", why);
	end_calls(w, &e);
	if (!w->freed)
		w->how.broken(w->how.arg, &e);
}

/* ---- in ---- */

static void refusal(const struct call *c, json_t *error, struct err *e)
{
	const char *class = json_string_value(json_object_get(error, "class"));
	const char *desc = json_string_value(json_object_get(error, "desc"));
	bool lacks = class && (!strcmp(class, "CommandNotFound") || !strcmp(class, "CommandDisabled"));

	fail(e, lacks ? ERR_UNSUPPORTED : ERR_STATE, "the guest's agent refused %s: %.200s", c->command,
	     desc ? desc : "no reason given");
	for (char *p = e->msg; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)	/* it is the guest's text */
			*p = '?';
}

static void on_answer(struct agent_wire *w, const char *p, size_t n)
{
	json_t *m = json_parse(p, n, AGENT_ANSWER_MAX, NULL);
	json_t *result = json_object_get(m, "return"), *error = json_object_get(m, "error");
	struct err e;

	if (error)
		refusal(first(w), error, &e);
	if (result || error)
		call_end(w, first(w), error ? NULL : result, error ? &e : NULL);
	else
		broken(w, ERR_BAD_REQUEST, "the guest's agent sent an answer that is none");
	json_decref(m);
}

/* Is that line the answer to our sync? It begins after the last sentinel; what is before is of another time. */
static bool is_sync(const struct call *c, const char *p, size_t n)
{
	const char *mark = memrchr(p, SENTINEL, n);
	json_t *m = mark ? json_parse(mark + 1, n - (mark + 1 - p), 256, NULL) : NULL;
	json_t *id = json_object_get(m, "return");
	bool is = json_is_integer(id) && json_integer_value(id) == c->id;

	json_decref(m);
	return is;
}

static void take_lines(struct agent_wire *w)
{
	struct call *c = first(w);
	char *nl;

	while (w->fd >= 0 && w->in.len && c == first(w) && (nl = memchr(w->in.data, '\n', w->in.len))) {
		size_t n = nl - w->in.data;
		AUTO_FREE char *line = xmemdup(w->in.data, n + 1);

		buf_drop(&w->in, n + 1);
		if (w->synced)
			on_answer(w, line, n);
		else if ((w->synced = is_sync(c, line, n)) && !c->answered)
			call_end(w, c, NULL, NULL);
	}
}

static void read_some(struct agent_wire *w)
{
	char room[READ_MAX];
	ssize_t n = recv(w->fd, room, sizeof(room), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		broken(w, ERR_UNAVAILABLE, "the guest's agent is gone");
		return;
	}
	if (!first(w))
		return;			/* nobody asked */
	w->came += n;
	if (w->came <= AGENT_ANSWER_MAX) {
		buf_add(&w->in, room, n);
		take_lines(w);
	} else if (w->synced) {
		broken(w, ERR_TOO_LARGE, "the guest's agent sent an answer that is too long");
	} else {
		broken(w, ERR_BAD_REQUEST, "the guest's agent sends what was not asked for");
	}
}

/* ---- out ---- */

static void send_some(struct agent_wire *w)
{
	struct call *c = first(w);
	ssize_t n = send(w->fd, c->text + c->sent, c->len - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n > 0)
		c->sent += n;
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		broken(w, ERR_UNAVAILABLE, "the guest's agent is gone");
}

static void on_deadline(void *arg)
{
	struct agent_wire *w = arg;
	AUTO_FREE char *why = xasprintf("the guest's agent did not answer %s within %u s", first(w)->command,
					(unsigned)(first(w)->deadline_usec / 1000000));

	w->depth++;
	broken(w, ERR_TIMEOUT, why);
	leave(w);
}

static void watch(struct agent_wire *w)
{
	struct call *c = first(w);

	if (w->fd < 0)
		return;
	if (c && !c->armed) {
		c->armed = true;
		timer_arm(&w->deadline, w->how.ev, c->deadline_usec, on_deadline, w);
	} else if (!c) {
		timer_disarm(&w->deadline);
	}
	sd_event_source_set_io_events(w->src, !c ? 0 : c->sent < c->len ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static int on_io(sd_event_source *src, int fd, uint32_t events, void *arg)
{
	struct agent_wire *w = arg;

	w->depth++;
	if (!first(w) && events & (EPOLLHUP | EPOLLERR))
		broken(w, ERR_UNAVAILABLE, "the guest's agent is gone");
	else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		read_some(w);
	if (w->fd >= 0 && (events & EPOLLOUT) && first(w))
		send_some(w);
	watch(w);
	leave(w);
	return 0;
}

/* The sentinel makes the agent forget half a command that may have reached it. */
static char *message(const struct call *c, json_t *args)
{
	json_t *m = json_pack("{s:s, s:o*}", "execute", c->command, "arguments", args);
	AUTO_FREE char *text = m ? json_dumps(m, JSON_COMPACT) : NULL;

	if (!text)
		abort();		/* out of memory: our own calls are valid JSON */
	json_decref(m);
	return xasprintf("\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%lld}}\n%s\n", (long long)c->id, text);
}

void agent_wire_call(struct agent_wire *w, const char *command, json_t *args, bool answered, uint64_t deadline_usec,
		     agent_wire_done done, void *arg)
{
	struct call *c = xnew(call);
	uint32_t random = 0;

	(void)!getrandom(&random, sizeof(random), 0);
	snprintf(c->command, sizeof(c->command), "%s", command);
	c->id = random;
	c->text = message(c, args);
	c->len = strlen(c->text);
	c->deadline_usec = deadline_usec;
	c->answered = answered;
	c->done = done;
	c->arg = arg;
	list_append(&w->line, &c->in_line);
	watch(w);
}

void agent_wire_last_word(struct agent_wire *w, const char *command)
{
	struct call c = { 0 };
	AUTO_FREE char *text = NULL;

	snprintf(c.command, sizeof(c.command), "%s", command);
	text = message(&c, NULL);
	if (w->fd >= 0)
		(void)!send(w->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

struct agent_wire *agent_wire_new(const struct agent_wire_how *how, int fd)
{
	struct agent_wire *w = xnew(agent_wire);

	w->how = *how;
	w->fd = fd;
	w->in.max = AGENT_ANSWER_MAX;
	list_init(&w->line);
	if (fd_nonblock(fd) < 0 || sd_event_add_io(how->ev, &w->src, fd, 0, on_io, w) < 0)
		abort();		/* a bad descriptor, or out of memory */
	return w;
}
