/* pack.h: bounds-checked packing of small messages: little-endian numbers and length-prefixed texts. Used by the door
 * and by croft-vm's control socket. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"

void pack_u32(struct buf *b, uint32_t v);
void pack_u64(struct buf *b, uint64_t v);
void pack_bytes(struct buf *b, const void *p, size_t n);	/* u32 length, bytes */
void pack_str(struct buf *b, const char *s);			/* the same; NULL is written as length 0xffffffff */

struct unpack { const char *p, *end; bool bad; };	/* bad: something did not fit; all later reads give zero */
#define UNPACK(ptr, n)	((struct unpack){ .p = (const char *)(ptr), .end = (const char *)(ptr) + (n) })
uint32_t unpack_u32(struct unpack *u);
uint64_t unpack_u64(struct unpack *u);
const char *unpack_bytes(struct unpack *u, size_t *n);		/* borrowed from the message */
/* A text, copied and NUL-terminated, owned by the caller; NULL for NULL, or for one with a NUL inside (bad). */
char *unpack_str(struct unpack *u);
