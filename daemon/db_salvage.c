#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "buf.h"
#include "db_copy.h"
#include "db_log.h"
#include "db_salvage.h"
#include "file.h"
#include "mem.h"
#include "schema.h"

struct salvage {
	const char *path;
	char *fresh;		/* PATH.new, or :memory: */
	sqlite3 *from, *to;
	uint64_t rows;
};

static int version_of(sqlite3 *sql)
{
	sqlite3_stmt *st = NULL;
	int version = 0;

	if (sqlite3_prepare_v2(sql, "PRAGMA user_version", -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
		version = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return version;
}

/* Every column of every table. The texts that make them may be written differently by another SQLite. */
static char *shape_of(sqlite3 *sql)
{
	struct buf b = BUF_INIT(1 << 20);
	sqlite3_stmt *st = NULL;

	sqlite3_prepare_v2(sql, "SELECT m.name, p.name, p.type, p.\"notnull\", p.pk FROM sqlite_schema m, pragma_table_info(m.name) p"
			   " WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, p.cid", -1, &st, NULL);
	while (st && sqlite3_step(st) == SQLITE_ROW)
		for (int i = 0; i < 5; i++)
			buf_addf(&b, "%.100s ", (const char *)sqlite3_column_text(st, i) ?: "");
	sqlite3_finalize(st);
	buf_adds(&b, "");
	return buf_take(&b);
}

/* What integrity_check takes as it stands: the tables' own definitions. */
static int check_shape(sqlite3 *sql, const char *path, struct err *e)
{
	int version = version_of(sql), known = 0, rc = SQLITE_OK;
	sqlite3 *fresh = NULL;

	while (schema_migrations[known])
		known++;
	if (version <= 0 || version > known || sqlite3_open(":memory:", &fresh) != SQLITE_OK) {
		sqlite3_close(fresh);
		return 0;
	}
	for (int i = 0; rc == SQLITE_OK && i < version; i++)
		rc = sqlite3_exec(fresh, schema_migrations[i], NULL, NULL, NULL);
	AUTO_FREE char *is = shape_of(sql), *should = shape_of(fresh);

	sqlite3_close(fresh);
	return rc != SQLITE_OK || strcmp(is ?: "", should ?: "") == 0 ? 0 :
	       fail(e, ERR_STATE, "the database %s is damaged: its tables are not those that croftd has made", path);
}

int db_check(sqlite3 *sql, const char *path, struct err *e)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(sql, "PRAGMA integrity_check(1)", -1, &st, NULL), r = 0;

	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc != SQLITE_ROW)
		r = fail(e, ERR_STATE, "the database %s is damaged: %s", path, sqlite3_errmsg(sql));
	else if (strcmp((const char *)sqlite3_column_text(st, 0) ?: "", "ok") != 0)
		r = fail(e, ERR_STATE, "the database %s is damaged: %.200s", path, (const char *)sqlite3_column_text(st, 0));
	sqlite3_finalize(st);
	return r ?: check_shape(sql, path, e);
}

int db_check_log(const char *path, struct err *e)
{
	AUTO_FREE char *name = xasprintf("%s-wal", path), *text = NULL;
	size_t n;

	if (access(path, F_OK) < 0 || file_read_at(AT_FDCWD, name, DB_LOG_MAX, &text, &n) < 0 || db_log_lost(text, n) < 2)
		return 0;
	return fail(e, ERR_STATE, "the database %s is damaged: what was changed last is missing, since its log cannot be read to its end",
		    path);
}

/* ---- the new one */

static int fail_new(const struct salvage *s, struct err *e, const char *what)
{
	int code = sqlite3_errcode(s->to) & 0xff;

	return fail(e, code == SQLITE_FULL ? ERR_NO_SPACE : ERR_UNAVAILABLE, "the database %s is damaged, and %s: %s", s->path, what,
		    sqlite3_errmsg(s->to));
}

static void remove_new(const struct salvage *s)
{
	AUTO_FREE char *journal = xasprintf("%s-journal", s->fresh);

	unlink(s->fresh);
	unlink(journal);
}

