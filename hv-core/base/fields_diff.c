/* fields_diff.c: whether two structs are equal, where they differ, and to take over a part. */
#include "fields.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const void *item_at(const struct field_vec *v, size_t size, size_t i)
{
	return (const char *)v->items + i * size;
}

static bool same_text(const char *a, const char *b)
{
	return !strcmp(a ? a : "", b ? b : "");
}

/* Maps and labels are sets of names, lists and texts have an order. */
static bool equal_vec(const struct field *row, const struct field_vec *a, const struct field_vec *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		if (row->type == F_STRS) {
			if (!same_text(((char **)a->items)[i], ((char **)b->items)[i]))
				return false;
		} else if (row->type == F_LABELS) {
			const struct field_label *l = item_at(a, sizeof(*l), i);
			const struct field_label *m = field_vec_find(b, sizeof(*l), l->key);

			if (!m || !same_text(l->value, m->value))
				return false;
		} else {
			const void *x = item_at(a, row->sub->size, i);
			const void *y = row->type == F_LIST ? item_at(b, row->sub->size, i) :
				field_vec_find(b, row->sub->size, *(char *const *)x);

			if (!y || !fields_equal(row->sub, x, y))
				return false;
		}
	}
	return true;
}

static bool equal_row(const struct field *row, const void *a, const void *b)
{
	switch (row->type) {
	case F_STR:
	case F_JSON:
		return same_text(*(char *const *)a, *(char *const *)b);
	case F_U64:
		return *(const uint64_t *)a == *(const uint64_t *)b;
	case F_BOOL:
		return *(const bool *)a == *(const bool *)b;
	case F_ENUM:
		return *(const int *)a == *(const int *)b;
	case F_TIME:
		return *(const int64_t *)a == *(const int64_t *)b;
	case F_OBJECT:
		return fields_equal(row->sub, a, b);
	case F_MAP:
	case F_LIST:
	case F_STRS:
	case F_LABELS:
		return equal_vec(row, a, b);
	}
	return false;
}

bool fields_equal(const struct fields *f, const void *a, const void *b)
{
	for (const struct field *row = f->rows; row->name; row++)
		if (!equal_row(row, (const char *)a + row->off, (const char *)b + row->off))
			return false;
	return true;
}

struct walk {
	void (*fn)(void *arg, const char *pointer, const struct field *row);
	void *arg;
	char pointer[512];
	size_t len;
};

/* Append a segment (RFC 6901); returns the length to go back to. */
static size_t step_in(struct walk *w, const char *name)
{
	size_t was = w->len, n = was;

	if (n + 1 < sizeof(w->pointer))
		w->pointer[n++] = '/';
	for (; *name && n + 2 < sizeof(w->pointer); name++) {
		bool escaped = *name == '~' || *name == '/';

		w->pointer[n++] = escaped ? '~' : *name;
		if (escaped)
			w->pointer[n++] = *name == '~' ? '0' : '1';
	}
	w->pointer[n] = '\0';
	w->len = n;
	return was;
}

static void step_out(struct walk *w, size_t was)
{
	w->len = was;
	w->pointer[was] = '\0';
}

static void diff_rows(struct walk *w, const struct fields *f, const void *a, const void *b);

/* Entries of @a that are gone or differ; with @back only what @a has and @b lacks. */
static void diff_map(struct walk *w, const struct field *row, const struct field_vec *a, const struct field_vec *b,
		     bool back)
{
	for (size_t i = 0; i < a->n; i++) {
		const void *x = item_at(a, row->sub->size, i);
		const char *name = *(char *const *)x;
		const void *y = field_vec_find(b, row->sub->size, name);

		if (y && back)
			continue;
		size_t was = step_in(w, name);
		if (y)
			diff_rows(w, row->sub, x, y);
		else
			w->fn(w->arg, w->pointer, row);
		step_out(w, was);
	}
}

static void diff_rows(struct walk *w, const struct fields *f, const void *a, const void *b)
{
	for (const struct field *row = f->rows; row->name; row++) {
		const void *x = (const char *)a + row->off, *y = (const char *)b + row->off;

		if (equal_row(row, x, y))
			continue;
		size_t was = step_in(w, row->name);
		if (row->type == F_OBJECT) {
			diff_rows(w, row->sub, x, y);
		} else if (row->type == F_MAP) {
			diff_map(w, row, x, y, false);
			diff_map(w, row, y, x, true);
		} else {
			w->fn(w->arg, w->pointer, row);
		}
		step_out(w, was);
	}
}

void fields_diff(const struct fields *f, const void *a, const void *b,
		 void (*fn)(void *arg, const char *pointer, const struct field *row), void *arg)
{
	struct walk w = { .fn = fn, .arg = arg };

	diff_rows(&w, f, a, b);
}

/* ---- take over one part */

static void adopt_entry(const struct field *row, struct field_vec *to, const struct field_vec *from, const char *name,
			const char *rest)
{
	size_t size = row->sub->size;
	char *old = field_vec_find(to, size, name);
	const void *new = field_vec_find(from, size, name);

	if (*rest) {
		if (old && new)
			fields_adopt(row->sub, old, new, rest);
		return;
	}
	if (old) {
		fields_fini(row->sub, old);
		memmove(old, old + size, (size_t)((char *)to->items + to->n * size - (old + size)));
		to->n--;
	}
	if (new)
		fields_copy(row->sub, new, field_vec_add(to, size));
	if (!to->n) {
		free(to->items);
		to->items = NULL;
	}
}

void fields_adopt(const struct fields *f, void *to, const void *from, const char *pointer)
{
	size_t n = *pointer == '/' ? strcspn(pointer + 1, "/") : 0;
	const char *rest = pointer + 1 + n;
	char name[256];

	for (const struct field *row = f->rows; n && row->name; row++) {
		const struct field rows[2] = { *row };
		const struct fields one = { f->name, f->size, rows, f->help };

		if (strncmp(row->name, pointer + 1, n) || row->name[n])
			continue;
		if (*rest && row->type == F_OBJECT) {
			fields_adopt(row->sub, (char *)to + row->off, (const char *)from + row->off, rest);
		} else if (*rest && row->type == F_MAP) {
			n = strcspn(rest + 1, "/");
			snprintf(name, sizeof(name), "%.*s", (int)n, rest + 1);
			adopt_entry(row, (void *)((char *)to + row->off), (const void *)((const char *)from + row->off), name,
				    rest + 1 + n);
		} else if (!*rest) {
			fields_fini(&one, to);
			fields_copy(&one, from, to);
		}
		return;
	}
}
