// LINK: storage
/* A header of any bytes: no read outside of it, and what it says lies within bounds that the rest relies on. */
#include <stdlib.h>
#include <string.h>
#include "image.h"
#include "qcow2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct qcow2_head h;
	struct err e;
	uint64_t file_bytes = n;

	if (n >= 8) {		/* the last bytes play the file's length, else few headers would get through */
		n -= 8;
		memcpy(&file_bytes, data + n, 8);
		file_bytes %= 1ull << 44;
		if (file_bytes < n)
			file_bytes = n;
	}
	uint8_t *head = malloc(n ? n : 1);
	memcpy(head, data, n);
	if (!qcow2_read(head, n, file_bytes, &h, &e)) {
		if (h.virtual_bytes > IMAGE_MAX || h.ext_end > h.ext_limit || h.ext_limit > n || strlen(h.mark) > 36 ||
		    (h.mark_at && h.mark_at + 36 > h.ext_limit))
			abort();
	}
	free(head);
	return 0;
}
