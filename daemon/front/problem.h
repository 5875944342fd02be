/* problem.h: the problem documents (RFC 9457) that the front makes by itself. */
#pragma once
#include "buf.h"
#include "err.h"

/* @status: 0 for the code's own. */
void problem(enum err_code code, unsigned status, const char *detail, struct buf *out);
