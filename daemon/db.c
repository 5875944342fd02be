/* db.c: the only user of SQLite. */
#include <errno.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>
#include "db.h"
#include "db_copy.h"
#include "db_salvage.h"
#include "file.h"
#include "log.h"
#include "mem.h"
#include "schema.h"

#define BATCH_MAX	256	/* jobs in one transaction */
#define QUEUE_MAX	20000
#define VERSIONS_MAX	1000	/* so far ahead of us no schema will ever be */
#define STATEMENTS	128	/* cached; a power of two */

struct db_tx { struct db *db; };
struct db_rows { sqlite3_stmt *st; struct db *db; };
struct db {
	struct lane *lane;
	char *path, *damage;
	const struct err *frozen;	/* NULL: it can be written */
	sqlite3 *sql;
	struct db_tx tx;
	struct db_rows rows[STATEMENTS];
	const char *keys[STATEMENTS];
};

static int fail_write(struct db *db, struct err *e)
{
	AUTO_FREE char *folder = xstrndup(db->path, (size_t)(strrchr(db->path, '/') - db->path));
	int r = fail(e, ERR_UNAVAILABLE, "the database %s cannot be written: %s", db->path, sqlite3_errmsg(db->sql));

	return file_try(folder) == -EROFS ? err_hint(e, "its file system is read-only: " DB_READ_ONLY_HINT) : r;
}

static int fail_sql(struct db *db, struct err *e, int rc, const char *what)
{
	if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY)
		return fail(e, ERR_EXISTS, "%s", sqlite3_errmsg(db->sql));
	switch (rc & 0xff) {
	case SQLITE_FULL:
		return fail(e, ERR_NO_SPACE, "the database %s cannot grow: the disk is full", db->path);
	case SQLITE_READONLY:
		if (db->frozen)
			return fail_as(e, db->frozen);
		__attribute__((fallthrough));
	case SQLITE_IOERR: case SQLITE_CANTOPEN:
		return fail_write(db, e);
	case SQLITE_BUSY: case SQLITE_LOCKED: case SQLITE_NOMEM:
		return fail(e, ERR_UNAVAILABLE, "the database %s cannot be used now: %s", db->path, sqlite3_errmsg(db->sql));
	case SQLITE_CORRUPT: case SQLITE_NOTADB:
		fail(e, ERR_STATE, "the database %s is damaged: %s", db->path, sqlite3_errmsg(db->sql));
		return err_hint(e, "restart croftd: it keeps the file, and goes on with what can be read of it");
	default:
		return fail(e, ERR_INTERNAL, "the database refused to %s: %s", what, sqlite3_errmsg(db->sql));
	}
}

static void drop_statements(struct db *db)
{
	for (size_t i = 0; i < STATEMENTS; i++) {
		sqlite3_finalize(db->rows[i].st);
		db->rows[i].st = NULL;
		db->keys[i] = NULL;
	}
}

static int prepare(struct db *db, const char *sql, struct db_rows **ret, struct err *e)
{
	size_t i = ((uintptr_t)sql >> 3) % STATEMENTS;

	for (size_t n = 0; n < STATEMENTS && db->keys[i] && db->keys[i] != sql; n++)
		i = (i + 1) % STATEMENTS;
	if (db->keys[i] != sql) {
		if (db->keys[i])
			return fail(e, ERR_INTERNAL, "too many different statements");
		int rc = sqlite3_prepare_v3(db->sql, sql, -1, SQLITE_PREPARE_PERSISTENT, &db->rows[i].st, NULL);

		if (rc != SQLITE_OK)
			return fail_sql(db, e, rc, sql);
		db->keys[i] = sql;
		db->rows[i].db = db;
	}
	*ret = &db->rows[i];
	return 0;
}

static int bind(struct db_rows *r, const char *types, va_list ap)
{
	int rc = SQLITE_OK;

	for (int i = 1; rc == SQLITE_OK && types && types[i - 1]; i++) {
		switch (types[i - 1]) {
		case 's': rc = sqlite3_bind_text(r->st, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT); break;
		case 'i': rc = sqlite3_bind_int64(r->st, i, va_arg(ap, int64_t)); break;
		case 'b': {
			const void *p = va_arg(ap, const void *);

			rc = sqlite3_bind_text(r->st, i, p, (int)va_arg(ap, size_t), SQLITE_TRANSIENT);
			break;
		}
		default: rc = SQLITE_MISUSE;
		}
	}
	return rc;
}

static int query_v(struct db_tx *tx, struct db_rows **ret, struct err *e, const char *sql, const char *types, va_list ap)
{
	int r = prepare(tx->db, sql, ret, e);

	if (r < 0)
		return r;
	int rc = bind(*ret, types, ap);

	if (rc != SQLITE_OK) {
		db_done(*ret);
		return fail_sql(tx->db, e, rc, "bind a value");
	}
	return 0;
}

