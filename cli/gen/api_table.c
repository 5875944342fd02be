/* api_table.c: cli/openapi.json -> api_table.h, when vmctl is built. Usage: api_table openapi.json >api_table.h */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *document;

static void die(const char *what, const char *name)
{
	fprintf(stderr, "api_table: %s: %s\n", what, name ? name : "?");
	exit(1);
}

static const char *text(json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key));
}

static void put(const char *s)		/* a C literal, or NULL */
{
	if (!s) {
		printf("NULL");
		return;
	}
	putchar('"');
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c > 0x7e || c == '?')
			printf("\\%03o", c);
		else
			putchar(c);
	}
	putchar('"');
}

static const char *ref_name(json_t *schema)
{
	json_t *or_null = json_array_get(json_object_get(schema, "anyOf"), 0);
	const char *ref = text(or_null ? or_null : schema, "$ref");
	const char *slash = ref ? strrchr(ref, '/') : NULL;

	return slash ? slash + 1 : NULL;
}

/* "string" and ["string", "null"] alike */
static const char *type_of(json_t *schema)
{
	json_t *type = json_object_get(schema, "type");

	return json_string_value(json_is_array(type) ? json_array_get(type, 0) : type);
}

struct kind { const char *type, *sub; };

static struct kind container(const char *text_type, const char *list_type, json_t *of)
{
	const char *sub = ref_name(of);

	return sub ? (struct kind){ list_type, sub } : (struct kind){ text_type, NULL };
}

static struct kind kind_of(json_t *schema)
{
	const char *type = type_of(schema), *format = text(schema, "format");

	if (ref_name(schema))
		return (struct kind){ "API_OBJECT", ref_name(schema) };
	if (!type)
		return (struct kind){ "API_ANY", NULL };
	if (!strcmp(type, "integer"))
		return (struct kind){ "API_INTEGER", NULL };
	if (!strcmp(type, "boolean"))
		return (struct kind){ "API_BOOLEAN", NULL };
	if (!strcmp(type, "string"))
		return (struct kind){ format && !strcmp(format, "date-time") ? "API_TIME" : "API_STRING", NULL };
	if (!strcmp(type, "array"))
		return container("API_STRINGS", "API_LIST", json_object_get(schema, "items"));
	if (json_object_get(schema, "additionalProperties"))
		return container("API_LABELS", "API_MAP", json_object_get(schema, "additionalProperties"));
	return (struct kind){ "API_ANY", NULL };
}

static int is_required(json_t *schema, const char *name)
{
	size_t i;
	json_t *j;

	json_array_foreach(json_object_get(schema, "required"), i, j)
		if (!strcmp(json_string_value(j), name))
			return 1;
	return 0;
}

static void put_names(const char *schema, const char *field, json_t *names)
{
	size_t i;
	json_t *j;

	printf("static const char *const n_%s_%s[] = { ", schema, field);
	json_array_foreach(names, i, j) {
		if (json_is_string(j)) {
			put(json_string_value(j));
			printf(", ");
		}
	}
	printf("NULL };\n");
}

static void put_field(const char *in, json_t *schema, const char *name, json_t *field)
{
	static const struct { const char *key, *flag; } flags[] = {
		{ "readOnly", "API_READ_ONLY" }, { "writeOnly", "API_SECRET" }, { "x-create-only", "API_CREATE_ONLY" },
		{ "x-hot", "API_HOT" },
	};
	struct kind k = kind_of(field);
	json_t *def = json_object_get(field, "default");
	char *def_text = def ? json_dumps(def, JSON_ENCODE_ANY) : NULL;

	printf("\t{ ");
	put(name);
	printf(", %s, %s", k.type, is_required(schema, name) ? "API_REQUIRED" : "0");
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (json_is_true(json_object_get(field, flags[i].key)))
			printf(" | %s", flags[i].flag);
	if (k.sub)
		printf(", &s_%s, ", k.sub);
	else
		printf(", NULL, ");
	if (json_object_get(field, "enum"))
		printf("n_%s_%s, ", in, name);
	else
		printf("NULL, ");
	put(def_text);
	printf(", ");
	put(text(field, "description"));
	printf(" },\n");
	free(def_text);
}

