/* db_copy.h: a database in memory that says what the one on a read-only file system says, with all that stands in its log.
 * SQLite itself can't tell: it needs to write for that, and with immutable=1 what was acknowledged last would be missing. */
#pragma once
#include <sqlite3.h>
#include "err.h"

/* Blocks: at start only. Nothing is written anywhere. The caller closes *ret. */
int db_copy(const char *path, sqlite3 **ret, struct err *e);
