#include <errno.h>
#include <string.h>
#include "mem.h"
#include "route.h"
#include "text.h"

const struct route *route_next(const struct route *r)
{
	const struct route *const *table = route_tables;

	if (r && r[1].method)
		return r + 1;
	for (; r && *table; table++) {		/* r ends its table: which one was that? */
		const struct route *row = *table;

		while (row->method && row != r)
			row++;
		if (row == r) {
			table++;
			break;
		}
	}
	while (*table && !(*table)->method)
		table++;
	return *table;
}

static void drop(char *params[ROUTE_PARAMS])
{
	for (int i = 0; i < ROUTE_PARAMS; i++) {
		free(params[i]);
		params[i] = NULL;
	}
}

/* 1 it fits, 0 it doesn't, -EBADMSG. */
static int fits(const char *pattern, const char *path, char *params[ROUTE_PARAMS])
{
	char part[1100];
	int n = 0;

	while (*pattern && *path) {
		if (*pattern != '{') {
			if (*pattern++ != *path++)
				return 0;
			continue;
		}
		bool rest = strstr(pattern, "...}") == strchr(pattern, '}') - 3;
		size_t len = rest ? strlen(path) : strcspn(path, "/");

		if (len == 0)
			return 0;
		if (text_unescape(path, len, false, part, sizeof part) < 0)
			return -EBADMSG;
		params[n++] = xstrdup(part);
		path += len;
		pattern = strchr(pattern, '}') + 1;
	}
	return !*pattern && !*path;
}

int route_match(const char *method, const char *path, const struct route **ret, char *params[ROUTE_PARAMS], char allow[64])
{
	bool get = strcmp(method, "HEAD") == 0;
	int result = -ENOENT;

	*allow = 0;
	for (const struct route *r = NULL; (r = route_next(r)); ) {
		/* Nearly all rows differ in the noun already. */
		if (strncmp(r->path, path, strcspn(r->path, "{")) != 0)
			continue;
		int f = fits(r->path, path, params);

		if (f == 1 && strcmp(get ? "GET" : method, r->method) == 0) {
			*ret = r;
			return 0;
		}
		drop(params);
		if (f < 0)
			return f;
		if (f == 1) {
			result = -EOPNOTSUPP;
			size_t n = strlen(allow);

			snprintf(allow + n, 64 - n, "%s%s", n ? ", " : "", r->method);
		}
	}
	return result;
}
