/* access.c: users, tokens and sessions in memory, and who stands behind a cookie or a bearer token. */
#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "access_state.h"
#include "cookie.h"
#include "fronts.h"
#include "log.h"
#include "map.h"
#include "mem.h"
#include "password.h"
#include "text.h"

/* ---- secrets */

static void base64url(const uint8_t *p, size_t n, char *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint32_t bits = 0;
	unsigned have = 0;

	for (size_t i = 0; i < n; i++) {
		bits = bits << 8 | p[i];
		for (have += 8; have >= 6; have -= 6)
			*out++ = digits[bits >> (have - 6) & 63];
	}
	if (have)
		*out++ = digits[bits << (6 - have) & 63];
	*out = 0;
}

void secret_new(char out[44])
{
	uint8_t bytes[32];

	if (gnutls_rnd(GNUTLS_RND_KEY, bytes, sizeof bytes) < 0)
		abort();
	base64url(bytes, sizeof bytes, out);
	explicit_bzero(bytes, sizeof bytes);
}

void secret_hash(const char *secret, char out[65])
{
	uint8_t sum[32];

	gnutls_hash_fast(GNUTLS_DIG_SHA256, secret, strlen(secret), sum);
	text_hex_format(sum, sizeof sum, out);
}

/* ---- what there is */

struct user *access_user(const struct access *a, const char *key)
{
	return map_get(a->users_by_name, key) ?: map_get(a->users, key);
}

struct user *access_user_or_fail(const struct access *a, const char *key, struct err *e)
{
	struct user *u = access_user(a, key);

	if (!u) {
		fail(e, ERR_NOT_FOUND, "there is no user \"%.63s\"", key);
		err_hint(e, "GET /api/v1/users lists them");
	}
	return u;
}

void access_add_user(struct access *a, struct user *u)
{
	map_set(a->users, u->id, u);
	map_set(a->users_by_name, u->name, u);
}

void user_free(struct user *u)
{
	if (!u)
		return;
	free(u->name);
	free(u->password);
	free(u);
}

static void expiry_arm(struct access *a);

/* What expires or goes leaves streams and consoles behind: they end at once. */
static void withdraw(struct access *a, const char *key)
{
	if (a->c->fronts)
		fronts_withdraw(a->c->fronts, key);
}

void token_free(struct token *t)
{
	free(t->name);
	free(t);
}

void access_add_token(struct access *a, struct token *t)
{
	t->user = map_get(a->users, t->user_id);
	if (!t->user) {
		token_free(t);
		return;
	}
	map_set(a->tokens, t->id, t);
	map_set(a->tokens_by_hash, t->hash, t);
	expiry_arm(a);
}

void access_remove_token(struct access *a, struct token *t)
{
	map_del(a->tokens, t->id);
	map_del(a->tokens_by_hash, t->hash);
	withdraw(a, t->hash);
	token_free(t);
}

void access_remove_session(struct access *a, struct session *s)
{
	map_del(a->sessions, s->hash);
	withdraw(a, s->hash);
	free(s);
}

/* ---- rows of sessions that nobody waits for */

struct row { struct db_job job; char hash[65]; int64_t expires; };	/* expires 0: it goes */

static int row_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct row *w = (struct row *)j;

	return w->expires ? db_exec(tx, e, "UPDATE sessions SET expires = ? WHERE hash = ?", "is", w->expires, w->hash) :
			    db_exec(tx, e, "DELETE FROM sessions WHERE hash = ?", "s", w->hash);
}

static void row_done(struct db_job *j, const struct err *e)
{
	if (e)
		log_warn("a session's end could not be written: %s", e->msg);
	free(j);
}

static void row_write(struct access *a, const char *hash, int64_t expires)
{
	struct row *w = xnew(row);

	snprintf(w->hash, sizeof w->hash, "%s", hash);
	w->expires = expires;
	w->job.passing = true;
	db_run(a->c->db, &w->job, row_work, row_done);
}

static void drop_session(struct access *a, struct session *s)
{
	row_write(a, s->hash, 0);
	access_remove_session(a, s);
}

