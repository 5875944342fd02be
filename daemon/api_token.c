/* api_token.c: bearer tokens: list, create, delete. The secret is told once, and only its hash is kept. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "access_state.h"
#include "map.h"
#include "mem.h"
#include "routes.h"
#include "text.h"

struct token_view { char *id, *name, *user; int role; int64_t created, expires; char *secret; };
#define ROW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct token_view, f), __VA_ARGS__ }
static const struct field rows[] = {
	ROW(id, F_STR, .help = "UUID"),
	ROW(name, F_STR, .help = "what it is for"),
	ROW(user, F_STR, .help = "name of the user for whom it stands"),
	ROW(role, F_ENUM, .names = role_names, .help = "what it may do at most; never more than its user"),
	ROW(created, F_TIME, .help = "when it was created"),
	ROW(expires, F_TIME, .flags = FIELD_NULLABLE, .help = "when it ends; null: never"),
	ROW(secret, F_STR, .help = "the token itself; told once, when it is created"),
	{}
};
static const struct fields token_fields = { "Token", sizeof(struct token_view), rows, "a way in for programs" };

static const char *const roles_or_own[] = { "own", "viewer", "operator", "vm-admin", "admin", NULL };
struct token_input { char *name, *user; int role; int64_t expires; };
#define IN(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct token_input, f), __VA_ARGS__ }
static const struct field create_rows[] = {
	IN(name, F_STR, .flags = FIELD_REQUIRED, .min = 1, .max = 63, .help = "what it is for"),
	IN(user, F_STR, .max = 63, .help = "for whom; without it for yourself"),
	IN(role, F_ENUM, .names = roles_or_own, .def = "\"own\"", .help = "what it may do at most; own: what the user may do now"),
	IN(expires, F_TIME, .help = "when it ends; null: never"),
	{}
};
static const struct fields create_fields = { "TokenCreate", sizeof(struct token_input), create_rows, "a new token" };

static void write_token(const struct token *t, const struct user *u, const char *secret, struct buf *out)
{
	struct token_view v = { .id = (char *)t->id, .name = t->name, .user = u->name, .role = t->role, .created = t->created,
				.expires = t->expires, .secret = (char *)secret };
	struct jw w = JW(out);

	fields_encode(&token_fields, &v, &w, NULL);
}

/* Your own, or anybody's with the permission for that. */
static bool may_see(const struct req *r, const struct token *t)
{
	return who_can(&r->who, PERM_ACCESS_MANAGE) || strcmp(t->user_id, r->who.user_id) == 0;
}

/* ---- list */

static void api_list(struct req *r)
{
	const struct access *a = r->c->access;
	struct buf b AUTO_BUF = BUF_INIT(8 * 1024 * 1024);
	struct err e = {};
	char after[256], last[64] = "";
	uint64_t limit, found = 0;
	bool skip = req_query(r, "after", after);
	struct token *t;

	if (req_query_u64(r, "limit", 1000, 10000, &limit, &e) < 0) {
		req_fail(r, &e);
		return;
	}
	buf_adds(&b, "{\"items\":[");
	for (size_t i = 0; (t = map_next(a->tokens, &i, NULL)); ) {
		char cursor[64];

		snprintf(cursor, sizeof cursor, "%016llx.%s", (unsigned long long)t->created, t->id);
		if (!may_see(r, t) || (skip && strcmp(cursor, after) <= 0))
			continue;
		if (found++ == (limit ?: 1))
			break;
		if (found > 1)
			buf_addc(&b, ',');
		write_token(t, t->user, NULL, &b);
		memcpy(last, cursor, sizeof last);
	}
	if (t)
		buf_addf(&b, "],\"next\":\"%s\"}", last);
	else
		buf_adds(&b, "],\"next\":null}");
	req_reply_buf(r, 200, NULL, &b);
}

/* ---- create */

struct making { struct token *t; char secret[64]; };

static int create_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	const struct token *t = ((struct making *)ch->arg)->t;
	int r = db_exec(tx, e, "INSERT INTO tokens (id, name, user, role, hash, created, expires) SELECT ?, ?, id, ?, ?, ?, nullif(?, 0)"
			" FROM users WHERE id = ?", "ssssiis", t->id, t->name, role_names[t->role], t->hash, t->created, t->expires,
			t->user_id);

	return r ? r : fail(e, ERR_NOT_FOUND, "the user was deleted at the same moment");
}

static void create_apply(struct change *ch)
{
	struct making *m = ch->arg;
	struct token *t = TAKE(m->t);
	const struct user *u = access_user(ch->c->access, t->user_id);

	/* A replay for an Idempotency-Key has come from the answer without the secret: that is written down nowhere. */
	buf_reset(&ch->answer);
	write_token(t, u, m->secret, &ch->answer);
	access_add_token(ch->c->access, t);
}

static void create_fini(struct change *ch, const struct err *e)
{
	struct making *m = ch->arg;

	if (m->t)
		token_free(m->t);
	explicit_bzero(m, sizeof *m);
	free(m);
	if (ch->answer.data)
		explicit_bzero(ch->answer.data, ch->answer.len);
}

static struct user *whose(struct req *r, const char *name, struct err *e)
{
	const struct access *a = r->c->access;