int db_query(struct db_tx *tx, struct db_rows **ret, struct err *e, const char *sql, const char *types, ...)
{
	va_list ap;

	va_start(ap, types);
	int r = query_v(tx, ret, e, sql, types, ap);

	va_end(ap);
	return r;
}

int db_next(struct db_rows *r, struct err *e)
{
	int rc = sqlite3_step(r->st);

	if (rc == SQLITE_ROW)
		return 1;
	int n = rc == SQLITE_DONE ? 0 : fail_sql(r->db, e, rc, "run a statement");

	db_done(r);
	return n;
}

int64_t db_int(struct db_rows *r, int column) { return sqlite3_column_int64(r->st, column); }
const char *db_text(struct db_rows *r, int column) { return (const char *)sqlite3_column_text(r->st, column); }

void db_done(struct db_rows *r)
{
	if (!r)
		return;
	sqlite3_reset(r->st);
	sqlite3_clear_bindings(r->st);
}

int db_exec(struct db_tx *tx, struct err *e, const char *sql, const char *types, ...)
{
	struct db_rows *rows;
	va_list ap;

	va_start(ap, types);
	int r = query_v(tx, &rows, e, sql, types, ap);

	va_end(ap);
	if (r < 0)
		return r;
	while ((r = db_next(rows, e)) > 0)
		;
	return r < 0 ? r : sqlite3_changes(tx->db->sql);
}

int64_t db_last_id(struct db_tx *tx) { return sqlite3_last_insert_rowid(tx->db->sql); }

