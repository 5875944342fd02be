/* api_upload.c: raw PUT straight to the target. A row says how much is durable, so that an upload that was cut off (by
 * the client, the network, croftd or the power) goes on from there with Upload-Offset. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "api_file.h"
#include "map.h"
#include "mem.h"
#include "text.h"
#include "upload.h"

#define SYNC_USEC	5000000ull
#define UNKNOWN		UINT64_MAX
#define ROWS_MAX	100		/* of one user: each may hold as much room as has come */

struct upload_view { char *id, *user, *target; uint64_t size_bytes, durable_bytes; int64_t created; };
#define ROW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct upload_view, f), __VA_ARGS__ }
static const struct field rows[] = {
	ROW(id, F_STR, .help = "UUID"),
	ROW(user, F_STR, .help = "who uploads"),
	ROW(target, F_STR, .help = "where it will be: [datastore] path"),
	ROW(size_bytes, F_U64, .help = "size that was announced, or 0 when none was"),
	ROW(durable_bytes, F_U64, .help = "so much is safe; Upload-Offset goes on from here"),
	ROW(created, F_TIME, .help = "when it began"),
	{}
};
const struct fields upload_fields = { "Upload", sizeof(struct upload_view), rows, "an upload that is not complete" };

struct result_view { char *path; uint64_t size_bytes; };
static const struct field result_rows[] = {
	{ .name = "path", .type = F_STR, .off = offsetof(struct result_view, path), .help = "[datastore] path" },
	{ .name = "size_bytes", .type = F_U64, .off = offsetof(struct result_view, size_bytes), .help = "its size" },
	{}
};
const struct fields upload_result_fields = { "UploadResult", sizeof(struct result_view), result_rows, "a file that was uploaded" };
const struct route_query upload_query[] = {
	{ "replace", "boolean", "true: a file of that name may be replaced" },
	{}
};

struct uploading {
	struct croft *c;
	struct req *r;			/* NULL once the client is gone */
	struct store *s;
	struct upload_plan plan;	/* texts owned: id, path */
	char *target, *user;
	uint64_t offset;		/* where this request begins: what was durable */
	bool resume, has_digest, syncing, ending;
	uint8_t sha256[32];
	struct timer sync;
};
static struct map *active;		/* target -> struct uploading */

static void uploading_free(struct uploading *u)
{
	timer_disarm(&u->sync);
	map_del(active, u->target);
	free((char *)u->plan.id);
	free((char *)u->plan.path);
	free(u->target);
	free(u->user);
	free(u);
}

static void give_up(struct uploading *u, const struct err *e)
{
	struct req *r = TAKE(u->r);

	uploading_free(u);
	if (r && e)
		req_fail(r, e);
	else if (r)
		req_failf(r, ERR_UNAVAILABLE, "the upload was cut off");
}

/* ---- the row */

struct row_job {
	struct db_job job;
	struct uploading *u;
	uint64_t durable;
	char id[37];
	char *target, *user;
	int64_t size;
	bool resume, found;
	struct err why;
};

static int room_for_row(struct db_tx *tx, const char *user, struct err *e)
{
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT count(*) FROM uploads WHERE user = ?", "s", user);

	if (r < 0 || (r = db_next(q, e)) < 0)
		return r;
	int64_t n = db_int(q, 0);

	db_done(q);
	if (n < ROWS_MAX)
		return 0;
	fail(e, ERR_STATE, "%s has begun %lld uploads that are not complete, and may have no more", user, (long long)n);
	return err_hint(e, "go on with one, or give it up: GET /api/v1/uploads lists them");
}

