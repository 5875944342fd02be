/* event.c: events on disk, and those who follow them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "access.h"
#include "change.h"
#include "event.h"
#include "file.h"
#include "fronts.h"
#include "map.h"
#include "mem.h"
#include "text.h"

#define REPLAY_MAX	(4 * 1024 * 1024)	/* bytes of a replay; behind more the client gets a reset */
#define AUDIENCES_MAX	1000
#define KINDS_MAX	127
#define EVENTS_PRUNE	100	/* at every so many */
#define CREDIT_LEFT	16	/* what passes leaves the credit to what stays */

#define ROW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct event_row, f), __VA_ARGS__ }
struct event_row { uint64_t seq; int64_t time; char *kind, *target, *user, *data; };
static const struct field rows[] = {
	ROW(seq, F_U64, .help = "number of the event; they only grow, and none is given twice"),
	ROW(time, F_TIME, .help = "when it was committed"),
	ROW(kind, F_STR, .help = "what happened: vm.changed, task.finished, ..."),
	ROW(target, F_STR, .help = "id of the object"),
	ROW(user, F_STR, .help = "who did it; croft for the host agent itself"),
	ROW(data, F_JSON, .help = "the object as it is now"),
	{}
};
const struct fields event_fields = { "Event", sizeof(struct event_row), rows, "something that happened, durable and numbered" };

struct audience {		/* clients with the same permissions and filter */
	uint64_t id;
	uint64_t perms;
	char kinds[KINDS_MAX + 1];	/* "vm.*,task.*" or "" for all */
	unsigned followers;
	char *key;		/* in the map */
};
struct at_front { struct map *audiences; };	/* id -> struct following */
struct following { uint64_t last; unsigned followers; bool gap; };

struct events {
	uint64_t last, next_audience;
	struct map *audiences;	/* "perms kinds" -> struct audience */
	struct list polls;	/* long polls that wait */
};

enum perm event_perm(const char *kind)
{
	static const struct { const char *prefix; enum perm perm; } table[] = {
		{ "vm.", PERM_VM_VIEW }, { "task.", PERM_VM_VIEW }, { "datastore.", PERM_STORAGE_VIEW },
		{ "file.", PERM_STORAGE_VIEW }, { "network.", PERM_HOST_VIEW }, { "host.", PERM_HOST_VIEW },
	};

	for (size_t i = 0; i < COUNT(table); i++)
		if (strncmp(kind, table[i].prefix, strlen(table[i].prefix)) == 0)
			return table[i].perm;
	return PERM_ACCESS_MANAGE;
}

static bool sees(uint64_t perms, const char *kinds, const char *kind)
{
	if (!(perms >> event_perm(kind) & 1))
		return false;
	for (const char *p = kinds; *p; p += strcspn(p, ","), p += *p == ',') {
		char pattern[64] = "";
		size_t n = strcspn(p, ",");

		memcpy(pattern, p, n < sizeof pattern ? n : 0);
		if (text_glob(pattern, kind))
			return true;
	}
	return !*kinds;
}

static void write_event(struct jw *w, uint64_t seq, int64_t time, const char *kind, const char *target, const char *user,
			const char *data)
{
	jw_obj(w, NULL);
	if (seq)
		jw_u64(w, "seq", seq);
	jw_time(w, "time", time);
	jw_str(w, "kind", kind);
	jw_str(w, "target", target);
	jw_str(w, "user", user);
	if (data && *data)
		jw_raw(w, "data", data, strlen(data));
	else
		jw_null(w, "data");
	jw_end(w);
}

/* The number 0: one that has none. */
static void write_frame(struct buf *b, uint64_t seq, int64_t time, const char *kind, const char *target, const char *user,
			const char *data)
{
	struct jw w = JW(b);

	if (seq)
		buf_addf(b, "id: %llu\n", (unsigned long long)seq);
	buf_addf(b, "event: %s\ndata: ", kind);
	write_event(&w, seq, time, kind, target, user, data);
	buf_adds(b, "\n\n");
}

/* What goes is always the oldest, without a hole: a clock that was set back, or that an ARM board without a battery begins
 * with, makes no young event old. */
