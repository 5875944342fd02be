// LINK: tests/front
/* The web client: packed by build/bundle, served by croft-front without asking croftd. */
#include <fcntl.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "file.h"
#include "mem.h"
#include "rig.h"

static char folder[64];

static void put(const char *name, const char *text)
{
	AUTO_FREE char *path = xasprintf("%s/web/%s", folder, name);
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ok(!file_write_all(fd, text, strlen(text)));
}

static char *pack(void)
{
	static char out[96];
	char exe[4096], *command;
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	exe[n] = '\0';
	for (int i = 0; i < 3; i++)
		*strrchr(exe, '/') = '\0';
	snprintf(out, sizeof(out), "%s/web.bundle", folder);
	command = xasprintf("%s/bundle %s/web %s", exe, folder, out);
	eq_int(system(command), 0);
	free(command);
	return out;
}

static void make_folder(void)
{
	char path[128];

	strcpy(folder, "/tmp/croft-web-XXXXXX");
	ok(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/web", folder);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/web/js", folder);
	mkdir(path, 0755);
	put("index.html", "<!doctype html><title>Croft</title>");
	put("serial.html", "<!doctype html>");
	put("js/app.js", "// aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n");
	put("bundle.c", "a tool");
	put("README.md", "for readers");
}

static void drop_folder(void)
{
	AUTO_CLOSE int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ok(!file_remove_tree(tmp, folder + strlen("/tmp/")));
}

static bool header(const struct reply *r, const char *line)
{
	return r->head && strcasestr(r->head, line);
}

TEST(pages_are_served)
{
	struct reply r;

	make_folder();
	rig_start(&(struct rig_how){ .bundle = pack() });
	for (enum via v = UNIX; v <= TLS; v++) {
		struct client *c = client_open(v);
		client_say(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
		ok(client_reply(c, &r, false));
		eq_int(r.status, 200);
		eq_str(r.body, "<!doctype html><title>Croft</title>");
		ok(header(&r, "\r\nContent-Type: text/html; charset=utf-8\r\n"));
		ok(header(&r, "\r\nX-Content-Type-Options: nosniff\r\n"));
		ok(header(&r, "style-src 'self'; "));
		ok(header(&r, "frame-ancestors 'self'\r\n"));
		ok(!header(&r, "unsafe"));
		reply_free(&r);
		client_say(c, "GET /serial.html?vm=1 HTTP/1.1\r\nHost: h\r\n\r\n");
		ok(client_reply(c, &r, false));
		ok(header(&r, "style-src 'self' 'unsafe-inline'; "));
		reply_free(&r);
		client_say(c, "HEAD /index.html HTTP/1.1\r\nHost: h\r\n\r\n");
		ok(client_reply(c, &r, true));
		ok(header(&r, "\r\nContent-Length: 35\r\n"));
		reply_free(&r);
		client_say(c, "GET /bundle.c HTTP/1.1\r\nHost: h\r\n\r\nGET /README.md HTTP/1.1\r\nHost: h\r\n\r\n"
			   "GET /../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\nGET /js HTTP/1.1\r\nHost: h\r\n\r\n");
		for (int i = 0; i < 4; i++) {
			ok(client_reply(c, &r, false));
			eq_int(r.status, 404);
			ok(header(&r, "text/plain"));
			reply_free(&r);
		}
		client_say(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab");
		ok(client_reply(c, &r, false));
		eq_int(r.status, 405);
		ok(header(&r, "\r\nAllow: GET, HEAD\r\n"));
		reply_free(&r);
		client_close(c);
	}
	eq_int(rig->requests, 0);	/* croftd was never asked */
	rig_stop();
	drop_folder();
}

TEST(unchanged_pages_are_304_and_gzip_is_smaller)
{
	struct reply r;
	char etag[160] = "";

	make_folder();
	rig_start(&(struct rig_how){ .bundle = pack() });
	struct client *c = client_open(TLS);
	client_say(c, "GET /js/app.js HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip, br\r\n\r\n");
	ok(client_reply(c, &r, false));
	ok(header(&r, "\r\nContent-Encoding: gzip\r\n") && header(&r, "\r\nVary: Accept-Encoding\r\n"));
	ok(header(&r, "\r\nContent-Type: text/javascript"));
	ok(r.n > 2 && r.n < 60 && !memcmp(r.body, "\x1f\x8b", 2));
	ok(sscanf(strcasestr(r.head, "\r\nETag: ") + 8, "%150[^\r]", etag) == 1);
	reply_free(&r);
	client_say(c, "GET /js/app.js HTTP/1.1\r\nHost: h\r\nIf-None-Match: %s\r\n\r\n", etag);
	ok(client_reply(c, &r, false));
	eq_int(r.status, 304);
	ok(header(&r, "\r\nETag: "));
	reply_free(&r);
	client_say(c, "GET /js/app.js HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip;q=0\r\n\r\n");
	ok(client_reply(c, &r, false));
	ok(!header(&r, "Content-Encoding") && !strncmp(r.body, "// aaaa", 7));
	reply_free(&r);
	client_close(c);
	rig_stop();
	drop_folder();
}

TEST(without_a_bundle_there_is_a_sentence)
{
	char body[256];

	rig_start(&(struct rig_how){ 0 });
	eq_int(get(TLS, "/", body, sizeof(body)), 404);
	eq_str(body, "This host was built without its web client. The API is below /api/v1.\n");
	rig_stop();
}

/* A bundle that is damaged is no reason to read beyond it, nor to refuse the API. */
TEST(a_damaged_bundle_is_told)
{
	make_folder();
	char *path = pack();
	AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
	uint32_t far = 0x7fffffff;
	ok(pwrite(fd, &far, 4, 16) == 4);	/* where the first path is */
	rig_start(&(struct rig_how){ .bundle = path });
	eq_int(get(TLS, "/", NULL, 0), 404);
	eq_int(get(TLS, "/api/hello", NULL, 0), 200);
	eq_int(rig->logs, 1);
	rig_stop();
	drop_folder();
}

T_MAIN
