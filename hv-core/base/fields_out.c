/* fields_out.c: from structs to JSON, and what works on structs alone. */
#include "fields.h"
#include <stdlib.h>
#include <string.h>
#include "mem.h"

#define FOR_ROWS(row, f)	for (const struct field *row = (f)->rows; row->name; row++)

static void *item_at(const struct field_vec *v, size_t size, size_t i)
{
	return (char *)v->items + i * size;
}

/* Bytes of one item of a vector row. */
static size_t item_size(const struct field *row)
{
	if (row->type == F_STRS)
		return sizeof(char *);
	return row->type == F_LABELS ? sizeof(struct field_label) : row->sub->size;
}

void *field_vec_add(struct field_vec *v, size_t size)
{
	v->items = xrealloc(v->items, size * (v->n + 1));
	return memset(item_at(v, size, v->n++), 0, size);
}

/* A name is the first row, which need not be the first member; F_MAP's structs and labels have it there by contract. */
void *field_vec_find(const struct field_vec *v, size_t size, const char *name)
{
	for (size_t i = 0; i < v->n; i++) {
		const char *const *key = item_at(v, size, i);

		if (*key && !strcmp(*key, name))
			return (void *)key;
	}
	return NULL;
}

static void encode_map(const struct field *row, const struct field_vec *v, struct jw *w)
{
	const struct fields nameless = { .size = row->sub->size, .rows = row->sub->rows + 1 };

	jw_obj(w, row->name);
	for (size_t i = 0; i < v->n; i++) {
		const void *item = item_at(v, row->sub->size, i);

		fields_encode(&nameless, item, w, *(char *const *)item);
	}
	jw_end(w);
}

static void encode_array(const struct field *row, const struct field_vec *v, struct jw *w)
{
	jw_arr(w, row->name);
	for (size_t i = 0; i < v->n; i++) {
		const void *item = item_at(v, item_size(row), i);

		if (row->type == F_STRS)
			jw_str(w, NULL, *(char *const *)item);
		else
			fields_encode(row->sub, item, w, NULL);
	}
	jw_end(w);
}

static void encode_labels(const struct field *row, const struct field_vec *v, struct jw *w)
{
	const struct field_label *l = v->items;

	jw_obj(w, row->name);
	for (size_t i = 0; i < v->n; i++)
		jw_str(w, l[i].key, l[i].value);
	jw_end(w);
}

/* An empty text is left out, unless its absence would read as another default. */
static void encode_text(const struct field *row, const char *s, struct jw *w)
{
	if (s && row->type == F_JSON)
		jw_raw(w, row->name, s, strlen(s));
	else if (s)
		jw_str(w, row->name, s);
	else if (row->flags & FIELD_NULLABLE || row->def)
		jw_null(w, row->name);
}

static void encode_row(const struct field *row, const void *p, struct jw *w)
{
	uint64_t number;
	int value;

	switch (row->type) {
	case F_STR:
	case F_JSON:
		encode_text(row, *(char *const *)p, w);
		break;
	case F_U64:
		number = *(const uint64_t *)p;
		if (!number && row->flags & FIELD_NULLABLE)
			jw_null(w, row->name);
		else
			jw_u64(w, row->name, number);
		break;
	case F_BOOL:
		jw_bool(w, row->name, *(const bool *)p);
		break;
	case F_ENUM:
		value = *(const int *)p;
		jw_str(w, row->name, row->names[value]);
		break;
	case F_TIME:
		jw_time(w, row->name, *(const int64_t *)p);
		break;
	case F_OBJECT:
		if (row->flags & FIELD_NULLABLE && !*(const uint64_t *)((const char *)p + row->sub->rows->off))
			jw_null(w, row->name);
		else
			fields_encode(row->sub, p, w, row->name);
		break;
	case F_MAP:
		encode_map(row, p, w);
		break;
	case F_LIST:
	case F_STRS:
		encode_array(row, p, w);
		break;
	case F_LABELS:
		encode_labels(row, p, w);
		break;
	}
}

void fields_encode_rows(const struct fields *f, const void *in, struct jw *w)
{
	FOR_ROWS(row, f)
		if (!(row->flags & FIELD_SECRET))
			encode_row(row, (const char *)in + row->off, w);
}

void fields_encode(const struct fields *f, const void *in, struct jw *w, const char *key)
{
	jw_obj(w, key);
	fields_encode_rows(f, in, w);
	jw_end(w);
}

static void fini_vec(const struct field *row, struct field_vec *v)
{
	for (size_t i = 0; i < v->n; i++) {
		void *item = item_at(v, item_size(row), i);

		if (row->type == F_STRS || row->type == F_LABELS)
			free(*(char **)item);
		if (row->type == F_LABELS)
			free(((struct field_label *)item)->value);
		if (row->sub)
			fields_fini(row->sub, item);
	}
	free(v->items);
	*v = (struct field_vec){ 0 };
}

void fields_fini(const struct fields *f, void *p)
{
	FOR_ROWS(row, f) {
		void *at = (char *)p + row->off;

		switch (row->type) {
		case F_STR:
		case F_JSON:
			free(*(char **)at);
			*(char **)at = NULL;
			break;
		case F_U64:
			*(uint64_t *)at = 0;
			break;
		case F_BOOL:
			*(bool *)at = false;
			break;
		case F_ENUM:
			*(int *)at = 0;
			break;
		case F_TIME:
			*(int64_t *)at = 0;
			break;
		case F_OBJECT:
			fields_fini(row->sub, at);
			break;
		case F_MAP:
		case F_LIST:
		case F_STRS:
		case F_LABELS:
			fini_vec(row, at);
			break;
		}
	}
}

static void copy_vec(const struct field *row, const struct field_vec *from, struct field_vec *to)
{
	size_t size = item_size(row);

	*to = (struct field_vec){ 0 };
	for (size_t i = 0; i < from->n; i++) {
		const void *a = item_at(from, size, i);
		void *b = field_vec_add(to, size);

		if (row->type == F_STRS) {
			*(char **)b = xstrdup(*(char *const *)a);
		} else if (row->type == F_LABELS) {
			const struct field_label *l = a;

			*(struct field_label *)b = (struct field_label){ xstrdup(l->key), xstrdup(l->value) };
		} else {
			fields_copy(row->sub, a, b);
		}
	}
}

void fields_copy(const struct fields *f, const void *from, void *to)
{
	FOR_ROWS(row, f) {
		const void *a = (const char *)from + row->off;
		void *b = (char *)to + row->off;

		switch (row->type) {
		case F_STR:
		case F_JSON:
			*(char **)b = *(char *const *)a ? xstrdup(*(char *const *)a) : NULL;
			break;
		case F_U64:
			*(uint64_t *)b = *(const uint64_t *)a;
			break;
		case F_BOOL:
			*(bool *)b = *(const bool *)a;
			break;
		case F_ENUM:
			*(int *)b = *(const int *)a;
			break;
		case F_TIME:
			*(int64_t *)b = *(const int64_t *)a;
			break;
		case F_OBJECT:
			fields_copy(row->sub, a, b);
			break;
		case F_MAP:
		case F_LIST:
		case F_STRS:
		case F_LABELS:
			copy_vec(row, a, b);
			break;
		}
	}
}