/* The oldest of @u, or of all, when there are @max. */
static void make_room(struct access *a, const struct user *u, size_t max)
{
	struct session *s, *oldest = NULL;
	size_t n = 0;

	for (size_t i = 0; (s = map_next(a->sessions, &i, NULL)); ) {
		if (u && s->user != u)
			continue;
		n++;
		if (!oldest || s->created < oldest->created)
			oldest = s;
	}
	if (n >= max)
		drop_session(a, oldest);
}

void access_add_session(struct access *a, struct session *s)
{
	s->user = map_get(a->users, s->user_id);
	if (!s->user) {
		free(s);
		return;
	}
	make_room(a, s->user, SESSIONS_OF_USER);
	make_room(a, NULL, SESSIONS_MAX);
	map_set(a->sessions, s->hash, s);
	expiry_arm(a);
}

void access_end_sessions(struct access *a, const struct user *u, const char *but)
{
	struct session *s;

	for (size_t i = 0; (s = map_next(a->sessions, &i, NULL)); )
		if (s->user == u && strcmp(s->hash, but) != 0)
			access_remove_session(a, s);
}

void access_remove_user(struct access *a, struct user *u)
{
	struct token *t;

	access_end_sessions(a, u, "");
	for (size_t i = 0; (t = map_next(a->tokens, &i, NULL)); )
		if (t->user == u)
			access_remove_token(a, t);
	map_del(a->users, u->id);
	map_del(a->users_by_name, u->name);
	withdraw(a, u->id);
}

/* ---- expiry: one timer, for whatever ends next; of the wall clock, so that it notices when that one is set */

static int on_expiry(sd_event_source *src, uint64_t usec, void *arg)
{
	struct access *a = arg;
	int64_t now = now_usec();
	struct session *s;
	struct token *t;

	for (size_t i = 0; (s = map_next(a->sessions, &i, NULL)); )
		if (s->expires <= now)
			drop_session(a, s);
	for (size_t i = 0; (t = map_next(a->tokens, &i, NULL)); )
		if (t->expires && t->expires <= now && !t->over) {
			t->over = true;
			withdraw(a, t->hash);
		}
	expiry_arm(a);
	return 0;
}

static void expiry_arm(struct access *a)
{
	int64_t next = INT64_MAX;
	struct session *s;
	struct token *t;

	for (size_t i = 0; (s = map_next(a->sessions, &i, NULL)); )
		if (s->expires < next)
			next = s->expires;
	for (size_t i = 0; (t = map_next(a->tokens, &i, NULL)); )
		if (t->expires && !t->over && t->expires < next)
			next = t->expires;
	a->expiry = sd_event_source_disable_unref(a->expiry);
	if (next < INT64_MAX)
		sd_event_add_time(a->c->ev, &a->expiry, CLOCK_REALTIME, (uint64_t)next, 1000000, on_expiry, a);
}

/* ---- who */

static void who_is(struct who *w, enum who_via via, const struct user *u, enum role role, const char *key)
{
	*w = (struct who){ .via = via, .role = role < u->role ? role : u->role, .perms = role_perms(u->role) & role_perms(role) };
	snprintf(w->name, sizeof w->name, "%s", u->name);
	memcpy(w->user_id, u->id, sizeof w->user_id);
	snprintf(w->key, sizeof w->key, "%s", key);
}

static bool expired(const struct token *t) { return t->over || (t->expires && t->expires <= now_usec()); }

static int identify_token(struct access *a, const char *authorization, struct who *ret, struct err *e)
{
	const char *secret = authorization + 6;
	char hash[65], when[32];

	if (strncasecmp(authorization, "Bearer", 6) != 0 || *secret != ' ') {
		fail(e, ERR_UNAUTHENTICATED, "this kind of Authorization is not taken");
		return err_hint(e, "send Authorization: Bearer TOKEN; POST /api/v1/tokens makes one");
	}
	secret_hash(secret + strspn(secret, " "), hash);
	struct token *t = map_get(a->tokens_by_hash, hash);

	if (!t) {
		fail(e, ERR_UNAUTHENTICATED, "the token is not known here; it may have been deleted");
		return err_hint(e, "POST /api/v1/tokens makes another");
	}
	if (expired(t)) {
		text_time_format(t->expires, when);
		fail(e, ERR_UNAUTHENTICATED, "the token \"%s\" of %s has expired at %s", t->name, t->user->name, when);
		return err_hint(e, "POST /api/v1/tokens makes another");
	}
	who_is(ret, WHO_TOKEN, t->user, t->role, t->hash);
	return 0;
}

