/* fuzz_qmp.c: any bytes from QEMU, in pieces of any size, are events and answers or the end of the connection; each
 * call is ended exactly once. The first byte says how large the pieces are and whether callbacks free the client. */
// LINK: hv-core
#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct { sd_event *ev; struct qmp *qmp; unsigned asked, answered, ended; uint8_t how; } w;

static void drop(unsigned when)
{
	if (w.how & when) {
		qmp_free(w.qmp);
		w.qmp = NULL;
	}
}

static void on_done(void *arg, json_t *result, const struct err *e)
{
	assert(!result == !!e);
	w.answered++;
	drop(0x80);
}

static void on_ready(void *arg)
{
	w.asked++;
	qmp_call(w.qmp, "query-status", NULL, -1, 60000000, on_done, NULL);
}

static void on_event(void *arg, const char *name, json_t *data) { drop(0x40); }
static void on_late(void *arg) { abort(); }

static void on_ended(void *arg, const char *why)
{
	assert(!w.ended++ && *why);
	drop(0x20);
}

static void turn(void)
{
	while (sd_event_run(w.ev, 0) > 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct qmp_how how = { .ready = on_ready, .event = on_event, .late = on_late, .ended = on_ended };
	struct qmp_how h = how;
	int pair[2];
	size_t piece;

	if (!size || size > 65536)
		return 0;
	w.how = *data;
	w.asked = 2;
	w.answered = w.ended = 0;
	piece = w.how & 0x1f ? w.how & 0x1f : 4096;
	if (!w.ev)
		assert(sd_event_new(&w.ev) >= 0);
	assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	h.ev = w.ev;
	w.qmp = qmp_new(&h, pair[1]);
	qmp_call(w.qmp, "stop", NULL, -1, 60000000, on_done, NULL);
	qmp_call(w.qmp, "cont", NULL, -1, 60000000, on_done, NULL);
	for (size_t at = 1; at < size && w.qmp; at += piece) {
		size_t n = size - at < piece ? size - at : piece;

		if (send(pair[0], data + at, n, MSG_NOSIGNAL) < 0)
			break;
		turn();
	}
	close(pair[0]);
	turn();
	assert(!w.qmp || w.ended);
	qmp_free(w.qmp);
	assert(w.answered == w.asked);
	return 0;
}
