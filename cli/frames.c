#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include "mem.h"
#include "frames.h"

#define GUID	"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

static size_t head_size(const struct ws *w)
{
	if (w->head_len < 2)
		return 2;
	return 2 + ((w->head[1] & 127) == 126 ? 2 : (w->head[1] & 127) == 127 ? 8 : 0);
}

/* The head is complete. False: it is against the rules. */
static bool head_done(struct ws *w)
{
	size_t n = head_size(w);
	uint8_t op = w->head[0] & 15;

	w->left = w->head[1] & 127;
	if (n > 2)
		w->left = 0;
	for (size_t i = 2; i < n; i++)
		w->left = w->left << 8 | w->head[i];
	if (w->head[0] & 0x70 || w->head[1] & 0x80 || w->left >> 63)
		return false;		/* unknown extensions, a masked frame, an impossible length */
	if (op & 8 && (!(w->head[0] & 0x80) || w->left > sizeof(w->control)))
		return false;
	if (op > WS_PONG || (op > WS_BINARY && op < WS_CLOSE))
		return false;
	w->op = op;
	w->control_len = 0;
	w->in_payload = true;
	w->head_len = 0;
	return true;
}

static enum ws_event control(struct ws *w, const uint8_t *p, size_t n, size_t *used)
{
	size_t take = n < w->left ? n : (size_t)w->left;

	memcpy(w->control + w->control_len, p, take);
	w->control_len += (uint8_t)take;
	w->left -= take;
	*used += take;
	if (w->left)
		return WS_MORE;
	w->in_payload = false;
	return w->op == WS_CLOSE ? WS_GOT_CLOSE : w->op == WS_PING ? WS_GOT_PING : WS_MORE;
}

enum ws_event ws_read(struct ws *w, const uint8_t *p, size_t n, size_t *ret_used, const uint8_t **ret_p, size_t *ret_n)
{
	*ret_used = 0;
	for (;;) {
		size_t i = *ret_used;

		if (!w->in_payload) {
			if (i == n)
				return WS_MORE;
			w->head[w->head_len++] = p[i];
			*ret_used = i + 1;
			if (w->head_len < 2 || w->head_len < head_size(w))
				continue;
			if (!head_done(w))
				return WS_BROKEN;
		} else if (w->op & 8) {
			enum ws_event ev = control(w, p + i, n - i, ret_used);

			if (ev != WS_MORE || w->in_payload)
				return ev;
		} else if (!w->left) {
			w->in_payload = false;
		} else {
			if (i == n)
				return WS_MORE;
			*ret_p = p + i;
			*ret_n = n - i < w->left ? n - i : (size_t)w->left;
			*ret_used += *ret_n;
			w->left -= *ret_n;
			return WS_DATA;
		}
	}
}

void ws_frame(struct buf *b, enum ws_op op, const void *p, size_t n)
{
	uint8_t head[14] = { (uint8_t)(0x80 | op) }, mask[4];
	size_t len = n < 126 ? 2 : n < 65536 ? 4 : 10;
	char *out;

	head[1] = (uint8_t)(0x80 | (n < 126 ? n : n < 65536 ? 126 : 127));
	for (size_t i = 2; i < len; i++)
		head[i] = (uint8_t)((uint64_t)n >> 8 * (len - 1 - i));
	if (getrandom(mask, sizeof(mask), 0) != sizeof(mask))
		abort();
	memcpy(head + len, mask, 4);
	buf_add(b, head, len + 4);
	out = buf_room(b, n);
	if (!out)
		return;
	for (size_t i = 0; i < n; i++)
		out[i] = (char)(((const uint8_t *)p)[i] ^ mask[i % 4]);
	b->len += n;
}

static void base64(const void *p, size_t n, char *out, size_t cap)
{
	gnutls_datum_t in = { (unsigned char *)(uintptr_t)p, (unsigned)n }, text = { 0 };

	if (gnutls_base64_encode2(&in, &text) < 0)
		abort();
	snprintf(out, cap, "%.*s", (int)text.size, (char *)text.data);
	gnutls_free(text.data);
}

void ws_key(char key[25], char accept[29])
{
	uint8_t random[16], sum[20];
	char text[24 + sizeof(GUID)];

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		abort();
	base64(random, sizeof(random), key, 25);
	snprintf(text, sizeof(text), "%s" GUID, key);
	gnutls_hash_fast(GNUTLS_DIG_SHA1, text, strlen(text), sum);
	base64(sum, sizeof(sum), accept, 29);
}

unsigned ws_close_code(const struct ws *w)
{
	return w->control_len >= 2 ? (unsigned)w->control[0] << 8 | w->control[1] : 1005;
}
