// LINK: storage
/* Whatever is accepted stays beneath its datastore, and formatting it gives the same path again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "dspath.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct dspath p, again;
	char text[DSPATH_TEXT], padded[DSPATH_MAX + 4];
	char *s = malloc(n + 1);
	struct err e;

	memcpy(s, data, n);
	s[n] = '\0';
	if (!dspath_parse(s, &p, &e)) {
		snprintf(padded, sizeof(padded), "/%s/", p.path);
		if (strstr(padded, "/../") || strstr(padded, "/./") || (p.path[0] && strstr(padded, "//")) ||
		    strstr(padded, "/.croft-"))
			abort();
		dspath_format(&p, text);
		if (dspath_parse(text, &again, &e) || strcmp(p.path, again.path) || strcmp(p.datastore, again.datastore))
			abort();
		dspath_folder(p.path, padded);
		if (strlen(padded) > strlen(p.path))
			abort();
	}
	free(s);
	return 0;
}
