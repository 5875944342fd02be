/* stores.c: datastores as rows; their status is asked for afresh when somebody looks. */
#include <stdio.h>
#include <string.h>
#include "change.h"
#include "db.h"
#include "log.h"
#include "map.h"
#include "mem.h"
#include "routes.h"
#include "stores.h"
#include "text.h"

#define OPEN_USEC	300000

struct stores { struct croft *c; struct map *by_name; };

struct store_view {
	char *id, *name;
	uint64_t revision;
	int64_t created;
	struct datastore_config config;
	struct datastore_status status;
};
#define ROW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct store_view, f), __VA_ARGS__ }
static const struct field rows[] = {
	ROW(id, F_STR, .help = "UUID"),
	ROW(name, F_STR, .help = "unique name; paths begin with it: [name] folder/file"),
	ROW(revision, F_U64, .help = "grows with each change"),
	ROW(created, F_TIME, .help = "when it was created"),
	ROW(config, F_OBJECT, .sub = &datastore_config_fields, .help = "what is wanted"),
	ROW(status, F_OBJECT, .sub = &datastore_status_fields, .help = "what is"),
	{}
};
static const struct fields store_fields = { "Datastore", sizeof(struct store_view), rows, "a place for files and disks" };

struct store *stores_get(const struct croft *c, const char *key)
{
	struct store *s = map_get(c->stores->by_name, key);

	for (size_t i = 0; !s && (s = stores_at(c, i)); i++)
		if (strcmp(s->id, key) == 0)
			return s;
		else
			s = NULL;
	return s;
}

struct store *stores_at(const struct croft *c, size_t at)
{
	struct store *s;

	for (size_t i = 0; (s = map_next(c->stores->by_name, &i, NULL)); )
		if (at-- == 0)
			return s;
	return NULL;
}

int stores_path(const struct croft *c, const char *text, struct datastore **ds, struct dspath *ret, struct err *e)
{
	int r = dspath_parse(text, ret, e);

	if (r < 0)
		return r;
	struct store *s = stores_get(c, ret->datastore);

	if (!s) {
		fail(e, ERR_NOT_FOUND, "there is no datastore \"%s\"", ret->datastore);
		return err_hint(e, "a path looks like [local] folder/file");
	}
	*ds = s->ds;
	return datastore_usable(s->ds, e);
}

/* Does @m have something on @s, or would it (the first is where a new VM goes)? */
static bool lies_on(const struct machine *m, const struct store *s)
{
	const struct vm_spec *v = &m->spec;
	AUTO_FREE char *prefix = xasprintf("[%s] ", s->ds->name);
	const char *paths[] = { m->folder, v->kernel.image, v->kernel.initrd };
	size_t n = strlen(prefix);
	bool on = s == stores_at(m->c, 0);

	for (size_t i = 0; i < COUNT(paths); i++)
		on = on || (paths[i] && strncmp(paths[i], prefix, n) == 0);
	for (size_t i = 0; i < v->disks.n; i++) {
		const struct vm_disk *d = &VM_DISKS(v)[i];

		on = on || (d->path && strncmp(d->path, prefix, n) == 0) || (d->source && strncmp(d->source, prefix, n) == 0);
	}
	for (size_t i = 0; i < v->cdroms.n; i++)
		on = on || (VM_CDROMS(v)[i].iso && strncmp(VM_CDROMS(v)[i].iso, prefix, n) == 0);
	return on;
}

bool stores_wait(const struct machine *m, storage_done then, void *arg)
{
	struct store *s;

	for (size_t i = 0; (s = map_next(m->c->stores->by_name, &i, NULL)); )
		if (s->ds->status.state == DATASTORE_OPENING && lies_on(m, s)) {
			datastore_refresh(s->ds, then, arg);	/* behind the opening, in its lane */
			return true;
		}
	return false;
}

/* ---- loading */

struct loading { struct db_job job; struct stores *s; char *path; char id[37]; };

static int load_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct loading *l = (struct loading *)j;
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT id, name, revision, path, created FROM datastores ORDER BY created", NULL);

	while (r >= 0 && (r = db_next(q, e)) > 0) {
		struct store *s = xnew(store);

		snprintf(s->id, sizeof s->id, "%s", db_text(q, 0));
		s->revision = (uint64_t)db_int(q, 2);
		s->created_usec = db_int(q, 4);
		s->ds = datastore_new(l->s->c->ev, db_text(q, 1), db_text(q, 3), s->id);
		map_set(l->s->by_name, db_text(q, 1), s);
	}
	return r < 0 ? r : 0;
}

static int first_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct loading *l = (struct loading *)j;

	return db_exec(tx, e, "INSERT INTO datastores (id, name, revision, path, created) VALUES (?, 'local', 1, ?, ?)", "ssi",
		       l->id, l->path, now_usec());
}

static void on_ready(void *arg, const struct err *e)
{
	if (e)
		log_warn("datastore: %s", e->msg);
	*(bool *)arg = true;
}

