/* err.c: see err.h. */
#include "err.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

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

/* Texts may quote what a client sent: no control characters, and no half of a UTF-8 sequence where it was cut. */
static void tidy(char *s, bool cut)
{
	size_t n = strlen(s), back = 0;

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			s[i] = '?';
	if (!cut)
		return;
	while (back < 3 && back < n && ((unsigned char)s[n - 1 - back] & 0xc0) == 0x80)
		back++;
	if (back < n && (unsigned char)s[n - 1 - back] >= 0xc0)
		s[n - 1 - back] = '\0';
}

static void write_to(char *out, size_t cap, const char *fmt, va_list ap)
{
	int n = vsnprintf(out, cap, fmt, ap);

	tidy(out, n >= (int)cap);
}

/* The arguments may point into *e itself, so the text is finished before anything is overwritten. */
static int fill(struct err *e, enum err_code code, const char *pointer, const char *fmt, va_list ap)
{
	struct err new = { .code = known(code) ? code : ERR_INTERNAL };

	if (e) {
		write_to(new.msg, sizeof(new.msg), fmt, ap);
		tidy(new.pointer, snprintf(new.pointer, sizeof(new.pointer), "%s", pointer) >= (int)sizeof(new.pointer));
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
