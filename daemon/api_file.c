/* api_file.c: files on datastores: list, download, make a folder, delete. Uploads are in api_upload.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "api_file.h"
#include "inventory.h"
#include "change.h"
#include "mem.h"
#include "routes.h"
#include "stores.h"
#include "text.h"

int file_target(struct req *r, bool top, struct store **ret, struct err *e)
{
	struct store *s = stores_get(r->c, r->param[0]);

	if (!s) {
		fail(e, ERR_NOT_FOUND, "there is no datastore \"%.63s\"", r->param[0]);
		return err_hint(e, "GET /api/v1/datastores lists them");
	}
	*ret = s;
	if (r->param[1] && dspath_check(r->param[1], top, e) < 0)
		return -EINVAL;
	return datastore_usable(s->ds, e);
}

/* ---- list */

static void listed(void *arg, const struct datastore_page *page, const struct err *e)
{
	struct req *r = arg;
	struct buf b AUTO_BUF = BUF_INIT(4 << 20);
	struct jw w = JW(&b);

	if (e) {
		req_fail(r, e);
		return;
	}
	jw_obj(&w, NULL);
	jw_arr(&w, "items");
	for (size_t i = 0; i < page->n; i++)
		fields_encode(&datastore_entry_fields, &page->entries[i], &w, NULL);
	jw_end(&w);
	jw_str(&w, "next", page->more ? page->entries[page->n - 1].name : NULL);
	jw_end(&w);
	req_reply_buf(r, 200, NULL, &b);
}

static void api_list(struct req *r)
{
	char path[256], after[256];
	struct store *s;
	struct err e = {};
	uint64_t limit;
	const char *folder = req_query(r, "path", path) ?: "", *from = req_query(r, "after", after);

	if (file_target(r, true, &s, &e) < 0 || dspath_check(folder, true, &e) < 0 ||
	    req_query_u64(r, "limit", DATASTORE_PAGE, DATASTORE_PAGE, &limit, &e) < 0)
		req_fail(r, &e);
	else
		datastore_list(s->ds, folder, from, limit ?: 1, listed, r);
}

/* ---- files that VMs are made of */

/* Does the text of a VM's row name this file? It may name the datastore by its id. */
static bool names(const struct croft *c, const char *text, const struct store *s, const char *path)
{
	struct dspath p;
	struct err e;

	return text && dspath_parse(text, &p, &e) == 0 && strcmp(p.path, path) == 0 && stores_get(c, p.datastore) == s;
}

static bool in_folder(const struct machine *m, const struct store *s, const char *path)
{
	AUTO_FREE char *text = xasprintf("[%s] %s", s->ds->name, path);
	size_t n = m->folder ? strlen(m->folder) : 0;

	return n && strncmp(text, m->folder, n) == 0 && (text[n] == '/' || !text[n]);
}

static bool spec_names(const struct machine *m, const struct vm_spec *sp, const struct store *s, const char *path)
{
	bool hit = names(m->c, sp->kernel.image, s, path) || names(m->c, sp->kernel.initrd, s, path);

	for (size_t i = 0; !hit && i < sp->cdroms.n; i++)
		hit = names(m->c, VM_CDROMS(sp)[i].iso, s, path);
	return hit;
}

/* One that is suspended is built again as it was started, whatever it is to be later. */
static bool is_made_of(const struct machine *m, const struct store *s, const char *path)
{
	return in_folder(m, s, path) || spec_names(m, &m->spec, s, path) || spec_names(m, machine_built(m), s, path);
}

int file_unused(const struct croft *c, const struct store *s, const char *path, struct err *e)
{
	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		const struct machine *m = inventory_at(c->inv, i);

		if (!is_made_of(m, s, path))
			continue;
		fail(e, ERR_STATE, "[%s] %s is used by the VM %s", s->ds->name, path, m->name);
		return err_hint(e, "change or delete %s first", m->name);
	}
	return 0;
}

int file_outside_vms(const struct croft *c, const struct store *s, const char *path, struct err *e)
{
	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		const struct machine *m = inventory_at(c->inv, i);

		if (!in_folder(m, s, path))
			continue;
		fail(e, ERR_STATE, "[%s] %s would be in the folder of the VM %s", s->ds->name, path, m->name);
		return err_hint(e, "put it elsewhere: that folder is Croft's own");
	}
	return 0;
}

