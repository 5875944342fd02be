/* api_session.c: login and logout of browsers, who am I, and one's own password. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "access_state.h"
#include "cookie.h"
#include "map.h"
#include "mem.h"
#include "password.h"
#include "routes.h"
#include "text.h"

#define COOKIE COOKIE_NAME "=%s; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=%lld"

static const char *const via_names[] = {
	[WHO_NOBODY] = "nobody", [WHO_UNIX] = "local", [WHO_SESSION] = "session", [WHO_TOKEN] = "token", [WHO_CROFT] = "croft", NULL
};
struct session_view { char *user; int role, via; struct field_vec permissions; int64_t expires; };
#define ROW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct session_view, f), __VA_ARGS__ }
static const struct field rows[] = {
	ROW(user, F_STR, .help = "name of the user"),
	ROW(role, F_ENUM, .names = role_names, .help = "what the user may do here; of a token at most its own role"),
	ROW(via, F_ENUM, .names = via_names, .help = "how the user came in"),
	ROW(permissions, F_STRS, .help = "the permissions of that role"),
	ROW(expires, F_TIME, .flags = FIELD_NULLABLE, .help = "when it ends; each request of a session moves that on"),
	{}
};
static const struct fields session_fields = { "Session", sizeof(struct session_view), rows, "who you are, and what you may do" };

struct session_input { char *name, *password; };
static const struct field input_rows[] = {
	{ .name = "name", .type = F_STR, .off = offsetof(struct session_input, name), .flags = FIELD_REQUIRED, .min = 1, .max = 63,
	  .help = "name of the user" },
	{ .name = "password", .type = F_STR, .off = offsetof(struct session_input, password), .flags = FIELD_REQUIRED | FIELD_SECRET,
	  .min = 1, .max = PASSWORD_MAX, .help = "the user's password" },
	{}
};
static const struct fields input_fields = { "SessionCreate", sizeof(struct session_input), input_rows, "a login" };

struct password_input { char *old, *new; };
static const struct field password_rows[] = {
	{ .name = "old", .type = F_STR, .off = offsetof(struct password_input, old), .flags = FIELD_REQUIRED | FIELD_SECRET, .min = 1,
	  .max = PASSWORD_MAX, .help = "your password until now" },
	{ .name = "new", .type = F_STR, .off = offsetof(struct password_input, new), .flags = FIELD_REQUIRED | FIELD_SECRET,
	  .min = PASSWORD_MIN, .max = PASSWORD_MAX, .help = "your password from now on" },
	{}
};
static const struct fields password_fields = { "PasswordChange", sizeof(struct password_input), password_rows, "a new password" };

static void write_session(const struct who *w, int64_t expires, struct buf *out)
{
	const char *names[PERM_COUNT];
	struct session_view v = { .user = (char *)w->name, .role = w->role, .via = w->via, .permissions = { names, 0 },
				  .expires = expires };
	struct jw j = JW(out);

	for (enum perm p = 0; p < PERM_COUNT; p++)
		if (who_can(w, p))
			names[v.permissions.n++] = perm_names[p];
	fields_encode(&session_fields, &v, &j, NULL);
}

static void api_whoami(struct req *r)
{
	const struct access *a = r->c->access;
	const struct session *s = map_get(a->sessions, r->who.key);
	const struct token *t = map_get(a->tokens_by_hash, r->who.key);
	struct buf b AUTO_BUF = BUF_INIT(8192);

	write_session(&r->who, s ? s->expires : t ? t->expires : 0, &b);
	req_reply_buf(r, 200, NULL, &b);
}

/* ---- login */

struct opening { struct session *s; uint64_t revision; struct who who; char secret[44]; };

/* On the user's revision: a password that is changed at this moment ends this session, too. */
static int open_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	const struct opening *o = ch->arg;
	const struct session *s = o->s;
	int r = db_exec(tx, e, "INSERT INTO sessions (hash, user, peer, created, expires) SELECT ?, id, ?, ?, ? FROM users"
			" WHERE id = ? AND revision = ?", "ssiisi", s->hash, s->peer, s->created, s->expires, s->user_id,
			(int64_t)o->revision);

	if (r)
		return r;
	fail(e, ERR_UNAUTHENTICATED, "%s was changed at the same moment", o->who.name);
	return err_hint(e, "log in again");
}

static void open_apply(struct change *ch)
{
	struct opening *o = ch->arg;

	access_add_session(ch->c->access, TAKE(o->s));
	buf_addf(&ch->headers, "Location: /api/v1/session\r\nSet-Cookie: " COOKIE "\r\n", o->secret, SESSION_LIFE_USEC / 1000000);
}

static void open_fini(struct change *ch, const struct err *e)
{
	struct opening *o = ch->arg;

	free(o->s);
	explicit_bzero(o, sizeof *o);
	free(o);
}