static int identify_session(struct access *a, const char *cookie, struct who *ret, struct err *e)
{
	char secret[44], hash[65];
	int r = cookie_secret(cookie, secret);
	int64_t now = now_usec();

	if (r == 0) {
		*ret = (struct who){};
		return 0;
	}
	if (r > 0)
		secret_hash(secret, hash);
	struct session *s = r > 0 ? map_get(a->sessions, hash) : NULL;

	if (!s || s->expires <= now) {
		fail(e, ERR_UNAUTHENTICATED, "the session is over");
		return err_hint(e, "log in again");
	}
	s->expires = now + SESSION_IDLE_USEC;
	if (s->expires > s->created + SESSION_LIFE_USEC)
		s->expires = s->created + SESSION_LIFE_USEC;
	if (llabs(now - s->written) >= SESSION_WRITE_USEC) {
		s->written = now;
		row_write(a, s->hash, s->expires);
	}
	who_is(ret, WHO_SESSION, s->user, s->user->role, s->hash);
	return 0;
}

int access_identify(struct croft *c, const struct door_request *head, struct who *ret, struct err *e)
{
	if (head->authorization)
		return identify_token(c->access, head->authorization, ret, e);
	return identify_session(c->access, head->cookie, ret, e);
}

bool access_valid(struct croft *c, const struct who *w)
{
	const struct access *a = c->access;
	const struct session *s = map_get(a->sessions, w->key);
	const struct token *t = map_get(a->tokens_by_hash, w->key);
	struct who now = *w;

	switch (w->via) {
	case WHO_SESSION:
		return s && s->expires > now_usec() && role_perms(s->user->role) == w->perms;
	case WHO_TOKEN:
		return t && !expired(t) && (role_perms(t->user->role) & role_perms(t->role)) == w->perms;
	case WHO_UNIX:
		access_refresh(c, &now);
		return now.via == WHO_UNIX && now.perms == w->perms;
	case WHO_NOBODY: case WHO_CROFT:
		break;
	}
	return true;
}

void access_refresh(struct croft *c, struct who *w)
{
	const struct user *u = w->via == WHO_UNIX && *w->user_id ? map_get(c->access->users, w->user_id) : NULL;

	if (w->via != WHO_UNIX || strcmp(w->name, "root") == 0)	/* uid 0 alone has that name here */
		return;
	if (u) {
		w->role = u->role;
		w->perms = role_perms(u->role);
	} else {
		struct who gone = {};

		snprintf(gone.why, sizeof gone.why, "the Croft user %s was deleted", w->name);
		*w = gone;
	}
}

void who_of_user(struct who *w, enum who_via via, const struct user *u) { who_is(w, via, u, u->role, ""); }

/* ---- start and end */

struct loading { struct db_job job; struct access *a; };

static enum role role_of(const char *name, const char *text)
{
	int role = role_from_name(text);

	if (role < 0)
		log_warn("%s has the role \"%s\", which is not known: viewer is taken", name, text);
	return role < 0 ? ROLE_VIEWER : (enum role)role;
}

static int load_users(struct access *a, struct db_tx *tx, struct err *e)
{
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT id, name, revision, role, password, created FROM users ORDER BY created, id", NULL);

	while (r >= 0 && (r = db_next(q, e)) > 0) {
		struct user *u = xnew(user);

		snprintf(u->id, sizeof u->id, "%s", db_text(q, 0));
		u->name = xstrdup(db_text(q, 1));
		u->revision = (uint64_t)db_int(q, 2);
		u->role = role_of(u->name, db_text(q, 3));
		u->password = db_text(q, 4) ? xstrdup(db_text(q, 4)) : NULL;
		u->created = db_int(q, 5);
		access_add_user(a, u);
	}
	return r;
}

