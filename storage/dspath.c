#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "dspath.h"
#include "text.h"

#define HIDDEN	".croft-"

bool dspath_is_hidden(const char *name)
{
	return !strncmp(name, HIDDEN, strlen(HIDDEN));
}

static int check_part(const char *p, size_t n, struct err *e)
{
	if (!n)
		return fail(e, ERR_INVALID, "a path has no empty part, and neither begins nor ends with \"/\"");
	if (n > DSPATH_PART)
		return fail(e, ERR_INVALID, "a file name has at most %d bytes", DSPATH_PART);
	if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
		return fail(e, ERR_INVALID, "\".\" and \"..\" can't be part of a path");
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
			return fail(e, ERR_INVALID, "a path has no control characters");
	if (dspath_is_hidden(p))
		return fail(e, ERR_NOT_FOUND, "names that begin with \"%s\" belong to Croft itself", HIDDEN);
	return 0;
}

int dspath_check(const char *path, bool top, struct err *e)
{
	size_t n = strnlen(path, DSPATH_MAX + 1);
	int r;

	if (n > DSPATH_MAX)
		return fail(e, ERR_INVALID, "a path has at most %d bytes", DSPATH_MAX);
	if (!n)
		return top ? 0 : fail(e, ERR_INVALID, "the path is empty: it must name a file, such as iso/debian.iso");
	if (!text_is_utf8(path, n))
		return fail(e, ERR_INVALID, "a path must be well-formed UTF-8");
	for (const char *p = path, *end; ; p = end + 1) {
		end = strchrnul(p, '/');
		r = check_part(p, (size_t)(end - p), e);
		if (r < 0)
			return r;
		if (!*end)
			return 0;
	}
}

static int bad_form(const char *text, struct err *e)
{
	fail(e, ERR_INVALID, "\"%.100s\" is not a datastore path", text_is_utf8(text, strnlen(text, DSPATH_TEXT)) ? text : "?");
	return err_hint(e, "write the datastore in brackets, then the file: [local] iso/debian.iso");
}

int dspath_parse(const char *text, struct dspath *ret, struct err *e)
{
	struct dspath p = { 0 };
	const char *close;
	int r;

	if (strnlen(text, DSPATH_TEXT) >= DSPATH_TEXT)
		return fail(e, ERR_INVALID, "a datastore path has at most %d bytes", DSPATH_TEXT - 1);
	close = strchr(text, ']');
	if (text[0] != '[' || !close || (size_t)(close - text - 1) >= sizeof(p.datastore))
		return bad_form(text, e);
	memcpy(p.datastore, text + 1, (size_t)(close - text - 1));
	if (!text_is_name(p.datastore))
		return bad_form(text, e);
	close++;
	if (*close == ' ')
		close++;
	r = dspath_check(close, true, e);
	if (r < 0)
		return r;
	memcpy(p.path, close, strlen(close) + 1);
	*ret = p;
	return 0;
}

void dspath_format(const struct dspath *p, char out[DSPATH_TEXT])
{
	snprintf(out, DSPATH_TEXT, p->path[0] ? "[%s] %s" : "[%s]", p->datastore, p->path);
}

const char *dspath_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

void dspath_folder(const char *path, char out[DSPATH_MAX + 1])
{
	size_t n = (size_t)(dspath_name(path) - path);

	if (n)
		n--;
	memcpy(out, path, n);
	out[n] = '\0';
}

int dspath_beside(const char *path, const char *name, char out[DSPATH_MAX + 1])
{
	size_t n = (size_t)(dspath_name(path) - path), m = strlen(name);

	if (n + m > DSPATH_MAX)
		return -ERANGE;
	memcpy(out, path, n);
	memcpy(out + n, name, m + 1);
	return 0;
}
