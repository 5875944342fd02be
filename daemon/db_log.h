/* db_log.h: a log of SQLite (a WAL): does it end where it seems to end, and what does it make of the database? Pure; the log
 * may be anything. Pages are of 4096 bytes, as SQLite makes them. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* How many transactions follow upon a frame that is not whole: SQLite does not see them. After a power loss that is at most one,
 * which was not answered yet. */
unsigned db_log_lost(const void *log, size_t n);

/* The database's size once the log's transactions are in it; 0 when the log has none that is whole. */
size_t db_log_size(const void *log, size_t n);
/* Bring them into @db, which has that @size. What SQLite does when it opens a database, where it may write. */
void db_log_apply(const void *log, size_t n, uint8_t *db, size_t size);