static int begin_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct row_job *rj = (struct row_job *)j;
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT id, durable FROM uploads WHERE target = ? AND user = ?", "ss", rj->target, rj->user);

	if (r < 0 || (r = db_next(q, e)) < 0)
		return r;
	if (r > 0) {
		rj->found = true;
		snprintf(rj->id, sizeof rj->id, "%s", db_text(q, 0));
		rj->durable = (uint64_t)db_int(q, 1);
		db_done(q);
	}
	if (rj->found)
		return rj->resume ? 0 : db_exec(tx, e, "UPDATE uploads SET durable = 0, size = ?, created = ? WHERE id = ?", "iis",
						rj->size, now_usec(), rj->id);
	if (rj->resume) {
		fail(e, ERR_NOT_FOUND, "there is no upload to %s that could go on", rj->target);
		return err_hint(e, "start it again without Upload-Offset");
	}
	if ((r = room_for_row(tx, rj->user, e)) < 0)
		return r;
	text_uuid_random(rj->id);
	r = db_exec(tx, e, "INSERT INTO uploads (id, user, target, size, durable, created) VALUES (?, ?, ?, ?, 0, ?)", "sssii", rj->id,
		    rj->user, rj->target, rj->size, now_usec());
	if (r == -EEXIST) {
		fail(e, ERR_BUSY, "somebody else has begun to upload to %s", rj->target);
		return err_hint(e, "GET /api/v1/uploads shows it, and DELETE gives it up");
	}
	return r < 0 ? r : 0;
}

static int durable_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct row_job *rj = (struct row_job *)j;

	return db_exec(tx, e, "UPDATE uploads SET durable = ? WHERE id = ?", "is", (int64_t)rj->durable, rj->id);
}

static void row_free(struct row_job *rj)
{
	free(rj->target);
	free(rj->user);
	free(rj);
}

/* ---- while bytes come */

static void finish(struct uploading *u);
static void arm_sync(struct uploading *u);
static void forget(struct uploading *u, const struct err *why);

static void after_sync(struct uploading *u)
{
	u->syncing = false;
	if ((u->ending && !u->r) || u->c->stopping)
		give_up(u, NULL);	/* cut off; what is durable is in the row */
	else if (u->ending)
		finish(u);
	else
		arm_sync(u);
}

static void durable_done(struct db_job *j, const struct err *e)
{
	struct row_job *rj = (struct row_job *)j;

	after_sync(rj->u);
	row_free(rj);
}

static void synced(void *arg, uint64_t bytes, const struct err *e)
{
	struct uploading *u = arg;

	if (e) {
		after_sync(u);
		return;
	}
	struct row_job *rj = xnew(row_job);

	rj->u = u;
	rj->durable = bytes;
	snprintf(rj->id, sizeof rj->id, "%s", u->plan.id);
	db_run(u->c->db, &rj->job, durable_work, durable_done);
}

static void sync_now(void *arg)
{
	struct uploading *u = arg;

	u->syncing = true;
	upload_sync(u->s->ds, &u->plan, synced, u);
}

static void arm_sync(struct uploading *u) { timer_arm(&u->sync, u->c->ev, SYNC_USEC, sync_now, u); }

/* ---- the end */

static int end_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	return db_exec(tx, e, "DELETE FROM uploads WHERE id = ?", "s", (const char *)ch->arg);
}
static void end_fini(struct change *ch, const struct err *e) { free(ch->arg); }

static void finished(void *arg, uint64_t size, const struct err *e)
{
	struct uploading *u = arg;

	if (e && (e->code == ERR_INVALID || e->code == ERR_EXISTS)) {	/* no continuation makes it good */
		forget(u, e);
		return;
	}
	if (e) {
		give_up(u, e);
		return;
	}
	struct change *ch = change_new(u->c, TAKE(u->r));
	struct jw w = JW(&ch->answer);
	struct result_view v = { .path = u->target, .size_bytes = size };

	file_event(ch, "file.created", u->s, u->plan.path);
	fields_encode(&upload_result_fields, &v, &w, NULL);
	ch->arg = xstrdup(u->plan.id);
	ch->work = end_work;
	ch->fini = end_fini;
	ch->status = 201;
	uploading_free(u);
	change_run(ch);
}

static void finish(struct uploading *u) { upload_finish(u->s->ds, &u->plan, u->has_digest ? u->sha256 : NULL, finished, u); }

static void stored(struct req *r, uint64_t bytes, int error)
{
	struct uploading *u = r->stream_arg;

	timer_disarm(&u->sync);
	u->ending = true;
	if (error || !r->front) {
		struct err e = {};

		u->r = NULL;
		if (!r->front)
			req_free(r);
		else {
			fail_errno(&e, error, "write %s", u->target);
			req_fail(r, &e);
		}
		if (!u->syncing)
			sync_now(u);
		return;
	}
	if (!u->syncing)
		finish(u);
}

