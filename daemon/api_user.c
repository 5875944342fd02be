/* api_user.c: users: list, create, change, delete. They change one at a time, so that one admin is always left. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "access_state.h"
#include "fronts.h"
#include "map.h"
#include "mem.h"
#include "password.h"
#include "routes.h"
#include "text.h"

#define NAME_RULE "a name of 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit"

struct user_view { char *id, *name; int role; bool has_password; uint64_t revision; int64_t created; };
#define ROW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct user_view, f), __VA_ARGS__ }
static const struct field rows[] = {
	ROW(id, F_STR, .help = "UUID"),
	ROW(name, F_STR, .help = "unique name"),
	ROW(role, F_ENUM, .names = role_names, .help = "what the user may do"),
	ROW(has_password, F_BOOL, .help = "whether the user can log in by a password; tokens and the unix socket need none"),
	ROW(revision, F_U64, .help = "grows with each change"),
	ROW(created, F_TIME, .help = "when it was created"),
	{}
};
static const struct fields user_fields = { "User", sizeof(struct user_view), rows, "somebody who may come in" };

struct user_input { char *name; int role; char *password; };
#define IN(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct user_input, f), __VA_ARGS__ }
#define IN_ROLE IN(role, F_ENUM, .names = role_names, .def = "\"viewer\"", .help = "what the user may do")
#define IN_PASSWORD IN(password, F_STR, .flags = FIELD_SECRET, .min = PASSWORD_MIN, .max = PASSWORD_MAX, \
		       .help = "without one the user comes in by tokens, or by the unix socket as a member of the group croft")
static const struct field create_rows[] = {
	IN(name, F_STR, .flags = FIELD_REQUIRED, .min = 1, .max = 63, .check = text_is_name, .rule = NAME_RULE, .help = "unique name"),
	IN_ROLE, IN_PASSWORD, {}
};
static const struct field patch_rows[] = { IN_ROLE, IN_PASSWORD, {} };
static const struct fields create_fields = { "UserCreate", sizeof(struct user_input), create_rows, "a new user" };
static const struct fields patch_fields = { "UserPatch", sizeof(struct user_input), patch_rows, "what of a user can be changed" };

static void write_user(const struct user *u, struct buf *out)
{
	struct user_view v = { .id = (char *)u->id, .name = u->name, .role = u->role, .has_password = u->password,
			       .revision = u->revision, .created = u->created };
	struct jw w = JW(out);

	fields_encode(&user_fields, &v, &w, NULL);
}

/* ---- list and get */

static void api_list(struct req *r)
{
	const struct access *a = r->c->access;
	struct buf b AUTO_BUF = BUF_INIT(1024 * 1024);
	struct err e = {};
	char after[256], last[64] = "";
	uint64_t limit, found = 0;
	bool skip = req_query(r, "after", after);
	struct user *u;

	if (req_query_u64(r, "limit", USERS_MAX, USERS_MAX, &limit, &e) < 0) {
		req_fail(r, &e);
		return;
	}
	buf_adds(&b, "{\"items\":[");
	for (size_t i = 0; (u = map_next(a->users, &i, NULL)); ) {
		char cursor[64];

		snprintf(cursor, sizeof cursor, "%016llx.%s", (unsigned long long)u->created, u->id);
		if (skip && strcmp(cursor, after) <= 0)
			continue;
		if (found++ == (limit ?: 1))
			break;
		if (found > 1)
			buf_addc(&b, ',');
		write_user(u, &b);
		memcpy(last, cursor, sizeof last);
	}
	if (u)
		buf_addf(&b, "],\"next\":\"%s\"}", last);
	else
		buf_adds(&b, "],\"next\":null}");
	req_reply_buf(r, 200, NULL, &b);
}

static void api_get(struct req *r)
{
	struct err e = {};
	struct user *u = access_user_or_fail(r->c->access, r->param[0], &e);
	struct buf b AUTO_BUF = BUF_INIT(8192);

	if (!u) {
		req_fail(r, &e);
		return;
	}
	write_user(u, &b);
	req_object(r, 200, u->revision, b.data, b.len);
}

/* ---- create */

static void give_up(struct req *r, const struct err *e)
{
	struct access *a = r->c->access;

	req_fail(r, e);
	claim_drop(&a->claim);
}

static int name_taken(struct err *e, int r, const char *name)
{
	if (r == -EEXIST) {
		fail(e, ERR_EXISTS, "there is already a user with the name \"%s\"", name);
		snprintf(e->pointer, sizeof e->pointer, "/name");
		err_hint(e, "choose another name");
	}
	return r;
}

