/* openapi.c: walks the two tables. Nothing about the API stands here that does not stand there. */
#include <stdio.h>
#include <string.h>
#include "croft.h"
#include "err.h"
#include "map.h"
#include "mem.h"
#include "openapi.h"
#include "routes.h"
#include "version.h"

static struct map *schemas;		/* name -> struct fields, in order of first use */

static void mention(const struct fields *f)
{
	if (!f || map_get(schemas, f->name))
		return;
	map_set(schemas, f->name, (void *)f);
	for (const struct field *row = f->rows; row->name; row++)
		mention(row->sub);
}

static void ref(struct jw *w, const char *key, const char *name)
{
	jw_obj(w, key);
	jw_strf(w, "$ref", "#/components/schemas/%s", name);
	jw_end(w);
}

static void type_of(struct jw *w, const char *type, bool nullable)
{
	if (!nullable) {
		jw_str(w, "type", type);
		return;
	}
	jw_arr(w, "type");
	jw_str(w, NULL, type);
	jw_str(w, NULL, "null");
	jw_end(w);
}

static void write_number(struct jw *w, const struct field *f)
{
	jw_str(w, "type", "integer");
	jw_u64(w, "minimum", f->min);
	if (f->max)
		jw_u64(w, "maximum", f->max);
	if (f->multiple)
		jw_u64(w, "multipleOf", f->multiple);
}

static void write_string(struct jw *w, const struct field *f, bool nullable)
{
	type_of(w, "string", nullable);
	if (f->min)
		jw_u64(w, "minLength", f->min);
	if (f->max)
		jw_u64(w, "maxLength", f->max);
	if (f->rule)
		jw_str(w, "x-rule", f->rule);
}

static void write_enum(struct jw *w, const struct field *f, bool nullable)
{
	type_of(w, "string", nullable);
	jw_arr(w, "enum");
	for (const char *const *n = f->names; *n; n++)
		jw_str(w, NULL, *n);
	if (nullable)
		jw_null(w, NULL);
	jw_end(w);
}

static void write_object(struct jw *w, const struct fields *f, bool nullable)
{
	if (nullable) {
		jw_arr(w, "anyOf");
		jw_obj(w, NULL);
	}
	jw_strf(w, "$ref", "#/components/schemas/%s", f->name);
	if (!nullable)
		return;
	jw_end(w);
	jw_obj(w, NULL);
	jw_str(w, "type", "null");
	jw_end(w);
	jw_end(w);
}

static void write_type(struct jw *w, const struct field *f)
{
	bool nullable = f->flags & FIELD_NULLABLE;

	switch (f->type) {
	case F_STR: write_string(w, f, nullable); break;
	case F_U64: write_number(w, f); break;
	case F_BOOL: jw_str(w, "type", "boolean"); break;
	case F_ENUM: write_enum(w, f, nullable); break;
	case F_TIME: type_of(w, "string", true); jw_str(w, "format", "date-time"); break;
	case F_OBJECT: write_object(w, f->sub, nullable); break;
	case F_MAP: jw_str(w, "type", "object"); ref(w, "additionalProperties", f->sub->name); break;
	case F_LIST: jw_str(w, "type", "array"); ref(w, "items", f->sub->name); break;
	case F_STRS: jw_str(w, "type", "array"); jw_obj(w, "items"); jw_str(w, "type", "string"); jw_end(w); break;
	case F_LABELS: jw_str(w, "type", "object"); jw_obj(w, "additionalProperties"); jw_str(w, "type", "string"); jw_end(w); break;
	case F_JSON: break;		/* anything */
	}
}

static void write_row(struct jw *w, const struct field *f)
{
	jw_obj(w, f->name);
	write_type(w, f);
	if (f->def)
		jw_raw(w, "default", f->def, strlen(f->def));
	if (f->help)
		jw_str(w, "description", f->help);
	if (f->flags & FIELD_READ_ONLY)
		jw_bool(w, "readOnly", true);
	if (f->flags & FIELD_SECRET)
		jw_bool(w, "writeOnly", true);
	if (f->flags & FIELD_CREATE_ONLY)
		jw_bool(w, "x-create-only", true);
	if (f->flags & FIELD_HOT)
		jw_bool(w, "x-hot", true);
	jw_end(w);
}

/* Is it what the entries of a map are made of? Their first row is the key, and no part of the entry. */
static bool is_entry(const struct fields *f)
{
	const struct fields *s;

	for (size_t i = 0; (s = map_next(schemas, &i, NULL)); )
		for (const struct field *row = s->rows; row->name; row++)
			if (row->type == F_MAP && row->sub == f)
				return true;
	return false;
}