/* Nothing came of it: neither a file nor a row may stand in the way of the next one who uploads there. */
static void forgotten(struct db_job *j, const struct err *ignored)
{
	struct row_job *rj = (struct row_job *)j;

	give_up(rj->u, &rj->why);
	row_free(rj);
}
static int forget_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	return db_exec(tx, e, "DELETE FROM uploads WHERE id = ?", "s", ((struct row_job *)j)->id);
}

/* The file first: a row without one can be used again, a file without a row would be seen by nobody. */
static void file_gone(void *arg, const struct err *e)
{
	struct row_job *rj = arg;

	if (e) {
		give_up(rj->u, &rj->why);
		row_free(rj);
	} else {
		db_run(rj->u->c->db, &rj->job, forget_work, forgotten);
	}
}

static void forget(struct uploading *u, const struct err *why)
{
	struct row_job *rj = xnew(row_job);

	rj->u = u;
	rj->why = *why;
	snprintf(rj->id, sizeof rj->id, "%s", u->plan.id);
	upload_abort(u->s->ds, &u->plan, file_gone, rj);
}

static void begun(void *arg, int *fd, const struct err *e)
{
	struct uploading *u = arg;

	if (e) {
		if (u->offset && e->code != ERR_EXISTS)
			give_up(u, e);
		else
			forget(u, e);
		return;
	}
	arm_sync(u);
	u->r->stream_arg = u;
	req_store(u->r, TAKE_FD(*fd), u->s->ds->name, u->offset, u->plan.bytes == UNKNOWN ? UNKNOWN : u->plan.bytes - u->offset, stored);
}

static void begin_done(struct db_job *j, const struct err *e)
{
	struct row_job *rj = (struct row_job *)j;
	struct uploading *u = rj->u;
	struct err err = {};

	if (e || u->c->stopping) {
		give_up(u, e);
	} else if (u->resume && rj->durable != u->offset) {
		fail(&err, ERR_STATE, "%llu bytes of %s are safe, not %llu", (unsigned long long)rj->durable, u->target,
		     (unsigned long long)u->offset);
		err_hint(&err, "send Upload-Offset: %llu and the bytes from there on", (unsigned long long)rj->durable);
		give_up(u, &err);
	} else {
		u->plan.id = xstrdup(rj->id);
		if (u->plan.bytes != UNKNOWN)
			u->plan.bytes += u->offset;
		upload_begin(u->s->ds, &u->plan, u->offset, begun, u);
	}
	row_free(rj);
}

/* Repr-Digest: sha-256=:BASE64: (RFC 9530) */
static int parse_digest(const char *text, uint8_t out[32])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t bits = 0;
	size_t n = 0, have = 0;

	if (strncmp(text, "sha-256=:", 9) != 0 || strlen(text) != 9 + 44 + 1)
		return -EINVAL;
	for (const char *p = text + 9; n < 32; p++) {
		const char *d = strchr(digits, *p);

		if (!d || !*p)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)(d - digits);
		have += 6;
		if (have >= 8) {
			have -= 8;
			out[n++] = (uint8_t)(bits >> have);
		}
	}
	return strcmp(text + 9 + 43, "=:") == 0 ? 0 : -EINVAL;
}

static int prepare(struct uploading *u, struct req *r, struct err *e)
{
	char text[256];

	u->plan.bytes = r->head.content_length;
	u->plan.replace = req_query(r, "replace", text) && strcmp(text, "true") == 0;
	if (file_outside_vms(r->c, u->s, r->param[1], e) < 0)
		return -ENOTCONN;
	if (u->plan.replace && file_unused(r->c, u->s, r->param[1], e) < 0)
		return -ENOTCONN;
	if (r->head.upload_offset) {
		u->resume = true;
		if (text_u64(r->head.upload_offset, &u->offset) < 0)
			return fail(e, ERR_BAD_REQUEST, "Upload-Offset is a number of bytes, not \"%.40s\"", r->head.upload_offset);
	}
	if (r->head.repr_digest) {
		u->has_digest = true;
		if (parse_digest(r->head.repr_digest, u->sha256) < 0)
			return fail(e, ERR_BAD_REQUEST, "Repr-Digest must be sha-256=:BASE64:, not \"%.80s\"", r->head.repr_digest);
	}
	if (!active)
		active = map_new();
	if (map_get(active, u->target))
		return fail(e, ERR_BUSY, "an upload to %s is under way", u->target);
	return 0;
}

