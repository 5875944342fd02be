/* api.h: what vmctl knows of the API: a table that cli/gen/api_table.c makes from cli/openapi.json when vmctl is
 * built. Help, flags, `key=value` and completion come from it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum api_type {
	API_STRING, API_INTEGER, API_BOOLEAN, API_TIME,
	API_OBJECT, API_MAP, API_LIST,		/* of sub */
	API_STRINGS, API_LABELS,		/* list and map of texts */
	API_ANY
};
enum api_field_flag { API_REQUIRED = 1, API_READ_ONLY = 2, API_SECRET = 4, API_CREATE_ONLY = 8, API_HOT = 16 };

struct api_schema;
struct api_field {
	const char *name;
	enum api_type type;
	unsigned flags;
	const struct api_schema *sub;
	const char *const *names;		/* what the text may be, NULL-terminated, or NULL */
	const char *def;			/* as JSON, or NULL */
	const char *help;
};
struct api_schema { const char *name, *help; const struct api_field *fields; };	/* ends with a field without name */
struct api_param { const char *name, *help; bool flag; };	/* flag: true or false */

enum api_op_flag {
	API_LISTS = 1, API_TASK = 2, API_BYTES_IN = 4, API_BYTES_OUT = 8, API_SOCKET = 16, API_PATCH = 32, API_BODY_OPTIONAL = 64
};
struct api_op {
	const char *id;				/* "vm_start" */
	const char *method, *path;		/* "/api/v1/vms/{vm}/start" */
	const char *help, *permission;
	unsigned flags;
	const struct api_schema *in, *out;
	const struct api_param *params;		/* of the path, in order; ends with a NULL name */
	const struct api_param *query;
};

const struct api_op *api_op(const char *id);	/* NULL when there is none */
const struct api_op *api_op_next(const struct api_op *op);	/* NULL: the first; NULL after the last */
const struct api_field *api_field(const struct api_schema *s, const char *name, size_t n);
