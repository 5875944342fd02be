/* bundle.c: the build tool that packs the web client into one file, which croft-front maps (daemon/front/bundle.h).
 *
 *	bundle FOLDER OUT
 *
 * Every file below FOLDER, but sources of tools, tests and texts for readers of the repository. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include "bundle.h"

static const struct { const char *suffix, *type; } types[] = {
	{ ".html", "text/html; charset=utf-8" },
	{ ".js", "text/javascript; charset=utf-8" },
	{ ".mjs", "text/javascript; charset=utf-8" },
	{ ".css", "text/css; charset=utf-8" },
	{ ".json", "application/json" },
	{ ".svg", "image/svg+xml" },
	{ ".png", "image/png" },
	{ ".ico", "image/x-icon" },
	{ ".woff2", "font/woff2" },
	{ ".txt", "text/plain; charset=utf-8" },
	{ ".webmanifest", "application/manifest+json" },
};

#define CSP(style) "default-src 'none'; script-src 'self'; style-src " style "; img-src 'self' data:; font-src 'self'; " \
	"connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"

/* xterm.js makes style elements, so the serial console is a document of its own, with a policy of its own. */
static const char *policy_of(const char *path)
{
	return strcmp(path, "/serial.html") ? CSP("'self'") : CSP("'self' 'unsafe-inline'");
}

struct entry { char *path, *headers, hash[65]; unsigned char *raw, *gzip; size_t raw_n, gzip_n; };
static struct entry *entries;
static size_t nentries;

static void die(const char *what)
{
	fprintf(stderr, "bundle: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *need(void *p)
{
	if (!p)
		die("memory");
	return p;
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);
	return n >= m && !strcmp(s + n - m, end);
}

static const char *type_of(const char *path)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (ends_with(path, types[i].suffix))
			return types[i].type;
	return NULL;
}

static bool is_skipped(const char *name)
{
	static const char *const names[] = { "test", "tests", "node_modules", "package.json", "package-lock.json" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return name[0] == '.' || !strncmp(name, "README", 6) || ends_with(name, ".c") || ends_with(name, ".h") ||
	       ends_with(name, ".md") || ends_with(name, ".sha256") || ends_with(name, ".test.js");
}

static void load(const char *file, struct entry *e)
{
	struct stat st;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st))
		die(file);
	e->raw_n = st.st_size;
	e->raw = need(malloc(e->raw_n + 1));
	for (size_t done = 0; done < e->raw_n; ) {
		ssize_t r = read(fd, e->raw + done, e->raw_n - done);
		if (r <= 0)
			die(file);
		done += r;
	}
	close(fd);
}

static void compress_entry(struct entry *e)
{
	z_stream z = { 0 };

	if (deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		die("zlib");
	size_t cap = deflateBound(&z, e->raw_n);
	e->gzip = need(malloc(cap));
	z.next_in = e->raw;
	z.avail_in = e->raw_n;
	z.next_out = e->gzip;
	z.avail_out = cap;
	if (deflate(&z, Z_FINISH) != Z_STREAM_END)
		die("zlib");
	e->gzip_n = z.total_out < e->raw_n ? z.total_out : 0;
	deflateEnd(&z);
}

static void add(const char *file, const char *path)
{
	unsigned char hash[32];
	const char *type = type_of(path);

	entries = need(realloc(entries, (nentries + 1) * sizeof(*entries)));
	struct entry *e = &entries[nentries++];
	*e = (struct entry){ .path = need(strdup(path)) };
	load(file, e);
	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, e->raw, e->raw_n, hash))
		die("sha256");
	for (int i = 0; i < 32; i++)
		snprintf(e->hash + 2 * i, 3, "%02x", hash[i]);
	compress_entry(e);
	if (asprintf(&e->headers, "Content-Type: %s\r\nCache-Control: no-cache\r\nContent-Security-Policy: %s\r\n"
		     "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nX-Frame-Options: SAMEORIGIN\r\n"
		     "Cross-Origin-Opener-Policy: same-origin\r\n", type ? type : "application/octet-stream",
		     policy_of(path)) < 0)
		die("memory");
}

static void walk(const char *folder, const char *prefix)
{
	DIR *d = opendir(folder);
	struct dirent *de;
	struct stat st;

	if (!d)
		die(folder);
	while ((de = readdir(d))) {
		char *file, *path;
		if (is_skipped(de->d_name))
			continue;
		if (asprintf(&file, "%s/%s", folder, de->d_name) < 0 || asprintf(&path, "%s/%s", prefix, de->d_name) < 0)
			die("memory");
		if (lstat(file, &st))
			die(file);
		if (S_ISDIR(st.st_mode))
			walk(file, path);
		else if (S_ISREG(st.st_mode))
			add(file, path);
		free(file);
		free(path);
	}
	closedir(d);
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

static struct bundle_piece put(FILE *f, const void *p, size_t n)
{
	struct bundle_piece piece = { ftell(f), n };

	if (fwrite(p, 1, n, f) != n || fputc(0, f) == EOF)
		die("write");
	return piece;
}

static void write_out(FILE *f)
{
	struct bundle_head head = { BUNDLE_MAGIC, nentries, 0 };
	struct bundle_entry *index = need(calloc(nentries + 1, sizeof(*index)));
	size_t first = sizeof(head) + nentries * sizeof(*index);

	memcpy(head.magic, BUNDLE_MAGIC, 8);
	if (fseek(f, first, SEEK_SET))
		die("seek");
	for (size_t i = 0; i < nentries; i++) {
		struct entry *e = &entries[i];
		index[i] = (struct bundle_entry){ put(f, e->path, strlen(e->path)), put(f, e->headers, strlen(e->headers)),
			put(f, e->hash, 64), put(f, e->raw, e->raw_n), put(f, e->gzip, e->gzip_n) };
	}
	head.size = ftell(f);
	rewind(f);
	if (fwrite(&head, sizeof(head), 1, f) != 1 || (nentries && fwrite(index, sizeof(*index), nentries, f) != nentries))
		die("write");
	free(index);
}

int main(int argc, char **argv)
{
	char *part;

	if (argc != 3) {
		fprintf(stderr, "usage: bundle FOLDER OUT\n");
		return 2;
	}
	walk(argv[1], "");
	if (nentries)
		qsort(entries, nentries, sizeof(*entries), by_path);
	if (asprintf(&part, "%s.part", argv[2]) < 0)
		die("memory");
	FILE *f = fopen(part, "we");
	if (!f)
		die(part);
	write_out(f);
	if (fclose(f) || rename(part, argv[2]))
		die(argv[2]);
	return 0;
}
