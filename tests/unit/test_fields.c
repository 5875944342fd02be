/* Tables of fields: decoding and its sentences, patches, round trips, differences; and the JSON parser before them. */
#include <errno.h>
#include "fields.h"
#include "mem.h"
#include "t.h"
#include "toy.h"

static int decode(struct toy *t, enum fields_mode mode, const char *text, struct err *e)
{
	json_t *j = json_parse(text, strlen(text), 1 << 20, e);

	if (!j) {
		t_fail(__FILE__, __LINE__, "no JSON: %s: %s", text, e->msg);
		return -EBADMSG;
	}
	int r = fields_decode(&toy_fields, j, mode, t, e);
	json_decref(j);
	return r;
}

static void encode(const struct toy *t, struct buf *b)
{
	struct jw w = JW(b);

	fields_encode(&toy_fields, t, &w, NULL);
}

#define FULL "{\"name\":\"web\",\"description\":\"my toy\",\"boot\":\"cd\",\"token\":\"s3cret\",\"extra\":{\"a\":[1,null]}," \
	"\"memory_bytes\":67108864,\"port\":80,\"autostart\":false,\"state\":\"on\",\"cpu\":{\"count\":4}," \
	"\"disks\":{\"root\":{\"volume\":\"v1\"},\"data\":{\"volume\":\"v2\",\"size_bytes\":2097152,\"bus\":\"scsi\"}}," \
	"\"rules\":[{\"port\":80,\"note\":\"w\"},{\"port\":443}],\"dns\":[\"a\",\"b\"],\"labels\":{\"k/1\":\"v\",\"e\":\"\"}}"
#define FULL_OUT "{\"name\":\"web\",\"description\":\"my toy\",\"boot\":\"cd\",\"extra\":{\"a\":[1,null]}," \
	"\"memory_bytes\":67108864,\"port\":80,\"autostart\":false,\"state\":\"on\",\"created_at\":null," \
	"\"cpu\":{\"count\":4,\"model\":\"max\"}," \
	"\"disks\":{\"root\":{\"volume\":\"v1\",\"size_bytes\":1048576,\"bus\":\"virtio\"}," \
	"\"data\":{\"volume\":\"v2\",\"size_bytes\":2097152,\"bus\":\"scsi\"}}," \
	"\"rules\":[{\"port\":80,\"note\":\"w\"},{\"port\":443}],\"dns\":[\"a\",\"b\"],\"labels\":{\"k/1\":\"v\",\"e\":\"\"}}"

TEST(fields_defaults_of_a_bare_one)
{
	AUTO_BUF struct buf b = BUF_INIT(10000);
	struct toy t = { 0 };
	struct err e = { 0 };

	eq_int(decode(&t, FIELDS_CREATE, "{\"name\":\"web\",\"description\":null}", &e), 0);
	encode(&t, &b);
	eq_str(b.data, "{\"name\":\"web\",\"description\":null,\"boot\":\"disk\",\"memory_bytes\":1073741824,\"port\":null,"
	       "\"autostart\":true,\"state\":\"off\",\"created_at\":null,\"cpu\":{\"count\":2,\"model\":\"max\"},"
	       "\"disks\":{},\"rules\":[],\"dns\":[],\"labels\":{}}");
	fields_fini(&toy_fields, &t);
	ok(!memcmp(&t, &(struct toy){ 0 }, sizeof(t)));
}

TEST(fields_full_round_trip)
{
	AUTO_BUF struct buf b = BUF_INIT(10000), again = BUF_INIT(10000);
	struct toy t = { 0 }, back = { 0 }, copy = { 0 };
	struct err e = { 0 };

	eq_int(decode(&t, FIELDS_CREATE, FULL, &e), 0);
	eq_str(t.token, "s3cret");
	encode(&t, &b);
	eq_str(b.data, FULL_OUT);
	t.created_at = 1795435200123000;
	buf_reset(&b);
	encode(&t, &b);
	eq_int(decode(&back, FIELDS_STORED, b.data, &e), 0);
	encode(&back, &again);
	eq_str(again.data, b.data);
	eq_int(back.created_at, t.created_at);
	ok(!fields_equal(&toy_fields, &t, &back));	/* the secret */
	fields_copy(&toy_fields, &t, &copy);
	ok(fields_equal(&toy_fields, &t, &copy));
	ok(copy.disks.items != t.disks.items && copy.name != t.name);
	fields_fini(&toy_fields, &t);
	fields_fini(&toy_fields, &back);
	fields_fini(&toy_fields, &copy);
}