	if (name && !who_can(&r->who, PERM_ACCESS_MANAGE) && strcmp(name, r->who.name) != 0 && strcmp(name, r->who.user_id) != 0) {
		fail(e, ERR_FORBIDDEN, "a token for somebody else needs the permission access.manage");
		snprintf(e->permission, sizeof e->permission, "%s", perm_names[PERM_ACCESS_MANAGE]);
		err_hint(e, "leave user out to make one for yourself, or ask an admin");
		return NULL;
	}
	if (name) {
		struct user *u = access_user_or_fail(a, name, e);

		snprintf(e->pointer, sizeof e->pointer, "%s", u ? "" : "/user");
		return u;
	}
	if (*r->who.user_id)
		return access_user_or_fail(a, r->who.user_id, e);
	fail_at(e, "/user", "%s is no Croft user: say for whom the token is", r->who.name);
	err_hint(e, "\"user\": \"admin\"");
	return NULL;
}

static int check(struct req *r, const struct user *u, struct token *t, struct err *e)
{
	const struct token_input *in = r->in;
	const struct token *other;
	enum role most = u->role < r->who.role ? u->role : r->who.role;
	size_t n = 0;

	for (size_t i = 0; (other = map_next(r->c->access->tokens, &i, NULL)); )
		n += other->user == u;
	if (n >= TOKENS_OF_USER) {
		fail(e, ERR_STATE, "%s has already %zu tokens", u->name, n);
		return err_hint(e, "delete those that are not used any more");
	}
	t->role = in->role ? (enum role)(in->role - 1) : most;
	if (t->role > most) {
		fail_at(e, "/role", "the role %s is more than %s may give away here", role_names[t->role], r->who.name);
		return err_hint(e, "%s is the most", role_names[most]);
	}
	if (in->expires && in->expires <= t->created)
		return fail_at(e, "/expires", "that time has passed");
	return 0;
}

static void api_create(struct req *r)
{
	const struct token_input *in = r->in;
	struct making *m = xnew(making);
	struct token *t = m->t = xnew(token);
	struct change *ch = change_new(r->c, r);
	struct err e = {};
	struct user *u = whose(r, in->user, &e);

	ch->arg = m;
	ch->fini = create_fini;
	t->name = xstrdup(in->name);
	t->created = now_usec();
	t->expires = in->expires;
	if (!u || check(r, u, t, &e) < 0) {
		change_refuse(ch, &e);
		return;
	}
	memcpy(m->secret, "croft_", 6);
	secret_new(m->secret + 6);
	secret_hash(m->secret, t->hash);
	text_uuid_random(t->id);
	memcpy(t->user_id, u->id, sizeof t->user_id);
	ch->work = create_work;
	ch->apply = create_apply;
	ch->status = 201;
	buf_addf(&ch->headers, "Location: /api/v1/tokens/%s\r\n", t->id);
	write_token(t, u, NULL, &ch->answer);
	buf_add(change_event(ch, "token.created", t->id), ch->answer.data, ch->answer.len);
	change_run(ch);
}

/* ---- delete */

static int delete_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	return db_exec(tx, e, "DELETE FROM tokens WHERE id = ?", "s", ch->arg);
}

static void delete_apply(struct change *ch)
{
	struct token *t = map_get(ch->c->access->tokens, ch->arg);

	if (t)
		access_remove_token(ch->c->access, t);
}

static void delete_fini(struct change *ch, const struct err *e) { free(ch->arg); }

static void api_delete(struct req *r)
{
	struct token *t = map_get(r->c->access->tokens, r->param[0]);
	struct err e = {};

	if (!t || !may_see(r, t)) {
		fail(&e, ERR_NOT_FOUND, "there is no token \"%.40s\"", r->param[0]);
		err_hint(&e, "tokens go by their id; GET /api/v1/tokens lists them");
	} else if (t->role > r->who.role && t->user->role > r->who.role) {
		fail(&e, ERR_FORBIDDEN, "the token \"%s\" has the role %s, which is more than you have here", t->name, role_names[t->role]);
	}
	if (e.code) {
		req_fail(r, &e);
		return;
	}
	struct change *ch = change_new(r->c, r);

	ch->arg = xstrdup(t->id);
	ch->work = delete_work;
	ch->apply = delete_apply;
	ch->fini = delete_fini;
	ch->status = 204;
	change_event(ch, "token.deleted", t->id);
	change_run(ch);
}

static const struct route_query list_query[] = {
	{ "limit", "integer", "at most so many; default 1000" },
	{ "after", "string", "the cursor next of the page before" },
	{}
};
const struct route routes_token[] = {
	{ "GET", "/api/v1/tokens", "token_list", PERM_LOGIN, ROUTE_LIST, NULL, &token_fields, list_query, api_list,
	  "list your tokens; with access.manage everybody's" },
	{ "POST", "/api/v1/tokens", "token_create", PERM_LOGIN, ROUTE_CREATED, &create_fields, &token_fields, NULL, api_create,
	  "create a token; its secret is told this once" },
	{ "DELETE", "/api/v1/tokens/{token}", "token_delete", PERM_LOGIN, ROUTE_NO_CONTENT, NULL, NULL, NULL, api_delete,
	  "delete a token: from now on it is worthless" },
	{}
};
