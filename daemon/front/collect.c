#include "collect.h"
#include <string.h>
#include "buf.h"
#include "exchange.h"
#include "file.h"
#include "http.h"
#include "mem.h"

static void too_large(struct xchg *x, uint64_t max)
{
	AUTO_FREE char *why = xasprintf("The body of this request may have at most %llu bytes.", (unsigned long long)max);
	http_part(x, NULL, NULL);
	http_problem(x, ERR_TOO_LARGE, 0, NULL, why);
	exchange_over(x);	/* croftd hears GONE */
}

static size_t take(struct xchg *x, const char *p, size_t n)
{
	struct buf *b = x->job;

	if (n > b->max - b->len) {
		too_large(x, b->max);
		return 0;
	}
	buf_add(b, p, n);
	return n;
}

static void end(struct xchg *x)
{
	struct buf *b = x->job;
	struct door_body msg = { { b->data, b->len } };
	int fd = -1;

	if (b->len > DOOR_INLINE) {
		msg.body = (struct door_bytes){ 0 };
		fd = file_memfd("body", b->data, b->len, 0400);
		if (fd < 0) {
			http_part(x, NULL, NULL);
			http_problem(x, ERR_UNAVAILABLE, 0, "Retry-After: 1\r\n", "No memory is left for this body.");
			exchange_over(x);
			return;
		}
	}
	exchange_tell(x, DOOR_BODY, &msg, &fd, fd >= 0);
	http_part(x, NULL, NULL);
}

static void over(struct xchg *x)
{
	buf_fini(x->job);
	free(x->job);
}

static const struct part collect = { .take = take, .end = end, .over = over };

void collect_begin(struct xchg *x, const void *msg, int *fds, unsigned nfds)
{
	const struct door_collect *m = msg;
	struct buf *b = xnew(buf);

	b->max = m->max;
	http_part(x, &collect, b);
	if (x->length != DOOR_NO_LENGTH && x->length > m->max)
		too_large(x, m->max);
	else
		http_read(x);
}
