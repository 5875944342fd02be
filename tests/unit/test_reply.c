// LINK: cli
/* vmctl's reader of HTTP answers and WebSocket frames, with bytes that come as they like. */
#include <stdlib.h>
#include "../../cli/frames.h"
#include "../../cli/reply.h"
#include "t.h"

static char body[4096];
static struct err err;

/* Read @in in pieces of @step bytes; then the connection ends. The status, or 0 with err. */
static int read_all(const char *in, size_t n, size_t step, struct reply *r)
{
	size_t len = 0;

	reply_init(r);
	err = (struct err){ 0 };
	while (n && !r->ended) {
		size_t piece = n < step ? n : step, used, m;
		char *copy = malloc(piece);	/* its own allocation: a sanitizer sees each byte too many */
		const char *p;
		int ret;

		memcpy(copy, in, piece);
		ret = reply_read(r, copy, piece, &used, &p, &m, &err);
		if (!ret && m && len + m < sizeof(body)) {
			memcpy(body + len, p, m);
			len += m;
		}
		free(copy);
		if (ret < 0)
			return 0;
		in += used;
		n -= used;
	}
	body[len] = '\0';
	return reply_eof(r, &err) < 0 ? 0 : r->status;
}

static void good(const char *in, int status, const char *want)
{
	struct reply r;

	for (size_t step = 1; step <= strlen(in); step++) {
		eq_int(read_all(in, strlen(in), step, &r), status);
		eq_str(body, want);
		reply_fini(&r);
	}
}

TEST(answers)
{
	good("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello");
	good("HTTP/1.1 200 OK\r\ncontent-length:5\r\nX: y\r\n\r\nhello", 200, "hello");
	good("HTTP/1.1 204 No Content\r\n\r\n", 204, "");
	good("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "");
	good("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: x\r\n\r\n", 200, "hello world");
	good("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end", 200, "to the end");
	good("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok", 201, "ok");
	good("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 101, "");
}

TEST(headers)
{
	static const char in[] = "HTTP/1.1 200 OK\r\nETag: \"7\"\r\nX-Etag: no\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
	struct reply r;

	eq_int(read_all(in, sizeof(in) - 1, 7, &r), 200);
	eq_str(reply_header(&r, "etag"), "\"7\"");
	eq_str(reply_header(&r, "x-etag"), "no");
	ok(!reply_header(&r, "tag") && !reply_header(&r, "HTTP/1.1 200 OK"));
	ok(r.close);
	reply_fini(&r);
}

static void bad(const char *in, size_t n)
{
	struct reply r;

	for (size_t step = 1; step < 40; step += 3) {
		eq_int(read_all(in, n, step, &r), 0);
		ok(*err.msg);
		reply_fini(&r);
	}
}
#define bad_text(s)	bad(s, sizeof(s) - 1)

TEST(what_is_no_answer)
{
	static char head[REPLY_HEAD_MAX + 100];

	bad_text("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell");
	bad_text("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello");
	bad_text("HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello");
	bad_text("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello");
	bad_text("HTTP/1.1 99 OK\r\n\r\n");
	bad_text("HTTP/2 200\r\n\r\n");
	bad_text("SSH-2.0-OpenSSH_9.2\r\n\r\n");
	bad_text("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n");
	bad_text("HTTP/1.1 200 OK\r\nA: \0b\r\n\r\n");
	bad_text("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n");
	bad_text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n");
	bad_text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n");
	bad_text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n");
	bad_text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
	bad_text("");
	memset(head, 'a', sizeof(head));
	bad(head, sizeof(head));
}

/* frames */

static size_t frame(uint8_t *out, uint8_t first, size_t n, const char *fill)
{
	size_t at = 0;

	out[at++] = first;
	if (n < 126) {
		out[at++] = (uint8_t)n;
	} else {
		out[at++] = 126;
		out[at++] = (uint8_t)(n >> 8);
		out[at++] = (uint8_t)n;
	}
	memset(out + at, *fill, n);
	return at + n;
}

/* What comes of @n bytes in pieces of @step: payload in body; the event that ended it. */
static enum ws_event frames(const uint8_t *p, size_t n, size_t step, struct ws *w)
{
	size_t len = 0;

	*w = (struct ws){ 0 };
	body[0] = '\0';
	while (n) {
		size_t piece = n < step ? n : step, used, m;
		const uint8_t *data;
		enum ws_event ev = ws_read(w, p, piece, &used, &data, &m);

		if (ev == WS_DATA) {
			memcpy(body + len, data, m);
			body[len += m] = '\0';
		} else if (ev != WS_MORE) {
			return ev;
		}
		p += used;
		n -= used;
	}
	return WS_MORE;
}

TEST(frames_of_a_server)
{
	uint8_t in[1024];
	struct ws w;
	size_t n = frame(in, 0x82, 5, "a");

	n += frame(in + n, 0x02, 3, "b");	/* a message in two */
	n += frame(in + n, 0x80, 200, "c");
	n += frame(in + n, 0x82, 0, "");
	n += frame(in + n, 0x89, 2, "p");
	for (size_t step = 1; step <= n; step++) {
		eq_int(frames(in, n, step, &w), WS_GOT_PING);
		eq_int(strlen(body), 208);
		ok(!strncmp(body, "aaaaabbbccc", 11));
		eq_int(w.control_len, 2);
	}
	n = 0;
	memcpy(in, "\x88\x02\x03\xe8", 4);
	eq_int(frames(in, 4, 1, &w), WS_GOT_CLOSE);
	eq_int(ws_close_code(&w), 1000);
}

TEST(broken_frames)
{
	static const uint8_t bad_ones[][10] = {
		{ 0xc2, 0 }, { 0x82, 0x80 }, { 0x83, 0 }, { 0x8b, 0 }, { 0x09, 0 }, { 0x89, 126, 0, 200 },
		{ 0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0 },
	};
	struct ws w;

	for (size_t i = 0; i < sizeof(bad_ones) / sizeof(bad_ones[0]); i++)
		eq_int(frames(bad_ones[i], 10, 10, &w), WS_BROKEN);
}

TEST(our_frames_are_masked)
{
	static const size_t sizes[] = { 0, 1, 125, 126, 65535, 65536 };
	char key[25], accept[29];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct buf b AUTO_BUF = BUF_INIT(1 << 20);
		char *data = calloc(1, sizes[i] + 1);
		size_t head = sizes[i] < 126 ? 6 : sizes[i] < 65536 ? 8 : 14;

		memset(data, 'x', sizes[i]);
		ws_frame(&b, WS_BINARY, data, sizes[i]);
		eq_int(b.len, head + sizes[i]);
		ok((uint8_t)b.data[0] == 0x82 && (uint8_t)b.data[1] & 0x80);
		for (size_t k = 0; k < sizes[i]; k++)
			if ((b.data[head + k] ^ b.data[head - 4 + k % 4]) != 'x')
				t_fail(__FILE__, __LINE__, "byte %zu of %zu", k, sizes[i]);
		free(data);
	}
	ws_key(key, accept);
	eq_int(strlen(key), 24);
	eq_int(strlen(accept), 28);
}

T_MAIN
