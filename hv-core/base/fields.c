/* fields.c: JSON into structs, by table; what goes the other way is in fields_out.c. */
#include "fields.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "buf.h"
#include "mem.h"
#include "text.h"

/* Where we are in the document: a chain on the stack, written out only when something is wrong. */
struct at { const struct at *up; const char *key; size_t index; };	/* key NULL: an index */

struct decode {
	enum fields_mode mode;
	struct err *e;
};

static int decode_rows(struct decode d, const struct fields *f, bool named, json_t *j, void *out, const void *old,
		       const struct at *at);

/* RFC 6901: /disks/a~1b/size_bytes */
static void add_pointer(struct buf *b, const struct at *at)
{
	if (!at)
		return;
	add_pointer(b, at->up);
	buf_addc(b, '/');
	if (!at->key) {
		buf_addf(b, "%zu", at->index);
		return;
	}
	for (const char *p = at->key; *p; p++) {
		if (*p == '~' || *p == '/')
			buf_adds(b, *p == '~' ? "~0" : "~1");
		else
			buf_addc(b, *p);
	}
}

/* For people: disks.root.size_bytes, rules[2].port */
static void add_words(struct buf *b, const struct at *at)
{
	if (!at) {
		if (!b->len)
			buf_adds(b, "the document");
		return;
	}
	if (at->up)
		add_words(b, at->up);
	if (at->key)
		buf_addf(b, "%s%.64s", at->up ? "." : "", at->key);
	else
		buf_addf(b, "[%zu]", at->index);
}

__attribute__((format(printf, 3, 4), cold))
static int refuse(struct err *e, const struct at *at, const char *fmt, ...)
{
	AUTO_BUF struct buf pointer = BUF_INIT(1024), words = BUF_INIT(1024);
	char why[sizeof(e->msg)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	add_pointer(&pointer, at);
	add_words(&words, at);
	return fail_at(e, pointer.len ? pointer.data : "", "%s %s", words.data, why);
}

static const char *kind_of(const json_t *j)
{
	switch (json_typeof(j)) {
	case JSON_OBJECT:	return "an object";
	case JSON_ARRAY:	return "an array";
	case JSON_STRING:	return "a text";
	case JSON_INTEGER:	return "a number";
	case JSON_REAL:		return "a number with a fraction";
	case JSON_TRUE:		return "true";
	case JSON_FALSE:	return "false";
	case JSON_NULL:		return "null";
	}
	return "something else";
}

/* Levenshtein's distance, given up beyond 2. */
static unsigned distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned row[65];

	if (n > 64 || m > 64 || n > m + 2 || m > n + 2)
		return 3;
	for (size_t k = 0; k <= m; k++)
		row[k] = (unsigned)k;
	for (size_t i = 1; i <= n; i++) {
		unsigned corner = row[0];

		row[0] = (unsigned)i;
		for (size_t k = 1; k <= m; k++) {
			unsigned best = corner + (a[i - 1] != b[k - 1]);

			corner = row[k];
			best = best < corner + 1 ? best : corner + 1;
			row[k] = best < row[k - 1] + 1 ? best : row[k - 1] + 1;
		}
	}
	return row[m];
}

static int refuse_unknown(struct err *e, const struct fields *f, bool named, const char *key, const struct at *up)
{
	AUTO_BUF struct buf pointer = BUF_INIT(1024), words = BUF_INIT(1024);
	const char *guess = NULL;
	unsigned best = 3;

	for (const struct field *row = f->rows + named; row->name; row++) {
		unsigned far = distance(key, row->name);

		if (far < best && far * 2 <= strlen(row->name)) {
			best = far;
			guess = row->name;
		}
	}
	add_pointer(&pointer, &(struct at){ up, key, 0 });
	if (up)
		add_words(&words, up);
	return fail_at(e, pointer.data ? pointer.data : "", "%s%sunknown field \"%.64s\"%s%s%s", up ? words.data : "",
		       up ? ": " : "", key, guess ? "; did you mean \"" : "", guess ? guess : "", guess ? "\"?" : "");
}

