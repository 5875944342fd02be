// LINK: tests/front
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "mem.h"
#include "rig.h"
#include "text.h"

#define BOTH(v) for (enum via v = UNIX; v <= TLS; v++)

static bool ended_1(void) { return rig->ended >= 1 && rig->gone >= 1; }

static struct client *join(enum via v, const char *path)
{
	struct client *c = client_open(v);
	struct reply r;

	client_say(c, "GET %s HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
		   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
		   "Sec-WebSocket-Protocol: chat, binary\r\n\r\n", path);
	ok(client_reply(c, &r, true));
	eq_int(r.status, 101);
	ok(r.head && strstr(r.head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
	ok(r.head && strstr(r.head, "Sec-WebSocket-Protocol: binary\r\n"));
	reply_free(&r);
	return c;
}

/* A client's frame, masked. */
static bool say_frame(struct client *c, unsigned first, const char *p, size_t n)
{
	uint8_t head[14] = { first, 0x80 };
	static const uint8_t mask[4] = { 0x12, 0x34, 0x56, 0x78 };
	size_t h = 2;

	if (n < 126) {
		head[1] |= n;
	} else {
		int ext = n < 65536 ? 2 : 8;
		head[1] |= ext == 2 ? 126 : 127;
		for (int i = 0; i < ext; i++)
			head[h++] = (uint64_t)n >> (8 * (ext - 1 - i));
	}
	memcpy(head + h, mask, 4);
	char *masked = xmalloc(h + 4 + n);
	memcpy(masked, head, h + 4);
	for (size_t i = 0; i < n; i++)
		masked[h + 4 + i] = p[i] ^ mask[i % 4];
	bool fine = client_send(c, masked, h + 4 + n);
	free(masked);
	return fine;
}

/* The server's next frame: its first byte, or -1. */
static int hear_frame(struct client *c, char *p, size_t cap, size_t *n)
{
	uint8_t h[2], ext[8];

	if (!client_exact(c, h, 2) || h[1] & 0x80)
		return -1;
	size_t len = h[1], e = len == 126 ? 2 : len == 127 ? 8 : 0;
	if (e && !client_exact(c, ext, e))
		return -1;
	for (size_t i = 0, v = 0; i < e; i++)
		len = v = v << 8 | ext[i];
	if (len > cap || !client_exact(c, p, len))
		return -1;
	*n = len;
	return h[0];
}

static bool echo(struct client *c, const char *p, size_t n)
{
	char *got = xmalloc(n + 65536);
	size_t have = 0, part;
	bool fine = true;

	while (fine && have < n) {
		fine = hear_frame(c, got + have, n + 65536 - have, &part) == 0x82;
		have += fine ? part : 0;
	}
	fine = fine && have == n && !memcmp(got, p, n);
	free(got);
	return fine;
}

TEST(bytes_go_both_ways)
{
	static const size_t sizes[] = { 1, 125, 126, 127, 65535, 65536, 200000 };
	char *p = xmalloc(200000);

	for (int i = 0; i < 200000; i++)
		p[i] = i * 7;
	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		struct client *c = join(v, "/api/join");
		for (size_t i = 0; i < COUNT(sizes); i++) {
			ok(say_frame(c, 0x82, p, sizes[i]));
			ok(echo(c, p, sizes[i]));
		}
		ok(say_frame(c, 0x01, "he", 2) && say_frame(c, 0x89, "ping", 4) && say_frame(c, 0x80, "llo", 3));
		char got[64];
		size_t n, have = 0;
		bool pong = false;
		while (have < 5 || !pong) {		/* a ping between the fragments of a text */
			int op = hear_frame(c, got + have, sizeof(got) - have, &n);
			if (op == 0x8a) {
				pong = n == 4 && !memcmp(got + have, "ping", 4);
			} else if (op == 0x82) {
				have += n;
			} else {
				t_fail(__FILE__, __LINE__, "frame %d", op);
				break;
			}
		}
		ok(!memcmp(got, "hello", 5) && pong);
		ok(say_frame(c, 0x88, "\x03\xe8", 2));
		eq_int(hear_frame(c, got, sizeof(got), &n), 0x88);
		ok(n == 2 && !memcmp(got, "\x03\xe8", 2));
		eq_int(client_recv(c, got, 1), 0);
		client_close(c);
	}
	ok(rig_wait(ended_1));
	rig_stop();
	free(p);
}

TEST(bad_frames_end_it)
{
	static const struct { const char *p; size_t n; unsigned code; } bad[] = {
		{ "\x82\x01x", 3, 1002 },			/* not masked */
		{ "\xc2\x80\0\0\0\0", 6, 1002 },		/* reserved bit */
		{ "\x83\x80\0\0\0\0", 6, 1002 },		/* unknown opcode */
		{ "\x80\x80\0\0\0\0", 6, 1002 },		/* continues nothing */
		{ "\x09\x80\0\0\0\0", 6, 1002 },		/* a ping in fragments */
		{ "\x89\xfe\0\x7e\0\0\0\0", 8, 1002 },	/* a ping too long */
		{ "\x82\xfe\0\x05\0\0\0\0", 8, 1002 },	/* not the shortest length */
		{ "\x82\xff\0\0\0\x01\0\0\0\0\0\0\0\0", 14, 1009 },
		{ "\x88\x81\0\0\0\0x", 7, 1002 },
		{ "\x88\x82\0\0\0\0\x03\xed", 8, 1002 },	/* 1005 is never sent */
	};
	char got[256];
	size_t n;

	rig_start(&(struct rig_how){ 0 });
	BOTH(v)
		for (size_t i = 0; i < COUNT(bad); i++) {
			struct client *c = join(v, "/api/join");
			ok(client_send(c, bad[i].p, bad[i].n));
			int op = hear_frame(c, got, sizeof(got), &n);
			unsigned code = n >= 2 ? (uint8_t)got[0] << 8 | (uint8_t)got[1] : 0;
			if (op != 0x88 || code != bad[i].code)
				t_fail(__FILE__, __LINE__, "case %zu: frame %d, code %u", i, op, code);
			client_close(c);
		}
	eq_int(get(TLS, "/api/hello", NULL, 0), 200);
	rig_stop();
}

TEST(a_console_that_nobody_reads_stops_its_source)
{
	char *p = xcalloc(1, 1 << 20);

	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		struct client *c = join(v, "/api/join");
		struct timeval patience = { .tv_usec = 300000 };
		setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		int sent = 0;
		while (sent < 64 && say_frame(c, 0x82, p, 1 << 20))	/* an echo that nobody takes */
			sent++;
		ok(sent < 64);
		eq_int(get(TLS, "/api/hello", NULL, 0), 200);
		client_close(c);
	}
	rig_stop();
	free(p);
}

