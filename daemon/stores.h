/* stores.h: the datastores of this host, as rows and as opened folders. */
#pragma once
#include "croft.h"
#include "datastore.h"
#include "dspath.h"
#include "inventory.h"
#include "req.h"

struct store { char id[37]; uint64_t revision; int64_t created_usec; struct datastore *ds; };
int stores_new(struct croft *c, struct stores **ret, struct err *e);	/* loads; makes HOME/datastores/local at first */
void stores_free(struct stores *s);
struct store *stores_get(const struct croft *c, const char *id_or_name);	/* NULL when there is none */
struct store *stores_at(const struct croft *c, size_t i);		/* NULL after the last */
/* True: a datastore that @m lies on is still being opened, and @then comes when it is open, or has refused. */
bool stores_wait(const struct machine *m, storage_done then, void *arg);
/* "[local] a/b" -> the usable datastore and the path on it. */
int stores_path(const struct croft *c, const char *text, struct datastore **ds, struct dspath *ret, struct err *e);