static int run(struct db *db, struct err *e, const char *sql)
{
	int rc = sqlite3_exec(db->sql, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : fail_sql(db, e, rc, sql);
}

static int migrate(struct db *db, struct err *e)
{
	struct db_rows *rows;
	int r = db_query(&db->tx, &rows, e, "PRAGMA user_version", NULL);

	if (r < 0 || (r = db_next(rows, e)) < 0)
		return r;
	int64_t have = db_int(rows, 0), want = 0;

	db_done(rows);
	while (schema_migrations[want])
		want++;
	if (have < 0 || have > want + VERSIONS_MAX)
		return fail(e, ERR_STATE, "the database %s is damaged: its schema's version would be %lld", db->path, (long long)have);
	if (have > want)
		return fail(e, ERR_UNSUPPORTED, "the database %s was written by a newer Croft (schema %lld, this one knows %lld);"
			    " start that version again", db->path, (long long)have, (long long)want);
	if (have == want)
		return 0;
	AUTO_FREE char *version = xasprintf("PRAGMA user_version = %lld", (long long)want);

	bool fresh = have == 0;

	r = run(db, e, "BEGIN IMMEDIATE");
	for (; r == 0 && have < want; have++)
		r = run(db, e, schema_migrations[have]);
	if (r == 0 && fresh)
		r = run(db, e, DB_RENEWED);
	if (r == 0)
		r = run(db, e, version);
	if (r == 0)
		return run(db, e, "COMMIT");
	run(db, NULL, "ROLLBACK");
	if (e->code == ERR_INTERNAL)	/* what it says to be isn't what is in it */
		e->code = ERR_STATE;
	return r;
}

static void close_sql(struct db *db)
{
	drop_statements(db);
	sqlite3_close_v2(db->sql);
	db->sql = NULL;
}

static int set_up(struct db *db, struct err *e)
{
	sqlite3_extended_result_codes(db->sql, 1);
	sqlite3_busy_timeout(db->sql, 5000);	/* somebody may look at it with sqlite3, even now */
	int r = run(db, e, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
		    " PRAGMA cache_size=-512; PRAGMA trusted_schema=OFF; PRAGMA wal_autocheckpoint=1000");

	return r < 0 ? r : migrate(db, e);
}

static int reopen(struct db *db, struct err *e)
{
	close_sql(db);
	if (db->frozen) {
		int r = db_copy(db->path, &db->sql, e);

		return r < 0 ? r : set_up(db, e);
	}
	int rc = sqlite3_open_v2(db->path, &db->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);

	return rc != SQLITE_OK ? fail_sql(db, e, rc, "open") : set_up(db, e);
}

static int salvage(struct db *db, const char *why, struct err *e)
{
	uint64_t rows;

	close_sql(db);
	int r = db->frozen ? db_salvage_copy(db->path, &db->sql, &rows, e) : db_salvage(db->path, &rows, e);

	if (r < 0)
		return r;
	log_error("%s; %llu of its rows were brought to a new one, %s", why, (unsigned long long)rows,
		  db->frozen ? "in memory" : "beside which it is kept");
	if (!db->frozen)
		return reopen(db, e);
	db->damage = xasprintf("%s; what is shown is what can be read of it", why);
	return set_up(db, e);
}

/* A damaged one is set aside, and croftd comes up with what can be read of it. */
static int open_sound(struct db *db, struct err *e)
{
	struct err why = {};
	int r = db->frozen ? 0 : db_settle(db->path, e);

	if (r < 0)
		return r;
	r = db_check_log(db->path, &why);
	if (r == 0)
		r = reopen(db, &why);
	if (r == 0)
		r = db_check(db->sql, db->path, &why);
	if (r == 0 || why.code != ERR_STATE) {
		*e = why;
		return r;
	}
	return salvage(db, why.msg, e);
}

/* One job in its own savepoint. False: SQLite has given up the whole transaction (a full disk, an I/O error); what came
 * now would be committed by itself. */
static bool run_job(struct db *db, struct db_job *j)
{
	int r = run(db, &j->job.err, "SAVEPOINT job");

	if (r == 0 && db->frozen)
		r = run(db, &j->job.err, j->passing ? "PRAGMA query_only = OFF" : "PRAGMA query_only = ON");
	if (r == 0)
		r = j->work(j, &db->tx, &j->job.err);
	j->job.ret = r < 0 ? r : 0;
	if (sqlite3_get_autocommit(db->sql))
		return false;
	if (r < 0)
		run(db, NULL, "ROLLBACK TO job");
	run(db, NULL, "RELEASE job");
	return true;
}

static void batch(void *arg, struct job **jobs, size_t n)
{
	struct db *db = arg;
	struct err e = {};
	int r = db->sql ? 0 : reopen(db, &e);

	if (r == 0)
		r = run(db, &e, "BEGIN");
	for (size_t i = 0; r == 0 && i < n; i++)
		if (!run_job(db, (struct db_job *)jobs[i])) {
			e = jobs[i]->err;
			r = jobs[i]->ret ?: fail(&e, ERR_UNAVAILABLE, "the database %s gave up a transaction", db->path);
		}
	if (r == 0)
		r = run(db, &e, "COMMIT");
	if (r == 0)
		return;
	/* Nothing of this batch counts: every job says so. After a COMMIT that failed the connection stays: it knows where
	 * the last good transaction ends, and writes over what may stand behind it. Opened anew, it would believe that. */
	if (db->sql && !sqlite3_get_autocommit(db->sql))
		run(db, NULL, "ROLLBACK");
	if (!db->sql || !sqlite3_get_autocommit(db->sql))
		close_sql(db);
	if (e.code != ERR_NO_SPACE)
		e.code = ERR_UNAVAILABLE;
	for (size_t i = 0; i < n; i++) {
		if (jobs[i]->ret == 0)
			jobs[i]->err = e;
		jobs[i]->ret = -EAGAIN;
	}
}

static void job_done(struct job *job, const struct err *e)
{
	struct db_job *j = (struct db_job *)job;

	j->done(j, e);
}

void db_run(struct db *db, struct db_job *j, int (*work)(struct db_job *, struct db_tx *, struct err *),
	    void (*done)(struct db_job *, const struct err *))
{
	j->db = db;
	j->work = work;
	j->done = done;
	lane_run(db->lane, &j->job, NULL, job_done);
}

int db_now(struct db *db, struct db_job *j, int (*work)(struct db_job *, struct db_tx *, struct err *), struct err *e)
{
	struct job *jobs[] = { &j->job };

	j->db = db;
	j->work = work;
	j->passing = true;
	lane_wait(db->lane);	/* the connection is one thread's at a time: a VM that was found may have posted an event */
	batch(db, jobs, 1);
	if (j->job.ret < 0 && e)
		*e = j->job.err;
	return j->job.ret;
}

const char *db_damage(const struct db *db) { return db->damage; }
size_t db_waiting(const struct db *db) { return lane_len(db->lane); }

static void db_free(struct db *db)
{
	close_sql(db);
	free(db->path);
	free(db->damage);
	free(db);
}

int db_open(sd_event *ev, const char *path, const struct err *frozen, struct db **ret, struct err *e)
{
	struct db *db = xnew(db);
	int r;

	db->tx.db = db;
	db->path = xstrdup(path);
	db->frozen = frozen->code ? frozen : NULL;
	/* One thread uses it; its caches are sized for a Pi. */
	sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
	r = open_sound(db, e);
	if (r < 0) {
		db_free(db);
		return r;
	}
	db->lane = lane_new_batch(ev, "db", QUEUE_MAX, BATCH_MAX, batch, db);
	*ret = db;
	return 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	lane_free(db->lane);
	db_free(db);
}
