#include <stdio.h>
#include <string.h>
#include "db.h"
#include "map.h"
#include "mem.h"
#include "network.h"
#include "networks.h"
#include "routes.h"
#include "text.h"

struct networks { struct map *by_name; };
struct network_view { char *id, *name; uint64_t revision; int64_t created; struct network_config config; };

#define ROW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct network_view, f), __VA_ARGS__ }
static const struct field rows[] = {
	ROW(id, F_STR, .help = "UUID"),
	ROW(name, F_STR, .help = "unique name"),
	ROW(revision, F_U64, .help = "grows with each change"),
	ROW(created, F_TIME, .help = "when it was created"),
	ROW(config, F_OBJECT, .sub = &network_fields, .help = "what is wanted"),
	{}
};
static const struct fields view_fields = { "Network", sizeof(struct network_view), rows, "what NICs join" };

struct loading { struct db_job job; struct networks *n; char id[37]; };

static int load_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct loading *l = (struct loading *)j;
	struct db_rows *q;
	int r = db_exec(tx, e, "INSERT INTO networks (id, name, revision, config, created) SELECT ?, 'nat', 1, '{\"kind\":\"user\"}', ?"
			" WHERE NOT EXISTS (SELECT 1 FROM networks)", "si", l->id, now_usec());

	if (r >= 0)
		r = db_query(tx, &q, e, "SELECT id, name, revision, config, created FROM networks ORDER BY created", NULL);
	while (r >= 0 && (r = db_next(q, e)) > 0) {
		struct network_view *v = xnew(network_view);
		json_t *config = json_parse(db_text(q, 3), strlen(db_text(q, 3)), 65536, e);

		v->id = xstrdup(db_text(q, 0));
		v->name = xstrdup(db_text(q, 1));
		v->revision = (uint64_t)db_int(q, 2);
		v->created = db_int(q, 4);
		if (config)
			fields_decode(&network_fields, config, FIELDS_STORED, &v->config, e);
		json_decref(config);
		map_set(l->n->by_name, v->name, v);
	}
	return r < 0 ? r : 0;
}

int networks_new(struct croft *c, struct networks **ret, struct err *e)
{
	struct networks *n = *ret = xnew(networks);
	struct loading l = { .n = n };

	n->by_name = map_new();
	text_uuid_random(l.id);
	return db_now(c->db, &l.job, load_work, e);
}

void networks_free(struct networks *n)
{
	struct network_view *v;

	if (!n)
		return;
	for (size_t i = 0; (v = map_next(n->by_name, &i, NULL)); ) {
		fields_fini(&view_fields, v);
		free(v);
	}
	map_free(n->by_name);
	free(n);
}

bool networks_has(const struct croft *c, const char *name) { return name && map_get(c->networks->by_name, name); }

static void api_list(struct req *r)
{
	struct buf b AUTO_BUF = BUF_INIT(1 << 20);
	struct jw w = JW(&b);
	struct network_view *v;

	jw_obj(&w, NULL);
	jw_arr(&w, "items");
	for (size_t i = 0; (v = map_next(r->c->networks->by_name, &i, NULL)); )
		fields_encode(&view_fields, v, &w, NULL);
	jw_end(&w);
	jw_null(&w, "next");
	jw_end(&w);
	req_reply_buf(r, 200, NULL, &b);
}

const struct route routes_network[] = {
	{ "GET", "/api/v1/networks", "network_list", PERM_HOST_VIEW, ROUTE_LIST, NULL, &view_fields, NULL, api_list, "list networks" },
	{}
};