/* The first datastore: its folder and marker are made, then its row bears the marker's id. */
static int make_first(struct stores *s, struct err *e)
{
	AUTO_FREE char *folder = xasprintf("%s/datastores/local", s->c->home);
	struct datastore *ds = datastore_new(s->c->ev, "local", folder, NULL);
	struct loading l = { .s = s, .path = folder };
	bool done = false;
	int r;

	datastore_refresh(ds, on_ready, &done);
	while (!done && sd_event_run(s->c->ev, UINT64_MAX) >= 0)
		;
	if ((r = datastore_usable(ds, e)) == 0) {
		memcpy(l.id, ds->id, sizeof l.id);
		r = db_now(s->c->db, &l.job, first_work, e);
	}
	datastore_free(ds);
	return r;
}

static void set(void *arg) { *(bool *)arg = true; }

/* Tasks that go on and the first requests shall find the datastores open; a dead file server holds the start up no longer
 * than this. */
static void open_all(struct stores *s)
{
	static bool ignored;
	struct timer deadline = {};
	struct store *st;
	bool over = false;

	for (size_t i = 0; (st = map_next(s->by_name, &i, NULL)); )
		datastore_refresh(st->ds, on_ready, &ignored);
	timer_arm(&deadline, s->c->ev, OPEN_USEC, set, &over);
	for (size_t i = 0; (st = map_next(s->by_name, &i, NULL)); )
		while (st->ds->status.state == DATASTORE_OPENING && !over && sd_event_run(s->c->ev, UINT64_MAX) >= 0)
			;
	timer_disarm(&deadline);
}

int stores_new(struct croft *c, struct stores **ret, struct err *e)
{
	struct stores *s = xnew(stores);
	struct loading l = { .s = s };

	s->c = c;
	s->by_name = map_new();
	*ret = s;
	int r = db_now(c->db, &l.job, load_work, e);

	if (r == 0 && map_len(s->by_name) == 0) {
		r = make_first(s, e);
		l = (struct loading){ .s = s };
		if (r == 0)
			r = db_now(c->db, &l.job, load_work, e);
	}
	if (r == 0)
		open_all(s);
	return r;
}

void stores_free(struct stores *s)
{
	struct store *st;

	if (!s)
		return;
	for (size_t i = 0; (st = map_next(s->by_name, &i, NULL)); ) {
		datastore_free(st->ds);
		free(st);
	}
	map_free(s->by_name);
	free(s);
}

/* ---- routes */

static void write_store(const struct store *s, struct jw *w)
{
	struct store_view v = { .id = (char *)s->id, .name = s->ds->name, .revision = s->revision, .created = s->created_usec,
				.config = { .path = s->ds->path }, .status = s->ds->status };

	fields_encode(&store_fields, &v, w, NULL);
}

struct refreshing { struct req *r; size_t left; const struct store *one; };

static void refreshed(void *arg, const struct err *ignored)
{
	struct refreshing *rf = arg;
	struct buf b AUTO_BUF = BUF_INIT(1024 * 1024);
	struct jw w = JW(&b);

	if (--rf->left)
		return;
	if (rf->one) {
		write_store(rf->one, &w);
	} else {
		jw_obj(&w, NULL);
		jw_arr(&w, "items");
		for (size_t i = 0; stores_at(rf->r->c, i); i++)
			write_store(stores_at(rf->r->c, i), &w);
		jw_end(&w);
		jw_null(&w, "next");
		jw_end(&w);
	}
	req_reply_buf(rf->r, 200, NULL, &b);
	free(rf);
}

static void api_list(struct req *r)
{
	struct refreshing *rf = xnew(refreshing);

	rf->r = r;
	rf->left = map_len(r->c->stores->by_name) + 1;
	for (size_t i = 0; stores_at(r->c, i); i++)
		datastore_refresh(stores_at(r->c, i)->ds, refreshed, rf);
	refreshed(rf, NULL);
}

static void api_get(struct req *r)
{
	struct store *s = stores_get(r->c, r->param[0]);

	if (!s) {
		struct err e = {};

		fail(&e, ERR_NOT_FOUND, "there is no datastore \"%.63s\"", r->param[0]);
		err_hint(&e, "GET /api/v1/datastores lists them");
		req_fail(r, &e);
		return;
	}
	struct refreshing *rf = xnew(refreshing);

	*rf = (struct refreshing){ .r = r, .left = 1, .one = s };
	datastore_refresh(s->ds, refreshed, rf);
}

const struct route routes_datastore[] = {
	{ "GET", "/api/v1/datastores", "datastore_list", PERM_STORAGE_VIEW, ROUTE_LIST, NULL, &store_fields, NULL, api_list,
	  "list datastores" },
	{ "GET", "/api/v1/datastores/{datastore}", "datastore_get", PERM_STORAGE_VIEW, 0, NULL, &store_fields, NULL, api_get,
	  "show a datastore" },
	{}
};
