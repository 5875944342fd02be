/* load.c: the client of `make bench`: measures single requests, rates, and a console, over the unix socket or TLS.
 *
 *	load TARGET TOKEN get PATH COUNT             median and 99th percentile in ms
 *	load TARGET TOKEN changed PATH VM COUNT      the same, each after a change of that VM
 *	load TARGET TOKEN create PREFIX COUNT        the same, creating simulated VMs
 *	load TARGET TOKEN rate PATH CONNECTIONS MS   answers a second
 *	load TARGET TOKEN put PATH FILE              seconds
 *	load TARGET TOKEN echo URL MIB               MiB a second through a console that echoes, one way counted
 * TARGET: a socket's path, or the port of https://127.0.0.1. TOKEN: "-" for none. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "conn.h"
#include "mem.h"
#include "text.h"

#define SECONDS		1000000ull
#define DEADLINE	(60 * SECONDS)

static const char *target, *token;
static char pin[65];

static void die(const char *what)
{
	fprintf(stderr, "load: %s\n", what);
	exit(1);
}

static struct conn *dial(void)
{
	struct conn *c;
	struct err e = {};
	int r = *target == '/' ? conn_unix(target, DEADLINE, &c, &e)
			       : conn_tls("127.0.0.1", (uint16_t)atoi(target), *pin ? pin : NULL, pin, DEADLINE, &c, &e);

	if (r < 0)
		die(e.msg);
	return c;
}

static char sink[1 << 18];

static void send_head(struct conn *c, const char *method, const char *path, const char *more, size_t length)
{
	AUTO_FREE char *head = xasprintf("%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n%sContent-Length: %zu\r\n\r\n",
					 method, path, token, more, length);
	AUTO_FREE char *open = xasprintf("%s %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n", method, path, more, length);
	const char *text = strcmp(token, "-") == 0 ? open : head;

	if (conn_write(c, text, strlen(text), DEADLINE) < 0)
		die("the request cannot be sent");
}

/* Read one whole answer, thrown away; its status. Heads come in one piece here. */
static int read_answer(struct conn *c, char *buf, size_t cap)
{
	ssize_t n = 0, got;
	char *end = NULL, *length;

	while (!end) {
		got = conn_read(c, buf + n, cap - 1 - (size_t)n, DEADLINE);
		if (got <= 0)
			die("the connection ended within an answer");
		n += got;
		buf[n] = 0;
		end = strstr(buf, "\r\n\r\n");
	}
	int status = atoi(buf + 9);

	*end = 0;
	length = strcasestr(buf, "\r\nContent-Length:");
	long long left = length ? atoll(length + 17) - (n - (end + 4 - buf)) : 0;

	for (; left > 0; left -= got)
		if ((got = conn_read(c, buf, left < (long long)cap ? (size_t)left : cap, DEADLINE)) <= 0)
			die("the connection ended within a body");
	return status;
}

static void expect(int got, int want, const char *what)
{
	if (got == want)
		return;
	fprintf(stderr, "load: %s: %d instead of %d\n", what, got, want);
	exit(1);
}

static void request(struct conn *c, const char *method, const char *path, const char *body, int want)
{
	send_head(c, method, path, *body ? "Content-Type: application/json\r\nPrefer: wait=60\r\n" : "", strlen(body));
	if (*body && conn_write(c, body, strlen(body), DEADLINE) < 0)
		die("the body cannot be sent");
	expect(read_answer(c, sink, sizeof sink), want, path);
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void tell(int64_t *usec, int n)
{
	qsort(usec, (size_t)n, sizeof *usec, by_size);
	printf("%.3f %.3f\n", (double)usec[n / 2] / 1000, (double)usec[n * 99 / 100] / 1000);
}

static void measure(const char *what, const char *path, const char *vm, int count)
{
	AUTO_FREE int64_t *usec = xcalloc((size_t)count, sizeof *usec);
	struct conn *c = dial(), *other = dial();
	bool create = strcmp(what, "create") == 0;
	int warm = create ? 10 : count / 10 + 5;

	for (int i = -warm; i < count; i++) {
		AUTO_FREE char *change = xasprintf("{\"config\":{\"description\":\"%d\"}}", i);
		AUTO_FREE char *vm_path = xasprintf("/api/v1/vms/%s", vm ?: "");
		AUTO_FREE char *body = xasprintf("{\"name\":\"%s%d\",\"config\":{\"engine\":\"sim\"}}", path, i + warm);

		if (vm)
			request(other, "PATCH", vm_path, change, 200);
		int64_t start = mono_usec();

		if (create)
			request(c, "POST", "/api/v1/vms", body, 201);
		else
			request(c, "GET", path, "", 200);
		if (i >= 0)
			usec[i] = mono_usec() - start;
	}
	tell(usec, count);
	conn_close(c);
	conn_close(other);
}

/* ---- rate: each connection has a thread; what they share is read-only */

struct worker { pthread_t thread; const char *path; int64_t end; uint64_t answers; };

static void *work(void *arg)
{
	struct worker *w = arg;
	struct conn *c = dial();
	char buf[16384];

	while (mono_usec() < w->end) {
		send_head(c, "GET", w->path, "", 0);
		expect(read_answer(c, buf, sizeof buf), 200, w->path);
		w->answers++;
	}
	conn_close(c);
	return NULL;
}

static void rate(const char *path, int connections, int ms)
{
	AUTO_FREE struct worker *w = xcalloc((size_t)connections, sizeof *w);
	uint64_t all = 0;
	pthread_attr_t small;

	conn_close(dial());		/* learns the pin before there are threads */
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 256 * 1024);
	for (int i = 0; i < connections; i++) {
		w[i].path = path;
		w[i].end = mono_usec() + ms * 1000ll;
		pthread_create(&w[i].thread, &small, work, &w[i]);
	}
	for (int i = 0; i < connections; i++) {
		pthread_join(w[i].thread, NULL);
		all += w[i].answers;
	}
	printf("%.0f\n", (double)all * 1000 / ms);
}