static void write_schema(struct jw *w, const struct fields *f)
{
	const struct field *rows = f->rows + is_entry(f);
	bool required = false;

	jw_obj(w, f->name);
	jw_str(w, "type", "object");
	if (f->help)
		jw_str(w, "description", f->help);
	jw_obj(w, "properties");
	for (const struct field *row = rows; row->name; row++) {
		write_row(w, row);
		required |= row->flags & FIELD_REQUIRED;
	}
	jw_end(w);
	if (required) {
		jw_arr(w, "required");
		for (const struct field *row = rows; row->name; row++)
			if (row->flags & FIELD_REQUIRED)
				jw_str(w, NULL, row->name);
		jw_end(w);
	}
	jw_end(w);
}

static void write_parameter(struct jw *w, const char *in, const char *name, const char *type, const char *help)
{
	jw_obj(w, NULL);
	jw_str(w, "name", name);
	jw_str(w, "in", in);
	if (strcmp(in, "path") == 0)
		jw_bool(w, "required", true);
	if (help)
		jw_str(w, "description", help);
	jw_obj(w, "schema");
	jw_str(w, "type", type);
	jw_end(w);
	jw_end(w);
}

static void write_parameters(struct jw *w, const struct route *r)
{
	jw_arr(w, "parameters");
	for (const char *p = r->path; (p = strchr(p, '{')); p++) {
		char name[32];

		snprintf(name, sizeof name, "%.*s", (int)strcspn(p + 1, ".}"), p + 1);
		write_parameter(w, "path", name, "string", NULL);
	}
	for (const struct route_query *q = r->query; q && q->name; q++)
		write_parameter(w, "query", q->name, q->type, q->help);
	if (r->flags & ROUTE_TASK)
		write_parameter(w, "header", "Prefer", "string", "wait=N: answer at the task's end, at most N seconds later");
	if (r->flags & ROUTE_IF_MATCH)
		write_parameter(w, "header", "If-Match", "string", "the ETag that was read: change nothing if it is another by now");
	if (strcmp(r->method, "POST") == 0 || strcmp(r->method, "DELETE") == 0)
		write_parameter(w, "header", "Idempotency-Key", "string", "the same request with the same key is done once");
	jw_end(w);
}

static void write_content(struct jw *w, const char *type, const char *schema, unsigned list)
{
	jw_obj(w, "content");
	jw_obj(w, type);
	jw_obj(w, "schema");
	if (list) {
		jw_str(w, "type", "object");
		jw_obj(w, "properties");
		jw_obj(w, "items");
		jw_str(w, "type", "array");
		ref(w, "items", schema);
		jw_end(w);
		jw_obj(w, "next");
		jw_str(w, "description", "cursor of the next page, or null");
		jw_end(w);
		if (list & ROUTE_STREAM) {
			jw_obj(w, "reset");
			jw_str(w, "type", "boolean");
			jw_str(w, "description", "true: what came right after the number that was asked for is not kept any more");
			jw_end(w);
		}
		jw_end(w);
	} else if (schema) {
		jw_strf(w, "$ref", "#/components/schemas/%s", schema);
	}
	jw_end(w);
	jw_end(w);
	jw_end(w);
}

static void write_response(struct jw *w, const char *status, const char *what, const char *type, const char *schema,
			   unsigned list)
{
	jw_obj(w, status);
	jw_str(w, "description", what);
	if (type)
		write_content(w, type, schema, list);
	jw_end(w);
}

static void write_responses(struct jw *w, const struct route *r)
{
	const char *out = r->out ? r->out->name : NULL;

	jw_obj(w, "responses");
	if (r->flags & ROUTE_SOCKET) {
		write_response(w, "101", "a WebSocket of binary frames", NULL, NULL, 0);
	} else if (r->flags & ROUTE_BYTES_OUT) {
		write_response(w, "200", "the bytes", "application/octet-stream", NULL, 0);
		write_response(w, "206", "the Range of them that was asked for", "application/octet-stream", NULL, 0);
	} else if (r->flags & ROUTE_NO_CONTENT) {
		write_response(w, "204", "done", NULL, NULL, 0);
	} else {
		write_response(w, r->flags & ROUTE_CREATED ? "201" : "200", r->flags & ROUTE_TASK ? "done (with Prefer: wait)" : "done",
			       "application/json", out, r->flags & ROUTE_LIST ? r->flags : 0);
	}
	if (r->flags & ROUTE_TASK)
		write_response(w, "202", "a task has begun; Location is its path", "application/json", "Task", 0);
	write_response(w, "default", "a problem (RFC 9457)", "application/problem+json", "Problem", 0);
	jw_end(w);
}

