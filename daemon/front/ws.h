/* ws.h: WebSocket frames (RFC 6455), the server's side. Pure: bytes in, payload out; no I/O, no allocation. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WS_FRAME_MAX	(16u << 20)	/* a client's frame may be so long; it is passed on piece by piece */
#define WS_CONTROL_MAX	125
#define WS_HEAD_MAX	10		/* of our frames, which are not masked */

enum ws_op { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };
enum ws_close { WS_NORMAL = 1000, WS_GOING_AWAY = 1001, WS_PROTOCOL = 1002, WS_TOO_BIG = 1009, WS_POLICY = 1008 };

struct ws {
	uint8_t head[14], head_len;	/* of the frame that is being read */
	uint8_t op;			/* of it */
	bool in_payload, fragmented, closed;	/* fragmented: a message of several frames goes on */
	uint64_t left;			/* bytes of its payload */
	uint8_t mask[4], mask_at;
	uint8_t control[WS_CONTROL_MAX], control_len;	/* payload of a control frame */
};

/* What ws_read found. */
enum ws_event {
	WS_MORE,	/* all was read; nothing to pass on */
	WS_DATA,	/* *ret_p, *ret_n: a piece of payload, unmasked in place */
	WS_GOT_PING,	/* answer with a pong of control[0..control_len) */
	WS_GOT_CLOSE,	/* answer with ws->control[0..control_len) (0 or 2 bytes of code), then stop */
	WS_BROKEN,	/* *ret_n: the code to close with */
};
/* Read from @p; *ret_used bytes of it are done with. Call again with the rest until WS_MORE. */
enum ws_event ws_read(struct ws *w, uint8_t *p, size_t n, size_t *ret_used, uint8_t **ret_p, size_t *ret_n);
/* The head of a whole frame of @n bytes for the client; returns its length. */
size_t ws_head(uint8_t out[WS_HEAD_MAX], enum ws_op op, size_t n);
bool ws_key_ok(const char *key);	/* base64 of 16 bytes */
