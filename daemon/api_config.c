/* api_config.c: this host's configuration as one document, to be kept elsewhere and taken to another home: users (with
 * the hashes of their passwords) and VMs. Disks stay on their datastores; tokens and sessions are not carried. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "access_state.h"
#include "event.h"
#include "inventory.h"
#include "machine_check.h"
#include "machine_row.h"
#include "map.h"
#include "mem.h"
#include "routes.h"
#include "text.h"
#include "version.h"

struct config_user { char *name, *password_hash; int role; };
struct config_vm { char *id, *name, *folder; struct field_vec labels; struct vm_spec config; };
enum { FORMAT = 1 };		/* of the document */
struct config_doc { uint64_t format; char *version; int64_t created; struct field_vec users, vms; };

/* Nothing else is written by a backup, and other methods may cost a login as much as their author likes. */
static bool is_hash(const char *s) { return strncmp(s, "$y$", 3) == 0; }

#define USER(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct config_user, f), __VA_ARGS__ }
static const struct field user_rows[] = {
	USER(name, F_STR, .flags = FIELD_REQUIRED, .min = 1, .max = 63, .check = text_is_name, .rule = "a name", .help = "of the user"),
	USER(role, F_ENUM, .names = role_names, .help = "what the user may do"),
	USER(password_hash, F_STR, .max = 256, .check = is_hash, .rule = "a yescrypt hash", .flags = FIELD_NULLABLE,
	     .help = "yescrypt hash, or null"),
	{}
};
static const struct fields user_fields = { "ConfigUser", sizeof(struct config_user), user_rows, "a user in a backup" };

static bool is_uuid(const char *s)
{
	uint8_t u[16];

	return text_uuid(s, u) == 0;
}

#define VM(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct config_vm, f), __VA_ARGS__ }
static const struct field vm_rows[] = {
	VM(name, F_STR, .flags = FIELD_REQUIRED, .min = 1, .max = 63, .check = text_is_name, .rule = "a name", .help = "of the VM"),
	VM(id, F_STR, .flags = FIELD_REQUIRED, .min = 36, .max = 36, .check = is_uuid, .rule = "a UUID", .help = "UUID, kept"),
	VM(folder, F_STR, .max = 1200, .flags = FIELD_NULLABLE, .help = "its folder on a datastore"),
	VM(labels, F_LABELS, .help = "free labels"),
	VM(config, F_OBJECT, .sub = &vm_spec_fields, .help = "what is wanted"),
	{}
};
static const struct fields vm_fields = { "ConfigVm", sizeof(struct config_vm), vm_rows, "a VM in a backup" };

#define DOC(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct config_doc, f), __VA_ARGS__ }
static const struct field doc_rows[] = {
	DOC(format, F_U64, .min = 1, .flags = FIELD_REQUIRED, .help = "of this document"),
	DOC(version, F_STR, .help = "of the Croft that wrote it"),
	DOC(created, F_TIME, .help = "when it was written"),
	DOC(users, F_LIST, .sub = &user_fields, .max = USERS_MAX, .help = "users"),
	DOC(vms, F_LIST, .sub = &vm_fields, .max = 10000, .help = "VMs"),
	{}
};
static const struct fields doc_fields = { "ConfigBackup", sizeof(struct config_doc), doc_rows,
					  "a host's configuration; it holds password hashes, so keep it as you keep keys" };

struct result { uint64_t users, vms; struct field_vec skipped; };
#define RESULT(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct result, f), __VA_ARGS__ }
static const struct field result_rows[] = {
	RESULT(users, F_U64, .help = "users that were added or changed"),
	RESULT(vms, F_U64, .help = "VMs that were added"),
	RESULT(skipped, F_STRS, .help = "what was left out, and why"),
	{}
};
static const struct fields result_fields = { "ConfigRestored", sizeof(struct result), result_rows, "what a restore did" };

/* ---- backup */

