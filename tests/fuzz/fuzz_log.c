// LINK: daemon hv-core storage net
/* A database's log: whatever is in it, no more transactions are lost than there are frames, and none of one that is short; and
 * what it brings stays within the database. */
#include <stdint.h>
#include <stdlib.h>
#include "db_log.h"

#define MAX (16 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	unsigned lost = db_log_lost(data, n);

	if (lost > n / 4096 || (n < 32 + 3 * (24 + 4096) && lost > 1))
		abort();
	size_t size = db_log_size(data, n);
	uint8_t *db = size <= MAX ? calloc(1, size ? size : 1) : NULL;

	if (size && n < 32 + 24 + 4096)
		abort();
	if (db)
		db_log_apply(data, n, db, size);
	free(db);
	return 0;
}
