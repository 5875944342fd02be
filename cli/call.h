/* call.h: one call of the API by its operationId, to its end: the task that it begins is waited for, with a line of
 * progress on a terminal; a problem is told. */
#pragma once
#include "api.h"
#include "vmctl.h"

struct call {
	const char *op;			/* "vm_start" */
	const char *params[3];		/* of the path, not escaped */
	const char *query;		/* escaped, without "?", or NULL */
	json_t *body;			/* taken; or NULL */
	const char *headers;		/* further ones, "Name: value\r\n", or NULL */
	unsigned patience_s;		/* for its answer; 0: that of every call */
	bool quiet;			/* say nothing; the error is in err */
	json_t *ret;			/* the answer, yours; NULL when it has none */
	uint64_t revision;		/* its ETag, or 0 */
	struct err err;
};
int call(struct ctl *c, struct call *k);		/* an exit code */
/* All pages of a list: a JSON array of items. */
int call_list(struct ctl *c, struct call *k, json_t **ret);
char *call_path(const struct api_op *op, const char *const *params, const char *query);
/* The problem document of @a as an error. */
void call_problem(const struct http_answer *a, struct err *e);
/* Wait for the task to its end. @ret (may be NULL) gets its object or the task itself. */
int call_wait_task(struct ctl *c, uint64_t id, json_t **ret);
bool call_interrupted(void);				/* SIGINT came while waiting */