static int load_tokens(struct access *a, struct db_tx *tx, struct err *e)
{
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT id, name, user, role, hash, created, expires FROM tokens ORDER BY created, id", NULL);

	while (r >= 0 && (r = db_next(q, e)) > 0) {
		struct token *t = xnew(token);

		snprintf(t->id, sizeof t->id, "%s", db_text(q, 0));
		t->name = xstrdup(db_text(q, 1));
		snprintf(t->user_id, sizeof t->user_id, "%s", db_text(q, 2));
		t->role = role_of(t->name, db_text(q, 3));
		snprintf(t->hash, sizeof t->hash, "%s", db_text(q, 4));
		t->created = db_int(q, 5);
		t->expires = db_int(q, 6);
		t->over = t->expires && t->expires <= now_usec();
		access_add_token(a, t);
	}
	return r;
}

static int load_sessions(struct access *a, struct db_tx *tx, struct err *e)
{
	struct db_rows *q;
	int r = db_exec(tx, e, "DELETE FROM sessions WHERE expires <= ?", "i", now_usec());

	if (r >= 0)
		r = db_query(tx, &q, e, "SELECT hash, user, peer, created, expires FROM sessions ORDER BY created", NULL);
	while (r >= 0 && (r = db_next(q, e)) > 0) {
		struct session *s = xnew(session);

		snprintf(s->hash, sizeof s->hash, "%s", db_text(q, 0));
		snprintf(s->user_id, sizeof s->user_id, "%s", db_text(q, 1));
		snprintf(s->peer, sizeof s->peer, "%s", db_text(q, 2));
		s->created = db_int(q, 3);
		s->expires = db_int(q, 4);
		s->written = s->expires - SESSION_IDLE_USEC;
		access_add_session(a, s);
	}
	return r;
}

static int load_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct access *a = ((struct loading *)j)->a;
	int r = load_users(a, tx, e);

	if (r >= 0)
		r = load_tokens(a, tx, e);
	return r < 0 ? r : load_sessions(a, tx, e);
}

int access_new(struct croft *c, struct access **ret, struct err *e)
{
	struct access *a = *ret = xnew(access);
	struct loading l = { .a = a };

	a->c = c;
	a->users = map_new();
	a->users_by_name = map_new();
	a->tokens = map_new();
	a->tokens_by_hash = map_new();
	a->sessions = map_new();
	a->lockout = lockout_new();
	a->nss = lane_new(c->ev, "nss", 1, 256);
	lane_set_deadline(a->nss, 10 * 1000000);
	list_init(&a->logins);
	return db_now(c->db, &l.job, load_work, e);
}

void access_free(struct access *a)
{
	struct user *u;

	if (!a)
		return;
	logins_free(a);
	lane_free(a->nss);
	for (size_t i = 0; (u = map_next(a->users, &i, NULL)); ) {
		access_remove_user(a, u);
		user_free(u);
	}
	sd_event_source_disable_unref(a->expiry);
	map_free(a->users);
	map_free(a->users_by_name);
	map_free(a->tokens);
	map_free(a->tokens_by_hash);
	map_free(a->sessions);
	lockout_free(a->lockout);
	free(a);
}

/* ---- the first admin */

struct first { struct db_job job; struct user *u; };

static int first_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	const struct user *u = ((struct first *)j)->u;

	return db_exec(tx, e, "INSERT INTO users (id, name, revision, role, password, created) VALUES (?, ?, 1, 'admin', ?, ?)",
		       "sssi", u->id, u->name, u->password, u->created);
}

int access_first_admin(struct croft *c, char **ret_password, struct err *e)
{
	struct first f = {};
	char password[21], *hash = NULL;
	int r = 0;

	if (ret_password)
		*ret_password = NULL;
	if (map_len(c->access->users))
		return 0;
	password_random(password);
	if (ret_password)
		r = password_hash(password, &hash, e);
	if (r < 0)
		return r;
	f.u = xnew(user);
	*f.u = (struct user){ .name = xstrdup("admin"), .revision = 1, .role = ROLE_ADMIN, .password = hash, .created = now_usec() };
	text_uuid_random(f.u->id);
	r = db_now(c->db, &f.job, first_work, e);
	if (r < 0) {
		user_free(f.u);
		return r;
	}
	access_add_user(c->access, f.u);
	if (ret_password)
		*ret_password = xstrdup(password);
	explicit_bzero(password, sizeof password);
	return 0;
}

bool access_has_passwords(const struct croft *c)
{
	size_t i = 0;

	for (const struct user *u; (u = map_next(c->access->users, &i, NULL)); )
		if (u->password)
			return true;
	return false;
}
