#include <string.h>
#include "api.h"
#include "api_table.h"

const struct api_op *api_op_next(const struct api_op *op)
{
	op = op ? op + 1 : api_table;
	return op->id ? op : NULL;
}

const struct api_op *api_op(const char *id)
{
	for (const struct api_op *op = NULL; (op = api_op_next(op)); )
		if (!strcmp(op->id, id))
			return op;
	return NULL;
}

const struct api_field *api_field(const struct api_schema *s, const char *name, size_t n)
{
	for (const struct api_field *f = s ? s->fields : NULL; f && f->name; f++)
		if (strlen(f->name) == n && !memcmp(f->name, name, n))
			return f;
	return NULL;
}
