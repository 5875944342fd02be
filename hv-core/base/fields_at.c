/* fields_at.c: the sentences of refused JSON, and the place they speak of. */
#include "fields_in.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "buf.h"

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

int field_refuse(struct err *e, const struct at *at, const char *fmt, ...)
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

const char *field_kind(const json_t *j)
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

int field_refuse_unknown(struct err *e, const struct fields *f, bool named, const char *key, const struct at *up)
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
