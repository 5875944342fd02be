// LINK: tests/front
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "mem.h"
#include "rig.h"
#include "text.h"

#define BOTH(v) for (enum via v = UNIX; v <= TLS; v++)
enum { BIG = 64 << 20 };

static bool gone_1(void) { return rig->gone == 1; }
static bool gone_2(void) { return rig->gone == 2; }
static bool sent_told(void) { return rig->sent_bytes || rig->sent_error; }

static void fill(char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1103515245 + 12345;
		p[i] = seed >> 16;
	}
}

static char *slurp(const char *name, size_t *n)
{
	AUTO_FREE char *path = xasprintf("%s/%s", rig->folder, name);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	char *p = xmalloc(size + 1);

	*n = fd < 0 ? 0 : pread(fd, p, size, 0);
	return p;
}

static void put_file(const char *name, const char *p, size_t n)
{
	AUTO_FREE char *path = xasprintf("%s/%s", rig->folder, name);
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	for (size_t done = 0; done < n; ) {
		ssize_t r = write(fd, p + done, n - done);
		if (r <= 0)
			abort();
		done += r;
	}
}

static void upload(enum via v, const char *p, size_t n, bool chunked)
{
	struct client *c = client_open(v);
	struct reply r;
	int64_t from = mono_usec();

	if (chunked)
		client_say(c, "PUT /api/store HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
	else
		client_say(c, "PUT /api/store HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", n);
	for (size_t done = 0; done < n; ) {
		size_t part = n - done < 100000 ? n - done : 100000;
		if (chunked)
			client_say(c, "%zx\r\n", part);
		ok(client_send(c, p + done, part));
		if (chunked)
			client_say(c, "\r\n");
		done += part;
	}
	if (chunked)
		client_say(c, "0\r\n\r\n");
	ok(client_reply(c, &r, false));
	printf("# %s upload%s: %.0f MB/s\n", v == TLS ? "TLS" : "unix", chunked ? ", chunked" : "", n / (double)(mono_usec() - from));
	eq_int(r.status, 201);
	reply_free(&r);
	client_close(c);
	eq_int(rig->stored_bytes, n);
	eq_int(rig->stored_error, 0);
}

TEST(uploads_are_stored)
{
	static const size_t sizes[] = { 0, 1, 1000, 1 << 20, (1 << 20) + 1, 3 << 20, BIG };
	char *p = xmalloc(BIG);

	fill(p, BIG, 1);
	rig_start(&(struct rig_how){ 0 });
	BOTH(v)
		for (size_t i = 0; i < COUNT(sizes); i++)
			for (int chunked = 0; chunked < 2; chunked++) {
				size_t n;
				upload(v, p, sizes[i], chunked);
				AUTO_FREE char *stored = slurp("stored", &n);
				ok(n == sizes[i] && !memcmp(stored, p, n));
			}
	rig_stop();
	free(p);
}

TEST(an_upload_over_its_maximum)
{
	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		eq_int(ask(v, "PUT /api/store?4 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345", NULL, 0), 507);
		eq_int(ask(v, "PUT /api/store?4 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
			   NULL, 0), 507);
		eq_int(ask(v, "PUT /api/store?4 HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n1234", NULL, 0), 201);
	}
	rig_stop();
}

TEST(an_upload_that_stops_is_gone)
{
	static char block[3 << 20];

	rig_start(&(struct rig_how){ 0 });
	struct client *c = client_open(UNIX);
	client_say(c, "PUT /api/store HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n");
	ok(client_send(c, block, sizeof(block)));
	client_close(c);
	ok(rig_wait(gone_1));
	eq_int(get(TLS, "/api/hello", NULL, 0), 200);
	rig_stop();
}

