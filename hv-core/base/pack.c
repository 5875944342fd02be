/* pack.c: see pack.h. Bytes are shifted by hand, so alignment and the machine's order don't matter. */
#include "pack.h"
#include <string.h>
#include "mem.h"

#define NO_TEXT UINT32_MAX

static void pack_le(struct buf *b, uint64_t v, unsigned n)
{
	char bytes[8];

	for (unsigned i = 0; i < n; i++)
		bytes[i] = (char)(v >> (8 * i));
	buf_add(b, bytes, n);
}

void pack_u32(struct buf *b, uint32_t v)
{
	pack_le(b, v, 4);
}

void pack_u64(struct buf *b, uint64_t v)
{
	pack_le(b, v, 8);
}

void pack_bytes(struct buf *b, const void *p, size_t n)
{
	if (n >= NO_TEXT) {
		b->over = true;
		return;
	}
	pack_u32(b, (uint32_t)n);
	buf_add(b, p, n);
}

void pack_str(struct buf *b, const char *s)
{
	if (s)
		pack_bytes(b, s, strlen(s));
	else
		pack_u32(b, NO_TEXT);
}

/* The next @n bytes, or NULL and bad. */
static const char *take(struct unpack *u, size_t n)
{
	if (u->bad || n > (size_t)(u->end - u->p)) {
		u->bad = true;
		return NULL;
	}
	const char *p = u->p;
	u->p += n;
	return p;
}

static uint64_t unpack_le(struct unpack *u, unsigned n)
{
	const char *p = take(u, n);
	uint64_t v = 0;

	for (unsigned i = 0; p && i < n; i++)
		v |= (uint64_t)(unsigned char)p[i] << (8 * i);
	return v;
}

uint32_t unpack_u32(struct unpack *u)
{
	return (uint32_t)unpack_le(u, 4);
}

uint64_t unpack_u64(struct unpack *u)
{
	return unpack_le(u, 8);
}

const char *unpack_bytes(struct unpack *u, size_t *n)
{
	uint32_t len = unpack_u32(u);
	const char *p = take(u, len);

	*n = p ? len : 0;
	return p;
}

char *unpack_str(struct unpack *u)
{
	uint32_t len = unpack_u32(u);

	if (u->bad || len == NO_TEXT)
		return NULL;
	const char *p = take(u, len);
	if (!p)
		return NULL;
	if (memchr(p, '\0', len)) {
		u->bad = true;
		return NULL;
	}
	return xstrndup(p, len);
}