static void put(const char *path, const char *name)
{
	struct conn *c = dial();
	struct stat st;
	int fd = open(name, O_RDONLY);
	int64_t start = mono_usec();
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		die("the file cannot be read");
	send_head(c, "PUT", path, "", (size_t)st.st_size);
	while ((n = read(fd, sink, sizeof sink)) > 0)
		if (conn_write(c, sink, (size_t)n, DEADLINE) < 0)
			die("the file cannot be sent");
	expect(read_answer(c, sink, sizeof sink), 201, path);
	printf("%.4f\n", (double)(mono_usec() - start) / 1e6);
	close(fd);
	conn_close(c);
}

/* ---- a console that echoes: frames of 64 KiB out, whatever frames in; payload bytes are counted */

#define FRAME (64 * 1024)

struct echo { struct conn *c; uint64_t bytes; };

static void *send_frames(void *arg)
{
	struct echo *e = arg;
	static uint8_t frame[14 + FRAME] = { 0x82, 0x80 | 127 };	/* mask 0: the bytes as they are */

	frame[2 + 5] = FRAME >> 16;
	for (uint64_t n = 0; n < e->bytes; n += FRAME)
		if (conn_write(e->c, frame, sizeof frame, DEADLINE) < 0)
			die("a frame cannot be sent");
	return NULL;
}

static uint64_t frame_left, head_have;
static uint8_t head[10];

/* How much payload is in these bytes of a stream of unmasked frames? */
static uint64_t payload(const uint8_t *p, size_t n)
{
	uint64_t found = 0;

	while (n) {
		uint64_t take = frame_left < n ? frame_left : n;

		if (take) {
			found += take;
			frame_left -= take;
			p += take;
			n -= take;
			continue;
		}
		head[head_have++] = *p++;
		n--;
		unsigned want = head_have < 2 ? 2 : (head[1] & 127) == 126 ? 4 : (head[1] & 127) == 127 ? 10 : 2;

		if (head_have < want)
			continue;
		frame_left = head[1] & 127;
		if (want > 2)
			for (unsigned i = 2 + (unsigned)(frame_left = 0); i < want; i++)
				frame_left = frame_left << 8 | head[i];
		head_have = 0;
	}
	return found;
}

static void echo(const char *url, int mib)
{
	struct echo e = { .c = dial(), .bytes = (uint64_t)mib << 20 };
	pthread_t thread;
	char *end = NULL;
	ssize_t n = 0, got;

	send_head(e.c, "GET", url, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
		  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://127.0.0.1\r\n", 0);
	while (!end) {
		if ((got = conn_read(e.c, sink + n, sizeof sink - 1 - (size_t)n, DEADLINE)) <= 0)
			die("no console");
		n += got;
		sink[n] = 0;
		end = strstr(sink, "\r\n\r\n");
	}
	expect(atoi(sink + 9), 101, url);
	uint64_t have = payload((uint8_t *)end + 4, (size_t)(n - (end + 4 - sink)));
	int64_t start = mono_usec();

	pthread_create(&thread, NULL, send_frames, &e);
	while (have < e.bytes) {
		if ((got = conn_read(e.c, sink, sizeof sink, DEADLINE)) <= 0)
			die("the console ended");
		have += payload((uint8_t *)sink, (size_t)got);
	}
	printf("%.1f\n", (double)e.bytes / (double)(mono_usec() - start));
	pthread_join(thread, NULL);
	conn_close(e.c);
}

int main(int argc, char **argv)
{
	if (argc < 5)
		die("usage: load TARGET TOKEN get|changed|create|rate|put|echo ...");
	target = argv[1];
	token = argv[2];
	const char *what = argv[3];

	if (*target != '/')
		conn_close(dial());	/* learns the certificate's pin */
	if (strcmp(what, "rate") == 0 && argc == 7)
		rate(argv[4], atoi(argv[5]), atoi(argv[6]));
	else if (strcmp(what, "changed") == 0 && argc == 7)
		measure(what, argv[4], argv[5], atoi(argv[6]));
	else if ((strcmp(what, "get") == 0 || strcmp(what, "create") == 0) && argc == 6)
		measure(what, argv[4], NULL, atoi(argv[5]));
	else if (strcmp(what, "put") == 0 && argc == 6)
		put(argv[4], argv[5]);
	else if (strcmp(what, "echo") == 0 && argc == 6)
		echo(argv[4], atoi(argv[5]));
	else
		die("unknown words");
	return 0;
}