static void api_backup(struct req *r)
{
	struct croft *c = r->c;
	struct config_doc doc = { .format = FORMAT, .version = (char *)CROFT_VERSION, .created = now_usec() };
	struct buf b AUTO_BUF = BUF_INIT(64 << 20);
	struct jw w = JW(&b);
	const struct user *u;

	for (size_t i = 0; (u = map_next(c->access->users, &i, NULL)); )
		*(struct config_user *)field_vec_add(&doc.users, sizeof(struct config_user)) =
			(struct config_user){ u->name, u->password, (int)u->role };
	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		struct machine *m = inventory_at(c->inv, i);

		if (!m->invalid)
			*(struct config_vm *)field_vec_add(&doc.vms, sizeof(struct config_vm)) =
				(struct config_vm){ m->id, m->name, m->folder, m->labels, m->spec };
	}
	fields_encode(&doc_fields, &doc, &w, NULL);
	free(doc.users.items);		/* what stands in them is borrowed */
	free(doc.vms.items);
	req_reply_buf(r, 200, NULL, &b);
}

#define SKIPPED_MAX 500

/* ---- restore: one transaction, all of it or nothing */

struct restoring {
	struct config_doc *doc;			/* the request's */
	struct machine **vms;			/* NULL: skipped */
	char **labels, **configs;
	struct user **users;			/* new ones; NULL: one of that name is there */
	struct map *keys;			/* names, ids and folders of VMs, those of the document included */
	size_t nskipped;
	struct result result;
};

static void skip(struct restoring *rs, const char *name, const char *why)
{
	if (rs->nskipped++ < SKIPPED_MAX)
		*(char **)field_vec_add(&rs->result.skipped, sizeof(char *)) = xasprintf("VM %s: %s", name, why);
	else if (rs->nskipped == SKIPPED_MAX + 1)
		*(char **)field_vec_add(&rs->result.skipped, sizeof(char *)) = xstrdup("and more that are not named here");
}

static char *text_of(const struct fields *f, const void *p)
{
	struct buf b = BUF_INIT(1 << 20);
	struct jw w = JW(&b);

	fields_encode(f, p, &w, NULL);
	return buf_take(&b);
}

static struct machine *machine_of(struct croft *c, struct config_vm *v)
{
	struct machine *m = machine_new(c);
	uint8_t uuid[16];

	text_uuid(v->id, uuid);
	text_uuid_format(uuid, m->id);		/* run folders bear it in lower case */
	m->name = xstrdup(v->name);
	m->folder = xstrdup(v->config.engine == VM_ENGINE_SIM ? "" : v->folder ?: "");
	m->created_usec = now_usec();
	m->labels = TAKE_VEC(v->labels);
	m->spec = v->config;
	v->config = (struct vm_spec){};
	return m;
}

static int decide_vm(struct croft *c, struct restoring *rs, struct machine *m, size_t at, struct err *e)
{
	if (map_get(rs->keys, m->name) || map_get(rs->keys, m->id))
		return fail(e, ERR_EXISTS, "a VM of this name or UUID is there already");
	if (*m->folder && map_get(rs->keys, m->folder))
		return fail(e, ERR_EXISTS, "its folder %s belongs to another VM", m->folder);
	int r = machine_check_stored(m, rs->vms, at, e);

	if (r == 0 && (m->uid = inventory_uid_for(c->inv, m->id)) == 0)
		return fail(e, ERR_NO_SPACE, "the range of uids (%u from %u on) is used up", c->uid_count, c->uid_base);
	return r;
}

static void remember(struct restoring *rs, struct machine *m)
{
	map_set(rs->keys, m->name, m);
	map_set(rs->keys, m->id, m);
	if (*m->folder)
		map_set(rs->keys, m->folder, m);
}

