/* The first bytes choose what is read from the rest; what was read is packed again and must be the same bytes. */
#include <assert.h>
#include <string.h>
#include "mem.h"
#include "pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one(struct unpack *u, struct buf *b, unsigned what)
{
	struct unpack before = *u;
	size_t n;

	switch (what) {
	case 0: {
		uint32_t v = unpack_u32(u);

		if (!u->bad)
			pack_u32(b, v);
		break;
	}
	case 1: {
		uint64_t v = unpack_u64(u);

		if (!u->bad)
			pack_u64(b, v);
		break;
	}
	case 2: {
		const char *p = unpack_bytes(u, &n);

		assert(!p == u->bad);
		if (p)
			pack_bytes(b, p, n);
		break;
	}
	default: {
		AUTO_FREE char *s = unpack_str(u);

		if (!u->bad)
			pack_str(b, s);
		else
			assert(!s);
	}
	}
	if (before.bad)
		assert(u->bad && u->p == before.p);
	assert(u->p >= before.p && u->p <= u->end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_BUF struct buf b = BUF_INIT(1 << 20);
	size_t ops = size < 4 ? 0 : 4;
	struct unpack u = UNPACK(data + ops, size - ops);
	size_t read = 0;

	for (size_t i = 0; i < ops * 4; i++) {
		one(&u, &b, data[i / 4] >> (i % 4 * 2) & 3);
		if (!u.bad)
			read = (size_t)(u.p - (const char *)data) - ops;
	}
	assert(b.len == read && (!read || !memcmp(b.data, data + ops, read)));
	return 0;
}
