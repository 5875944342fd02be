/* db.h: SQLite in its own lane. Everything that has queued up is one transaction (group commit); each job runs in its
 * own SAVEPOINT and fails alone. Memory changes in the jobs' done(), so it is never ahead of the disk. */
#pragma once
#include <stdint.h>
#include "lane.h"

struct db;
struct db_tx;				/* handed to work(); valid inside it only */

/* The way out of a read-only file system. */
#define DB_READ_ONLY_HINT "journalctl -k says why; check its disk, make it writable (mount -o remount,rw; where the kernel" \
			  " refuses that, restart the host), then restart croftd"

/* Open or create HOME/croft.db, migrate it forward, check its schema's version and that it is sound. Blocks: at start only. A
 * database of a newer version is refused with a sentence; of a damaged one what can be read is brought to a new one, and the
 * file is kept (db_salvage.h).
 * @frozen, with a code: the file system is read-only, and this is why nothing can be changed. Then the database is a copy in
 * memory with all that was committed (db_copy.h), and each job that would change something fails with that error, but those
 * that are passing. */
int db_open(sd_event *ev, const char *path, const struct err *frozen, struct db **ret, struct err *e);
const char *db_damage(const struct db *db);	/* of a frozen one: what is wrong with the file; NULL: nothing */
void db_close(struct db *db);		/* finishes what is queued, checkpoints */

/* A database job: embed it first. */
struct db_job {
	struct job job;
	struct db *db;
	bool passing;			/* worth nothing to the next croftd: done in a frozen database's copy, too */
	int (*work)(struct db_job *j, struct db_tx *tx, struct err *e);	/* in the lane */
	void (*done)(struct db_job *j, const struct err *e);		/* in the loop, after the commit */
};
void db_run(struct db *db, struct db_job *j, int (*work)(struct db_job *, struct db_tx *, struct err *),
	    void (*done)(struct db_job *, const struct err *));
/* Run one job at once, at start, before the loop. What it makes is made by each start where it is missing: so it is passing. */
int db_now(struct db *db, struct db_job *j, int (*work)(struct db_job *, struct db_tx *, struct err *), struct err *e);
size_t db_waiting(const struct db *db);

/* A statement, for work() only. @types has a letter for each value: s text (NULL is NULL), i int64_t, b bytes
 * (pointer, size_t). Statements are cached by the address of @sql, which must be a literal. */
struct db_rows;
int db_query(struct db_tx *tx, struct db_rows **ret, struct err *e, const char *sql, const char *types, ...);
int db_next(struct db_rows *r, struct err *e);			/* 1 a row, 0 the end (statement done), -errno */
int64_t db_int(struct db_rows *r, int column);
const char *db_text(struct db_rows *r, int column);		/* NULL for NULL; borrowed until the next step */
void db_done(struct db_rows *r);				/* end early; NULL is fine */
/* Run to the end. Returns the number of changed rows, or -errno: a UNIQUE violation is ERR_EXISTS. */
int db_exec(struct db_tx *tx, struct err *e, const char *sql, const char *types, ...);
int64_t db_last_id(struct db_tx *tx);