static void decide_vms(struct croft *c, struct restoring *rs)
{
	rs->keys = map_new();
	for (size_t i = 0; i < inventory_len(c->inv); i++)
		remember(rs, inventory_at(c->inv, i));
	for (size_t i = 0; i < rs->doc->vms.n; i++) {
		struct machine *m = machine_of(c, &((struct config_vm *)rs->doc->vms.items)[i]);
		struct machine_input labels = { .labels = m->labels };
		struct err e = {};

		if (decide_vm(c, rs, m, i, &e) < 0) {
			skip(rs, m->name, e.msg);
			machine_free(m);
			continue;
		}
		rs->vms[i] = m;
		rs->labels[i] = text_of(&machine_labels_fields, &labels);
		rs->configs[i] = text_of(&vm_spec_fields, &m->spec);
		remember(rs, m);
		rs->result.vms++;
	}
	map_free(rs->keys);
}

static void decide_users(struct croft *c, struct restoring *rs)
{
	for (size_t i = 0; i < rs->doc->users.n; i++) {
		const struct config_user *v = &((struct config_user *)rs->doc->users.items)[i];

		rs->result.users++;
		if (access_user(c->access, v->name))
			continue;
		struct user *u = rs->users[i] = xnew(user);

		text_uuid_random(u->id);
		u->name = xstrdup(v->name);
		u->revision = 1;
		u->role = (enum role)v->role;
		u->password = v->password_hash ? xstrdup(v->password_hash) : NULL;
		u->created = now_usec();
	}
}

static int restore_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	struct restoring *rs = ch->arg;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < rs->doc->users.n; i++) {
		const struct config_user *v = &((struct config_user *)rs->doc->users.items)[i];
		const struct user *u = rs->users[i];

		r = u ? db_exec(tx, e, "INSERT INTO users (id, name, revision, role, password, created) VALUES (?, ?, 1, ?, ?, ?)",
				"ssssi", u->id, u->name, role_names[u->role], u->password, u->created)
		      : db_exec(tx, e, "UPDATE users SET role = ?, password = ?, revision = revision + 1 WHERE name = ?", "sss",
				role_names[v->role], v->password_hash, v->name);
	}
	for (size_t i = 0; r >= 0 && i < rs->doc->vms.n; i++) {
		const struct machine *m = rs->vms[i];

		if (m)
			r = db_exec(tx, e, "INSERT INTO vms (id, name, revision, uid, labels, config, folder, created) VALUES"
				    " (?, ?, 1, ?, ?, ?, ?, ?)", "ssisssi", m->id, m->name, (int64_t)m->uid, rs->labels[i],
				    rs->configs[i], m->folder, m->created_usec);
	}
	return r;
}

static void restore_apply(struct change *ch)
{
	struct restoring *rs = ch->arg;
	struct access *a = ch->c->access;

	for (size_t i = 0; i < rs->doc->users.n; i++) {
		struct config_user *v = &((struct config_user *)rs->doc->users.items)[i];
		struct user *u = rs->users[i] ?: access_user(a, v->name);

		if (rs->users[i]) {
			access_add_user(a, TAKE(rs->users[i]));
			continue;
		}
		u->role = (enum role)v->role;
		free(u->password);
		u->password = TAKE(v->password_hash);
		u->revision++;
		access_end_sessions(a, u, "");
	}
	for (size_t i = 0; i < rs->doc->vms.n; i++) {
		struct machine *m = TAKE(rs->vms[i]);
		size_t n;

		if (!m)
			continue;
		inventory_add(ch->c->inv, m);
		inventory_adopt(ch->c->inv, m);
		machine_mirror(m);
		const char *json = machine_json(m, &n);

		event_post(ch->c, "vm.created", m->id, json, n);
	}
}

static void restore_fini(struct change *ch, const struct err *e)
{
	struct restoring *rs = ch->arg;

	for (size_t i = 0; i < rs->doc->vms.n; i++) {
		machine_free(rs->vms[i]);
		free(rs->labels[i]);
		free(rs->configs[i]);
	}
	for (size_t i = 0; i < rs->doc->users.n; i++)
		if (rs->users[i])
			user_free(rs->users[i]);
	fields_fini(&doc_fields, rs->doc);
	free(rs->doc);
	fields_fini(&result_fields, &rs->result);
	free(rs->vms);
	free(rs->labels);
	free(rs->configs);
	free(rs->users);
	free(rs);
	claim_drop(&ch->c->access->claim);
}

