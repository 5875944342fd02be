/* json_parse.c: bounded JSON text from strangers (declared in fields.h). */
#include <string.h>
#include "fields.h"

#define DEPTH_MAX 32

/* jansson recurses, so the depth is counted first. Brackets inside texts don't count. */
static bool too_deep(const char *p, size_t n)
{
	unsigned depth = 0;
	bool text = false;

	for (const char *end = p + n; p < end; p++) {
		if (text) {
			if (*p == '\\' && end - p > 1)
				p++;
			else if (*p == '"')
				text = false;
		} else if (*p == '"') {
			text = true;
		} else if (*p == '[' || *p == '{') {
			if (++depth > DEPTH_MAX)
				return true;
		} else if ((*p == ']' || *p == '}') && depth) {
			depth--;
		}
	}
	return false;
}

json_t *json_parse(const char *text, size_t n, size_t max, struct err *e)
{
	json_error_t why;

	if (n > max) {
		fail(e, ERR_TOO_LARGE, "the JSON text has %zu bytes; at most %zu are taken", n, max);
		return NULL;
	}
	if (!n) {
		fail(e, ERR_BAD_REQUEST, "the JSON text is empty");
		return NULL;
	}
	if (too_deep(text, n)) {
		fail(e, ERR_BAD_REQUEST, "the JSON text is nested deeper than %d levels", DEPTH_MAX);
		return NULL;
	}
	json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (!j)
		fail(e, ERR_BAD_REQUEST, "the JSON text is wrong in line %d, column %d: %s", why.line, why.column,
		     why.text);
	return j;
}