static int prune(struct db_tx *tx, const struct event *ev, struct err *e)
{
	int r = db_exec(tx, e, "DELETE FROM events WHERE seq <= ?", "i", (int64_t)ev->seq - EVENTS_KEPT);

	return r < 0 ? r : db_exec(tx, e, "DELETE FROM events WHERE seq < (SELECT seq FROM events WHERE time >= ? ORDER BY seq LIMIT 1)",
				   "i", ev->time_usec - EVENTS_USEC);
}

int event_insert(struct db_tx *tx, struct event *ev, struct err *e)
{
	int r = db_exec(tx, e, "INSERT INTO events (time, kind, target, user, data) VALUES (?, ?, ?, ?, ?)", "issss",
			ev->time_usec, ev->kind, ev->target, ev->user, ev->data.data ?: "");

	if (r < 0)
		return r;
	ev->seq = (uint64_t)db_last_id(tx);
	if (ev->seq % EVENTS_PRUNE == 0)
		r = prune(tx, ev, e);
	return r < 0 ? r : 0;
}

/* ---- audiences */

static struct audience *audience_get(struct events *es, uint64_t perms, const char *kinds)
{
	AUTO_FREE char *key = xasprintf("%llx %s", (unsigned long long)perms, kinds);
	struct audience *a = map_get(es->audiences, key);

	if (a || map_len(es->audiences) >= AUDIENCES_MAX)
		return a;
	a = xnew(audience);
	a->id = ++es->next_audience;
	a->perms = perms;
	snprintf(a->kinds, sizeof a->kinds, "%s", kinds);
	a->key = TAKE(key);
	map_set(es->audiences, a->key, a);
	return a;
}

static void audience_put(struct events *es, struct audience *a)
{
	if (--a->followers)
		return;
	map_del(es->audiences, a->key);
	free(a->key);
	free(a);
}

static struct map *at(struct front *f, bool create)
{
	void **p = front_audiences(f);

	if (!*p && create)
		*p = map_new();
	return *p;
}

static const char *id_key(uint64_t id, char out[24])
{
	snprintf(out, 24, "%llu", (unsigned long long)id);
	return out;
}

void event_front_gone(struct croft *c, struct front *f)
{
	struct map *m = at(f, false);
	struct following *fo;

	for (size_t i = 0; m && (fo = map_next(m, &i, NULL)); )
		free(fo);
	map_free(m);
	*front_audiences(f) = NULL;
}

/* The followers of @audience then ask again, each from its last event, but those who follow from @last on already. */
static void tell_gap(struct front *f, uint64_t audience, struct following *fo, uint64_t last)
{
	struct door_event m = { .audience = audience, .seq = last, .previous = UINT64_MAX, .frame = { "", 0 } };

	--*front_credit(f);
	front_send(f, DOOR_EVENT, 0, &m, NULL, 0);
	fo->last = last;
	fo->gap = false;
}

static void tell(struct front *f, const struct audience *a, const struct event *e, struct buf *frame)
{
	char key[24];
	struct map *m = at(f, false);
	struct following *fo = m ? map_get(m, id_key(a->id, key)) : NULL;

	if (!fo)
		return;
	if (*front_credit(f) == 0) {
		fo->gap = true;		/* told when credit comes back */
		return;
	}
	if (frame->over || frame->len > DOOR_INLINE) {
		tell_gap(f, a->id, fo, e->seq);
		return;
	}
	struct door_event m2 = { .audience = a->id, .seq = e->seq, .previous = fo->gap ? UINT64_MAX : fo->last,
				 .frame = { frame->data, frame->len } };

	--*front_credit(f);
	front_send(f, DOOR_EVENT, 0, &m2, NULL, 0);
	fo->last = e->seq;
	fo->gap = false;
}

void event_ack(struct croft *c, struct front *f, unsigned n)
{
	struct map *m = at(f, false);
	struct following *fo;
	const char *key;
	uint64_t audience;

	*front_credit(f) += n;
	for (size_t i = 0; m && *front_credit(f) && (fo = map_next(m, &i, &key)); )
		if (fo->gap && text_u64(key, &audience) == 0)
			tell_gap(f, audience, fo, c->events->last);
}

static void poll_answer(struct req *r);