/* A disk that a guest writes to is no file to be read: not by QEMU's rules, and torn for whoever reads it. */
static int check_off(const struct croft *c, const struct store *s, const char *path, struct err *e)
{
	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		const struct machine *m = inventory_at(c->inv, i);

		if (!machine_stands(m) || !in_folder(m, s, path))
			continue;
		fail(e, ERR_STATE, "[%s] %s is in use: %s is %s", s->ds->name, path, m->name, vm_state_names[vm_state(m->vm)]);
		return err_hint(e, vm_state(m->vm) == VM_SUSPENDED ? "start %s, or discard its memory, first" : "vmctl shutdown %s first",
				m->name);
	}
	return 0;
}

/* ---- download */

static int parse_range(const struct req *r, uint64_t size, uint64_t *from, uint64_t *n, struct err *e)
{
	char a[24], b[24];
	uint64_t last = size ? size - 1 : 0;

	*from = 0;
	*n = size;
	if (!r->head.range || strncmp(r->head.range, "bytes=", 6) != 0 || strchr(r->head.range, ','))
		return 0;	/* RFC 9110: what is not understood is ignored */
	const char *p = r->head.range + 6, *dash = strchr(p, '-');

	if (!dash)
		return 0;
	snprintf(a, sizeof a, "%.*s", (int)(dash - p), p);
	snprintf(b, sizeof b, "%.23s", dash + 1);
	if (!*a) {		/* the last so many */
		if (text_u64(b, n) < 0 || *n == 0)
			return fail(e, ERR_RANGE, "Range: %.60s is not satisfiable; the file has %llu bytes", r->head.range,
				    (unsigned long long)size);
		*n = *n < size ? *n : size;
		*from = size - *n;
		return 1;
	}
	if (text_u64(a, from) < 0 || *from >= size || (*b && (text_u64(b, &last) < 0 || last < *from)))
		return fail(e, ERR_RANGE, "Range: %.60s is not satisfiable; the file has %llu bytes", r->head.range,
			    (unsigned long long)size);
	*n = (last < size ? last + 1 : size) - *from;
	return 1;
}

static void opened(void *arg, int *fd, uint64_t size, const struct err *e)
{
	struct req *r = arg;
	struct store *s = stores_get(r->c, r->param[0]);
	struct err err = {};
	uint64_t from, n;
	char headers[256];
	int ranged = e || !s ? 0 : parse_range(r, size, &from, &n, &err);

	if (e || ranged < 0 || !s) {
		if (!e && !s)
			fail(&err, ERR_NOT_FOUND, "the datastore is gone");
		char total[64];

		snprintf(total, sizeof total, "Content-Range: bytes */%llu\r\n", (unsigned long long)size);
		req_fail_with(r, e ?: &err, ranged < 0 ? total : NULL);
		return;
	}
	int len = snprintf(headers, sizeof headers, "Content-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\n"
			   "Content-Disposition: attachment\r\nX-Content-Type-Options: nosniff\r\n");

	if (ranged)
		snprintf(headers + len, sizeof headers - (size_t)len, "Content-Range: bytes %llu-%llu/%llu\r\n",
			 (unsigned long long)from, (unsigned long long)(from + n - 1), (unsigned long long)size);
	req_send(r, ranged ? 206 : 200, headers, TAKE_FD(*fd), s->ds->name, from, n);
}

static void api_download(struct req *r)
{
	struct store *s;
	struct err e = {};

	if (file_target(r, false, &s, &e) < 0 || check_off(r->c, s, r->param[1], &e) < 0)
		req_fail(r, &e);
	else
		datastore_open_file(s->ds, r->param[1], O_RDONLY, opened, r);
}

/* ---- folders, delete */

struct told { struct req *r; const char *kind; };

static void done(void *arg, const struct err *e)
{
	struct told *t = arg;
	struct req *r = t->r;
	const char *kind = t->kind;
	struct store *s = stores_get(r->c, r->param[0]);

	free(t);
	if (e || !s) {
		struct err gone = {};

		fail(&gone, ERR_NOT_FOUND, "the datastore is gone");
		req_fail(r, e ?: &gone);
		return;
	}
	struct change *ch = change_new(r->c, r);

	file_event(ch, kind, s, r->param[1]);
	ch->status = 204;
	change_run(ch);
}