static int create_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	const struct user *u = ch->arg;
	int r = db_exec(tx, e, "INSERT INTO users (id, name, revision, role, password, created) VALUES (?, ?, 1, ?, ?, ?)", "ssssi",
			u->id, u->name, role_names[u->role], u->password, u->created);

	return name_taken(e, r, u->name);
}

static void create_apply(struct change *ch) { access_add_user(ch->c->access, TAKE(ch->arg)); }

static void create_fini(struct change *ch, const struct err *e)
{
	user_free(ch->arg);
	claim_drop(&ch->c->access->claim);
}

static void create(struct req *r, const char *hash)
{
	const struct user_input *in = r->in;
	struct user *u = xnew(user);
	struct change *ch = change_new(r->c, r);

	*u = (struct user){ .name = xstrdup(in->name), .revision = 1, .role = (enum role)in->role, .created = now_usec(),
			    .password = hash ? xstrdup(hash) : NULL };
	text_uuid_random(u->id);
	ch->arg = u;
	ch->work = create_work;
	ch->apply = create_apply;
	ch->fini = create_fini;
	ch->status = 201;
	buf_addf(&ch->headers, "Location: /api/v1/users/%s\r\nETag: \"1\"\r\n", u->id);
	write_user(u, &ch->answer);
	buf_add(change_event(ch, "user.created", u->id), ch->answer.data, ch->answer.len);
	change_run(ch);
}

static void create_hashed(void *arg, const char *hash, const struct err *e)
{
	if (e)
		give_up(arg, e);
	else
		create(arg, hash);
}

static void api_create(struct req *r)
{
	const struct user_input *in = r->in;
	struct access *a = r->c->access;
	struct err e = {};

	if (access_user(a, in->name))
		name_taken(&e, -EEXIST, in->name);
	else if (map_len(a->users) >= USERS_MAX)
		fail(&e, ERR_STATE, "there are already %d users", USERS_MAX);
	if (e.code)
		req_fail(r, &e);
	else if (claim_take(&a->claim, r)) {
		if (in->password)
			password_make(a, in->password, create_hashed, r);
		else
			create(r, NULL);
	}
}

/* ---- change */

struct changing { struct user *u; enum role role; char *password, keep[65]; };

static int change_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	const struct changing *cg = ch->arg;
	const struct user *u = cg->u;		/* its id and revision stay what they are while the claim is held */
	int r = db_exec(tx, e, "UPDATE users SET role = ?, password = ?, revision = revision + 1 WHERE id = ? AND revision = ?", "sssi",
			role_names[cg->role], cg->password, u->id, (int64_t)u->revision);

	if (r == 0)
		return fail(e, ERR_STALE, "%s was changed by somebody else at the same moment; try again", u->name);
	return r < 0 ? r : db_exec(tx, e, "DELETE FROM sessions WHERE user = ? AND hash <> ?", "ss", u->id, cg->keep);
}

static void change_apply(struct change *ch)
{
	struct changing *cg = ch->arg;
	struct user *u = cg->u;
	struct access *a = ch->c->access;
	bool other_role = u->role != cg->role;
	struct token *t;

	free(u->password);
	u->password = TAKE(cg->password);
	u->role = cg->role;
	u->revision++;
	access_end_sessions(a, u, cg->keep);
	if (!other_role || !ch->c->fronts)
		return;
	/* What began with the old role ends: the tokens stay, and so do local users' connections. */
	fronts_withdraw(ch->c->fronts, u->id);
	for (size_t i = 0; (t = map_next(a->tokens, &i, NULL)); )
		if (t->user == u)
			fronts_withdraw(ch->c->fronts, t->hash);
}

static void change_fini(struct change *ch, const struct err *e)
{
	struct changing *cg = ch->arg;

	free(cg->password);
	free(cg);
	claim_drop(&ch->c->access->claim);
}

void user_change(struct req *r, struct user *u, enum role role, const char *hash, const char *keep, int status)
{
	struct changing *cg = xnew(changing);
	struct change *ch = change_new(r->c, r);

	cg->u = u;
	cg->role = role;
	cg->password = !hash ? (u->password ? xstrdup(u->password) : NULL) : *hash ? xstrdup(hash) : NULL;
	snprintf(cg->keep, sizeof cg->keep, "%s", keep);
	ch->arg = cg;
	ch->work = change_work;
	ch->apply = change_apply;
	ch->fini = change_fini;
	ch->status = status;
	ch->revision = u->revision + 1;
	struct user as = *u;

	as.role = role;
	as.password = cg->password;
	as.revision++;
	write_user(&as, &ch->answer);
	buf_add(change_event(ch, "user.changed", u->id), ch->answer.data, ch->answer.len);
	change_run(ch);
}

