/* db_salvage.h: what is done about a database that is damaged. The damaged files are kept beside the new one, as
 * PATH.damaged-TIME and PATH.damaged-TIME-wal: sqlite3's .recover may find more in them. */
#pragma once
#include <sqlite3.h>
#include <stdint.h>
#include "err.h"

/* A database that was made, or made anew, may lack rows of what is on the datastores: see rebuild.h, which sets that to "done". */
#define DB_RENEWED "INSERT OR REPLACE INTO settings (key, value) VALUES ('rebuild', 'wanted')"

#define DB_LOG_MAX	(256u << 20)	/* no log becomes so long: it is checkpointed at every 1000 pages */

/* Is the database sound, page by page and index by index? ERR_STATE with a sentence when it is not. At start only. */
int db_check(sqlite3 *sql, const char *path, struct err *e);
/* The log that a croftd left which was killed: SQLite takes it up to the first frame that is not whole, and says nothing of what
 * comes after. A power loss leaves at most one transaction there, that nobody was told of; with more the log was damaged, and
 * what was answered is lost: ERR_STATE. To be called before the database is opened. */
int db_check_log(const char *path, struct err *e);
/* Put a new database in its place, with all rows that can be read; *ret_rows: how many. Interrupted at any point it is done
 * again, or ended by db_settle. Numbers of tasks and events go on far above the ones that were lost. At start only. */
int db_salvage(const char *path, uint64_t *ret_rows, struct err *e);
/* The same in memory, where nothing can be written: the next start that can does it in earnest. The caller closes *ret. */
int db_salvage_copy(const char *path, sqlite3 **ret, uint64_t *ret_rows, struct err *e);
/* End a salvage that was cut off: to be called before the database is opened. */
int db_settle(const char *path, struct err *e);
