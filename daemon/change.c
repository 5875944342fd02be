/* change.c: decide, commit, apply, reply; and the Idempotency-Key, which is a part of that. */
#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <string.h>
#include "change.h"
#include "map.h"
#include "mem.h"
#include "task.h"
#include "text.h"

#define KEY_MAX		128
#define KEY_AGE_USEC	(24 * 3600 * 1000000ll)

struct wire_change {		/* what the lane needs of the request */
	struct change ch;	/* first */
	char *user, *key;
	char request_hash[65];
};

struct change *change_new(struct croft *c, struct req *r)
{
	struct wire_change *w = xnew(wire_change);

	w->ch.c = c;
	w->ch.req = r;
	w->ch.answer = (struct buf)BUF_INIT(1024 * 1024);
	w->ch.headers = (struct buf)BUF_INIT(4096);
	return &w->ch;
}

struct buf *change_event(struct change *ch, const char *kind, const char *target)
{
	struct event *e = &ch->events[ch->nevents++];

	e->time_usec = now_usec();
	snprintf(e->kind, sizeof e->kind, "%s", kind);
	snprintf(e->target, sizeof e->target, "%s", target);
	snprintf(e->user, sizeof e->user, "%s", ch->req ? ch->req->who.name : "croft");
	e->data = (struct buf)BUF_INIT(EVENT_DATA_MAX);
	return &e->data;
}

static int change_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct wire_change *w = (struct wire_change *)j;
	struct change *ch = &w->ch;
	int r = ch->work ? ch->work(ch, tx, e) : 0;

	/* No number is given twice: what the next croftd knows nothing of gets none. */
	for (unsigned i = 0; r >= 0 && i < ch->nevents && !(j->passing && ch->c->frozen.code); i++)
		r = event_insert(tx, &ch->events[i], e);
	if (r >= 0 && w->key)
		r = db_exec(tx, e, "DELETE FROM idempotency WHERE created < ?", "i", steady_usec() - KEY_AGE_USEC);
	if (r >= 0 && w->key)
		r = db_exec(tx, e, "INSERT INTO idempotency (user, key, request, status, headers, body, task, created)"
			    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)", "sssissii", w->user, w->key, w->request_hash,
			    (int64_t)ch->status, ch->headers.data, ch->answer.data, (int64_t)ch->task, steady_usec());
	return r < 0 ? r : 0;
}

static void answer(struct change *ch)
{
	struct req *r = TAKE(ch->req);

	if (!r || !ch->status)
		return;
	if (ch->status == 204)
		req_no_content(r);
	else if (ch->revision)
		req_object(r, ch->status, ch->revision, ch->answer.data, ch->answer.len);
	else
		req_reply_buf(r, ch->status, ch->headers.data, &ch->answer);
}

static void change_done(struct db_job *j, const struct err *e)
{
	struct wire_change *w = (struct wire_change *)j;
	struct change *ch = &w->ch;

	if (!e) {
		if (ch->apply)
			ch->apply(ch);
		for (unsigned i = 0; i < ch->nevents; i++)
			event_publish(ch->c, &ch->events[i]);
		if (ch->status)
			answer(ch);
	} else if (ch->req) {
		req_fail(TAKE(ch->req), e);
	}
	if (ch->fini)
		ch->fini(ch, e);
	for (unsigned i = 0; i < ch->nevents; i++)
		buf_fini(&ch->events[i].data);
	buf_fini(&ch->answer);
	buf_fini(&ch->headers);
	free(w->user);
	free(w->key);
	free(w);
}

void change_refuse(struct change *ch, const struct err *e) { change_done(&ch->job, e); }

void change_run(struct change *ch)
{
	struct wire_change *w = (struct wire_change *)ch;

	if (ch->req && ch->req->idempotency) {
		w->user = xstrdup(ch->req->who.name);
		w->key = xstrdup(ch->req->head.idempotency_key);
		memcpy(w->request_hash, ch->req->request_hash, sizeof w->request_hash);
	}
	db_run(ch->c->db, &ch->job, change_work, change_done);
}

/* ---- claims */

bool claim_take(struct claim *cl, struct req *r)
{
	if (!cl->waiting.next)
		list_init(&cl->waiting);
	if (!cl->held)
		return cl->held = true;
	list_append(&cl->waiting, &r->in_wait);
	return false;
}