static int last_admin(const struct access *a, const struct user *u, const char *what, struct err *e)
{
	const struct user *other;

	for (size_t i = 0; u->role == ROLE_ADMIN && (other = map_next(a->users, &i, NULL)); )
		if (other != u && other->role == ROLE_ADMIN)
			return 0;
	if (u->role != ROLE_ADMIN)
		return 0;
	fail(e, ERR_STATE, "%s is the last admin, and cannot be %s", u->name, what);
	return err_hint(e, "make somebody else an admin first");
}

static int decode_patch(struct req *r, struct user *u, struct user_input *in, struct err *e)
{
	*in = (struct user_input){ .role = u->role };
	int n = fields_decode(&patch_fields, r->json, FIELDS_PATCH, in, e);

	return n < 0 || in->role == ROLE_ADMIN ? n : last_admin(r->c->access, u, "given another role", e);
}

struct patching { struct req *r; struct user *u; enum role role; };

static void patch_hashed(void *arg, const char *hash, const struct err *e)
{
	struct patching *p = arg;

	if (e)
		give_up(p->r, e);
	else
		user_change(p->r, p->u, p->role, hash, "", 200);
	free(p);
}

static void api_patch(struct req *r)
{
	struct access *a = r->c->access;
	struct err e = {};
	struct user *u = access_user_or_fail(a, r->param[0], &e);
	struct user_input in;

	if (!u || req_if_match(r, u->revision, false, &e) < 0) {
		req_fail(r, &e);
		return;
	}
	if (!claim_take(&a->claim, r))
		return;
	if (decode_patch(r, u, &in, &e) < 0) {
		give_up(r, &e);
		return;
	}
	if (in.password) {
		struct patching *p = xnew(patching);

		*p = (struct patching){ r, u, (enum role)in.role };
		password_make(a, in.password, patch_hashed, p);
	} else {
		user_change(r, u, (enum role)in.role, json_object_get(r->json, "password") ? "" : NULL, "", 200);
	}
	fields_fini(&patch_fields, &in);
}

/* ---- delete */

static int delete_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	const struct user *u = ch->arg;
	int r = db_exec(tx, e, "DELETE FROM users WHERE id = ? AND revision = ?", "si", u->id, (int64_t)u->revision);

	return r ? r : fail(e, ERR_STALE, "%s was changed by somebody else at the same moment; try again", u->name);
}

static void delete_apply(struct change *ch) { access_remove_user(ch->c->access, ch->arg); }

static void delete_fini(struct change *ch, const struct err *e)
{
	if (!e)
		user_free(ch->arg);
	claim_drop(&ch->c->access->claim);
}

static void api_delete(struct req *r)
{
	struct access *a = r->c->access;
	struct err e = {};
	struct user *u = access_user_or_fail(a, r->param[0], &e);

	if (!u || req_if_match(r, u->revision, false, &e) < 0) {
		req_fail(r, &e);
		return;
	}
	if (!claim_take(&a->claim, r))
		return;
	if (last_admin(a, u, "deleted", &e) < 0) {
		give_up(r, &e);
		return;
	}
	struct change *ch = change_new(r->c, r);

	ch->arg = u;
	ch->work = delete_work;
	ch->apply = delete_apply;
	ch->fini = delete_fini;
	ch->status = 204;
	change_event(ch, "user.deleted", u->id);
	change_run(ch);
}

static const struct route_query list_query[] = {
	{ "limit", "integer", "at most so many" },
	{ "after", "string", "the cursor next of the page before" },
	{}
};
#define USER "/api/v1/users/{user}"
const struct route routes_user[] = {
	{ "GET", "/api/v1/users", "user_list", PERM_ACCESS_MANAGE, ROUTE_LIST, NULL, &user_fields, list_query, api_list,
	  "list users, oldest first" },
	{ "POST", "/api/v1/users", "user_create", PERM_ACCESS_MANAGE, ROUTE_CREATED, &create_fields, &user_fields, NULL, api_create,
	  "create a user" },
	{ "GET", USER, "user_get", PERM_ACCESS_MANAGE, 0, NULL, &user_fields, NULL, api_get, "show a user" },
	{ "PATCH", USER, "user_set", PERM_ACCESS_MANAGE, ROUTE_PATCH | ROUTE_IF_MATCH, &patch_fields, &user_fields, NULL, api_patch,
	  "change a user's role or password; the user's sessions end" },
	{ "DELETE", USER, "user_delete", PERM_ACCESS_MANAGE, ROUTE_IF_MATCH | ROUTE_NO_CONTENT, NULL, NULL, NULL, api_delete,
	  "delete a user, with all tokens and sessions" },
	{}
};
