/* A document and a patch, separated by a NUL, through a table with every type of row. What was decoded is encoded to
 * JSON that jansson reads and that decodes to an equal struct; a refused patch changes nothing. */
#include <assert.h>
#include <string.h>
#include "mem.h"
#include "toy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count(void *arg, const char *pointer, const struct field *row)
{
	assert(pointer[0] == '/' && row->name);
	++*(size_t *)arg;
}

static void check_error(const struct err *e)
{
	assert(e->code && *e->msg && text_is_utf8(e->msg, strlen(e->msg)) && !strchr(e->msg, '\n'));
	assert(!*e->pointer || e->pointer[0] == '/');
}

static void encode(const struct toy *t, struct buf *b)
{
	struct jw w = JW(b);

	fields_encode(&toy_fields, t, &w, NULL);
	assert(!b->over);
}

static void round_trip(struct toy *t)
{
	AUTO_BUF struct buf b = BUF_INIT(8 << 20);
	struct toy back = { 0 };
	struct err e = { 0 };
	char *secret = TAKE(t->token);

	encode(t, &b);
	json_t *j = json_parse(b.data, b.len, 8 << 20, &e);
	assert(j);
	int r = fields_decode(&toy_fields, j, FIELDS_STORED, &back, &e);
	assert(!r && fields_equal(&toy_fields, t, &back));
	json_decref(j);
	fields_fini(&toy_fields, &back);
	t->token = secret;
}

static void patch(struct toy *t, json_t *j)
{
	struct toy before = { 0 }, image = *t;
	struct err e = { 0 };
	size_t changes = 0;

	fields_copy(&toy_fields, t, &before);
	int r = fields_decode(&toy_fields, j, FIELDS_PATCH, t, &e);
	if (r < 0) {
		check_error(&e);
		assert(!memcmp(t, &image, sizeof(image)) && fields_equal(&toy_fields, t, &before));
	} else {
		round_trip(t);
		assert(t->state == before.state && t->created_at == before.created_at);
	}
	fields_diff(&toy_fields, &before, t, count, &changes);
	assert(!changes == fields_equal(&toy_fields, &before, t));
	fields_fini(&toy_fields, &before);
}

static json_t *parse(const char *text, size_t n)
{
	struct err e = { 0 };
	json_t *j = json_parse(text, n, 1 << 20, &e);

	if (!j)
		check_error(&e);
	return j;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size ? memchr(data, 0, size) : NULL;
	size_t n = end ? (size_t)(end - data) : size;
	struct toy t = { 0 };
	struct err e = { 0 };
	json_t *doc = parse((const char *)data, n), *change = end ? parse((const char *)end + 1, size - n - 1) : NULL;

	if (doc && fields_decode(&toy_fields, doc, FIELDS_STORED, &t, &e) < 0)
		check_error(&e);
	fields_fini(&toy_fields, &t);
	if (doc && fields_decode(&toy_fields, doc, FIELDS_CREATE, &t, &e) == 0) {
		round_trip(&t);
		if (change)
			patch(&t, change);
	}
	fields_fini(&toy_fields, &t);
	json_decref(doc);
	json_decref(change);
	return 0;
}
