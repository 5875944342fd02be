// LINK: cli
/* vmctl's readers of what comes from the network: HTTP answers in pieces, and WebSocket frames behind a 101. The first
 * byte is the size of the pieces. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "../../cli/frames.h"
#include "../../cli/reply.h"

static void frames(const uint8_t *p, size_t n, size_t step)
{
	struct ws w = { 0 };

	while (n) {
		size_t piece = n < step ? n : step, used, len;
		const uint8_t *data;
		enum ws_event ev = ws_read(&w, p, piece, &used, &data, &len);

		if (used > piece || w.control_len > sizeof(w.control))
			abort();
		if (ev == WS_DATA && (data < p || data + len > p + piece || !len))
			abort();
		if (ev == WS_GOT_CLOSE)
			ws_close_code(&w);
		if (ev == WS_BROKEN || ev == WS_GOT_CLOSE)
			return;
		p += used;
		n -= used;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	size_t step = n ? data[0] % 64 + 1 : 1;
	struct reply r;
	struct err e;
	int ret = 0;

	reply_init(&r);
	if (n) {
		data++;
		n--;
	}
	while (n && !r.ended && !ret) {
		size_t piece = n < step ? n : step, used, len;
		const char *p = NULL;
		char *copy = malloc(piece);

		memcpy(copy, data, piece);
		ret = reply_read(&r, copy, piece, &used, &p, &len, &e);
		if (used > piece || (len && (p < copy || p + len > copy + piece)) || (!ret && !used && !r.ended))
			abort();
		free(copy);
		data += used;
		n -= used;
	}
	if (r.status) {
		reply_header(&r, "content-type");
		reply_header(&r, "location");
	}
	if (r.ended && r.status == 101)
		frames(data, n, step);
	if (!ret)
		reply_eof(&r, &e);
	reply_fini(&r);
	return 0;
}