static void put_schema(const char *name, json_t *schema)
{
	json_t *properties = json_object_get(schema, "properties"), *field;
	const char *key;

	json_object_foreach(properties, key, field)
		if (json_object_get(field, "enum"))
			put_names(name, key, json_object_get(field, "enum"));
	printf("static const struct api_field f_%s[] = {\n", name);
	json_object_foreach(properties, key, field)
		put_field(name, schema, key, field);
	printf("\t{ 0 }\n};\nstatic const struct api_schema s_%s = { ", name);
	put(name);
	printf(", ");
	put(text(schema, "description"));
	printf(", f_%s };\n", name);
}

static void put_params(const char *id, json_t *op, const char *in)
{
	const char *type;
	size_t i;
	json_t *p;

	printf("static const struct api_param %s_%s[] = { ", in, id);
	json_array_foreach(json_object_get(op, "parameters"), i, p) {
		if (strcmp(text(p, "in"), in))
			continue;
		printf("{ ");
		put(text(p, "name"));
		printf(", ");
		put(text(p, "description"));
		type = type_of(json_object_get(p, "schema"));
		printf(", %d }, ", type && !strcmp(type, "boolean"));
	}
	printf("{ 0 } };\n");
}

static json_t *content(json_t *holder, const char **ret_type)
{
	const char *type;
	json_t *c;

	json_object_foreach(json_object_get(holder, "content"), type, c) {
		*ret_type = type;
		return json_object_get(c, "schema");
	}
	*ret_type = "";
	return NULL;
}

static void put_schema_ref(const char *name)
{
	if (name)
		printf(", &s_%s", name);
	else
		printf(", NULL");
}

static void put_op(const char *path, const char *method, json_t *op)
{
	const char *id = text(op, "operationId"), *in_type, *out_type, *out;
	json_t *body = json_object_get(op, "requestBody"), *answers = json_object_get(op, "responses"), *items;
	json_t *ok = json_object_get(answers, "200") ? json_object_get(answers, "200") : json_object_get(answers, "201");
	json_t *in_schema = content(body, &in_type), *out_schema = content(ok, &out_type);

	items = json_object_get(json_object_get(out_schema, "properties"), "items");
	out = items ? ref_name(json_object_get(items, "items")) : ref_name(out_schema);
	printf("\t{ ");
	put(id);
	printf(", \"");
	for (const char *m = method; *m; m++)
		putchar(*m & ~0x20);
	printf("\", ");
	put(path);
	printf(", ");
	put(text(op, "summary"));
	printf(", ");
	put(text(op, "x-permission"));
	printf(", 0%s%s%s%s%s%s%s", items ? " | API_LISTS" : "", json_object_get(answers, "202") ? " | API_TASK" : "",
	       !strcmp(in_type, "application/octet-stream") ? " | API_BYTES_IN" : "",
	       !strcmp(out_type, "application/octet-stream") ? " | API_BYTES_OUT" : "",
	       json_object_get(answers, "101") ? " | API_SOCKET" : "",
	       !strcmp(in_type, "application/merge-patch+json") ? " | API_PATCH" : "",
	       body && !json_is_true(json_object_get(body, "required")) ? " | API_BODY_OPTIONAL" : "");
	put_schema_ref(ref_name(in_schema));
	put_schema_ref(out);
	printf(", path_%s, query_%s },\n", id, id);
}

static void each_op(void (*fn)(const char *path, const char *method, json_t *op))
{
	const char *path, *method;
	json_t *item, *op;

	json_object_foreach(json_object_get(document, "paths"), path, item)
		json_object_foreach(item, method, op)
			fn(path, method, op);
}

static void put_op_params(const char *path, const char *method, json_t *op)
{
	const char *id = text(op, "operationId");

	if (!id || strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(id))
		die("an operation without a good operationId", path);
	put_params(id, op, "path");
	put_params(id, op, "query");
}

int main(int argc, char **argv)
{
	json_t *schemas, *schema;
	json_error_t error;
	const char *name;

	if (argc != 2)
		die("usage", "api_table openapi.json");
	document = json_load_file(argv[1], JSON_REJECT_DUPLICATES, &error);
	if (!document)
		die(argv[1], error.text);
	schemas = json_object_get(json_object_get(document, "components"), "schemas");
	printf("/* Made from cli/openapi.json by cli/gen/api_table.c. */\n");
	json_object_foreach(schemas, name, schema)
		printf("static const struct api_schema s_%s;\n", name);
	json_object_foreach(schemas, name, schema)
		put_schema(name, schema);
	each_op(put_op_params);
	printf("static const struct api_op api_table[] = {\n");
	each_op(put_op);
	printf("\t{ 0 }\n};\n");
	json_decref(document);
	return ferror(stdout) || fflush(stdout) ? 1 : 0;
}