void file_event(struct change *ch, const char *kind, const struct store *s, const char *path)
{
	struct jw w = JW(change_event(ch, kind, s->id));

	jw_obj(&w, NULL);
	jw_strf(&w, "path", "[%s] %s", s->ds->name, path);
	jw_end(&w);
}

static void simple(struct req *r, const char *kind, void (*fn)(struct datastore *, const char *, storage_done, void *))
{
	struct store *s;
	struct err e = {};

	if (file_target(r, false, &s, &e) < 0) {
		req_fail(r, &e);
		return;
	}
	struct told *t = xnew(told);

	*t = (struct told){ r, kind };
	fn(s->ds, r->param[1], done, t);
}

/* A memory that the row does not know of: the way out of suspend_check. */
static bool is_unknown_memory(const struct croft *c, const struct store *s, const char *path)
{
	AUTO_FREE char *text = xasprintf("[%s] %s", s->ds->name, path);

	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		const struct machine *m = inventory_at(c->inv, i);
		AUTO_FREE char *memory = xasprintf("%s/" MACHINE_MEMORY_FILE, m->folder ?: "");

		if (strcmp(text, memory) == 0)
			return !m->memory && !m->task && !machine_stands(m);
	}
	return false;
}

static void api_delete(struct req *r)
{
	struct store *s = stores_get(r->c, r->param[0]);
	struct err e = {};

	if (s && !is_unknown_memory(r->c, s, r->param[1]) && file_unused(r->c, s, r->param[1], &e) < 0) {
		req_fail(r, &e);
		return;
	}
	simple(r, "file.deleted", datastore_delete);
}

static void api_mkdir(struct req *r)
{
	struct store *s = stores_get(r->c, r->param[0]);
	struct err e = {};

	if (s && file_outside_vms(r->c, s, r->param[1], &e) < 0)
		req_fail(r, &e);
	else
		simple(r, "file.created", datastore_mkdir);
}

static const struct route_query list_query[] = {
	{ "path", "string", "the folder; the top one when left out" },
	{ "after", "string", "the cursor next of the page before" },
	{ "limit", "integer", "at most so many; default and most 1000" },
	{}
};
#define FILES "/api/v1/datastores/{datastore}/files"
const struct route routes_file[] = {
	{ "GET", FILES, "file_list", PERM_STORAGE_VIEW, ROUTE_LIST, NULL, &datastore_entry_fields, list_query, api_list,
	  "list a folder on a datastore" },
	{ "GET", FILES "/{path...}", "file_download", PERM_STORAGE_VIEW, ROUTE_BYTES_OUT, NULL, NULL, NULL, api_download,
	  "download a file, or a Range of it" },
	{ "PUT", FILES "/{path...}", "file_upload", PERM_STORAGE_WRITE, ROUTE_BYTES_IN | ROUTE_CREATED, NULL, &upload_result_fields,
	  upload_query, api_upload, "upload a file; Upload-Offset goes on where an upload was cut off" },
	{ "DELETE", FILES "/{path...}", "file_delete", PERM_STORAGE_WRITE, ROUTE_NO_CONTENT, NULL, NULL, NULL, api_delete,
	  "delete a file or an empty folder" },
	{ "POST", "/api/v1/datastores/{datastore}/folders/{path...}", "folder_create", PERM_STORAGE_WRITE, ROUTE_NO_CONTENT, NULL, NULL,
	  NULL, api_mkdir, "make a folder" },
	{ "GET", "/api/v1/uploads", "upload_list", PERM_STORAGE_WRITE, ROUTE_LIST, NULL, &upload_fields, NULL, api_upload_list,
	  "list uploads that are not complete" },
	{ "DELETE", "/api/v1/uploads/{upload}", "upload_delete", PERM_STORAGE_WRITE, ROUTE_NO_CONTENT, NULL, NULL, NULL, api_upload_delete,
	  "give an upload up, and remove what came of it" },
	{}
};