/* What no row describes survives a patch; what the patch does not name stays. */
TEST(fields_patch_merges)
{
	AUTO_BUF struct buf b = BUF_INIT(10000);
	struct toy t = { .untouched = 77 };
	struct err e = { 0 };

	decode(&t, FIELDS_CREATE, FULL, &e);
	eq_int(decode(&t, FIELDS_PATCH, "{\"description\":null,\"boot\":null,\"cpu\":{\"model\":\"host\"},"
		"\"disks\":{\"root\":null,\"data\":{\"bus\":\"virtio\"},\"new\":{\"volume\":\"v3\"},\"never\":null},"
		"\"rules\":[{\"port\":1}],\"dns\":null,\"labels\":{\"e\":null,\"x\":\"y\"},\"state\":\"on\",\"extra\":7}", &e), 0);
	encode(&t, &b);
	eq_str(b.data, "{\"name\":\"web\",\"description\":null,\"boot\":\"disk\",\"extra\":7,\"memory_bytes\":67108864,\"port\":80,"
	       "\"autostart\":false,\"state\":\"on\",\"created_at\":null,\"cpu\":{\"count\":4,\"model\":\"host\"},"
	       "\"disks\":{\"data\":{\"volume\":\"v2\",\"size_bytes\":2097152,\"bus\":\"virtio\"},"
	       "\"new\":{\"volume\":\"v3\",\"size_bytes\":1048576,\"bus\":\"virtio\"}},"
	       "\"rules\":[{\"port\":1}],\"dns\":[],\"labels\":{\"k/1\":\"v\",\"x\":\"y\"}}");
	eq_int(t.untouched, 77);
	eq_str(t.token, "s3cret");

	/* Full, but one leaves first. */
	eq_int(decode(&t, FIELDS_PATCH, "{\"disks\":{\"d3\":{\"volume\":\"x\"}}}", &e), 0);
	eq_int(decode(&t, FIELDS_PATCH, "{\"disks\":{\"d4\":{\"volume\":\"x\"}}}", &e), -EINVAL);
	eq_int(decode(&t, FIELDS_PATCH, "{\"disks\":{\"d4\":{\"volume\":\"x\"},\"d3\":null}}", &e), 0);
	eq_int(decode(&t, FIELDS_PATCH, "{\"disks\":null,\"labels\":null,\"cpu\":null,\"memory_bytes\":null}", &e), 0);
	eq_int(t.disks.n + t.labels.n, 0);
	eq_int(t.cpu.count, 2);
	eq_int(t.memory_bytes, 1 << 30);
	fields_fini(&toy_fields, &t);
}

