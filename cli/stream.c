#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "call.h"
#include "fields.h"
#include "stream.h"
#include "mem.h"
#include "text.h"

#define FRAME_MAX	(1024 * 1024)
#define SILENCE_USEC	(60 * 1000000ull)	/* croft-front says something every 15 s */

struct stream {
	struct buf line, data;
	char kind[64], id[24];		/* of the event that is being read; id stays: Last-Event-ID */
	int64_t end;			/* or 0 */
	bool stopped, late, ran;
	int (*began)(void *arg);
	int (*on_event)(void *arg, const char *kind, uint64_t seq, json_t *event);
	void *arg;
};

static void frame_came(struct stream *s)
{
	json_t *j = s->data.len ? json_parse(s->data.data, s->data.len, FRAME_MAX, NULL) : NULL;
	uint64_t seq = 0;

	text_u64(s->id, &seq);
	if (j && s->on_event(s->arg, s->kind, seq, j))
		s->stopped = true;
	json_decref(j);
	buf_reset(&s->data);
	s->kind[0] = '\0';
}

static void line_came(struct stream *s)
{
	char *line = s->line.data, *value;

	if (!s->line.len) {
		frame_came(s);
		return;
	}
	value = strchr(line, ':');
	if (!value || value == line)
		return;			/* a comment: a sign of life */
	*value++ = '\0';
	value += *value == ' ';
	if (!strcmp(line, "data"))
		buf_adds(&s->data, value);
	else if (!strcmp(line, "event"))
		snprintf(s->kind, sizeof(s->kind), "%s", value);
	else if (!strcmp(line, "id"))
		snprintf(s->id, sizeof(s->id), "%s", value);
}

static int on_data(void *arg, const char *p, size_t n)
{
	struct stream *s = arg;

	for (size_t i = 0; i < n && !s->stopped; i++) {
		if (p[i] == '\n') {
			line_came(s);
			buf_reset(&s->line);
		} else if (p[i] != '\r') {
			buf_addc(&s->line, p[i]);
		}
	}
	s->late = s->end && mono_usec() >= s->end;
	return s->stopped || s->late;
}

static int on_began(void *arg)
{
	struct stream *s = arg;

	s->ran = true;
	if (s->began && s->began(s->arg))
		s->stopped = true;
	return s->stopped;
}

static int once(struct ctl *c, struct stream *s, const char *path, struct err *e)
{
	AUTO_FREE char *headers = xasprintf("Accept: text/event-stream\r\n%s%s%s", *s->id ? "Last-Event-ID: " : "", s->id,
					    *s->id ? "\r\n" : "");
	struct http_request q = HTTP_REQUEST("GET", path);
	struct http_answer a;
	int64_t left = s->end ? s->end - mono_usec() : (int64_t)SILENCE_USEC;
	int r;

	q.headers = headers;
	q.began = on_began;
	q.data = on_data;
	q.arg = s;
	q.timeout_usec = left < 1000 ? 1000 : (uint64_t)left < SILENCE_USEC ? (uint64_t)left : SILENCE_USEC;
	r = http_do(&c->http, &q, &a, e);
	if (!r && a.reply.status >= 400) {
		call_problem(&a, e);
		r = -1;
	}
	http_answer_fini(&a);
	return r;
}

int follow(struct ctl *c, const char *kinds, const char *after, unsigned timeout_s, int (*began)(void *),
	   int (*on_event)(void *, const char *, uint64_t, json_t *), void *arg)
{
	struct stream s = { .line = BUF_INIT(FRAME_MAX), .data = BUF_INIT(FRAME_MAX), .began = began, .on_event = on_event, .arg = arg };
	struct buf path AUTO_BUF = BUF_INIT(4096);
	struct err e = { 0 };
	int failures = 0, code = CTL_OK;

	s.end = timeout_s ? mono_usec() + timeout_s * 1000000ll : 0;
	snprintf(s.id, sizeof(s.id), "%s", after ? after : "");
	buf_adds(&path, "/api/v1/events");
	if (kinds) {
		buf_adds(&path, "?kinds=");
		http_escape(&path, kinds, false);
	}
	while (!s.stopped && !s.late) {
		int64_t from = mono_usec();
		int r;

		e = (struct err){ 0 };
		r = once(c, &s, path.data, &e);
		http_close(&c->http);
		s.late = s.late || (s.end && mono_usec() >= s.end);
		if (s.stopped || s.late)
			break;
		if (r < 0 && !s.ran) {
			code = ctl_fail(&e);
			code = code == CTL_FAILED ? CTL_CONNECT : code;
			break;
		}
		failures = mono_usec() - from > 5000000 ? 0 : failures + 1;
		if (r < 0 && (failures > 20 || (e.code != ERR_UNAVAILABLE && e.code != ERR_TIMEOUT && e.code != ERR_NOT_FOUND &&
						e.code != ERR_INTERNAL && e.code != ERR_STATE))) {
			code = ctl_fail(&e);
			break;
		}
		usleep(failures ? 500000 : 0);	/* croftd or its front was restarted: go on where it broke */
		buf_reset(&s.line);
		buf_reset(&s.data);
	}
	if (!code && s.late && !s.stopped)
		code = CTL_TIMEOUT;
	buf_fini(&s.line);
	buf_fini(&s.data);
	return code;
}