/* With the damaged one's version of the schema where that can be read: what opens it next brings it forward. */
static int make_new(struct salvage *s, struct err *e)
{
	int have = version_of(s->from), want = 0;

	while (schema_migrations[want] && (have <= 0 || want < have))
		want++;
	int rc = sqlite3_open_v2(s->fresh, &s->to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	AUTO_FREE char *version = xasprintf("PRAGMA user_version = %d", want);

	if (rc == SQLITE_OK)
		rc = sqlite3_exec(s->to, "PRAGMA synchronous=FULL; BEGIN", NULL, NULL, NULL);
	for (int i = 0; rc == SQLITE_OK && i < want; i++)
		rc = sqlite3_exec(s->to, schema_migrations[i], NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(s->to, version, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : fail_new(s, e, "a new one cannot be made");
}

/* ---- rows */

/* "INSERT OR IGNORE INTO t (a, b) VALUES (?1, ?2)"; without the names each column is what it is by its place. */
static sqlite3_stmt *prepare(struct salvage *s, const char *table, sqlite3_stmt *rows, bool named)
{
	sqlite3_str *text = sqlite3_str_new(s->to);
	sqlite3_stmt *st = NULL;
	int n = sqlite3_column_count(rows);

	sqlite3_str_appendf(text, "INSERT OR IGNORE INTO \"%w\"", table);
	for (int i = 0; named && i < n; i++)
		sqlite3_str_appendf(text, "%s\"%w\"", i ? ", " : " (", sqlite3_column_name(rows, i));
	sqlite3_str_appendall(text, named ? ") VALUES (" : " VALUES (");
	for (int i = 1; i <= n; i++)
		sqlite3_str_appendf(text, "%s?%d", i > 1 ? ", " : "", i);
	sqlite3_str_appendall(text, ")");
	char *sql = sqlite3_str_finish(text);

	sqlite3_prepare_v2(s->to, sql, -1, &st, NULL);
	sqlite3_free(sql);
	return st;
}

/* A column may have lost its name. */
static sqlite3_stmt *prepare_insert(struct salvage *s, const char *table, sqlite3_stmt *rows)
{
	return prepare(s, table, rows, true) ?: prepare(s, table, rows, false);
}

/* To the first page that cannot be read: then from the other end. False when the new database refuses to grow. */
static bool copy_rows(struct salvage *s, const char *table, const char *order)
{
	char *sql = sqlite3_mprintf("SELECT * FROM \"%w\" NOT INDEXED ORDER BY rowid %s", table, order);
	sqlite3_stmt *rows = NULL, *insert = NULL;
	bool good = true;

	if (sqlite3_prepare_v2(s->from, sql, -1, &rows, NULL) == SQLITE_OK)
		insert = prepare_insert(s, table, rows);
	while (insert && good && sqlite3_step(rows) == SQLITE_ROW) {
		for (int i = 0; i < sqlite3_column_count(rows); i++)
			sqlite3_bind_value(insert, i + 1, sqlite3_column_value(rows, i));
		int rc = sqlite3_step(insert);

		/* What is no row of this table any more (a text where a number was) is left out. */
		good = rc == SQLITE_DONE || (rc & 0xff) == SQLITE_CONSTRAINT || (rc & 0xff) == SQLITE_MISMATCH;
		if (rc == SQLITE_DONE)
			s->rows += (uint64_t)sqlite3_changes(s->to);
		sqlite3_reset(insert);
	}
	sqlite3_finalize(rows);
	sqlite3_finalize(insert);
	sqlite3_free(sql);
	return good;
}

static int copy_tables(struct salvage *s, struct err *e)
{
	sqlite3_stmt *st = NULL;
	bool good = sqlite3_prepare_v2(s->to, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'", -1,
				       &st, NULL) == SQLITE_OK;

	while (good && sqlite3_step(st) == SQLITE_ROW) {
		const char *table = (const char *)sqlite3_column_text(st, 0);

		good = copy_rows(s, table, "ASC") && copy_rows(s, table, "DESC");
	}
	sqlite3_finalize(st);
	/* A number that was given must not be given again: seconds are more than any counter has come to. */
	good = good && sqlite3_exec(s->to,
		"DELETE FROM tokens WHERE user NOT IN (SELECT id FROM users);"
		"DELETE FROM sessions WHERE user NOT IN (SELECT id FROM users);"
		"DELETE FROM sqlite_sequence;"
		"INSERT INTO sqlite_sequence SELECT 'events', max(ifnull(max(seq), 0) + 1000000, strftime('%s')) FROM events;"
		"INSERT INTO sqlite_sequence SELECT 'tasks', max(ifnull(max(id), 0) + 1000000, strftime('%s')) FROM tasks;"
		DB_RENEWED "; COMMIT", NULL, NULL, NULL) == SQLITE_OK;
	return good ? 0 : fail_new(s, e, "what can be read of it cannot be written");
}

/* ---- the files. The damaged one goes first: without it the next start knows that the new one is complete. */

static int sync_folder(const char *path)
{
	AUTO_FREE char *folder = xstrndup(path, (size_t)(strrchr(path, '/') - path));
	AUTO_CLOSE int fd = file_open_dir(AT_FDCWD, *folder ? folder : "/", false, 0);

	return fd < 0 ? fd : file_sync_dir(fd);
}

static int move(const char *from, const char *to)
{
	if (rename(from, to) < 0 && errno != ENOENT)
		return -errno;
	return sync_folder(to);
}

static int put_in_place(const char *path, const char *fresh, struct err *e)
{
	char when[32];
	time_t now = time(NULL);
	struct tm tm;

	strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
	AUTO_FREE char *kept = xasprintf("%s.damaged-%s", path, when), *kept_wal = xasprintf("%s-wal", kept);
	AUTO_FREE char *wal = xasprintf("%s-wal", path), *shm = xasprintf("%s-shm", path);
	int r = sync_folder(path);

	if (r == 0)
		r = move(path, kept);
	if (r == 0)
		r = move(wal, kept_wal);
	if (r == 0 && unlink(shm) < 0 && errno != ENOENT)
		r = -errno;
	if (r == 0)
		r = move(fresh, path);
	return r < 0 ? fail_errno(e, r, "put a new database in the place of the damaged %s", path) : 0;
}

int db_salvage(const char *path, uint64_t *ret_rows, struct err *e)
{
	struct salvage s = { .path = path, .fresh = xasprintf("%s.new", path) };

	/* Read only: its log is read, and nothing is brought from there into the damaged file. */
	if (sqlite3_open_v2(path, &s.from, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK)
		sqlite3_exec(s.from, "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON", NULL, NULL, NULL);
	remove_new(&s);
	int r = make_new(&s, e);

	if (r == 0)
		r = copy_tables(&s, e);
	sqlite3_close_v2(s.from);
	sqlite3_close_v2(s.to);
	if (r == 0)
		r = put_in_place(path, s.fresh, e);
	else
		remove_new(&s);
	if (r == 0)
		*ret_rows = s.rows;
	free(s.fresh);
	return r;
}

int db_salvage_copy(const char *path, sqlite3 **ret, uint64_t *ret_rows, struct err *e)
{
	struct salvage s = { .path = path, .fresh = (char *)":memory:" };
	int r = db_copy(path, &s.from, e);

	if (r < 0)
		return r;
	r = make_new(&s, e);
	if (r == 0)
		r = copy_tables(&s, e);
	sqlite3_close_v2(s.from);
	if (r < 0) {
		sqlite3_close_v2(s.to);
		return r;
	}
	*ret = s.to;
	*ret_rows = s.rows;
	return 0;
}

int db_settle(const char *path, struct err *e)
{
	AUTO_FREE char *fresh = xasprintf("%s.new", path), *wal = xasprintf("%s-wal", path);

	if (access(path, F_OK) == 0 || (access(fresh, F_OK) < 0 && access(wal, F_OK) < 0))
		return 0;
	return put_in_place(path, fresh, e);
}
