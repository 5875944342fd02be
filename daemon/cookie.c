#include <string.h>
#include "cookie.h"

int cookie_secret(const char *cookie, char out[COOKIE_SECRET + 1])
{
	static const char name[] = COOKIE_NAME "=";
	size_t len = sizeof name - 1;
	int found = 0;

	for (const char *p = cookie; p && *p; p += *p == ';') {
		p += strspn(p, " ");
		size_t n = strcspn(p, ";");

		if (n >= len && strncmp(p, name, len) == 0) {
			if (found || n != len + COOKIE_SECRET)
				return -1;
			memcpy(out, p + len, COOKIE_SECRET);
			out[COOKIE_SECRET] = 0;
			found = 1;
		}
		p += n;
	}
	return found;
}