void event_publish(struct croft *c, const struct event *e)
{
	struct events *es = c->events;
	struct buf frame AUTO_BUF = BUF_INIT(EVENT_DATA_MAX + 1024);
	struct audience *a;

	if (!e->seq) {
		event_pass(c, e->kind, e->target, e->user, &e->data);
		return;
	}
	es->last = e->seq;
	for (size_t i = 0; (a = map_next(es->audiences, &i, NULL)); ) {
		if (!sees(a->perms, a->kinds, e->kind))
			continue;
		if (!frame.len)
			write_frame(&frame, e->seq, e->time_usec, e->kind, e->target, e->user, e->data.data);
		for (struct front *f = NULL; (f = fronts_next(c->fronts, f)); )
			tell(f, a, e, &frame);
	}
	LIST_FOR(r, &es->polls, struct req, in_wait) {
		char kinds[256];

		if (sees(r->who.perms, req_query(r, "kinds", kinds) ?: "", e->kind)) {
			list_remove(&r->in_wait);
			poll_answer(r);
		}
	}
}

void event_pass(struct croft *c, const char *kind, const char *target, const char *user, const struct buf *data)
{
	struct buf frame AUTO_BUF = BUF_INIT(DOOR_INLINE);
	struct audience *a;
	char key[24];

	for (size_t i = 0; (a = map_next(c->events->audiences, &i, NULL)); ) {
		if (!sees(a->perms, a->kinds, kind))
			continue;
		if (!frame.len)
			write_frame(&frame, 0, now_usec(), kind, target, user, data->data);
		for (struct front *f = NULL; !frame.over && (f = fronts_next(c->fronts, f)); ) {
			struct map *m = at(f, false);
			struct following *fo = m ? map_get(m, id_key(a->id, key)) : NULL;

			if (!fo || fo->gap || *front_credit(f) < CREDIT_LEFT)
				continue;
			struct door_event ev = { .audience = a->id, .seq = fo->last, .previous = fo->last,
						 .frame = { frame.data, frame.len } };

			--*front_credit(f);
			front_send(f, DOOR_EVENT, 0, &ev, NULL, 0);
		}
	}
}

void event_post(struct croft *c, const char *kind, const char *target, const char *json, size_t n)
{
	struct change *ch = change_new(c, NULL);

	buf_add(change_event(ch, kind, target), json, n);
	ch->job.passing = true;
	change_run(ch);
}

uint64_t events_last(const struct croft *c) { return c->events->last; }

/* ---- reading back */

struct reading {
	struct db_job job;
	struct req *r;
	uint64_t after, limit, last;
	uint64_t perms;
	char kinds[KINDS_MAX + 1];
	bool frames;		/* SSE frames; else a JSON list */
	bool reset;		/* what came after @after is not there any more */
	unsigned found;
	struct buf out;
};

static int read_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct reading *rd = (struct reading *)j;
	struct db_rows *q;
	struct jw w = JW(&rd->out);
	size_t max = rd->frames ? REPLAY_MAX : REPLAY_MAX - 2 * EVENT_DATA_MAX;	/* a page of a list always fits */
	int r = db_query(tx, &q, e, "SELECT ifnull(min(seq), 1), ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)"
			 " FROM events", NULL);

	if (r < 0 || (r = db_next(q, e)) < 0)
		return r;
	if (rd->after != UINT64_MAX) {		/* too old, or of a database that was another */
		rd->reset = rd->after + 1 < (uint64_t)db_int(q, 0) || rd->after > (uint64_t)db_int(q, 1);
		rd->after = rd->after > (uint64_t)db_int(q, 1) ? (uint64_t)db_int(q, 1) : rd->after;
	}
	db_done(q);
	if (!rd->frames) {
		jw_obj(&w, NULL);
		jw_arr(&w, "items");
	}
	rd->last = rd->after;
	r = db_query(tx, &q, e, "SELECT seq, time, kind, target, user, data FROM events WHERE seq > ? ORDER BY seq", "i",
		     (int64_t)(rd->after == UINT64_MAX ? INT64_MAX : rd->after));
	while (r >= 0 && rd->found < rd->limit && rd->out.len < max && !rd->out.over && (r = db_next(q, e)) > 0) {
		rd->last = (uint64_t)db_int(q, 0);
		if (!sees(rd->perms, rd->kinds, db_text(q, 2)))
			continue;
		rd->found++;
		if (rd->frames)
			write_frame(&rd->out, rd->last, db_int(q, 1), db_text(q, 2), db_text(q, 3), db_text(q, 4), db_text(q, 5));
		else
			write_event(&w, rd->last, db_int(q, 1), db_text(q, 2), db_text(q, 3), db_text(q, 4), db_text(q, 5));
	}
	if (r > 0) {
		db_done(q);
		rd->reset |= rd->frames;	/* there is more than a stream gets at once */
	}
	if (!rd->frames) {
		jw_end(&w);
		jw_u64(&w, "next", rd->last);
		if (rd->reset)
			jw_bool(&w, "reset", true);
		jw_end(&w);
	}
	return r < 0 ? r : 0;
}