void api_upload(struct req *r)
{
	struct store *s;
	struct err e = {};

	if (file_target(r, false, &s, &e) < 0) {
		req_fail(r, &e);
		return;
	}
	struct uploading *u = xnew(uploading);

	u->c = r->c;
	u->s = s;
	u->target = xasprintf("[%s] %s", s->ds->name, r->param[1]);
	u->user = xstrdup(r->who.name);
	if (prepare(u, r, &e) < 0) {
		free(u->target);
		free(u->user);
		free(u);
		req_fail(r, &e);
		return;
	}
	u->r = r;
	u->plan.path = xstrdup(r->param[1]);
	map_set(active, u->target, u);
	struct row_job *rj = xnew(row_job);

	rj->u = u;
	rj->target = xstrdup(u->target);
	rj->user = xstrdup(u->user);
	rj->size = u->plan.bytes == UNKNOWN ? 0 : (int64_t)u->plan.bytes;
	rj->resume = u->resume;
	db_run(r->c->db, &rj->job, begin_work, begin_done);
}

/* ---- what is left of uploads that were cut off */

struct listing { struct db_job job; struct req *r; struct buf out; char id[64], target[DSPATH_TEXT]; bool found; };

static int list_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct listing *l = (struct listing *)j;
	struct jw w = JW(&l->out);
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT id, user, target, size, durable, created FROM uploads"
			 " WHERE ?1 = '' OR id = ?1 ORDER BY created", "s", l->id);

	jw_obj(&w, NULL);
	jw_arr(&w, "items");
	while (r >= 0 && (r = db_next(q, e)) > 0) {
		struct upload_view v = { .id = (char *)db_text(q, 0), .user = (char *)db_text(q, 1), .target = (char *)db_text(q, 2),
					 .size_bytes = (uint64_t)db_int(q, 3), .durable_bytes = (uint64_t)db_int(q, 4),
					 .created = db_int(q, 5) };

		fields_encode(&upload_fields, &v, &w, NULL);
		snprintf(l->target, sizeof l->target, "%s", v.target);
		l->found = true;
	}
	jw_end(&w);
	jw_null(&w, "next");
	jw_end(&w);
	return r < 0 ? r : 0;
}

static void list_done(struct db_job *j, const struct err *e)
{
	struct listing *l = (struct listing *)j;

	if (e)
		req_fail(l->r, e);
	else
		req_reply_buf(l->r, 200, NULL, &l->out);
	buf_fini(&l->out);
	free(l);
}

static void aborted(void *arg, const struct err *e)
{
	struct req *r = arg;

	if (e) {
		req_fail(r, e);
		return;
	}
	struct change *ch = change_new(r->c, r);

	ch->arg = xstrdup(r->param[0]);
	ch->work = end_work;
	ch->fini = end_fini;
	ch->status = 204;
	change_run(ch);
}

static void delete_found(struct db_job *j, const struct err *e)
{
	struct listing *l = (struct listing *)j;
	struct req *r = l->r;
	struct datastore *ds;
	struct dspath path;
	struct err err = {};

	if (!e && !l->found) {
		fail(&err, ERR_NOT_FOUND, "there is no upload %.40s", r->param[0]);
		err_hint(&err, "uploads go by their id; GET /api/v1/uploads lists them");
	} else if (!e && active && map_get(active, l->target))
		fail(&err, ERR_BUSY, "the upload to %s is under way; end the client that sends it", l->target);
	else if (!e)
		stores_path(r->c, l->target, &ds, &path, &err);
	if (e || err.code) {
		req_fail(r, e ?: &err);
	} else {
		struct upload_plan plan = { .id = l->id, .path = path.path, .bytes = UNKNOWN };

		upload_abort(ds, &plan, aborted, r);
	}
	buf_fini(&l->out);
	free(l);
}

static void look(struct req *r, const char *id, void (*done)(struct db_job *, const struct err *))
{
	struct listing *l = xnew(listing);

	l->r = r;
	l->out = (struct buf)BUF_INIT(4 << 20);
	snprintf(l->id, sizeof l->id, "%.63s", id);
	db_run(r->c->db, &l->job, list_work, done);
}

void api_upload_list(struct req *r) { look(r, "", list_done); }
void api_upload_delete(struct req *r) { look(r, r->param[0], delete_found); }
