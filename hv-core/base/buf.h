/* buf.h: a growing byte buffer with a hard maximum. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	char *data;		/* owned; always followed by a NUL once anything was added */
	size_t len, cap, max;
	bool over;		/* something did not fit into max and was dropped whole */
};

#define BUF_INIT(limit)	{ .max = (limit) }
#define AUTO_BUF	__attribute__((cleanup(buf_fini)))

void buf_fini(struct buf *b);
void buf_reset(struct buf *b);				/* len = 0, keeps the memory */
void buf_add(struct buf *b, const void *p, size_t n);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Room for @n more bytes, or NULL (and over) when max forbids it. The caller adds what it used to len. */
void *buf_room(struct buf *b, size_t n);
void buf_drop(struct buf *b, size_t n);			/* drop @n bytes from the front */
char *buf_take(struct buf *b);				/* the text, NUL-terminated, caller owns; b is empty after */