static struct reading *reading_start(struct req *r, uint64_t after, uint64_t limit, bool frames,
			  void (*done)(struct db_job *, const struct err *))
{
	struct reading *rd = xnew(reading);
	char kinds[256];

	rd->r = r;
	rd->after = after;
	rd->limit = limit;
	rd->frames = frames;
	rd->perms = r->who.perms;
	snprintf(rd->kinds, sizeof rd->kinds, "%.127s", req_query(r, "kinds", kinds) ?: "");
	rd->out = (struct buf)BUF_INIT(REPLAY_MAX);
	db_run(r->c->db, &rd->job, read_work, done);
	return rd;
}

static void reading_free(struct reading *rd)
{
	buf_fini(&rd->out);
	free(rd);
}

/* ---- SSE */

static void follow_done(struct db_job *j, const struct err *e)
{
	struct reading *rd = (struct reading *)j;
	struct req *r = rd->r;

	if (!r) {
		reading_free(rd);
		return;
	}
	struct events *es = r->c->events;
	bool gone = !access_valid(r->c, &r->who);
	struct audience *a = e || gone || !r->front ? NULL : audience_get(es, r->who.perms, rd->kinds);
	struct buf b AUTO_BUF = BUF_INIT(REPLAY_MAX + 1024);
	char key[24];

	r->wait_arg = NULL;
	if (!a) {
		if (r->phase == REQ_FOLLOWING)
			req_withdraw(r);	/* the client asks again from its last event */
		else if (e)
			req_fail(r, e);
		else if (gone)
			req_failf(r, ERR_UNAUTHENTICATED, "your login has ended");
		else
			req_failf(r, ERR_UNAVAILABLE, "too many different followers of events");
		reading_free(rd);
		return;
	}
	/* Everything committed before this job was published before it, and nothing after: lane and loop keep the order. */
	if (rd->reset || rd->out.over)
		buf_addf(&b, "id: %llu\nevent: reset\ndata: {\"seq\":%llu}\n\n", (unsigned long long)es->last,
			 (unsigned long long)es->last);
	else
		buf_add(&b, rd->out.data ?: "", rd->out.len);
	if (r->phase != REQ_FOLLOWING) {
		struct map *m = at(r->front, true);
		struct following *fo = map_get(m, id_key(a->id, key));

		if (!fo) {
			fo = xnew(following);
			fo->last = es->last;
			map_set(m, key, fo);
		}
		fo->followers++;
		a->followers++;
		r->audience = a->id;
		r->stream_arg = a;
		r->phase = REQ_FOLLOWING;
	}
	struct door_follow m = { .audience = a->id, .from = es->last };
	int fd = b.len ? file_memfd("events", b.data, b.len, 0400) : -1;

	front_send(r->front, DOOR_FOLLOW, r->id, &m, &fd, fd >= 0);
	reading_free(rd);
}

void event_again(struct req *r, uint64_t after)
{
	if (r->phase == REQ_FOLLOWING && !r->wait_arg)
		r->wait_arg = reading_start(r, after, UINT64_MAX, true, follow_done);
}

