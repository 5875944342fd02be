// LINK: hv-core
/* A notice of the kernel: read within its bounds, and never one that lacks its end. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host_usb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *exact = malloc(n ? n : 1);

	memcpy(exact, data, n);
	if (usb_notice_matters(exact, n) && (!n || exact[n - 1]))
		abort();
	free(exact);
	return 0;
}
