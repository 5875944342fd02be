// LINK: daemon/front
#include "front.h"
#include "t.h"
#include "ws.h"

struct front front;

static size_t frame(uint8_t *out, unsigned first, const char *p, size_t n)
{
	static const uint8_t mask[4] = { 0xa1, 0xb2, 0xc3, 0xd4 };
	uint8_t head[WS_HEAD_MAX];
	size_t h = ws_head(head, 0, n);

	memcpy(out, head, h);
	out[0] = first;
	out[1] |= 0x80;
	memcpy(out + h, mask, 4);
	for (size_t i = 0; i < n; i++)
		out[h + 4 + i] = p[i] ^ mask[i % 4];
	return h + 4 + n;
}

/* Feed @n bytes in pieces of @step; what comes out as payload goes to @got. The last event that was not DATA or MORE. */
static enum ws_event feed(struct ws *w, uint8_t *p, size_t n, size_t step, char *got, size_t *got_n, size_t *code)
{
	enum ws_event last = WS_MORE;

	for (size_t at = 0; at < n; at += step) {
		size_t part = n - at < step ? n - at : step, done = 0;
		for (;;) {
			uint8_t *data;
			size_t used, len = 0;
			enum ws_event e = ws_read(w, p + at + done, part - done, &used, &data, &len);
			done += used;
			if (e == WS_DATA) {
				ok(data + len == p + at + done);	/* join.c relies on it */
				memcpy(got + *got_n, data, len);
				*got_n += len;
			} else if (e == WS_MORE) {
				break;
			} else {
				last = e;
				*code = len;
				if (e != WS_GOT_PING)
					return last;
			}
		}
		ok(done == part);
	}
	return last;
}

TEST(any_split_gives_the_same)
{
	static char text[70000], got[200000];
	static uint8_t wire[300000];
	static const size_t steps[] = { 1, 2, 3, 7, 64, 4096, 300000 };

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i * 31;
	for (size_t s = 0; s < 7; s++) {
		struct ws w = { 0 };
		size_t n = 0, got_n = 0, code = 0;
		n += frame(wire + n, 0x82, text, 0);
		n += frame(wire + n, 0x82, text, 5);
		n += frame(wire + n, 0x01, text, 126);
		n += frame(wire + n, 0x89, "pi", 2);
		n += frame(wire + n, 0x8a, "po", 2);
		n += frame(wire + n, 0x00, text, 0);
		n += frame(wire + n, 0x80, text, 65535);
		n += frame(wire + n, 0x82, text, 65536);
		eq_int(feed(&w, wire, n, steps[s], got, &got_n, &code), WS_GOT_PING);
		eq_int(got_n, 5 + 126 + 65535 + 65536);
		ok(!memcmp(got, text, 5) && !memcmp(got + 5, text, 126) && !memcmp(got + 131, text, 65535) &&
		   !memcmp(got + 131 + 65535, text, 65536));
	}
}

TEST(close_carries_its_code)
{
	uint8_t wire[64];
	char got[64];
	size_t got_n = 0, code = 0, n = frame(wire, 0x88, "\x03\xe9" "bye", 5);
	struct ws w = { 0 };

	eq_int(feed(&w, wire, n, 1, got, &got_n, &code), WS_GOT_CLOSE);
	eq_int(w.control_len, 2);
	eq_int(w.control[0] << 8 | w.control[1], 1001);
	uint8_t *data;
	size_t used, len;
	eq_int(ws_read(&w, wire, 4, &used, &data, &len), WS_MORE);	/* nothing is read after it */
	eq_int(used, 0);
}

TEST(what_is_wrong_is_told)
{
	static const struct { unsigned first; size_t n; unsigned code; } bad[] = {
		{ 0x83, 1, 1002 }, { 0x92, 1, 1002 }, { 0x80, 1, 1002 }, { 0x09, 1, 1002 }, { 0x89, 126, 1002 }, { 0x88, 1, 1002 },
		{ 0x82, (16 << 20) + 1, 1009 },
	};
	static char text[200], got[256];

	for (size_t i = 0; i < 7; i++) {
		uint8_t wire[256];
		struct ws w = { 0 };
		size_t got_n = 0, code = 0, n = ws_head(wire, 0, bad[i].n);
		wire[0] = bad[i].first;
		wire[1] |= 0x80;
		memset(wire + n, 0, 5);
		eq_int(feed(&w, wire, n + 5, 1, got, &got_n, &code), WS_BROKEN);
		eq_int(code, bad[i].code);
	}
	uint8_t again[64];	/* a new message in the midst of another */
	struct ws w = { 0 };
	size_t n = frame(again, 0x02, text, 3), got_n = 0, code = 0;
	n += frame(again + n, 0x82, text, 3);
	eq_int(feed(&w, again, n, 64, got, &got_n, &code), WS_BROKEN);
	eq_int(code, WS_PROTOCOL);
}

TEST(our_heads)
{
	uint8_t h[WS_HEAD_MAX];

	eq_int(ws_head(h, WS_BINARY, 125), 2);
	ok(h[0] == 0x82 && h[1] == 125);
	eq_int(ws_head(h, WS_BINARY, 126), 4);
	ok(h[1] == 126 && h[2] == 0 && h[3] == 126);
	eq_int(ws_head(h, WS_BINARY, 65536), 10);
	ok(h[1] == 127 && h[7] == 1 && h[8] == 0 && h[9] == 0);
}

TEST(keys)
{
	ok(ws_key_ok("dGhlIHNhbXBsZSBub25jZQ=="));
	ok(!ws_key_ok("dGhlIHNhbXBsZSBub25jZR=="));	/* bits after the end */
	ok(!ws_key_ok("dGhlIHNhbXBsZSBub25jZQ="));
	ok(!ws_key_ok("dGhlIHNhbXBsZSBub25jZQ==x"));
	ok(!ws_key_ok("====================----"));
	ok(!ws_key_ok(""));
	ok(!ws_key_ok(NULL));
}

T_MAIN