/* "64 MiB (67108864)" for what counts bytes, else "67108864". */
static const char *number_text(const struct field *row, uint64_t v, char out[64])
{
	size_t n = strlen(row->name);
	char size[24];
	uint64_t back;

	snprintf(out, 64, "%llu", (unsigned long long)v);
	if (v < 1024 || n < 5 || strcmp(row->name + n - 5, "bytes"))
		return out;
	text_size_format(v, size);
	if (!text_size(size, &back) && back == v)
		snprintf(out, 64, "%s (%llu)", size, (unsigned long long)v);
	return out;
}

static int decode_u64(struct decode d, const struct field *row, json_t *j, uint64_t *out, const struct at *at)
{
	char a[64], b[64];
	uint64_t max = row->max ? row->max : UINT64_MAX;

	if (!json_is_integer(j))
		return refuse(d.e, at, "must be a whole number, not %s", kind_of(j));
	json_int_t v = json_integer_value(j);
	if (v < 0)
		return refuse(d.e, at, "must not be negative; %lld is", (long long)v);
	uint64_t u = (uint64_t)v;
	if (d.mode == FIELDS_STORED && !u) {	/* how an unset one was written */
		*out = 0;
		return 0;
	}
	if ((u < row->min || u > max) && row->min && row->max)
		return refuse(d.e, at, "must be between %s and %s; %llu is not", number_text(row, row->min, a),
			      number_text(row, max, b), (unsigned long long)u);
	if (u < row->min)
		return refuse(d.e, at, "must be at least %s; %llu is not", number_text(row, row->min, a),
			      (unsigned long long)u);
	if (u > max)
		return refuse(d.e, at, "must be at most %s; %llu is not", number_text(row, max, a),
			      (unsigned long long)u);
	if (row->multiple && u % row->multiple)
		return refuse(d.e, at, "must be a multiple of %s; %llu is not", number_text(row, row->multiple, a),
			      (unsigned long long)u);
	*out = u;
	return 0;
}

/* The row's rules for one text, also for the name of a map's entry. */
static int check_text(struct decode d, const struct field *row, const char *s, size_t n, const struct at *at)
{
	size_t max = row->max && row->type == F_STR ? row->max : FIELDS_STR_MAX;

	if (n > max)
		return refuse(d.e, at, "must be at most %zu bytes long; this has %zu", max, n);
	if (row->type == F_STR && n < row->min)
		return n ? refuse(d.e, at, "must be at least %llu bytes long; this has %zu",
				  (unsigned long long)row->min, n) : refuse(d.e, at, "must not be empty");
	if (row->check && !row->check(s)) {
		if (row->flags & FIELD_SECRET)
			return refuse(d.e, at, "must be %s", row->rule ? row->rule : "well formed");
		return refuse(d.e, at, "must be %s; \"%.40s\" is not", row->rule ? row->rule : "well formed", s);
	}
	return 0;
}

/* An empty text is kept as NULL, so that there is one way of being empty. */
static int decode_str(struct decode d, const struct field *row, json_t *j, char **out, const struct at *at)
{
	if (!json_is_string(j))
		return refuse(d.e, at, "must be a text, not %s", kind_of(j));
	const char *s = json_string_value(j);
	size_t n = json_string_length(j);
	if (!n && row->flags & FIELD_REQUIRED)
		return refuse(d.e, at, "must not be empty");
	if (n || (row->min && d.mode != FIELDS_STORED)) {
		int r = check_text(d, row, s, n, at);

		if (r < 0)
			return r;
	}
	free(*out);
	*out = n ? xstrdup(s) : NULL;
	return 0;
}

static int decode_enum(struct decode d, const struct field *row, json_t *j, int *out, const struct at *at)
{
	AUTO_BUF struct buf list = BUF_INIT(256);

	for (int i = 0; row->names[i]; i++) {
		if (json_is_string(j) && !strcmp(json_string_value(j), row->names[i])) {
			*out = i;
			return 0;
		}
		buf_addf(&list, "%s%s", i ? ", " : "", row->names[i]);
	}
	if (!json_is_string(j))
		return refuse(d.e, at, "must be one of %s, not %s", list.data, kind_of(j));
	return refuse(d.e, at, "must be one of %s; \"%.40s\" is not", list.data, json_string_value(j));
}

