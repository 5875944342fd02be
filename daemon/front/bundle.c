#include "bundle.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "buf.h"
#include "http.h"
#include "mem.h"

static const char *map;
static const struct bundle_entry *entries;
static size_t nentries;

static bool piece_ok(const struct bundle_piece *p, size_t size, bool text)
{
	return p->off <= size && p->n <= size - p->off && (!text || (p->off + (size_t)p->n < size && !map[p->off + p->n]));
}

static bool valid(size_t size)
{
	const struct bundle_head *h = (const struct bundle_head *)map;

	if (size < sizeof(*h) || memcmp(h->magic, BUNDLE_MAGIC, 8) || h->size != size ||
	    h->entries > (size - sizeof(*h)) / sizeof(struct bundle_entry))
		return false;
	const struct bundle_entry *e = (const struct bundle_entry *)(h + 1);
	for (uint32_t i = 0; i < h->entries; i++)
		if (!piece_ok(&e[i].path, size, true) || !piece_ok(&e[i].headers, size, true) ||
		    !piece_ok(&e[i].hash, size, true) || !piece_ok(&e[i].raw, size, false) ||
		    !piece_ok(&e[i].gzip, size, false))
			return false;
	entries = e;
	nentries = h->entries;
	return true;
}

int bundle_open(int fd, struct err *e)
{
	AUTO_CLOSE int own = fd;
	struct stat st;

	if (fstat(own, &st))
		return fail_errno(e, errno, "web bundle");
	void *p = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, own, 0);
	if (p == MAP_FAILED)
		return fail_errno(e, errno, "web bundle");
	map = p;
	if (valid(st.st_size))
		return 0;
	munmap(p, st.st_size);
	map = NULL;
	return fail(e, ERR_INVALID, "the web bundle is damaged");
}

static int by_path(const void *key, const void *entry)
{
	return strcmp(key, map + ((const struct bundle_entry *)entry)->path.off);
}

static void text(struct xchg *x, unsigned status, const char *headers, const char *sentence)
{
	struct buf AUTO_BUF h = BUF_INIT(4096);

	buf_addf(&h, "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n%s", headers);
	http_reply(x, &(struct answer){ .status = status, .headers = h.data, .body = sentence, .n = strlen(sentence), .fd = -1 });
}

static bool accepts_gzip(struct xchg *x)
{
	const char *a = http_header(x, "Accept-Encoding"), *g = a ? strstr(a, "gzip") : NULL;
	return g && strncmp(g, "gzip;q=0", 8);
}

void bundle_serve(struct xchg *x)
{
	struct buf AUTO_BUF h = BUF_INIT(8192);
	const char *path = !strcmp(x->path, "/") ? "/index.html" : x->path;

	if (strcmp(x->method, "GET") && strcmp(x->method, "HEAD")) {
		text(x, 405, "Allow: GET, HEAD\r\n", "Only GET and HEAD are possible here. The API is below /api/v1.\n");
		return;
	}
	const struct bundle_entry *e = map ? bsearch(path, entries, nentries, sizeof(*e), by_path) : NULL;
	if (!e) {
		text(x, 404, "", map ? "There is no such page. The host client is at /, the API below /api/v1.\n" :
		     "This host was built without its web client. The API is below /api/v1.\n");
		return;
	}
	const char *hash = map + e->hash.off, *seen = http_header(x, "If-None-Match");
	bool gzip = e->gzip.n && accepts_gzip(x);
	const struct bundle_piece *body = gzip ? &e->gzip : &e->raw;
	buf_addf(&h, "%sETag: \"%s%s\"\r\n%s%s", map + e->headers.off, hash, gzip ? "-gz" : "",
		 gzip ? "Content-Encoding: gzip\r\n" : "", e->gzip.n ? "Vary: Accept-Encoding\r\n" : "");
	struct answer a = { .status = 200, .headers = h.data, .body = map + body->off, .n = body->n, .fd = -1, .lasting = true };
	if (seen && strstr(seen, hash)) {
		a.status = 304;
		a.n = 0;
	}
	http_reply(x, &a);
}
