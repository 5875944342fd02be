/* digest.h: SHA-256 of files. Blocks: for lanes. */
#pragma once
#include <stdint.h>
#include "err.h"

int digest_sha256(int fd, uint64_t bytes, uint8_t ret[32], struct err *e);	/* of the first @bytes */