static const struct { const char *text, *pointer, *msg; } wrong[] = {
	{ "[]", "", "the document must be an object, not an array" },
	{ "{}", "/name", "name is required" },
	{ "{\"name\":null}", "/name", "name is required" },
	{ "{\"name\":\"\"}", "/name", "name must not be empty" },
	{ "{\"name\":5}", "/name", "name must be a text, not a number" },
	{ "{\"name\":\"a b\"}", "/name", "name must be a name of letters and digits; \"a b\" is not" },
	{ "{\"name\":\"a\",\"memroy_bytes\":1}", "/memroy_bytes", "unknown field \"memroy_bytes\"; did you mean \"memory_bytes\"?" },
	{ "{\"name\":\"a\",\"a/b~c\":1}", "/a~1b~0c", "unknown field \"a/b~c\"" },
	{ "{\"name\":\"a\",\"\":1}", "/", "unknown field \"\"" },
	{ "{\"name\":\"a\",\"description\":\"123456789012345678901\"}", "/description",
	  "description must be at most 20 bytes long; this has 21" },
	{ "{\"name\":\"a\",\"boot\":\"x\"}", "/boot", "boot must be at least 2 bytes long; this has 1" },
	{ "{\"name\":\"a\",\"boot\":\"\"}", "/boot", "boot must not be empty" },
	{ "{\"name\":\"a\",\"token\":\"not this\"}", "/token", "token must be a good token" },
	{ "{\"name\":\"a\",\"extra\":\"12345678901234567890123456789\"}", "/extra", "extra must be at most 30 bytes of JSON; this has 31" },
	{ "{\"name\":\"a\",\"memory_bytes\":67108865}", "/memory_bytes",
	  "memory_bytes must be a multiple of 1 MiB (1048576); 67108865 is not" },
	{ "{\"name\":\"a\",\"memory_bytes\":1000000}", "/memory_bytes",
	  "memory_bytes must be between 64 MiB (67108864) and 1 TiB (1099511627776); 1000000 is not" },
	{ "{\"name\":\"a\",\"memory_bytes\":-1}", "/memory_bytes", "memory_bytes must not be negative; -1 is" },
	{ "{\"name\":\"a\",\"memory_bytes\":1.5}", "/memory_bytes", "memory_bytes must be a whole number, not a number with a fraction" },
	{ "{\"name\":\"a\",\"memory_bytes\":67108864.0}", "/memory_bytes",
	  "memory_bytes must be a whole number, not a number with a fraction" },
	{ "{\"name\":\"a\",\"memory_bytes\":\"1\"}", "/memory_bytes", "memory_bytes must be a whole number, not a text" },
	{ "{\"name\":\"a\",\"port\":65536}", "/port", "port must be at most 65535; 65536 is not" },
	{ "{\"name\":\"a\",\"autostart\":1}", "/autostart", "autostart must be true or false, not a number" },
	{ "{\"name\":\"a\",\"state\":\"of\"}", "/state", "state must be one of on, off; \"of\" is not" },
	{ "{\"name\":\"a\",\"state\":0}", "/state", "state must be one of on, off, not a number" },
	{ "{\"name\":\"0123456789012345678901234567890123456789012345678901234567890123\"}", "/name",
	  "name must be a name of letters and digits; \"0123456789012345678901234567890123456789\" is not" },
	{ "{\"name\":\"a\",\"created_at\":\"2026-11-23T12:00:00Z\"}", "/created_at", "created_at cannot be set: the host decides it" },
	{ "{\"name\":\"a\",\"cpu\":{\"cuont\":1}}", "/cpu/cuont", "cpu: unknown field \"cuont\"; did you mean \"count\"?" },
	{ "{\"name\":\"a\",\"cpu\":{\"count\":0}}", "/cpu/count", "cpu.count must be between 1 and 512; 0 is not" },
	{ "{\"name\":\"a\",\"cpu\":3}", "/cpu", "cpu must be an object, not a number" },
	{ "{\"name\":\"a\",\"disks\":[]}", "/disks", "disks must be an object, not an array" },
	{ "{\"name\":\"a\",\"disks\":{\"r\":{}}}", "/disks/r/volume", "disks.r.volume is required" },
	{ "{\"name\":\"a\",\"disks\":{\"r\":7}}", "/disks/r", "disks.r must be an object, not a number" },
	{ "{\"name\":\"a\",\"disks\":{\"r\":{\"volume\":\"v\",\"name\":\"r\"}}}", "/disks/r/name", "disks.r: unknown field \"name\"" },
	{ "{\"name\":\"a\",\"disks\":{\"r/s\":{\"volume\":\"v\"}}}", "/disks/r~1s", "disks.r/s must be a name; \"r/s\" is not" },
	{ "{\"name\":\"a\",\"disks\":{\"\":{\"volume\":\"v\"}}}", "/disks", "disks has an entry without a name" },
	{ "{\"name\":\"a\",\"disks\":{\"a\":{\"volume\":\"v\"},\"b\":{\"volume\":\"v\"},"
	  "\"c\":{\"volume\":\"v\"},\"d\":{\"volume\":\"v\"}}}",
	  "/disks", "disks must have at most 3 entries" },
	{ "{\"name\":\"a\",\"disks\":{\"r\":{\"volume\":\"v\",\"size_bytes\":1}}}", "/disks/r/size_bytes",
	  "disks.r.size_bytes must be at least 1 MiB (1048576); 1 is not" },
	{ "{\"name\":\"a\",\"rules\":[{\"port\":1},{\"port\":0}]}", "/rules/1/port",
	  "rules[1].port must be between 1 and 65535; 0 is not" },
	{ "{\"name\":\"a\",\"rules\":[{\"port\":1},{\"port\":2},{\"port\":3}]}", "/rules",
	  "rules must have at most 2 entries; this has 3" },
	{ "{\"name\":\"a\",\"rules\":{}}", "/rules", "rules must be an array, not an object" },
	{ "{\"name\":\"a\",\"rules\":[null]}", "/rules/0", "rules[0] must be an object, not null" },
	{ "{\"name\":\"a\",\"dns\":[\"a\",\"b\",\"c\"]}", "/dns", "dns must have at most 2 entries; this has 3" },
	{ "{\"name\":\"a\",\"dns\":[\"a\",\"-\"]}", "/dns/1", "dns[1] must be a name; \"-\" is not" },
	{ "{\"name\":\"a\",\"dns\":[1]}", "/dns/0", "dns[0] must be a text, not a number" },
	{ "{\"name\":\"a\",\"dns\":\"a\"}", "/dns", "dns must be an array of texts, not a text" },
	{ "{\"name\":\"a\",\"labels\":{\"a b\":\"x\"}}", "/labels/a b",
	  "labels.a b is no name of a label; that has 1 to 63 letters, digits, . _ / -" },
	{ "{\"name\":\"a\",\"labels\":{\"a\":1}}", "/labels/a", "labels.a must be a text, not a number" },
	{ "{\"name\":\"a\",\"labels\":[]}", "/labels", "labels must be an object of texts, not an array" },
};