static void write_operation(struct jw *w, const struct route *r)
{
	char method[8];

	for (size_t i = 0; i <= strlen(r->method); i++)
		method[i] = (char)(r->method[i] | (r->method[i] ? 0x20 : 0));
	jw_obj(w, method);
	jw_str(w, "operationId", r->id);
	jw_str(w, "summary", r->help);
	jw_str(w, "x-permission", r->perm < PERM_COUNT ? perm_names[r->perm] : r->perm == PERM_LOGIN ? "login" : "none");
	if (r->perm == PERM_ANYBODY) {
		jw_arr(w, "security");
		jw_end(w);
	}
	write_parameters(w, r);
	if (r->in || (r->flags & ROUTE_BYTES_IN)) {
		const char *type = r->flags & ROUTE_BYTES_IN ? "application/octet-stream" :
				   r->flags & ROUTE_PATCH ? "application/merge-patch+json" : "application/json";

		jw_obj(w, "requestBody");
		jw_bool(w, "required", !(r->flags & ROUTE_OPTIONAL));
		write_content(w, type, r->in ? r->in->name : NULL, 0);
		jw_end(w);
	}
	write_responses(w, r);
	jw_end(w);
}

/* The rows of one path stand together in the document, wherever they are in the tables. */
static void write_paths(struct jw *w)
{
	struct map *seen = map_new();

	jw_obj(w, "paths");
	for (const struct route *r = NULL; (r = route_next(r)); ) {
		char path[128], *dots;

		if (map_set(seen, r->path, (void *)r))
			continue;
		snprintf(path, sizeof path, "%s", r->path);
		if ((dots = strstr(path, "...}")))
			memcpy(dots, "}", 2);
		jw_obj(w, path);
		for (const struct route *o = NULL; (o = route_next(o)); )
			if (strcmp(o->path, r->path) == 0)
				write_operation(w, o);
		jw_end(w);
	}
	jw_end(w);
	map_free(seen);
}

static const char problem[] =
	"{\"type\":\"object\",\"description\":\"what went wrong and the way out (RFC 9457)\",\"properties\":{"
	"\"type\":{\"type\":\"string\",\"description\":\"stable: /problems/NAME\"},\"title\":{\"type\":\"string\"},"
	"\"status\":{\"type\":\"integer\"},\"detail\":{\"type\":\"string\"},\"hint\":{\"type\":\"string\"},"
	"\"errors\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"pointer\":{\"type\":\"string\"},"
	"\"detail\":{\"type\":\"string\"}}}},\"task\":{\"type\":\"integer\"},\"permission\":{\"type\":\"string\"},"
	"\"retry_after_s\":{\"type\":\"integer\"},\"request_id\":{\"type\":\"string\"}},"
	"\"required\":[\"type\",\"title\",\"status\",\"detail\"]}";
static const char security[] =
	"{\"token\":{\"type\":\"http\",\"scheme\":\"bearer\"},"
	"\"session\":{\"type\":\"apiKey\",\"in\":\"cookie\",\"name\":\"__Host-croft\"}}";

static void write_document(struct jw *w)
{
	const struct fields *f;

	jw_obj(w, NULL);
	jw_str(w, "openapi", "3.1.0");
	jw_obj(w, "info");
	jw_str(w, "title", "Croft");
	jw_str(w, "version", CROFT_VERSION);
	jw_str(w, "description", "The host agent of an ARM hypervisor host.");
	jw_end(w);
	jw_raw(w, "security", "[{\"token\":[]},{\"session\":[]}]", 29);
	write_paths(w);
	jw_obj(w, "components");
	jw_raw(w, "securitySchemes", security, strlen(security));
	jw_obj(w, "schemas");
	for (size_t i = 0; (f = map_next(schemas, &i, NULL)); )
		write_schema(w, f);
	jw_raw(w, "Problem", problem, strlen(problem));
	jw_end(w);
	jw_end(w);
	jw_end(w);
}

const char *openapi_text(size_t *n)
{
	static struct buf text = BUF_INIT(4 << 20);
	struct jw w = JW(&text);

	if (!text.len) {
		schemas = map_new();
		for (const struct route *r = NULL; (r = route_next(r)); ) {
			mention(r->in);
			mention(r->out);
		}
		write_document(&w);
		map_free(schemas);
	}
	*n = text.len;
	return text.data;
}
