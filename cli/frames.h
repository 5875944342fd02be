/* frames.h: WebSocket frames (RFC 6455), the client's side. Pure but for the random masks. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"

enum ws_op { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

struct ws {
	uint8_t head[10], head_len;	/* of the frame that is being read */
	uint8_t op;
	bool in_payload;
	uint64_t left;
	uint8_t control[125], control_len;
};
enum ws_event { WS_MORE, WS_DATA, WS_GOT_PING, WS_GOT_CLOSE, WS_BROKEN };
/* Read from @p; *ret_used bytes are done with; of WS_DATA *ret_p, *ret_n is a piece of payload. WS_GOT_PING and
 * WS_GOT_CLOSE: the payload is in control[]. Call again with the rest until WS_MORE. */
enum ws_event ws_read(struct ws *w, const uint8_t *p, size_t n, size_t *ret_used, const uint8_t **ret_p, size_t *ret_n);
void ws_frame(struct buf *b, enum ws_op op, const void *p, size_t n);	/* a whole frame, masked */
void ws_key(char key[25], char accept[29]);	/* a new Sec-WebSocket-Key, and what has to come back */
unsigned ws_close_code(const struct ws *w);	/* of WS_GOT_CLOSE, or 1005 */
