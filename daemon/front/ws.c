#include "ws.h"
#include <string.h>

static size_t head_size(const struct ws *w)
{
	if (w->head_len < 2)
		return 2;
	unsigned len = w->head[1] & 0x7f;
	return 2 + (len == 126 ? 2 : len == 127 ? 8 : 0) + 4;
}

static uint64_t big_endian(const uint8_t *p, size_t n)
{
	uint64_t v = 0;
	while (n--)
		v = v << 8 | *p++;
	return v;
}

/* The first two bytes: everything that can be known to be wrong before the rest is here. */
static int check_start(const struct ws *w)
{
	unsigned op = w->head[0] & 0x0f, len = w->head[1] & 0x7f;
	bool fin = w->head[0] & 0x80, masked = w->head[1] & 0x80;

	if (w->head[0] & 0x70 || !masked)
		return WS_PROTOCOL;	/* a reserved bit; a client masks */
	switch (op) {
	case WS_CONTINUATION:
		return w->fragmented ? 0 : WS_PROTOCOL;
	case WS_TEXT:
	case WS_BINARY:
		return w->fragmented ? WS_PROTOCOL : 0;
	case WS_CLOSE:
	case WS_PING:
	case WS_PONG:
		return fin && len <= WS_CONTROL_MAX && !(op == WS_CLOSE && len == 1) ? 0 : WS_PROTOCOL;
	}
	return WS_PROTOCOL;
}

static int finish_head(struct ws *w)
{
	unsigned len = w->head[1] & 0x7f;
	size_t ext = len == 126 ? 2 : len == 127 ? 8 : 0;

	w->left = ext ? big_endian(w->head + 2, ext) : len;
	if ((ext == 2 && w->left < 126) || (ext == 8 && (w->left < 65536 || w->left >> 63)))
		return WS_PROTOCOL;	/* not the shortest form */
	if (w->left > WS_FRAME_MAX)
		return WS_TOO_BIG;
	memcpy(w->mask, w->head + 2 + ext, 4);
	w->mask_at = 0;
	w->op = w->head[0] & 0x0f;
	if (w->op < WS_CLOSE)
		w->fragmented = !(w->head[0] & 0x80);
	else
		w->control_len = 0;
	w->head_len = 0;
	w->in_payload = true;
	return 0;
}

static void unmask(struct ws *w, uint8_t *p, size_t n)
{
	uint8_t m[8];
	uint64_t wide, v;
	size_t i = 0;

	for (int k = 0; k < 8; k++)
		m[k] = w->mask[(w->mask_at + k) & 3];
	memcpy(&wide, m, 8);
	for (; i + 8 <= n; i += 8) {
		memcpy(&v, p + i, 8);
		v ^= wide;
		memcpy(p + i, &v, 8);
	}
	for (size_t k = 0; i + k < n; k++)
		p[i + k] ^= m[k];
	w->mask_at = (w->mask_at + n) & 3;
}

/* Codes that a peer may send (section 7.4). */
static bool close_code_ok(unsigned code)
{
	return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
	       (code >= 3000 && code <= 4999);
}

static enum ws_event end_control(struct ws *w, size_t *ret_n)
{
	w->in_payload = false;
	if (w->op == WS_PING)
		return WS_GOT_PING;
	if (w->op == WS_PONG)
		return WS_MORE;
	w->closed = true;
	if (w->control_len && !close_code_ok(w->control[0] << 8 | w->control[1])) {
		*ret_n = WS_PROTOCOL;
		return WS_BROKEN;
	}
	w->control_len = w->control_len ? 2 : 0;
	return WS_GOT_CLOSE;
}

static enum ws_event read_payload(struct ws *w, uint8_t *p, size_t n, size_t *ret_used, uint8_t **ret_p, size_t *ret_n)
{
	size_t part = n < w->left ? n : w->left;

	unmask(w, p, part);
	w->left -= part;
	*ret_used += part;
	if (w->op >= WS_CLOSE) {
		memcpy(w->control + w->control_len, p, part);
		w->control_len += part;
		return w->left ? WS_MORE : end_control(w, ret_n);
	}
	if (!w->left)
		w->in_payload = false;
	*ret_p = p;
	*ret_n = part;
	return part ? WS_DATA : WS_MORE;
}

enum ws_event ws_read(struct ws *w, uint8_t *p, size_t n, size_t *ret_used, uint8_t **ret_p, size_t *ret_n)
{
	enum ws_event e = WS_MORE;
	int code = 0;

	*ret_used = 0;
	while (e == WS_MORE && !w->closed && !code) {
		if (w->in_payload) {
			if (*ret_used == n && w->left)
				break;
			e = read_payload(w, p + *ret_used, n - *ret_used, ret_used, ret_p, ret_n);
			continue;
		}
		if (*ret_used == n)
			break;
		w->head[w->head_len++] = p[(*ret_used)++];
		if (w->head_len == 2)
			code = check_start(w);
		if (!code && w->head_len >= 2 && w->head_len == head_size(w))
			code = finish_head(w);
	}
	if (code) {
		w->closed = true;
		*ret_n = code;
		return WS_BROKEN;
	}
	return e;
}

size_t ws_head(uint8_t out[WS_HEAD_MAX], enum ws_op op, size_t n)
{
	out[0] = 0x80 | op;
	if (n < 126) {
		out[1] = n;
		return 2;
	}
	size_t ext = n < 65536 ? 2 : 8;
	out[1] = ext == 2 ? 126 : 127;
	for (size_t i = 0; i < ext; i++)
		out[2 + i] = (uint64_t)n >> (8 * (ext - 1 - i));
	return 2 + ext;
}

bool ws_key_ok(const char *key)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	/* 16 bytes: 22 digits, of which the last holds 4 bits of nothing, and "==" */
	return key && strlen(key) == 24 && strspn(key, digits) == 22 && !strcmp(key + 22, "==") && strchr("AQgw", key[21]);
}
