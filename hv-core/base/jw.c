/* jw.c: see jw.h. Lists of thousands of VMs go through here: texts are copied in runs, numbers printed by hand. */
#include "jw.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "mem.h"
#include "text.h"

#define DEPTH_MAX 60

/* Length of the well-formed UTF-8 sequence at @p that starts with a byte >= 0x80, or 0. */
static unsigned utf8_len(const unsigned char *p, size_t left)
{
	unsigned n = *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;

	return n <= left && text_is_utf8((const char *)p, n) ? n : 0;
}

static void add_escape(struct buf *b, unsigned char c)
{
	static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	static const char hex[] = "0123456789abcdef";

	for (const char *l = letters; *l; l += 2)
		if ((unsigned char)*l == c) {
			buf_add(b, (char[]){ '\\', l[1] }, 2);
			return;
		}
	buf_add(b, (char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] }, 6);
}

static void add_text(struct buf *b, const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + n, *run = p;

	buf_addc(b, '"');
	while (p < end) {
		if (*p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\') {
			p++;
			continue;
		}
		unsigned len = *p >= 0x80 ? utf8_len(p, (size_t)(end - p)) : 0;
		if (len) {
			p += len;
			continue;
		}
		buf_add(b, run, (size_t)(p - run));
		if (*p >= 0x80)
			buf_add(b, "\xef\xbf\xbd", 3);
		else
			add_escape(b, *p);
		run = ++p;
	}
	buf_add(b, run, (size_t)(p - run));
	buf_addc(b, '"');
}

/* What stands before a value: comma and key. */
static void begin(struct jw *w, const char *key)
{
	uint64_t bit = 1ull << w->depth;

	if (w->depth && w->more & bit)
		buf_addc(w->b, ',');
	w->more |= bit;
	if (key) {
		add_text(w->b, key, strlen(key));
		buf_addc(w->b, ':');
	}
}

static void open_level(struct jw *w, const char *key, bool array)
{
	begin(w, key);
	buf_addc(w->b, array ? '[' : '{');
	if (++w->depth > DEPTH_MAX)
		abort();	/* ours to nest, never a client's */
	uint64_t bit = 1ull << w->depth;
	w->more &= ~bit;
	w->arrays = array ? w->arrays | bit : w->arrays & ~bit;
}

void jw_obj(struct jw *w, const char *key)
{
	open_level(w, key, false);
}

void jw_arr(struct jw *w, const char *key)
{
	open_level(w, key, true);
}

void jw_end(struct jw *w)
{
	if (w->depth < 1)
		abort();
	buf_addc(w->b, w->arrays >> w->depth & 1 ? ']' : '}');
	w->depth--;
}

void jw_strn(struct jw *w, const char *key, const char *s, size_t n)
{
	begin(w, key);
	if (s)
		add_text(w->b, s, n);
	else
		buf_add(w->b, "null", 4);
}

void jw_str(struct jw *w, const char *key, const char *s)
{
	jw_strn(w, key, s, s ? strlen(s) : 0);
}

void jw_strf(struct jw *w, const char *key, const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort();
	jw_strn(w, key, s, (size_t)n);
	free(s);
}

static void add_u64(struct buf *b, uint64_t v)
{
	char digits[20];
	size_t at = sizeof(digits);

	do
		digits[--at] = (char)('0' + v % 10);
	while (v /= 10);
	buf_add(b, digits + at, sizeof(digits) - at);
}

void jw_u64(struct jw *w, const char *key, uint64_t v)
{
	begin(w, key);
	add_u64(w->b, v);
}

void jw_i64(struct jw *w, const char *key, int64_t v)
{
	begin(w, key);
	if (v < 0)
		buf_addc(w->b, '-');
	add_u64(w->b, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

/* By hand: printf's decimal point would follow the locale. */
void jw_real(struct jw *w, const char *key, double v)
{
	double size = v < 0 ? -v : v;

	begin(w, key);
	if (!__builtin_isfinite(v)) {
		buf_add(w->b, "null", 4);
		return;
	}
	if (size >= 1e15) {
		buf_addf(w->b, "%.0f", v);
		return;
	}
	uint64_t milli = (uint64_t)(size * 1000 + 0.5);
	if (v < 0 && milli)
		buf_addc(w->b, '-');
	add_u64(w->b, milli / 1000);
	buf_add(w->b, (char[]){ '.', (char)('0' + milli / 100 % 10), (char)('0' + milli / 10 % 10),
				(char)('0' + milli % 10) }, 4);
}

void jw_bool(struct jw *w, const char *key, bool v)
{
	begin(w, key);
	buf_adds(w->b, v ? "true" : "false");
}

void jw_null(struct jw *w, const char *key)
{
	begin(w, key);
	buf_add(w->b, "null", 4);
}

void jw_time(struct jw *w, const char *key, int64_t usec)
{
	char text[32];

	if (!usec) {
		jw_null(w, key);
		return;
	}
	text_time_format(usec, text);
	jw_str(w, key, text);
}

void jw_raw(struct jw *w, const char *key, const char *json, size_t n)
{
	begin(w, key);
	buf_add(w->b, json, n);
}
