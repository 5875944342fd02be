/* doctor.h: an examination of this host: what is not as it should be, and how to mend it. The checks are a table
 * (doctor.c); each looks at memory at once, or begins parts that come back from lanes. Answered when the last part is
 * back, or at its deadline with the parts that are missing told. The loop's thread only. */
#pragma once
#include "croft.h"
#include "fields.h"
#include "inventory.h"
#include "stores.h"

enum severity { SEVERITY_NOTE, SEVERITY_WARNING, SEVERITY_ERROR };
struct exam;
struct exam_part;

/* Begin a part; @what is owned by it: "the datastore local". It must be ended once, however late. */
struct exam_part *exam_part(struct exam *x, char *what);
struct exam *exam_of(struct exam_part *p);
void exam_part_end(struct exam_part *p);
struct croft *exam_croft(const struct exam *x);
bool exam_deep(const struct exam *x);
bool exam_over(const struct exam *x);		/* answered already: what is found now is told to nobody */
int64_t exam_began(const struct exam *x);	/* wall clock, microseconds */
void exam_looked(struct exam *x, uint64_t n);	/* so many things were looked at */
/* Ids of uploads and of open tasks' files: whatever bears another one belongs to nobody. */
bool exam_knows(const struct exam *x, const char *id);
/* A finding. @what: a stable word; @hint: the command that mends it, or NULL. */
void exam_find(struct exam *x, enum severity s, const char *what, const char *object, const char *hint, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));
/* 'a path' as a shell takes it literally; caller frees. */
char *shell_quote(const char *text);

void doctor_host(struct exam *x);	/* doctor_host.c: processes, run folders, interfaces, the clock */
void doctor_db(struct exam *x, void (*then)(struct exam *x));	/* doctor_db.c: rows; then: exam_knows may be asked */
void exam_know(struct exam *x, const char *id);
void doctor_stores(struct exam *x);	/* doctor_stores.c: files against rows */
void doctor_sweep_stores(struct exam *x);

/* At start, behind what the tasks that go on have written: remove temporary files on datastores that bear an id that
 * neither an upload's row nor an open task knows, and that nobody has written to for an hour. */
void doctor_sweep(struct croft *c);