/* A lane that hangs costs only its own requests, and those get an answer. */
TEST(a_dead_disk_is_an_error_in_time)
{
	static char block[4 << 20];
	struct client *c[3];
	struct reply r;

	rig_start(&(struct rig_how){ 0 });
	c[0] = client_open(UNIX);
	c[1] = client_open(TLS);
	for (int i = 0; i < 2; i++) {		/* a pipe with a full buffer: write hangs */
		client_say(c[i], "PUT /api/store?dead HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", sizeof(block));
		client_send(c[i], block, 2 << 20);
	}
	c[2] = client_open(TLS);
	client_say(c[2], "GET /api/send-dead HTTP/1.1\r\nHost: h\r\n\r\n");
	int64_t from = mono_usec();
	eq_int(get(TLS, "/api/hello", NULL, 0), 200);
	upload(UNIX, block, sizeof(block), false);
	for (int i = 0; i < 3; i++) {
		ok(client_reply(c[i], &r, false));
		eq_int(r.status, i < 2 ? 507 : 503);
		reply_free(&r);
		client_close(c[i]);
	}
	ok(mono_usec() - from < 4000000);
	ok(rig_wait(sent_told));
	eq_int(rig->sent_error, ETIMEDOUT);
	rig_stop();
}

static void download(enum via v, const char *p, size_t n)
{
	struct client *c = client_open(v);
	struct reply r;
	int64_t from = mono_usec();

	client_say(c, "GET /api/send?0-%zu HTTP/1.1\r\nHost: h\r\n\r\n", n);
	ok(client_reply(c, &r, false));
	printf("# %s download: %.0f MB/s\n", v == TLS ? "TLS" : "unix", n / (double)(mono_usec() - from));
	eq_int(r.status, 206);
	ok(r.n == n && !memcmp(r.body, p, n));
	ok(r.head && strstr(r.head, "X-Sent: yes\r\n"));
	reply_free(&r);
	client_say(c, "GET /api/send?5-10 HTTP/1.1\r\nHost: h\r\n\r\n");
	ok(client_reply(c, &r, false));
	ok(r.n == 10 && !memcmp(r.body, p + 5, 10));
	reply_free(&r);
	client_say(c, "HEAD /api/send?5-10 HTTP/1.1\r\nHost: h\r\n\r\n");
	ok(client_reply(c, &r, true));
	ok(r.head && strstr(r.head, "Content-Length: 10\r\n"));
	reply_free(&r);
	client_say(c, "GET /api/send?5-0 HTTP/1.1\r\nHost: h\r\n\r\n");
	ok(client_reply(c, &r, false));
	eq_int(r.n, 0);
	reply_free(&r);
	client_say(c, "GET /api/send HTTP/1.1\r\nHost: h\r\n\r\n");	/* to the end, chunked */
	ok(client_reply(c, &r, false));
	eq_int(r.status, 200);
	ok(r.n == n && !memcmp(r.body, p, n));
	reply_free(&r);
	client_close(c);
}

TEST(files_are_sent)
{
	char *p = xmalloc(BIG);

	fill(p, BIG, 2);
	rig_start(&(struct rig_how){ 0 });
	put_file("sent", p, BIG);
	BOTH(v)
		download(v, p, BIG);
	eq_int(rig->gone, 0);
	put_file("sent", p, 100);		/* the file is shorter than promised: cut, and told */
	BOTH(v) {
		struct client *c = client_open(v);
		struct reply r;
		client_say(c, "GET /api/send?0-1000 HTTP/1.1\r\nHost: h\r\n\r\n");
		ok(!client_reply(c, &r, false));
		reply_free(&r);
		client_close(c);
	}
	rig_stop();
	free(p);
}

TEST(a_download_that_nobody_reads)
{
	char *p = xcalloc(1, BIG);
	char byte;

	rig_start(&(struct rig_how){ 0 });
	put_file("sent", p, BIG);
	rig->sent_bytes = 0;
	BOTH(v) {
		struct client *c = client_open(v);
		client_say(c, "GET /api/send?0-%d HTTP/1.1\r\nHost: h\r\n\r\n", BIG);
		ok(client_exact(c, &byte, 1));
		usleep(300000);			/* it waits, and nobody else does */
		eq_int(get(TLS, "/api/hello", NULL, 0), 200);
		client_close(c);
	}
	ok(rig_wait(gone_2));
	ok(!sent_told());
	rig_stop();
	free(p);
}

T_MAIN