void claim_drop(struct claim *cl)
{
	struct list again;

	list_init(&again);
	cl->held = false;
	/* Each of them once: who has to wait anew does so behind the others. */
	while (cl->waiting.next && !list_empty(&cl->waiting)) {
		struct list *first = cl->waiting.next;

		list_remove(first);
		list_append(&again, first);
	}
	while (!list_empty(&again)) {
		struct req *r = LIST_ENTRY(again.next, struct req, in_wait);

		list_remove(&r->in_wait);
		if (cl->held)
			list_append(&cl->waiting, &r->in_wait);
		else
			req_retry(r);
	}
}

/* ---- Idempotency-Key */

static struct map *in_flight;		/* "user key" of requests under way */

struct lookup {
	struct db_job job;
	struct req *r;
	void (*go)(struct req *r);
	char *user, *key;
	char *request, *headers, *body;	/* of the row, when found */
	int status;
	uint64_t task;
};

static int lookup_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct lookup *l = (struct lookup *)j;
	struct db_rows *rows;
	int r = db_query(tx, &rows, e, "SELECT request, status, headers, body, task FROM idempotency"
			 " WHERE user = ? AND key = ? AND created > ?", "ssi", l->user, l->key, steady_usec() - KEY_AGE_USEC);

	if (r < 0 || (r = db_next(rows, e)) <= 0)
		return r;
	l->request = xstrdup(db_text(rows, 0));
	l->status = (int)db_int(rows, 1);
	l->headers = db_text(rows, 2) ? xstrdup(db_text(rows, 2)) : NULL;
	l->body = db_text(rows, 3) ? xstrdup(db_text(rows, 3)) : NULL;
	l->task = (uint64_t)db_int(rows, 4);
	db_done(rows);
	return 0;
}

static void replay(struct lookup *l)
{
	struct buf b AUTO_BUF = BUF_INIT(1024 * 1024);

	if (strcmp(l->request, l->r->request_hash) != 0) {
		struct err used = {};

		fail(&used, ERR_INVALID, "the Idempotency-Key \"%s\" was used for another request", l->key);
		err_hint(&used, "a new request needs a new key; one that is sent again has to be the same to the letter");
		req_fail(l->r, &used);
	} else if (l->task) {
		task_answer(l->r, l->task);
	} else if (l->status == 204) {
		req_no_content(l->r);
	} else {
		buf_adds(&b, l->body ?: "");
		req_reply_buf(l->r, l->status, l->headers, &b);
	}
}

static void lookup_done(struct db_job *j, const struct err *e)
{
	struct lookup *l = (struct lookup *)j;

	if (e)
		req_fail(l->r, e);
	else if (l->request)
		replay(l);
	else
		l->go(l->r);
	free(l->user);
	free(l->key);
	free(l->request);
	free(l->headers);
	free(l->body);
	free(l);
}

static void hash_request(struct req *r)
{
	json_t *plain = json_copy(r->json);

	/* Kept on disk: a password's hash is no place for a guesser to start from. */
	for (const struct field *f = r->route->in ? r->route->in->rows : NULL; plain && f && f->name; f++)
		if (f->flags & FIELD_SECRET)
			json_object_del(plain, f->name);
	AUTO_FREE char *body = plain ? json_dumps(plain, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	AUTO_FREE char *text = xasprintf("%s %s?%s\n%s", r->head.method, r->head.path, r->head.query ?: "", body ?: "");
	uint8_t sum[32];

	json_decref(plain);
	gnutls_hash_fast(GNUTLS_DIG_SHA256, text, strlen(text), sum);
	text_hex_format(sum, sizeof sum, r->request_hash);
}

void idempotency_begin(struct req *r, void (*go)(struct req *r))
{
	if (!*r->head.idempotency_key || strlen(r->head.idempotency_key) > KEY_MAX) {
		req_failf(r, ERR_BAD_REQUEST, "an Idempotency-Key has 1 to %d characters", KEY_MAX);
		return;
	}
	AUTO_FREE char *name = xasprintf("%s %s", r->who.name, r->head.idempotency_key);

	if (!in_flight)
		in_flight = map_new();
	if (map_get(in_flight, name)) {
		struct err e = {};

		fail(&e, ERR_BUSY, "a request with the Idempotency-Key \"%s\" is still under way", r->head.idempotency_key);
		e.retry_after_s = 1;
		req_fail(r, &e);
		return;
	}
	map_set(in_flight, name, r);
	r->idempotency = TAKE(name);
	hash_request(r);
	struct lookup *l = xnew(lookup);

	l->r = r;
	l->go = go;
	l->user = xstrdup(r->who.name);
	l->key = xstrdup(r->head.idempotency_key);
	db_run(r->c->db, &l->job, lookup_work, lookup_done);
}

void idempotency_end(struct req *r)
{
	if (!r->idempotency)
		return;
	map_del(in_flight, r->idempotency);
	free(TAKE(r->idempotency));
}
