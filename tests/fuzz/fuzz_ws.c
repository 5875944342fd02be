/* fuzz_ws.c: a client's WebSocket bytes. However they are cut, the payload and the end are the same, and nothing is read
 * or written outside the buffer. */
// LINK: daemon/front
#include <stdlib.h>
#include <string.h>
#include "front.h"
#include "ws.h"

struct front front;
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { MAX = 1 << 16 };
struct outcome { uint8_t payload[MAX]; size_t n, pings, code; enum ws_event last; };

static void read_all(const uint8_t *p, size_t n, size_t step, struct outcome *o)
{
	struct ws w = { 0 };
	enum ws_event e = WS_MORE;

	o->n = o->pings = o->code = 0;
	for (size_t at = 0; at < n && e < WS_GOT_CLOSE; at += step) {
		size_t part = n - at < step ? n - at : step, done = 0, used, len = 0;
		uint8_t *copy = malloc(part), *data = NULL;
		memcpy(copy, p + at, part);
		do {
			e = ws_read(&w, copy + done, part - done, &used, &data, &len);
			if (used > part - done || w.control_len > WS_CONTROL_MAX)
				abort();
			done += used;
			if (e == WS_DATA) {
				if (data < copy || data + len != copy + done)
					abort();
				memcpy(o->payload + o->n, data, len);
				o->n += len;
			}
			o->pings += e == WS_GOT_PING;
		} while (e == WS_DATA || e == WS_GOT_PING);
		if (e == WS_MORE && done != part)
			abort();
		free(copy);
		o->code = e == WS_BROKEN ? len : 0;
	}
	o->last = e;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct outcome whole, cut;

	if (n > MAX)
		return 0;
	read_all(p, n, n ? n : 1, &whole);
	for (size_t step = 1; step < 8; step += 3) {
		read_all(p, n, step, &cut);
		if (cut.n != whole.n || cut.pings != whole.pings || cut.code != whole.code || cut.last != whole.last ||
		    memcmp(cut.payload, whole.payload, whole.n))
			abort();
	}
	return 0;
}
