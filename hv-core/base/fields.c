/* fields.c: JSON into structs, by table: modes, objects and vectors. */
#include "fields_in.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "mem.h"

static int decode_rows(struct decode d, const struct fields *f, bool named, json_t *j, void *out, const void *old,
		       const struct at *at);

static size_t items_max(const struct field *row)
{
	return row->max ? row->max : row->type == F_LABELS ? FIELDS_LABELS_MAX : FIELDS_ITEMS_MAX;
}

static int check_count(struct decode d, const struct field *row, size_t n, const struct at *at)
{
	if (n > items_max(row))
		return field_refuse(d.e, at, "must have at most %zu entries; this has %zu", items_max(row), n);
	if (n < row->min && d.mode != FIELDS_STORED)
		return field_refuse(d.e, at, "must have at least %llu; this has %zu", (unsigned long long)row->min, n);
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
		return field_refuse(d.e, at, "must be an object of texts, not %s", field_kind(j));
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
			return field_refuse(d.e, &here, "is no name of a label; that has 1 to 63 letters, digits, . _ / -");
		if (!json_is_string(value))
			return field_refuse(d.e, &here, "must be a text, not %s", field_kind(value));
		if (json_string_length(value) > 255)
			return field_refuse(d.e, &here, "must be at most 255 bytes long; this has %zu",
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
		return field_refuse(d.e, at, "must be an array of texts, not %s", field_kind(j));
	int r = check_count(d, row, json_array_size(j), at);
	if (r < 0)
		return r;
	json_array_foreach(j, i, item) {
		struct at here = { at, NULL, i };

		if (!json_is_string(item))
			return field_refuse(d.e, &here, "must be a text, not %s", field_kind(item));
		r = field_check_text(d, row, json_string_value(item), json_string_length(item), &here);
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
		return field_refuse(d.e, at, "must be an array, not %s", field_kind(j));
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
		return field_refuse(d.e, at, "must be an object, not %s", field_kind(j));
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
				return field_refuse(d.e, at, "must have at most %zu entries", items_max(row));
			if (!*key)
				return field_refuse(d.e, at, "has an entry without a name");
			r = field_check_text(d, &sub->rows[0], key, strlen(key), &here);
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
	case F_U64:
	case F_BOOL:
	case F_ENUM:
	case F_TIME:
	case F_JSON:
		return field_decode_leaf(d, row, j, p, at);
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
		return field_refuse(d.e, at, "is required");
	set_default(row, out);
	return 0;
}

static int decode_null(struct decode d, const struct field *row, void *out, const struct at *at)
{
	if (d.mode == FIELDS_CREATE)
		return decode_absent(d, row, out, at);
	if (row->flags & FIELD_REQUIRED)
		return field_refuse(d.e, at, "is required and cannot be removed");
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
		return field_refuse(d.e, &at, "cannot be set: the host decides it");
	int r = json_is_null(j) ? decode_null(d, row, out, &at) : decode_value(d, row, j, out, old, &at);
	if (r < 0)
		return r;
	if (d.mode == FIELDS_PATCH && row->flags & FIELD_CREATE_ONLY && old && !fields_equal(ONE_ROW(row), old, out))
		return field_refuse(d.e, &at, "cannot be changed later: it is chosen at creation");
	return 0;
}

/* @named: the first row is the name, which the map's key has already told. @old: the state before a patch. */
static int decode_rows(struct decode d, const struct fields *f, bool named, json_t *j, void *out, const void *old,
		       const struct at *at)
{
	const char *key;
	json_t *value;

	if (!json_is_object(j))
		return field_refuse(d.e, at, "must be an object, not %s", field_kind(j));
	json_object_foreach(j, key, value) {
		const struct field *row = f->rows + named;

		if (d.mode == FIELDS_STORED)
			break;
		while (row->name && strcmp(row->name, key))
			row++;
		if (!row->name)
			return field_refuse_unknown(d.e, f, named, key, at);
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
