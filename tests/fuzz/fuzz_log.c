// LINK: daemon hv-core storage net
/* A database's log: whatever is in it, no more transactions are lost than there are frames, and none of one that is short. */
#include <stdint.h>
#include <stdlib.h>
#include "db_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	unsigned lost = db_log_lost(data, n);

	if (lost > n / 4096 || (n < 32 + 3 * (24 + 4096) && lost > 1))
		abort();
	return 0;
}
