/* Packing: what was written is read; what is torn reads as zero and says so. */
#include "mem.h"
#include "pack.h"
#include "t.h"

TEST(pack_round_trip)
{
	AUTO_BUF struct buf b = BUF_INIT(1000);
	size_t n;

	pack_u32(&b, 0x01020304);
	pack_u64(&b, 0x1122334455667788);
	pack_str(&b, "name");
	pack_str(&b, "");
	pack_str(&b, NULL);
	pack_bytes(&b, "a\0b", 3);
	ok(!memcmp(b.data, "\x04\x03\x02\x01\x88\x77\x66\x55\x44\x33\x22\x11\x04\0\0\0name", 20));

	struct unpack u = UNPACK(b.data, b.len);
	eq_int(unpack_u32(&u), 0x01020304);
	eq_int(unpack_u64(&u), 0x1122334455667788);
	AUTO_FREE char *name = unpack_str(&u), *empty = unpack_str(&u), *none = unpack_str(&u);
	eq_str(name, "name");
	eq_str(empty, "");
	ok(!none && !u.bad);
	const char *bytes = unpack_bytes(&u, &n);
	ok(n == 3 && !memcmp(bytes, "a\0b", 3));
	ok(u.p == u.end && !u.bad);
	eq_int(unpack_u32(&u), 0);
	ok(u.bad);
}

/* Every shorter prefix is bad, and never read beyond its end (which is malloc'ed to size for the sanitizer). */
TEST(pack_torn_everywhere)
{
	AUTO_BUF struct buf b = BUF_INIT(1000);
	size_t len;

	pack_u64(&b, 5);
	pack_str(&b, "hello");
	pack_bytes(&b, "xyz", 3);
	for (size_t n = 0; n < b.len; n++) {
		AUTO_FREE char *part = xmemdup(b.data, n);
		struct unpack u = UNPACK(part, n);

		unpack_u64(&u);
		AUTO_FREE char *s = unpack_str(&u);
		const char *p = unpack_bytes(&u, &len);
		ok(u.bad && !p && !len);
	}
}

TEST(pack_lengths_that_lie)
{
	struct unpack u = UNPACK("\xfe\xff\xff\xff" "ab", 6);
	size_t n = 1;

	ok(!unpack_str(&u) && u.bad);
	u = UNPACK("\xff\xff\xff\xff" "ab", 6);
	ok(!unpack_bytes(&u, &n) && u.bad && !n);
	u = UNPACK("\x02\0\0\0" "a\0", 6);
	ok(!unpack_str(&u) && u.bad);	/* a NUL inside */
}

TEST(pack_over_max)
{
	AUTO_BUF struct buf b = BUF_INIT(8);

	pack_str(&b, "too long");
	ok(b.over);
}
T_MAIN