TEST(fields_sentences)
{
	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct toy t = { .untouched = 1 };
		struct err e = { 0 };

		eq_int(decode(&t, FIELDS_CREATE, wrong[i].text, &e), -EINVAL);
		eq_str(e.pointer, wrong[i].pointer);
		eq_str(e.msg, wrong[i].msg);
		ok(!memcmp(&t, &(struct toy){ .untouched = 1 }, sizeof(t)));
	}
}

/* A patch that fails at its end has changed nothing. */
TEST(fields_patch_is_all_or_nothing)
{
	static const struct { const char *text, *pointer; } cases[] = {
		{ "{\"name\":\"new\",\"cpu\":{\"count\":1},\"disks\":{\"root\":null},\"labels\":{\"e\":null,\"q\":\"1\",\"w\":5}}",
		  "/labels/w" },
		{ "{\"dns\":[],\"rules\":[{\"port\":9},{}]}", "/rules/1/port" },
		{ "{\"name\":null}", "/name" }, { "{\"name\":\"x\",\"nmae\":1}", "/nmae" },
		{ "{\"disks\":{\"data\":{\"volume\":\"other\"}}}", "/disks/data/volume" },
		{ "{\"disks\":{\"data\":{\"volume\":null}}}", "/disks/data/volume" },
		{ "{\"disks\":{\"fresh\":{}}}", "/disks/fresh/volume" },
		{ "{\"state\":\"off\"}", "/state" }, { "{\"state\":null}", "/state" }, { "{\"created_at\":null}", "/created_at" },
		{ "null", "" }, { "{\"labels\":{\"e\":null,\"k/1\":null,\"\":\"x\"}}", "/labels/" },
	};
	AUTO_BUF struct buf b = BUF_INIT(10000);
	struct toy t = { .untouched = 3 };
	struct err e = { 0 };

	decode(&t, FIELDS_CREATE, FULL, &e);
	struct toy before = t;
	for (size_t i = 0; i < COUNT(cases); i++) {
		eq_int(decode(&t, FIELDS_PATCH, cases[i].text, &e), -EINVAL);
		eq_str(e.pointer, cases[i].pointer);
		ok(!memcmp(&t, &before, sizeof(t)));
		buf_reset(&b);
		encode(&t, &b);
		eq_str(b.data, FULL_OUT);
	}
	eq_int(decode(&t, FIELDS_PATCH, "{\"disks\":{\"data\":{\"volume\":\"v2\"}},\"state\":\"on\"}", &e), 0);
	fields_fini(&toy_fields, &t);
}

