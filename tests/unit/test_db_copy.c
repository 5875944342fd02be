// LINK: daemon hv-core storage net
/* The copy of a database is what SQLite itself makes of the same two files: whatever stands in the log. */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <unistd.h>
#include "db.h"
#include "db_copy.h"
#include "file.h"
#include "mem.h"
#include "t.h"

enum { ROUNDS = 60 };

static char folder[64], path[80];
static sqlite3 *db;

static void run(const char *sql)
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		t_fail(__FILE__, __LINE__, "%s: %s", sql, sqlite3_errmsg(db));
}

static void make_folder(void)
{
	snprintf(folder, sizeof folder, "/tmp/croft-copy-XXXXXX");
	ok(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/db", folder);
}

static void start(void)
{
	make_folder();
	eq_int(sqlite3_open(path, &db), SQLITE_OK);
	run("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=5;"
	    "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, text TEXT) STRICT; CREATE INDEX i ON t (n)");
}

static void stop(void)
{
	sqlite3_close(db);
	file_remove_tree(AT_FDCWD, folder);
}

static char *tell(sqlite3 *sql, const char *what)
{
	sqlite3_stmt *st = NULL;
	char *text = NULL;

	if (sqlite3_prepare_v2(sql, what, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
		text = xstrdup((const char *)sqlite3_column_text(st, 0) ?: "");
	sqlite3_finalize(st);
	return text ?: xstrdup(sqlite3_errmsg(sql));
}

static const char rows[] = "SELECT count(*) || ' ' || ifnull(sum(n), 0) || ' ' || ifnull(sum(length(text)), 0) FROM t";

/* A reader of its own, which sees what is committed. */
static char *committed(void)
{
	sqlite3 *other;

	eq_int(sqlite3_open(path, &other), SQLITE_OK);
	char *text = tell(other, rows);

	sqlite3_close(other);
	return text;
}

static void same(void)
{
	sqlite3 *copy = NULL;
	struct err e = {};

	eq_int(db_copy(path, &copy, &e), 0);
	AUTO_FREE char *want = committed(), *got = tell(copy, rows), *sound = tell(copy, "PRAGMA integrity_check");

	eq_str(got, want);
	eq_str(sound, "ok");
	sqlite3_close(copy);
}

TEST(whatever_is_in_the_log)
{
	static const char *const does[] = {
		"INSERT INTO t (n, text) VALUES (abs(random() % 1000), 'one')",
		"UPDATE t SET n = n + 1 WHERE id % 3 = 0",
		"DELETE FROM t WHERE id % 5 < 2",
		"PRAGMA wal_checkpoint(PASSIVE)",
		"PRAGMA wal_checkpoint(RESTART)",
		"PRAGMA wal_checkpoint(TRUNCATE)",
		"VACUUM",
		"WITH RECURSIVE s(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM s WHERE v < 300)"
		" INSERT INTO t (n, text) SELECT v, hex(randomblob(60)) FROM s",
	};
	unsigned seed = 1;

	start();
	for (int i = 0; i < ROUNDS; i++) {
		seed = seed * 1103515245 + 12345;
		sqlite3_exec(db, does[(seed >> 16) % COUNT(does)], NULL, NULL, NULL);
		same();
	}
	stop();
}

/* Its pages stand in the log already, and behind them no end of a transaction. */
TEST(what_is_not_committed_is_not_there)
{
	start();
	run(rows);
	run("INSERT INTO t (n, text) VALUES (1, 'kept')");
	run("BEGIN; WITH RECURSIVE s(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM s WHERE v < 2000)"
	    " INSERT INTO t (n, text) SELECT v, hex(randomblob(100)) FROM s");
	same();
	run("ROLLBACK");
	same();
	stop();
}

TEST(it_can_be_written_and_grows)
{
	sqlite3 *copy = NULL;
	struct err e = {};

	start();
	run("INSERT INTO t (n, text) VALUES (1, 'kept')");
	eq_int(db_copy(path, &copy, &e), 0);
	eq_int(sqlite3_exec(copy, "BEGIN; INSERT INTO t (n, text) VALUES (2, hex(randomblob(100000))); COMMIT", NULL, NULL, NULL),
	       SQLITE_OK);
	AUTO_FREE char *both = tell(copy, "SELECT count(*) FROM t"), *one = tell(db, "SELECT count(*) FROM t");

	eq_str(both, "2");
	eq_str(one, "1");
	sqlite3_close(copy);
	stop();
}

/* A salvage that was cut off between its two renames: the new one has all that there is, and the log is not its own. */
TEST(half_of_a_salvage)
{
	char fresh[90];

	start();
	run("INSERT INTO t (n, text) VALUES (1, 'kept'); PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t (n, text) VALUES (2, 'damaged')");
	snprintf(fresh, sizeof fresh, "%s.new", path);
	eq_int(rename(path, fresh), 0);
	sqlite3 *copy = NULL;
	struct err e = {};

	eq_int(db_copy(path, &copy, &e), 0);
	AUTO_FREE char *text = tell(copy, "SELECT group_concat(text) FROM t");

	eq_str(text, "kept");
	sqlite3_close(copy);
	stop();
}

/* ---- the database of a read-only home */

struct adding { struct db_job job; const char *name; struct err err; bool done; };

static int add_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	int r = db_exec(tx, e, "INSERT INTO settings (key, value) VALUES (?, '')", "s", ((struct adding *)j)->name);

	return r < 0 ? r : 0;
}

static int count_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT group_concat(key) FROM (SELECT key FROM settings WHERE key <> 'rebuild' ORDER BY key)", NULL);

	if (r < 0 || (r = db_next(q, e)) < 0)
		return r;
	((struct adding *)j)->name = xstrdup(db_text(q, 0) ?: "");
	db_done(q);
	return 0;
}

static void added(struct db_job *j, const struct err *e)
{
	struct adding *a = (struct adding *)j;

	a->done = true;
	a->err = e ? *e : (struct err){};
}

static struct err add(sd_event *ev, struct db *d, struct adding a)
{
	db_run(d, &a.job, add_work, added);
	while (!a.done)
		sd_event_run(ev, UINT64_MAX);
	return a.err;
}

static void holds(struct db *d, const char *want)
{
	struct adding a = {};
	struct err e = {};

	eq_int(db_now(d, &a.job, count_work, &e), 0);
	eq_str(a.name, want);
	free((char *)a.name);
}

TEST(a_frozen_one_keeps_nothing)
{
	struct err frozen = {}, e = {};
	struct adding now = { .name = "now" };
	struct db *d;
	sd_event *ev;

	make_folder();
	sd_event_new(&ev);
	eq_int(db_open(ev, path, &frozen, &d, &e), 0);
	eq_int(add(ev, d, (struct adding){ .name = "kept" }).code, 0);
	db_close(d);
	fail(&frozen, ERR_UNAVAILABLE, "it is read-only");
	err_hint(&frozen, "mend it");
	eq_int(db_open(ev, path, &frozen, &d, &e), 0);
	e = add(ev, d, (struct adding){ .name = "refused" });
	eq_int(e.code, ERR_UNAVAILABLE);
	eq_str(e.msg, "it is read-only");
	eq_str(e.hint, "mend it");
	eq_int(add(ev, d, (struct adding){ .name = "passing", .job.passing = true }).code, 0);
	eq_int(add(ev, d, (struct adding){ .name = "refused" }).code, ERR_UNAVAILABLE);
	eq_int(db_now(d, &now.job, add_work, &e), 0);
	holds(d, "kept,now,passing");
	db_close(d);
	frozen = (struct err){};
	eq_int(db_open(ev, path, &frozen, &d, &e), 0);
	holds(d, "kept");
	db_close(d);
	sd_event_unref(ev);
	file_remove_tree(AT_FDCWD, folder);
}

TEST(none)
{
	sqlite3 *copy;
	struct err e = {};

	ok(db_copy("/nowhere/croft.db", &copy, &e) < 0);
	ok(strstr(e.msg, "/nowhere/croft.db"));
}

T_MAIN
