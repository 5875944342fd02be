/* The JSON writer: checked against jansson as a reader. */
#include <jansson.h>
#include <math.h>
#include "jw.h"
#include "mem.h"
#include "t.h"
#include "text.h"

TEST(jw_shapes)
{
	AUTO_BUF struct buf b = BUF_INIT(10000);
	struct jw w = JW(&b);

	jw_obj(&w, NULL);
	jw_u64(&w, "max", UINT64_MAX);
	jw_i64(&w, "min", INT64_MIN);
	jw_arr(&w, "list");
	jw_null(&w, NULL);
	jw_obj(&w, NULL);
	jw_end(&w);
	jw_arr(&w, NULL);
	jw_bool(&w, NULL, true);
	jw_bool(&w, NULL, false);
	jw_end(&w);
	jw_end(&w);
	jw_str(&w, "none", NULL);
	jw_strf(&w, "f", "%d-%s", 5, "x");
	jw_raw(&w, "raw", "{\"a\":1}", 7);
	jw_end(&w);
	eq_str(b.data, "{\"max\":18446744073709551615,\"min\":-9223372036854775808,"
	       "\"list\":[null,{},[true,false]],\"none\":null,\"f\":\"5-x\",\"raw\":{\"a\":1}}");
}

TEST(jw_reals)
{
	static const struct { double v; const char *text; } cases[] = {
		{ 0, "0.000" }, { -0.0001, "0.000" }, { 1.5, "1.500" }, { -2.0625, "-2.063" }, { 0.9996, "1.000" },
		{ 123456789.125, "123456789.125" }, { 1e15, "1000000000000000" }, { NAN, "null" }, { INFINITY, "null" },
		{ -INFINITY, "null" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		AUTO_BUF struct buf b = BUF_INIT(1000);
		struct jw w = JW(&b);

		jw_real(&w, NULL, cases[i].v);
		eq_str(b.data, cases[i].text);
	}
}

TEST(jw_escapes_and_repairs)
{
	AUTO_BUF struct buf b = BUF_INIT(10000);
	struct jw w = JW(&b);

	jw_arr(&w, NULL);
	jw_str(&w, NULL, "\"\\\b\f\n\r\t/\x01\x1f\x7f");
	jw_str(&w, NULL, "\xc3\xa4\xf0\x9f\x98\x80 \xff \xed\xa0\x80 \xc3");
	jw_strn(&w, NULL, "a\0b", 3);
	jw_end(&w);
	eq_str(b.data, "[\"\\\"\\\\\\b\\f\\n\\r\\t/\\u0001\\u001f\\u007f\","
	       "\"\xc3\xa4\xf0\x9f\x98\x80 \xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\",\"a\\u0000b\"]");
}

/* Whatever bytes come in, a strict reader takes what comes out. */
TEST(jw_any_bytes)
{
	unsigned char junk[64];
	uint32_t x = 1;

	for (int round = 0; round < 5000; round++) {
		AUTO_BUF struct buf b = BUF_INIT(10000);
		struct jw w = JW(&b);

		for (size_t i = 0; i < sizeof(junk); i++)
			junk[i] = (unsigned char)((x = x * 1664525 + 1013904223) >> 24 | (round & 1 ? 0xc0 : 0));
		jw_strn(&w, NULL, (char *)junk, sizeof(junk));
		json_t *j = json_loadb(b.data, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		ok(json_is_string(j));
		json_decref(j);
	}
}

TEST(jw_times)
{
	AUTO_BUF struct buf b = BUF_INIT(1000);
	struct jw w = JW(&b);

	jw_obj(&w, NULL);
	jw_time(&w, "never", 0);
	jw_time(&w, "then", 1795435200123456);
	jw_end(&w);
	eq_str(b.data, "{\"never\":null,\"then\":\"2026-11-23T12:00:00.123Z\"}");
}

TEST(jw_too_large_is_seen)
{
	AUTO_BUF struct buf b = BUF_INIT(16);
	struct jw w = JW(&b);

	jw_arr(&w, NULL);
	for (int i = 0; i < 100; i++)
		jw_str(&w, NULL, "text");
	jw_end(&w);
	ok(b.over && b.len <= 16);
}

/* A list of 5000 VMs with 40 values each. */
TEST(jw_is_fast)
{
	AUTO_BUF struct buf b = BUF_INIT(64 << 20);
	struct jw w = JW(&b);
	int64_t start = mono_usec();

	jw_arr(&w, NULL);
	for (int i = 0; i < 5000; i++) {
		jw_obj(&w, NULL);
		for (int k = 0; k < 20; k++) {
			jw_u64(&w, "memory_bytes", 1ull << 32);
			jw_str(&w, "description", "a machine among many others");
		}
		jw_end(&w);
	}
	jw_end(&w);
	int64_t took = mono_usec() - start;
	printf("# %zu bytes in %lld us\n", b.len, (long long)took);
	ok(!b.over && took < 2000000);	/* the machine of a test may be busy */
}
T_MAIN
