// LINK: daemon hv-core storage net
/* A cookie header: a secret is found only where the header has one of our name, whole and once. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "cookie.h"
#include "mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO_FREE char *text = xstrndup((const char *)data, n);
	char secret[COOKIE_SECRET + 1], *at = text;
	int found = cookie_secret(text, secret), seen = 0;

	/* The same, told otherwise: split at semicolons, and count. */
	for (char *part; (part = strsep(&at, ";")); ) {
		part += strspn(part, " ");
		if (strncmp(part, COOKIE_NAME "=", sizeof COOKIE_NAME) != 0)
			continue;
		seen++;
		if (found == 1 && strcmp(part + sizeof COOKIE_NAME, secret) != 0)
			abort();
	}
	if ((found == 1 && (seen != 1 || strlen(secret) != COOKIE_SECRET)) || (found == 0 && seen != 0) || (found < 0 && seen == 0))
		abort();
	return 0;
}