static bool keeps_an_admin(struct croft *c, const struct config_doc *doc)
{
	const struct user *u;

	for (size_t i = 0; i < doc->users.n; i++)
		if (((struct config_user *)doc->users.items)[i].role == ROLE_ADMIN)
			return true;
	for (size_t i = 0; (u = map_next(c->access->users, &i, NULL)); ) {
		bool touched = false;

		for (size_t k = 0; k < doc->users.n && !touched; k++)
			touched = strcmp(((struct config_user *)doc->users.items)[k].name, u->name) == 0;
		if (!touched && u->role == ROLE_ADMIN)
			return true;
	}
	return false;
}

/* One that stands there twice would be two users, and all of them must fit. */
static int check_format(const struct config_doc *doc, struct err *e)
{
	if (doc->format == FORMAT)
		return 0;
	fail_at(e, "/format", "the document has the format %llu, and this Croft reads %d", (unsigned long long)doc->format, FORMAT);
	return err_hint(e, "a newer Croft has written it: upgrade this host first");
}

static int check_users(struct croft *c, const struct config_doc *doc, struct err *e)
{
	const struct config_user *u = doc->users.items;
	struct map *seen = map_new();
	size_t all = map_len(c->access->users);

	for (size_t i = 0; i < doc->users.n && !e->code; i++) {
		if (map_set(seen, u[i].name, (void *)u))
			fail(e, ERR_INVALID, "the user %s stands twice in the document; nothing was changed", u[i].name);
		else if (!access_user(c->access, u[i].name) && all++ >= USERS_MAX)
			fail(e, ERR_STATE, "there would be more than %d users; nothing was changed", USERS_MAX);
	}
	map_free(seen);
	return e->code ? -EINVAL : 0;
}

static void api_restore(struct req *r)
{
	struct croft *c = r->c;
	struct err e = {};

	if (check_format(r->in, &e) < 0 || check_users(c, r->in, &e) < 0) {
		req_fail(r, &e);
		return;
	}
	if (!keeps_an_admin(c, r->in)) {
		req_failf(r, ERR_INVALID, "after this restore no user would be an admin; nothing was changed");
		return;
	}
	if (!claim_take(&c->access->claim, r))
		return;
	struct restoring *rs = xnew(restoring);
	struct change *ch = change_new(c, r);
	struct jw w = JW(&ch->answer);

	rs->doc = TAKE(r->in);
	rs->vms = xcalloc(rs->doc->vms.n + 1, sizeof *rs->vms);
	rs->labels = xcalloc(rs->doc->vms.n + 1, sizeof *rs->labels);
	rs->configs = xcalloc(rs->doc->vms.n + 1, sizeof *rs->configs);
	rs->users = xcalloc(rs->doc->users.n + 1, sizeof *rs->users);
	decide_users(c, rs);
	decide_vms(c, rs);
	fields_encode(&result_fields, &rs->result, &w, NULL);
	buf_add(change_event(ch, "host.restored", ""), ch->answer.data, ch->answer.len);
	ch->arg = rs;
	ch->work = restore_work;
	ch->apply = restore_apply;
	ch->fini = restore_fini;
	ch->status = 200;
	change_run(ch);
}

const struct route routes_config[] = {
	{ "GET", "/api/v1/config", "config_backup", PERM_ACCESS_MANAGE, 0, NULL, &doc_fields, NULL, api_backup,
	  "users and VMs of this host as one document; not in it: disks, and the memory of suspended VMs,"
	  " which are off where it is restored" },
	{ "POST", "/api/v1/config", "config_restore", PERM_ACCESS_MANAGE, ROUTE_STORED, &doc_fields, &result_fields, NULL, api_restore,
	  "bring users and VMs of such a document to this host" },
	{}
};
