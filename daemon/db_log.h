/* db_log.h: does a log of SQLite (a WAL) end where it seems to end? Pure; the log may be anything. */
#pragma once
#include <stddef.h>

/* How many transactions follow upon a frame that is not whole: SQLite does not see them. After a power loss that is at most one,
 * which was not answered yet. */
unsigned db_log_lost(const void *log, size_t n);