void event_unfollow(struct req *r)
{
	if (r->phase != REQ_FOLLOWING)
		return;
	struct audience *a = r->stream_arg;

	if (r->wait_arg)	/* it reads again, and is gone meanwhile */
		((struct reading *)r->wait_arg)->r = NULL;
	r->wait_arg = NULL;
	struct map *m = r->front ? at(r->front, false) : NULL;
	char key[24];
	struct following *fo = m ? map_get(m, id_key(a->id, key)) : NULL;

	if (fo && --fo->followers == 0)
		free(map_del(m, key));
	audience_put(r->c->events, a);
	r->stream_arg = NULL;
	r->phase = REQ_OPEN;
}

/* ---- list and long poll */

static void list_done(struct db_job *j, const struct err *e)
{
	struct reading *rd = (struct reading *)j;

	if (e)
		req_fail(rd->r, e);
	else
		req_reply_buf(rd->r, 200, NULL, &rd->out);
	reading_free(rd);
}

static void poll_timeout(void *arg)
{
	struct req *r = arg;

	list_remove(&r->in_wait);
	poll_answer(r);
}

static void poll_answer(struct req *r)
{
	struct err e = {};
	uint64_t after = 0, limit = 0;

	timer_disarm(&r->deadline);
	if (req_query_u64(r, "after", 0, INT64_MAX, &after, &e) < 0 || req_query_u64(r, "limit", 100, 1000, &limit, &e) < 0)
		req_fail(r, &e);
	else if (!access_valid(r->c, &r->who))
		req_failf(r, ERR_UNAUTHENTICATED, "your login has ended");
	else
		reading_start(r, after, limit, false, list_done);
}

static void first_look_done(struct db_job *j, const struct err *e)
{
	struct reading *rd = (struct reading *)j;
	struct req *r = rd->r;
	struct err err = {};
	uint64_t wait = 0;

	if (e || rd->found || rd->reset || !r->front) {
		list_done(j, e);
		return;
	}
	req_query_u64(r, "wait", 0, 300, &wait, &err);
	list_append(&r->c->events->polls, &r->in_wait);
	timer_arm(&r->deadline, r->c->ev, wait * 1000000, poll_timeout, r);
	reading_free(rd);
}

void api_events(struct req *r)
{
	struct err e = {};
	uint64_t after, limit, wait;
	char kinds[256];

	if (strlen(req_query(r, "kinds", kinds) ?: "") > KINDS_MAX)
		req_failf(r, ERR_BAD_REQUEST, "kinds= takes at most %d bytes", KINDS_MAX);
	else if (req_query_u64(r, "after", 0, INT64_MAX, &after, &e) < 0 || req_query_u64(r, "limit", 100, 1000, &limit, &e) < 0 ||
	    req_query_u64(r, "wait", 0, 300, &wait, &e) < 0) {
		req_fail(r, &e);
	} else if (r->head.accept && strstr(r->head.accept, "text/event-stream")) {
		char text[256];
		bool given = r->head.last_event_id || req_query(r, "after", text);

		if (r->head.last_event_id && text_u64(r->head.last_event_id, &after) < 0)
			req_failf(r, ERR_BAD_REQUEST, "Last-Event-ID is the number of an event, not \"%.40s\"", r->head.last_event_id);
		else	/* without a number the stream starts now */
			reading_start(r, given ? after : UINT64_MAX, UINT64_MAX, true, follow_done);
	} else {
		reading_start(r, after, limit, false, wait ? first_look_done : list_done);
	}
}

static int last_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct reading *rd = (struct reading *)j;
	struct db_rows *q;
	/* sqlite_sequence, since pruning may have emptied the table */
	int r = db_query(tx, &q, e, "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'", NULL);

	if (r < 0 || (r = db_next(q, e)) < 0)
		return r;
	rd->last = (uint64_t)db_int(q, 0);
	db_done(q);
	return 0;
}

int events_new(struct croft *c, struct events **ret, struct err *e)
{
	struct reading rd = {};
	int r = db_now(c->db, &rd.job, last_work, e);

	if (r < 0)
		return r;
	struct events *es = xnew(events);

	es->last = rd.last;
	es->audiences = map_new();
	list_init(&es->polls);
	*ret = es;
	return 0;
}

void events_free(struct events *es)
{
	if (!es)
		return;
	map_free(es->audiences);
	free(es);
}
