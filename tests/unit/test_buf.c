/* Buffers grow to their maximum and not a byte further. */
#include "buf.h"
#include "mem.h"
#include "t.h"

TEST(buf_grows_and_ends_with_nul)
{
	AUTO_BUF struct buf b = BUF_INIT(100000);

	for (int i = 0; i < 10000; i++) {
		buf_addf(&b, "%d,", i % 10);
		ok(b.data[b.len] == '\0');
	}
	eq_int(b.len, 20000);
	ok(!b.over && !strncmp(b.data, "0,1,2,", 6));
	buf_reset(&b);
	eq_int(b.len, 0);
	eq_str(b.data, "");
}

TEST(buf_max_drops_whole_pieces)
{
	AUTO_BUF struct buf b = BUF_INIT(5);

	buf_adds(&b, "abc");
	buf_adds(&b, "def");
	ok(b.over);
	eq_str(b.data, "abc");
	buf_adds(&b, "de");
	eq_str(b.data, "abcde");
	buf_addc(&b, 'f');
	buf_addf(&b, "%d", 1);
	eq_str(b.data, "abcde");
	ok(!buf_room(&b, 1) && buf_room(&b, 0));
	ok(!buf_room(&b, SIZE_MAX));
}

TEST(buf_addc_stops_at_max)
{
	AUTO_BUF struct buf b = BUF_INIT(3);

	for (int i = 0; i < 9; i++)
		buf_addc(&b, 'x');
	eq_str(b.data, "xxx");
	ok(b.over);
}

TEST(buf_drop_and_take)
{
	AUTO_BUF struct buf b = BUF_INIT(64);

	buf_adds(&b, "hello world");
	buf_drop(&b, 6);
	eq_str(b.data, "world");
	AUTO_FREE char *text = buf_take(&b);
	eq_str(text, "world");
	eq_int(b.len, 0);
	eq_int(b.max, 64);
	AUTO_FREE char *none = buf_take(&b);
	eq_str(none, "");
	buf_drop(&b, 5);
	buf_adds(&b, "x");
	buf_drop(&b, 99);
	eq_str(b.data, "");
}

TEST(buf_room_is_usable)
{
	AUTO_BUF struct buf b = BUF_INIT(1000);
	char *p = buf_room(&b, 500);

	memset(p, 'y', 500);
	b.len += 500;
	eq_int(strlen(b.data), 500);
}
T_MAIN