static double cpu_s(pid_t pid)
{
	char path[64], text[1024];
	unsigned long user = 0, sys = 0;

	sprintf(path, "/proc/%d/stat", pid);
	FILE *f = fopen(path, "re");
	if (f && fgets(text, sizeof(text), f))
		sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys);
	if (f)
		fclose(f);
	return (user + sys) / (double)sysconf(_SC_CLK_TCK);
}

TEST(throughput_of_a_console)
{
	static char block[65536];
	enum { BYTES = 128 << 20 };

	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		struct client *c = join(v, "/api/flood");
		double cpu = cpu_s(rig->front);
		int64_t from = mono_usec();
		size_t got = 0, n;
		while (got < BYTES && hear_frame(c, block, sizeof(block), &n) == 0x82)
			got += n;
		ok(got >= BYTES);
		cpu = cpu_s(rig->front) - cpu;
		printf("# console over %s: %.0f MB/s, the front's own processor time alone would allow %.0f MB/s\n",
		       v == TLS ? "TLS" : "unix", got / (double)(mono_usec() - from), got / cpu / 1e6);
		ok(got / cpu / 1e6 > (v == TLS ? 50 : 100) || cpu < 0.1);
		client_close(c);
	}
	ok(rig_wait(ended_1));
	rig_stop();
}

TEST(withdrawn_when_the_stream_ends)
{
	struct linger reset = { 1, 0 };

	rig_start(&(struct rig_how){ 0 });
	struct client *c = join(TLS, "/api/join");
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	client_close(c);
	ok(rig_wait(ended_1));
	rig_stop();
}

T_MAIN
