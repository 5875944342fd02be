#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "buf.h"
#include "mem.h"
#include "out.h"
#include "text.h"

#define COLUMNS_MAX	24

/* What a list shows unless --columns says otherwise. */
static const struct { const char *schema, *columns; } defaults[] = {
	{ "Vm", "name,status.state,config.cpus,config.memory_bytes,status.accel,status.guest.address,config.description" },
	{ "Task", "id,kind,target_name,state,progress,step,user,created" },
	{ "Event", "seq,time,kind,target,user" },
	{ "User", "name,role,has_password,created" },
	{ "Token", "id,name,user,role,created,expires" },
	{ "Datastore", "name,status.state,status.capacity_bytes,status.free_bytes,status.filesystem,config.path" },
	{ "DatastoreEntry", "name,kind,size_bytes,used_bytes,modified" },
	{ "HostUsb", "port,vendor,product,serial,manufacturer,model,kind,vm" },
	{ "Network", "name,config.kind,kind" },
	{ "Upload", "id,target,durable_bytes,size_bytes,user,created" },
};

void out_plain(const char *s, FILE *to)
{
	for (; *s; s++)
		putc((unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s, to);
}

json_t *out_at(json_t *object, const char *path)
{
	while (object && *path) {
		size_t n = strcspn(path, ".");
		AUTO_FREE char *key = xstrndup(path, n);

		object = json_object_get(object, key);
		path += n + (path[n] == '.');
	}
	return object;
}

static bool is_bytes(const char *name)
{
	size_t n = strlen(name);

	return n > 6 && !strcmp(name + n - 6, "_bytes");
}

/* 2026-11-23T12:00:01.123Z -> 2026-11-23T12:00:01Z */
static char *without_fraction(const char *s)
{
	size_t n = strcspn(s, ".");

	return xasprintf("%.*s%s", (int)n, s, s[n] ? "Z" : "");
}

char *out_text(const struct ctl *c, const char *name, json_t *v)
{
	int64_t usec;
	char size[24];

	if (!v || json_is_null(v))
		return xstrdup("");
	if (json_is_integer(v) && is_bytes(name) && !c->bytes) {
		text_size_format((uint64_t)json_integer_value(v), size);
		return xstrdup(size);
	}
	if (json_is_integer(v))
		return xasprintf("%lld", (long long)json_integer_value(v));
	if (json_is_boolean(v))
		return xstrdup(json_is_true(v) ? "yes" : "no");
	if (json_is_string(v))
		return text_time(json_string_value(v), &usec) < 0 ? xstrdup(json_string_value(v)) : without_fraction(json_string_value(v));
	return json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
}

static void dump(json_t *j, size_t flags)
{
	json_dumpf(j, stdout, flags | JSON_ENCODE_ANY);
	putchar('\n');
}

static const char *name_key(json_t *object)
{
	return json_object_get(object, "name") ? "name" : json_object_get(object, "id") ? "id" : "seq";
}

static void put_name(struct ctl *c, json_t *object)
{
	AUTO_FREE char *text = out_text(c, "", json_object_get(object, name_key(object)));

	out_plain(text, stdout);
	putchar('\n');
}

/* table */

static void heading(const char *path, char out[64])
{
	const char *last = strrchr(path, '.');
	size_t n;

	snprintf(out, 64, "%s", last ? last + 1 : path);
	n = strlen(out);
	if (is_bytes(out))
		out[n -= 6] = '\0';
	for (size_t i = 0; i < n; i++)
		out[i] = out[i] == '_' ? ' ' : out[i] >= 'a' && out[i] <= 'z' ? (char)(out[i] - 32) : out[i];
}

static bool any_has(json_t *items, const char *path)
{
	size_t i;
	json_t *item;

	json_array_foreach(items, i, item) {
		json_t *v = out_at(item, path);

		if (v && !json_is_null(v) && !(json_is_string(v) && !*json_string_value(v)))
			return true;
	}
	return false;
}

/* The paths of the columns into @out; those that @s doesn't choose are its first plain fields. */
static size_t choose(struct ctl *c, json_t *items, const struct api_schema *s, char *out[COLUMNS_MAX])
{
	const char *list = c->columns;
	size_t n = 0;

	for (size_t i = 0; !list && s && i < COUNT(defaults); i++)
		if (!strcmp(defaults[i].schema, s->name))
			list = defaults[i].columns;
	for (; list && *list && n < COLUMNS_MAX; list += *list == ',') {
		size_t len = strcspn(list, ",");

		out[n] = xstrndup(list, len);
		list += len;
		if (c->columns || any_has(items, out[n]))
			n++;
		else
			free(out[n]);
	}
	for (const struct api_field *f = n || !s ? NULL : s->fields; f && f->name && n < 8; f++)
		if (f->type <= API_TIME)
			out[n++] = xstrdup(f->name);
	return n;
}

static int table(struct ctl *c, json_t *items, const struct api_schema *s)
{
	struct libscols_table *t = scols_new_table();
	char *paths[COLUMNS_MAX], title[64];
	size_t n = choose(c, items, s, paths), i;
	json_t *item;

	scols_table_enable_noheadings(t, c->no_headers);
	for (size_t k = 0; k < n; k++) {
		json_t *v = out_at(json_array_get(items, 0), paths[k]);

		heading(paths[k], title);
		scols_table_new_column(t, title, 0, json_is_integer(v) ? SCOLS_FL_RIGHT : k + 1 == n ? SCOLS_FL_TRUNC : 0);
	}
	json_array_foreach(items, i, item) {
		struct libscols_line *line = scols_table_new_line(t, NULL);

		for (size_t k = 0; k < n; k++) {
			AUTO_FREE char *text = out_text(c, paths[k], out_at(item, paths[k]));

			scols_line_set_data(line, k, text);
		}
	}
	if (n && (json_array_size(items) || isatty(STDOUT_FILENO)))
		scols_print_table(t);
	scols_unref_table(t);
	for (size_t k = 0; k < n; k++)
		free(paths[k]);
	return CTL_OK;
}

static int flushed(void)
{
	if (!fflush(stdout) && !ferror(stdout))
		return CTL_OK;
	say("the output can't be written");
	return CTL_FAILED;
}

int out_list(struct ctl *c, json_t *items, const struct api_schema *s)
{
	size_t i;
	json_t *item;

	switch (c->output) {
	case OUT_TABLE:
		table(c, items, s);
		break;
	case OUT_JSON:
		dump(items, JSON_INDENT(2));
		break;
	case OUT_JSONL:
		json_array_foreach(items, i, item)
			dump(item, JSON_COMPACT);
		break;
	case OUT_NAME:
		json_array_foreach(items, i, item)
			put_name(c, item);
		break;
	case OUT_NFORMATS:
		break;
	}
	return flushed();
}

/* one object, as an outline */

static bool is_empty(json_t *v)
{
	return json_is_null(v) || (json_is_string(v) && !*json_string_value(v)) ||
	       (json_is_object(v) && !json_object_size(v)) || (json_is_array(v) && !json_array_size(v));
}

static void label(const char *key, char out[80])
{
	int n = (int)strlen(key) - (is_bytes(key) ? 6 : 0);

	snprintf(out, 80, "%.*s:", n < 70 ? n : 70, key);
}

static void outline(struct ctl *c, json_t *object, int indent);

static void outline_list(struct ctl *c, json_t *list, int indent)
{
	size_t i;
	json_t *v;

	json_array_foreach(list, i, v) {
		if (json_is_object(v)) {
			printf("%*s-\n", indent, "");
			outline(c, v, indent + 2);
			continue;
		}
		AUTO_FREE char *text = out_text(c, "", v);

		printf("%*s- ", indent, "");
		out_plain(text, stdout);
		putchar('\n');
	}
}

static void outline(struct ctl *c, json_t *object, int indent)
{
	const char *key;
	char title[80];
	int width = 0;
	json_t *v;

	json_object_foreach(object, key, v) {
		label(key, title);
		if (!is_empty(v) && !json_is_object(v) && !json_is_array(v) && (int)strlen(title) > width)
			width = (int)strlen(title);
	}
	json_object_foreach(object, key, v) {
		if (is_empty(v))
			continue;
		label(key, title);
		printf("%*s", indent, "");
		out_plain(title, stdout);
		if (json_is_object(v) || json_is_array(v)) {
			putchar('\n');
			if (json_is_object(v))
				outline(c, v, indent + 2);
			else
				outline_list(c, v, indent + 2);
			continue;
		}
		AUTO_FREE char *text = out_text(c, key, v);

		printf("%*s", width + 1 - (int)strlen(title), "");
		out_plain(text, stdout);
		putchar('\n');
	}
}

int out_object(struct ctl *c, json_t *object, const struct api_schema *s)
{
	switch (c->output) {
	case OUT_TABLE:
		outline(c, object, 0);
		break;
	case OUT_JSON:
		dump(object, JSON_INDENT(2));
		break;
	case OUT_JSONL:
		dump(object, JSON_COMPACT);
		break;
	case OUT_NAME:
		put_name(c, object);
		break;
	case OUT_NFORMATS:
		break;
	}
	return flushed();
}