static int decode_time(struct decode d, json_t *j, int64_t *out, const struct at *at)
{
	if (!json_is_string(j) || text_time(json_string_value(j), out) < 0)
		return refuse(d.e, at, "must be a time such as \"2026-11-23T12:00:00Z\"");
	return 0;
}

static int decode_json(struct decode d, const struct field *row, json_t *j, char **out, const struct at *at)
{
	size_t max = row->max ? row->max : FIELDS_JSON_MAX;
	size_t n = json_dumpb(j, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);

	if (n > max)
		return refuse(d.e, at, "must be at most %zu bytes of JSON; this has %zu", max, n);
	free(*out);
	*out = xcalloc(n + 1, 1);
	json_dumpb(j, *out, n, JSON_COMPACT | JSON_ENCODE_ANY);
	return 0;
}

static size_t items_max(const struct field *row)
{
	return row->max ? row->max : row->type == F_LABELS ? FIELDS_LABELS_MAX : FIELDS_ITEMS_MAX;
}

static int check_count(struct decode d, const struct field *row, size_t n, const struct at *at)
{
	if (n > items_max(row))
		return refuse(d.e, at, "must have at most %zu entries; this has %zu", items_max(row), n);
	if (n < row->min && d.mode != FIELDS_STORED)
		return refuse(d.e, at, "must have at least %llu; this has %zu", (unsigned long long)row->min, n);
	return 0;
}

static bool is_label_key(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-");

	return n && n <= 63 && !s[n];
}

/* Take entry @i out of @v. What it owned is freed or stands elsewhere already. */
static void vec_cut(struct field_vec *v, size_t size, size_t i)
{
	char *items = v->items;

	memmove(items + i * size, items + (i + 1) * size, (v->n - i - 1) * size);
	if (!--v->n) {
		free(v->items);
		v->items = NULL;
	}
}

static int decode_labels(struct decode d, const struct field *row, json_t *j, struct field_vec *v, const struct at *at)
{
	const size_t size = sizeof(struct field_label);
	const char *key;
	json_t *value;

	if (!json_is_object(j))
		return refuse(d.e, at, "must be an object of texts, not %s", kind_of(j));
	json_object_foreach(j, key, value) {
		struct at here = { at, key, 0 };
		struct field_label *l = field_vec_find(v, size, key);

		if (json_is_null(value)) {
			if (l) {
				free(l->key);
				free(l->value);
				vec_cut(v, size, (size_t)(l - (struct field_label *)v->items));
			}
			continue;
		}
		if (!is_label_key(key))
			return refuse(d.e, &here, "is no label: 1 to 63 letters, digits, . _ / - are");
		if (!json_is_string(value))
			return refuse(d.e, &here, "must be a text, not %s", kind_of(value));
		if (json_string_length(value) > 255)
			return refuse(d.e, &here, "must be at most 255 bytes long; this has %zu",
				      json_string_length(value));
		if (!l) {
			l = field_vec_add(v, size);
			l->key = xstrdup(key);
		}
		free(l->value);
		l->value = xstrdup(json_string_value(value));
	}
	return check_count(d, row, v->n, at);
}

static int decode_strs(struct decode d, const struct field *row, json_t *j, struct field_vec *v, const struct at *at)
{
	json_t *item;
	size_t i;

	if (!json_is_array(j))
		return refuse(d.e, at, "must be an array of texts, not %s", kind_of(j));
	int r = check_count(d, row, json_array_size(j), at);
	if (r < 0)
		return r;
	json_array_foreach(j, i, item) {
		struct at here = { at, NULL, i };

		if (!json_is_string(item))
			return refuse(d.e, &here, "must be a text, not %s", kind_of(item));
		r = check_text(d, row, json_string_value(item), json_string_length(item), &here);
		if (r < 0)
			return r;
		*(char **)field_vec_add(v, sizeof(char *)) = xstrdup(json_string_value(item));
	}
	return 0;
}

/* What is new inside a patch is created. */
static struct decode for_new(struct decode d)
{
	return (struct decode){ d.mode == FIELDS_PATCH ? FIELDS_CREATE : d.mode, d.e };
}

