/* doctor_db.c: what the doctor asks the database: tasks that were interrupted, uploads that nobody goes on with, whose
 * the temporary files are; and, when it is wanted, whether the database is whole. */
#include <stdio.h>
#include <string.h>
#include "db.h"
#include "doctor.h"
#include "mem.h"
#include "text.h"

#define DAY_USEC	(86400 * 1000000ll)
#define LATELY_USEC	DAY_USEC
#define STALE_USEC	(7 * DAY_USEC)
#define ROWS_MAX	100

struct looking {
	struct db_job job;
	struct exam_part *part;
	void (*then)(struct exam *x);
	bool deep;
	int64_t now;
	struct field_vec found;		/* of struct row: told in the loop */
	struct field_vec ids;		/* of char * */
	uint64_t looked;
};
enum row_kind { ROW_TASK, ROW_UPLOAD, ROW_DAMAGE };
struct row { enum row_kind kind; char *object, *text; };

static void add(struct looking *l, enum row_kind kind, char *object, char *text)
{
	struct row *row = field_vec_add(&l->found, sizeof *row);

	*row = (struct row){ kind, object, text };
}

static void note_id(struct looking *l, const char *id) { *(char **)field_vec_add(&l->ids, sizeof(char *)) = xstrdup(id); }

static int look_at_tasks(struct looking *l, struct db_tx *tx, struct err *e)
{
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT id, kind, target_name, ifnull(error, ''), finished FROM tasks"
			 " WHERE state = 'interrupted' AND finished > ? ORDER BY id DESC LIMIT ?", "ii", l->now - LATELY_USEC,
			 (int64_t)ROWS_MAX);

	while (r >= 0 && (r = db_next(q, e)) > 0) {
		struct err ignored;
		json_t *j = json_parse(db_text(q, 3), strlen(db_text(q, 3)), 8192, &ignored);
		const char *detail = json_string_value(json_object_get(j, "detail"));
		char when[32];

		text_time_format(db_int(q, 4), when);
		add(l, ROW_TASK, xasprintf("%lld", (long long)db_int(q, 0)), xasprintf("the task %s of %s was interrupted at %.19sZ: %s",
			    db_text(q, 1), db_text(q, 2), when, detail ?: "croftd was restarted"));
		json_decref(j);
	}
	return r < 0 ? r : 0;
}

/* Every UUID in the text of an open task may be the name of a file that it works on. */
static void note_ids(struct looking *l, const char *text)
{
	uint8_t id[16];
	char piece[37], canonical[37];

	for (size_t n = strlen(text), i = 0; i + 36 <= n; i++) {
		memcpy(piece, text + i, 36);
		piece[36] = 0;
		if (piece[8] != '-' || piece[13] != '-' || text_uuid(piece, id) < 0)
			continue;
		text_uuid_format(id, canonical);
		note_id(l, canonical);
		i += 35;
	}
}

static int look_at_owners(struct looking *l, struct db_tx *tx, struct err *e)
{
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT target, args, data FROM tasks WHERE finished IS NULL", NULL);

	while (r >= 0 && (r = db_next(q, e)) > 0)
		for (int i = 0; i < 3; i++)
			note_ids(l, db_text(q, i));
	if (r >= 0)
		r = db_query(tx, &q, e, "SELECT id, target, user, durable, created FROM uploads ORDER BY created", NULL);
	while (r >= 0 && (r = db_next(q, e)) > 0) {
		char safe[24], when[32];

		l->looked++;
		note_id(l, db_text(q, 0));
		if (db_int(q, 4) > l->now - STALE_USEC || l->found.n > 2 * ROWS_MAX)
			continue;
		text_size_format((uint64_t)db_int(q, 3), safe);
		text_time_format(db_int(q, 4), when);
		add(l, ROW_UPLOAD, xstrdup(db_text(q, 0)), xasprintf("the upload to %s by %s has stood still at %s since %.10s or later",
			    db_text(q, 1), db_text(q, 2), safe, when));
	}
	return r < 0 ? r : 0;
}

static int look_at_database(struct looking *l, struct db_tx *tx, struct err *e)
{
	struct db_rows *q;
	int r = db_query(tx, &q, e, "PRAGMA quick_check(20)", NULL);

	while (r >= 0 && (r = db_next(q, e)) > 0)
		if (strcmp(db_text(q, 0), "ok") != 0)
			add(l, ROW_DAMAGE, NULL, xasprintf("the database is damaged: %s", db_text(q, 0)));
	l->looked++;
	return r < 0 ? r : 0;
}

static int look_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct looking *l = (struct looking *)j;
	int r = look_at_tasks(l, tx, e);

	if (r == 0)
		r = look_at_owners(l, tx, e);
	return r == 0 && l->deep ? look_at_database(l, tx, e) : r;
}

static void tell(struct exam *x, const struct row *row)
{
	AUTO_FREE char *get = xasprintf("vmctl task get %s", row->object ?: "");
	AUTO_FREE char *give_up = xasprintf("vmctl upload rm %s", row->object ?: "");
	const char *renew = "systemctl restart croftd  # keeps the damaged files, and brings what can be read to a new database";

	switch (row->kind) {
	case ROW_TASK: exam_find(x, SEVERITY_WARNING, "task-interrupted", row->object, get, "%s", row->text); break;
	case ROW_UPLOAD: exam_find(x, SEVERITY_NOTE, "upload-cut-off", row->object, give_up, "%s", row->text); break;
	case ROW_DAMAGE: exam_find(x, SEVERITY_ERROR, "database-damaged", "croft.db", renew, "%s", row->text); break;
	}
}

static void looking_free(struct looking *l)
{
	struct row *row = l->found.items;

	for (size_t i = 0; i < l->found.n; i++) {
		free(row[i].object);
		free(row[i].text);
	}
	for (size_t i = 0; i < l->ids.n; i++)
		free(((char **)l->ids.items)[i]);
	free(l->found.items);
	free(l->ids.items);
	free(l);
}

static void look_done(struct db_job *j, const struct err *e)
{
	struct looking *l = (struct looking *)j;
	struct exam_part *part = l->part;
	struct exam *x = exam_of(part);

	if (e)
		exam_find(x, SEVERITY_ERROR, "database-unreadable", "croft.db", NULL, "the database cannot be read: %s", e->msg);
	for (size_t i = 0; i < l->found.n; i++)
		tell(x, &((struct row *)l->found.items)[i]);
	for (size_t i = 0; i < l->ids.n; i++)
		exam_know(x, ((char **)l->ids.items)[i]);
	exam_looked(x, l->looked);
	if (!e && !exam_croft(x)->stopping)
		l->then(x);
	looking_free(l);
	exam_part_end(part);
}

void doctor_db(struct exam *x, void (*then)(struct exam *x))
{
	struct looking *l = xnew(looking);

	l->part = exam_part(x, xstrdup("the database"));
	l->then = then;
	l->deep = exam_deep(x);
	l->now = exam_began(x);
	db_run(exam_croft(x)->db, &l->job, look_work, look_done);
}
