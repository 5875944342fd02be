/* task_rows.h: between task.c (how tasks run) and api_task.c (how they are read and written as JSON). */
#pragma once
#include "task.h"

struct task *task_find(const struct croft *c, uint64_t id);	/* an open one, or NULL */
int task_cancel(struct task *t, const char *by, struct req *r, struct err *e);	/* 0: @r, if any, is taken */
void task_write(const struct task *t, uint64_t id, struct buf *out);	/* as JSON; any thread that owns its change */
void task_write_open(const struct task *t, struct buf *out);	/* as far as it is on disk; the loop's thread */
void task_answer_end(struct req *r, const struct task *t);	/* it has ended: the object, or its problem */
char *task_error_text(const struct err *e);			/* problem document for the row; caller frees */
void task_error_parse(const char *text, struct err *ret);	/* NULL text: no error */