static int decode_list(struct decode d, const struct field *row, json_t *j, struct field_vec *v, const struct at *at)
{
	json_t *item;
	size_t i;

	if (!json_is_array(j))
		return refuse(d.e, at, "must be an array, not %s", kind_of(j));
	int r = check_count(d, row, json_array_size(j), at);
	json_array_foreach(j, i, item) {
		struct at here = { at, NULL, i };

		if (r < 0)
			break;
		r = decode_rows(for_new(d), row->sub, false, item, field_vec_add(v, row->sub->size), NULL, &here);
	}
	return r;
}

static void map_remove(const struct field *row, struct field_vec *v, const char *name)
{
	char *item = field_vec_find(v, row->sub->size, name);

	if (!item)
		return;
	fields_fini(row->sub, item);
	vec_cut(v, row->sub->size, (size_t)(item - (char *)v->items) / row->sub->size);
}

static int decode_map(struct decode d, const struct field *row, json_t *j, struct field_vec *v,
		      const struct field_vec *old, const struct at *at)
{
	const struct fields *sub = row->sub;
	const char *key;
	json_t *value;
	int r;

	if (!json_is_object(j))
		return refuse(d.e, at, "must be an object, not %s", kind_of(j));
	json_object_foreach(j, key, value)
		if (json_is_null(value))
			map_remove(row, v, key);
	json_object_foreach(j, key, value) {
		struct at here = { at, key, 0 };
		char *item = field_vec_find(v, sub->size, key);

		if (json_is_null(value))
			continue;
		if (item) {
			r = decode_rows(d, sub, true, value, item,
					old ? field_vec_find(old, sub->size, key) : NULL, &here);
		} else {
			if (v->n >= items_max(row))
				return refuse(d.e, at, "must have at most %zu entries", items_max(row));
			if (!*key)
				return refuse(d.e, at, "has an entry without a name");
			r = check_text(d, &sub->rows[0], key, strlen(key), &here);
			if (r < 0)
				return r;
			item = field_vec_add(v, sub->size);
			*(char **)(item + sub->rows[0].off) = xstrdup(key);
			r = decode_rows(for_new(d), sub, true, value, item, NULL, &here);
		}
		if (r < 0)
			return r;
	}
	return check_count(d, row, v->n, at);
}

/* A table of one row, to use what works on whole tables. */
#define ONE_ROW(row)	(&(struct fields){ .rows = (struct field[]){ *(row), { 0 } } })

static int decode_value(struct decode d, const struct field *row, json_t *j, void *out, const void *old,
			const struct at *at)
{
	void *p = (char *)out + row->off;
	const void *was = old ? (const char *)old + row->off : NULL;

	switch (row->type) {
	case F_STR:
		return decode_str(d, row, j, p, at);
	case F_U64:
		return decode_u64(d, row, j, p, at);
	case F_BOOL:
		if (!json_is_boolean(j))
			return refuse(d.e, at, "must be true or false, not %s", kind_of(j));
		*(bool *)p = json_is_true(j);
		return 0;
	case F_ENUM:
		return decode_enum(d, row, j, p, at);
	case F_TIME:
		return decode_time(d, j, p, at);
	case F_OBJECT:
		return decode_rows(d, row->sub, false, j, p, was, at);
	case F_MAP:
		return decode_map(d, row, j, p, was, at);
	case F_LIST:
		fields_fini(ONE_ROW(row), out);
		return decode_list(d, row, j, p, at);
	case F_STRS:
		fields_fini(ONE_ROW(row), out);
		return decode_strs(d, row, j, p, at);
	case F_LABELS:
		return decode_labels(d, row, j, p, at);
	case F_JSON:
		return decode_json(d, row, j, p, at);
	}
	return -EINVAL;
}