static void on_login(void *arg, struct user *u, const struct err *e)
{
	struct req *r = arg;

	if (e) {
		req_fail(r, e);
		return;
	}
	struct opening *o = xnew(opening);
	struct session *s = o->s = xnew(session);

	secret_new(o->secret);
	secret_hash(o->secret, s->hash);
	who_of_user(&o->who, WHO_SESSION, u);
	memcpy(s->user_id, u->id, sizeof s->user_id);
	snprintf(s->peer, sizeof s->peer, "%s", r->head.peer ?: "");
	s->created = s->written = now_usec();
	s->expires = s->created + SESSION_IDLE_USEC;
	o->revision = u->revision;
	r->who = o->who;		/* the event is the user's */
	idempotency_end(r);		/* a cookie is never kept for a replay */
	struct change *ch = change_new(r->c, r);

	ch->arg = o;
	ch->work = open_work;
	ch->apply = open_apply;
	ch->fini = open_fini;
	ch->status = 201;
	ch->job.passing = true;		/* it ends with a croftd that can keep nothing: then one logs in again */
	write_session(&o->who, s->expires, &ch->answer);
	struct buf *b = change_event(ch, "session.created", u->id);
	struct jw w = JW(b);

	jw_obj(&w, NULL);
	jw_str(&w, "user", u->name);
	jw_str(&w, "peer", s->peer);
	jw_end(&w);
	change_run(ch);
}

static void api_login(struct req *r)
{
	const struct session_input *in = r->in;

	login_check(r->c->access, in->name, r->head.peer, in->password, on_login, r);
}

/* ---- logout */

static int close_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	return db_exec(tx, e, "DELETE FROM sessions WHERE hash = ?", "s", ch->arg);
}

static void close_apply(struct change *ch)
{
	struct session *s = map_get(ch->c->access->sessions, ch->arg);
	AUTO_FREE char *headers = xasprintf("Cache-Control: no-store\r\nSet-Cookie: " COOKIE "\r\n", "", 0ll);

	req_reply(TAKE(ch->req), 204, headers, "", 0);
	if (s)
		access_remove_session(ch->c->access, s);
}

static void close_fini(struct change *ch, const struct err *e) { free(ch->arg); }

static void api_logout(struct req *r)
{
	struct err e = {};

	if (r->who.via != WHO_SESSION) {
		fail(&e, ERR_STATE, "there is no session to end: you came in %s",
		     r->who.via == WHO_TOKEN ? "by a token" : "as a local user");
		if (r->who.via == WHO_TOKEN)
			err_hint(&e, "DELETE /api/v1/tokens/{token} makes a token worthless");
		req_fail(r, &e);
		return;
	}
	struct change *ch = change_new(r->c, r);

	ch->arg = xstrdup(r->who.key);
	ch->work = close_work;
	ch->apply = close_apply;
	ch->fini = close_fini;
	change_event(ch, "session.deleted", r->who.user_id);
	ch->job.passing = true;
	change_run(ch);
}

/* ---- one's own password */

static void give_up(struct req *r, const struct err *e)
{
	struct access *a = r->c->access;

	req_fail(r, e);
	claim_drop(&a->claim);
}

static void on_hash(void *arg, const char *hash, const struct err *e)
{
	struct req *r = arg;
	struct user *u = access_user(r->c->access, r->who.user_id);	/* the claim keeps it */

	if (e)
		give_up(r, e);
	else
		user_change(r, u, u->role, hash, r->who.via == WHO_SESSION ? r->who.key : "", 204);
}

static void on_old(void *arg, struct user *u, const struct err *e)
{
	struct req *r = arg;
	struct err wrong = {};

	if (e && e->code == ERR_UNAUTHENTICATED) {
		fail_at(&wrong, "/old", "that is not your password");
		e = &wrong;
	}
	if (e)
		give_up(r, e);
	else
		password_make(r->c->access, ((struct password_input *)r->in)->new, on_hash, r);
}

static void api_password(struct req *r)
{
	const struct password_input *in = r->in;
	struct user *u = *r->who.user_id ? access_user(r->c->access, r->who.user_id) : NULL;
	struct err e = {};

	if (!u) {
		fail(&e, ERR_STATE, "%s is no Croft user, and has no password here", r->who.name);
		err_hint(&e, "PATCH /api/v1/users/{user} sets that of any user");
		req_fail(r, &e);
	} else if (claim_take(&r->c->access->claim, r)) {
		idempotency_end(r);	/* its request without secrets says nothing */
		login_check(r->c->access, u->name, r->head.peer, in->old, on_old, r);
	}
}

#define SESSION "/api/v1/session"
const struct route routes_session[] = {
	{ "POST", SESSION, "session_create", PERM_ANYBODY, ROUTE_CREATED | ROUTE_PASSING, &input_fields, &session_fields, NULL, api_login,
	  "log in: the answer sets a cookie" },
	{ "GET", SESSION, "session_get", PERM_LOGIN, 0, NULL, &session_fields, NULL, api_whoami, "who am I, and what may I do" },
	{ "DELETE", SESSION, "session_delete", PERM_LOGIN, ROUTE_NO_CONTENT | ROUTE_PASSING, NULL, NULL, NULL, api_logout, "log out" },
	{ "POST", SESSION "/password", "session_password", PERM_LOGIN, ROUTE_NO_CONTENT, &password_fields, NULL, NULL, api_password,
	  "change your own password; your other sessions end" },
	{}
};
