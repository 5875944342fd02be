/* err.c: see err.h. */
#include "err.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "text.h"

static const struct { int http, no; const char *slug, *title; } table[ERR_NCODES] = {
	[ERR_NONE] = { 200, 0, "none", "No error" },
#define X(code, http, no, slug, title) [code] = { http, no, slug, title },
	ERR_TABLE(X)
#undef X
};

static bool known(enum err_code code)
{
	return (unsigned)code < ERR_NCODES && code != ERR_NONE;
}

/* Texts may quote what a client sent: control characters become '?', and what is not UTF-8 is left out, above all the
 * half of a sequence where the text was cut. */
static void tidy(char *s)
{
	char *to = s;

	for (size_t left = strlen(s), n; left; s += n, left -= n) {
		unsigned char c = (unsigned char)*s;

		n = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
		if (n > left || !text_is_utf8(s, n)) {
			n = 1;
		} else if (c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)s[1] < 0xa0)) {
			*to++ = '?';
		} else {
			memmove(to, s, n);
			to += n;
		}
	}
	*to = '\0';
}

static void write_to(char *out, size_t cap, const char *fmt, va_list ap)
{
	vsnprintf(out, cap, fmt, ap);
	tidy(out);
}

/* The arguments may point into *e itself, so the text is finished before anything is overwritten. */
static int fill(struct err *e, enum err_code code, const char *pointer, const char *fmt, va_list ap)
{
	struct err new = { .code = known(code) ? code : ERR_INTERNAL };

	if (e) {
		write_to(new.msg, sizeof(new.msg), fmt, ap);
		snprintf(new.pointer, sizeof(new.pointer), "%s", pointer);
		tidy(new.pointer);
		*e = new;
	}
	return -table[new.code].no;
}

int fail(struct err *e, enum err_code code, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	int ret = fill(e, code, "", fmt, ap);
	va_end(ap);
	errno = saved;
	return ret;
}

int fail_at(struct err *e, const char *pointer, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	int ret = fill(e, ERR_INVALID, pointer, fmt, ap);
	va_end(ap);
	errno = saved;
	return ret;
}

static enum err_code code_of(int no)
{
	switch (no) {
	case ENOSPC: case EDQUOT:	return ERR_NO_SPACE;
	case ENOENT:			return ERR_NOT_FOUND;
	case EEXIST:			return ERR_EXISTS;
	case EBUSY: case ETXTBSY:	return ERR_BUSY;
	case EACCES: case EPERM:	return ERR_FORBIDDEN;
	case EFBIG:			return ERR_TOO_LARGE;
	case ETIMEDOUT:			return ERR_TIMEOUT;
	case ECANCELED:			return ERR_CANCELLED;
	case EAGAIN: case EMFILE: case ENFILE: case ECONNREFUSED:
		return ERR_UNAVAILABLE;
	case ENOSYS: case EOPNOTSUPP:	return ERR_UNSUPPORTED;
	}
	return ERR_INTERNAL;
}

int fail_errno(struct err *e, int no, const char *fmt, ...)
{
	char what[sizeof(e->msg)];
	int saved = errno;
	va_list ap;

	no = no < 0 ? -no : no;
	const char *why = strerrordesc_np(no);
	va_start(ap, fmt);
	write_to(what, sizeof(what), fmt, ap);
	va_end(ap);
	int ret = why ? fail(e, code_of(no), "%s: %s", what, why) : fail(e, code_of(no), "%s: error %d", what, no);
	errno = saved;
	return ret;
}

int fail_as(struct err *e, const struct err *why)
{
	if (e)
		*e = *why;
	return -table[known(why->code) ? why->code : ERR_INTERNAL].no;
}

int err_hint(struct err *e, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return -table[ERR_INTERNAL].no;
	va_start(ap, fmt);
	write_to(e->hint, sizeof(e->hint), fmt, ap);
	va_end(ap);
	return -table[known(e->code) ? e->code : ERR_INTERNAL].no;
}

int err_http(enum err_code code)
{
	return table[(unsigned)code < ERR_NCODES ? code : ERR_INTERNAL].http;
}

const char *err_slug(enum err_code code)
{
	return table[(unsigned)code < ERR_NCODES ? code : ERR_INTERNAL].slug;
}

const char *err_title(enum err_code code)
{
	return table[(unsigned)code < ERR_NCODES ? code : ERR_INTERNAL].title;
}

enum err_code err_from_slug(const char *slug)
{
	for (int c = ERR_NONE + 1; slug && c < ERR_NCODES; c++)
		if (!strcmp(table[c].slug, slug))
			return c;
	return ERR_INTERNAL;
}
