// LINK: hv-core
/* What QEMU says of its user-mode network's connections: what is found stands in it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "mem.h"
#include "usernet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO_FREE char *text = xstrndup((const char *)data, n);

	if (usernet_open(text, 40080, 80) && (!strstr(text, "TCP[ESTABLISHED]") || !strstr(text, "40080") || !strstr(text, "80")))
		abort();
	return 0;
}