/* @out's row is empty. A default that its own row refuses is a mistake in the table. */
static void set_default(const struct field *row, void *out)
{
	struct decode d = { FIELDS_STORED, &(struct err){ 0 } };

	if (!row->def) {
		if (row->type == F_OBJECT)
			fields_defaults(row->sub, (char *)out + row->off);
		return;
	}
	json_t *j = json_loads(row->def, JSON_DECODE_ANY, NULL);
	if (!j || (!json_is_null(j) && decode_value(d, row, j, out, NULL, &(struct at){ NULL, row->name, 0 }) < 0)) {
		fprintf(stderr, "<2>the default of field %s is wrong: %s %s\n", row->name, row->def, d.e->msg);
		abort();
	}
	json_decref(j);
}

void fields_defaults(const struct fields *f, void *out)
{
	for (const struct field *row = f->rows; row->name; row++)
		set_default(row, out);
}

static int decode_absent(struct decode d, const struct field *row, void *out, const struct at *at)
{
	/* A secret is not in what was stored. */
	bool demanded = row->flags & FIELD_REQUIRED && (d.mode != FIELDS_STORED || !(row->flags & FIELD_SECRET));

	if (demanded && !(row->flags & FIELD_READ_ONLY && d.mode == FIELDS_CREATE))
		return refuse(d.e, at, "is required");
	set_default(row, out);
	return 0;
}

static int decode_null(struct decode d, const struct field *row, void *out, const struct at *at)
{
	if (d.mode == FIELDS_CREATE)
		return decode_absent(d, row, out, at);
	if (row->flags & FIELD_REQUIRED)
		return refuse(d.e, at, "is required and cannot be removed");
	if (d.mode == FIELDS_STORED) {		/* it was written as empty */
		if (row->type == F_OBJECT)
			set_default(row, out);
		return 0;
	}
	fields_fini(ONE_ROW(row), out);
	set_default(row, out);
	return 0;
}

static int decode_row(struct decode d, const struct field *row, json_t *j, void *out, const void *old,
		      const struct at *up)
{
	struct at at = { up, row->name, 0 };

	if (!j)
		return d.mode == FIELDS_PATCH ? 0 : decode_absent(d, row, out, &at);
	if (row->flags & FIELD_READ_ONLY && d.mode != FIELDS_STORED)
		return refuse(d.e, &at, "cannot be set: the host decides it");
	int r = json_is_null(j) ? decode_null(d, row, out, &at) : decode_value(d, row, j, out, old, &at);
	if (r < 0)
		return r;
	if (d.mode == FIELDS_PATCH && row->flags & FIELD_CREATE_ONLY && old && !fields_equal(ONE_ROW(row), old, out))
		return refuse(d.e, &at, "cannot be changed later: it is chosen at creation");
	return 0;
}

/* @named: the first row is the name, which the map's key has already told. @old: the state before a patch. */
static int decode_rows(struct decode d, const struct fields *f, bool named, json_t *j, void *out, const void *old,
		       const struct at *at)
{
	const char *key;
	json_t *value;

	if (!json_is_object(j))
		return refuse(d.e, at, "must be an object, not %s", kind_of(j));
	json_object_foreach(j, key, value) {
		const struct field *row = f->rows + named;

		if (d.mode == FIELDS_STORED)
			break;
		while (row->name && strcmp(row->name, key))
			row++;
		if (!row->name)
			return refuse_unknown(d.e, f, named, key, at);
	}
	for (const struct field *row = f->rows + named; row->name; row++) {
		int r = decode_row(d, row, json_object_get(j, row->name), out, old, at);

		if (r < 0)
			return r;
	}
	return 0;
}

int fields_decode(const struct fields *f, json_t *j, enum fields_mode mode, void *out, struct err *e)
{
	struct decode d = { mode, e };

	if (mode != FIELDS_PATCH) {
		int r = decode_rows(d, f, false, j, out, NULL, NULL);

		if (r < 0)
			fields_fini(f, out);
		return r;
	}
	/* The patch goes onto a copy, which takes the place of the struct when all is well. What no row describes stays
	 * where it is. */
	void *copy = xmemdup(out, f->size);
	fields_copy(f, out, copy);
	int r = decode_rows(d, f, false, j, copy, out, NULL);
	if (r < 0) {
		fields_fini(f, copy);
	} else {
		fields_fini(f, out);
		memcpy(out, copy, f->size);
	}
	free(copy);
	return r;
}