TEST(fields_stored_is_lenient_but_not_blind)
{
	struct toy t = { 0 };
	struct err e = { 0 };

	eq_int(decode(&t, FIELDS_STORED, "{\"name\":\"a\",\"from_the_future\":1,\"created_at\":\"2026-11-23T12:00:00Z\",\"boot\":null,"
		"\"cpu\":{\"count\":0,\"cores\":1},\"disks\":{\"r\":{\"volume\":\"v\",\"x\":1}}}", &e), 0);
	eq_int(t.created_at, 1795435200000000);
	ok(!t.boot && t.cpu.count == 0 && t.cpu.model == 1 && t.disks.n == 1);
	eq_int(t.memory_bytes, 1 << 30);		/* a row that an older version did not have */
	fields_fini(&toy_fields, &t);
	static const char *const bad[] = { "{}", "{\"name\":1}", "{\"name\":\"a\",\"memory_bytes\":\"1\"}", "{\"name\":\"../x\"}",
		"{\"name\":\"a\",\"disks\":{\"../r\":{\"volume\":\"v\"}}}", "{\"name\":\"a\",\"state\":\"sleeping\"}", "7" };
	for (size_t i = 0; i < COUNT(bad); i++)
		eq_int(decode(&t, FIELDS_STORED, bad[i], &e), -EINVAL);
}

static void note(void *arg, const char *pointer, const struct field *row)
{
	buf_addf(arg, "%s%s ", pointer, row->flags & FIELD_HOT ? "!" : "");
}

TEST(fields_diff_tells_rows)
{
	AUTO_BUF struct buf b = BUF_INIT(10000);
	struct toy a = { 0 }, c = { 0 };
	struct err e = { 0 };

	decode(&a, FIELDS_CREATE, FULL, &e);
	fields_copy(&toy_fields, &a, &c);
	fields_diff(&toy_fields, &a, &c, note, &b);
	eq_int(b.len, 0);
	/* Order of entries and labels is no difference. */
	decode(&c, FIELDS_PATCH, "{\"disks\":{\"root\":null},\"labels\":{\"k/1\":null}}", &e);
	decode(&c, FIELDS_PATCH, "{\"disks\":{\"root\":{\"volume\":\"v1\"}},\"labels\":{\"k/1\":\"v\"}}", &e);
	ok(fields_equal(&toy_fields, &a, &c));
	eq_int(decode(&c, FIELDS_PATCH, "{\"memory_bytes\":134217728,\"autostart\":true,\"cpu\":{\"count\":5},\"rules\":[],"
	       "\"disks\":{\"root\":null,\"n1\":{\"volume\":\"v\"},\"data\":{\"bus\":\"virtio\"}},\"labels\":{\"e\":\"2\"}}", &e), 0);
	fields_diff(&toy_fields, &a, &c, note, &b);
	eq_str(b.data, "/memory_bytes /autostart! /cpu/count! /disks/root! /disks/data/bus /disks/n1! /rules /labels! ");
	fields_fini(&toy_fields, &a);
	fields_fini(&toy_fields, &c);
}

TEST(fields_limits_of_labels)
{
	AUTO_BUF struct buf b = BUF_INIT(100000);
	struct toy t = { 0 };
	struct err e = { 0 };

	for (int n = 64; n <= 65; n++) {
		buf_reset(&b);
		buf_adds(&b, "{\"name\":\"a\",\"labels\":{");
		for (int i = 0; i < n; i++)
			buf_addf(&b, "%s\"k%d\":\"%0255d\"", i ? "," : "", i, 0);
		buf_adds(&b, "}}");
		eq_int(decode(&t, FIELDS_CREATE, b.data, &e), n == 64 ? 0 : -EINVAL);
		fields_fini(&toy_fields, &t);
	}
	eq_str(e.msg, "labels must have at most 64 entries; this has 65");
	buf_reset(&b);
	buf_addf(&b, "{\"name\":\"a\",\"labels\":{\"%064d\":\"\"}}", 0);
	eq_int(decode(&t, FIELDS_CREATE, b.data, &e), -EINVAL);
	buf_reset(&b);
	buf_addf(&b, "{\"name\":\"a\",\"labels\":{\"a\":\"%0256d\"}}", 0);
	eq_int(decode(&t, FIELDS_CREATE, b.data, &e), -EINVAL);
}

