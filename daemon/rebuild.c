#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "file.h"
#include "inventory.h"
#include "log.h"
#include "mem.h"
#include "rebuild.h"
#include "req.h"
#include "settings.h"
#include "stores.h"
#include "text.h"
#include "vmfolder.h"

#define DAMAGED		"croft.db.damaged-"

static void problem(struct croft *c, char *text) { *(char **)field_vec_add(&c->problems, sizeof(char *)) = text; }

void rebuild_tell(struct croft *c)
{
	int fd = file_open_dir(c->home_fd, ".", false, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	size_t n = strlen(DAMAGED);

	for (struct dirent *d; dir && (d = readdir(dir)); ) {
		const char *when = d->d_name + n;

		if (strncmp(d->d_name, DAMAGED, n) != 0 || strlen(when) != 16)
			continue;
		char *text = xasprintf("the database was damaged and has been made anew at %.4s-%.2s-%.2s %.2s:%.2s UTC:"
				       " users, tokens, settings and changes to VMs may be missing; check them, restore a backup"
				       " (vmctl restore-config) where they are, then remove %s/%s* and restart croftd",
				       when, when + 4, when + 6, when + 9, when + 11, c->home, d->d_name);

		log_error("%s", text);
		problem(c, text);
	}
	if (dir)
		closedir(dir);
}

/* ---- VMs from their descriptors */

struct gather { struct croft *c; size_t left; json_t *vms; void (*then)(struct croft *c); };
struct one { struct gather *g; char *store; };

static void gather_end(struct gather *g)
{
	settings_set(g->c, "rebuild", "done");
	g->then(g->c);
	json_decref(g->vms);
	free(g);
}

static void restored(struct req *r, int status, const char *body, size_t n, void *arg)
{
	struct gather *g = arg;
	struct croft *c = g->c;
	json_t *result = json_parse(body, n, n, NULL), *why;
	size_t i;

	if (status != 200) {
		problem(c, xasprintf("VMs were found on the datastores and cannot be brought back: %.*s", (int)n, body));
		log_error("%s", ((char **)c->problems.items)[c->problems.n - 1]);
	} else {
		log_note("%lld VMs were brought back from their datastores: they are what they were when their descriptors were written",
			 (long long)json_integer_value(json_object_get(result, "vms")));
		json_array_foreach(json_object_get(result, "skipped"), i, why)
			problem(c, xasprintf("not brought back from its datastore: %s", json_string_value(why)));
	}
	json_decref(result);
	gather_end(g);
}

/* One that is no VM would make the whole document none. */
static bool is_good(const json_t *vm, struct err *e)
{
	struct machine_input in = {};
	json_t *text = json_pack("{s:O?, s:O?, s:O?}", "name", json_object_get(vm, "name"), "labels", json_object_get(vm, "labels"),
				 "config", json_object_get(vm, "config"));
	int r = !text ? fail(e, ERR_INVALID, "it has no name or no config") :
		fields_decode(&machine_input_fields, text, FIELDS_STORED, &in, e);

	json_decref(text);
	if (r == 0)
		fields_fini(&machine_input_fields, &in);
	return r == 0;
}

static void take(struct gather *g, const char *store, const json_t *found)
{
	const char *folder = json_string_value(json_object_get(found, "folder")), *id = json_string_value(json_object_get(found, "id"));
	const json_t *vm = json_object_get(found, "vm");
	AUTO_FREE char *path = xasprintf("[%s] %s", store, folder);
	struct err e = {};

	if (inventory_get(g->c->inv, id))
		return;
	if (!is_good(vm, &e)) {
		problem(g->c, xasprintf("the VM in %s cannot be brought back, since its descriptor cannot be read: %s", path, e.msg));
		return;
	}
	json_array_append_new(g->vms, json_pack("{s:s, s:s, s:O, s:O?, s:O}", "id", id, "folder", path, "name", json_object_get(vm, "name"),
						"labels", json_object_get(vm, "labels"), "config", json_object_get(vm, "config")));
}

static void gathered(void *arg, json_t *vms, const struct err *e)
{
	struct one *o = arg;
	struct gather *g = o->g;
	json_t *vm;
	size_t i;

	if (e)
		problem(g->c, xasprintf("VMs on the datastore %s were not looked for: %s", o->store, e->msg));
	json_array_foreach(vms, i, vm)
		take(g, o->store, vm);
	free(o->store);
	free(o);
	if (--g->left)
		return;
	if (json_array_size(g->vms))
		req_own(g->c, "POST", "/api/v1/config", json_pack("{s:i, s:O}", "format", 1, "vms", g->vms), restored, g);
	else
		gather_end(g);
}

void rebuild_begin(struct croft *c, void (*then)(struct croft *c))
{
	char state[64] = "";
	struct store *s;
	struct err e = {};

	if (settings_get(c, "rebuild", state, &e) < 0 || strcmp(state, "wanted") != 0 || !stores_at(c, 0)) {
		then(c);
		return;
	}
	struct gather *g = xnew(gather);

	g->c = c;
	g->then = then;
	g->vms = json_array();
	while (stores_at(c, g->left))
		g->left++;
	for (size_t i = 0; (s = stores_at(c, i)); i++) {
		struct one *o = xnew(one);

		o->g = g;
		o->store = xstrdup(s->ds->name);
		vmfolder_gather(s->ds, gathered, o);
	}
}
