#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "file.h"
#include "host_cache.h"
#include "log.h"
#include "mem.h"
#include "run.h"
#include "version.h"
#include "world.h"

#define CACHE		"host.json"
#define CACHE_MAX	(1 << 20)
#define QEMU		"/usr/bin/qemu-system-aarch64"
#define FIRMWARE	"/usr/share/AAVMF/AAVMF_CODE.fd"

struct cache { char *key; struct host host; };
static const struct field rows[] = {
	{ .name = "key", .type = F_STR, .off = offsetof(struct cache, key), .flags = FIELD_REQUIRED, .help = "what it was read on" },
	{ .name = "host", .type = F_OBJECT, .off = offsetof(struct cache, host), .sub = &host_fields, .help = "the facts" },
	{}
};
static const struct fields cache_fields = { "HostCache", sizeof(struct cache), rows, "facts of this host" };

static void add_stat(struct buf *b, const char *path)
{
	struct stat st = {};

	stat(path, &st);
	buf_addf(b, " %llu.%lld.%lld", (unsigned long long)st.st_ino, (long long)st.st_mtim.tv_sec, (long long)st.st_mtim.tv_nsec);
}

static char *make_key(void)
{
	struct buf b = BUF_INIT(1024);
	char boot[37];

	boot_id(boot);
	buf_addf(&b, "%s %s", CROFT_VERSION, boot);
	add_stat(&b, QEMU);
	add_stat(&b, FIRMWARE);
	add_stat(&b, "/dev/kvm");
	add_stat(&b, "/proc/self/exe");
	return buf_take(&b);
}

int host_cache_load(struct croft *c, struct err *e)
{
	AUTO_FREE char *key = make_key(), *text = NULL;
	struct cache cache = {};
	struct err ignored;
	size_t n;
	int r;

	if (file_read_at(c->home_fd, CACHE, CACHE_MAX, &text, &n) == 0) {
		json_t *j = json_parse(text, n, CACHE_MAX, &ignored);
		bool good = j && fields_decode(&cache_fields, j, FIELDS_STORED, &cache, &ignored) == 0 &&
			    cache.key && strcmp(cache.key, key) == 0;

		json_decref(j);
		if (good) {
			free(cache.key);
			c->host = cache.host;
			return 0;
		}
		fields_fini(&cache_fields, &cache);
	}
	r = host_probe("", &c->host, e);
	if (r < 0)
		return r;
	if (!c->host.qemu.path && access(QEMU, X_OK) == 0) {
		log_warn("%s has not told its version; it is asked again at the next start", QEMU);
		return 0;	/* what may be better next time is not kept */
	}
	struct buf b AUTO_BUF = BUF_INIT(CACHE_MAX);
	struct jw w = JW(&b);

	cache = (struct cache){ .key = key, .host = c->host };
	fields_encode(&cache_fields, &cache, &w, NULL);
	r = file_publish_at(c->home_fd, CACHE, b.data, b.len, 0600);
	if (r < 0)
		log_warn("%s/%s cannot be written: %s", c->home, CACHE, strerror(-r));
	return 0;
}