/* A long and hostile key neither overflows a sentence nor breaks its UTF-8. */
TEST(fields_hostile_keys)
{
	AUTO_BUF struct buf b = BUF_INIT(1000000);
	struct toy t = { 0 };
	struct err e = { 0 };

	buf_adds(&b, "{\"name\":\"a\",\"x");
	for (int i = 0; i < 100000; i++)
		buf_adds(&b, i % 2 ? "\xc3\xa4" : "~");
	buf_adds(&b, "\":1}");
	eq_int(decode(&t, FIELDS_CREATE, b.data, &e), -EINVAL);
	ok(text_is_utf8(e.msg, strlen(e.msg)) && text_is_utf8(e.pointer, strlen(e.pointer)));
	ok(strlen(e.msg) < 120 && strlen(e.pointer) <= 95);
}

TEST(json_parse_is_strict)
{
	static const struct { const char *text; size_t n; const char *msg; } bad[] = {
		{ "", 0, "the JSON text is empty" },
		{ "{\"a\":1,\"a\":2}", 13, "line 1, column 10: duplicate object key" },
		{ "{\n\"a\":}", 7, "line 2, column 5" },
		{ "{} x", 4, "end of file expected" },
		{ "\"\xff\"", 3, "line 1" },
		{ "\"\\u0000\"", 8, "NUL" },
		{ "\"\\ud800\"", 8, "line 1" },
		{ "\"a\0b\"", 5, "line 1" },
		{ "{}\0", 3, "line 1" },
		{ "99999999999999999999", 20, "too big" },
		{ "1e999", 5, "overflow" },
		{ "NaN", 3, "line 1" },
		{ "[1,]", 4, "line 1" },
		{ "01", 2, "line 1" },
		{ "{\"a\":1} // no", 13, "line 1" },
		{ "12345678901", 11, "at most 10" },
	};

	for (size_t i = 0; i < COUNT(bad); i++) {
		AUTO_FREE char *exact = xmemdup(bad[i].text, bad[i].n);
		struct err e = { 0 };
		json_t *j = json_parse(exact, bad[i].n, strstr(bad[i].msg, "at most") ? 10 : 1000, &e);

		if (j || !strstr(e.msg, bad[i].msg))
			t_fail(__FILE__, __LINE__, "%s -> %s", bad[i].text, e.msg);
		eq_int(e.code, strstr(bad[i].msg, "at most") ? ERR_TOO_LARGE : ERR_BAD_REQUEST);
		json_decref(j);
	}
}

TEST(json_parse_depth_is_cheap)
{
	char *deep = xmalloc(200001);
	struct err e = { 0 };
	json_t *j;

	memset(deep, '[', 100000);
	memset(deep + 100000, ']', 100000);
	deep[200000] = '\0';
	int64_t start = mono_usec();
	ok(!json_parse(deep, 200000, 1 << 20, &e));
	ok(mono_usec() - start < 50000);
	ok(strstr(e.msg, "deeper than 32") != NULL);
	j = json_parse(deep + 100000 - 32, 64, 1 << 20, &e);
	ok(j != NULL);
	json_decref(j);
	ok(!json_parse(deep + 100000 - 33, 66, 1 << 20, &e));
	/* Brackets in texts don't count, quotes behind a backslash don't end one. */
	static const char text[] = "[\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\\\",[]]";
	j = json_parse(text, sizeof(text) - 1, 1000, &e);
	ok(j != NULL);
	json_decref(j);
	free(deep);
}

TEST(field_vec_finds_names)
{
	struct field_vec v = { 0 };

	for (int i = 0; i < 100; i++)
		((struct disk *)field_vec_add(&v, sizeof(struct disk)))->name = xasprintf("d%d", i);
	struct disk *d = field_vec_find(&v, sizeof(*d), "d57");
	ok(d && !strcmp(d->name, "d57") && !d->volume);
	ok(!field_vec_find(&v, sizeof(*d), "d100"));
	for (size_t i = 0; i < v.n; i++)
		free(((struct disk *)v.items)[i].name);
	free(v.items);
}
T_MAIN
