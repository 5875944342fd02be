#include <stdio.h>
#include <string.h>
#include "vmctl.h"
#include "fields.h"
#include "mem.h"
#include "text.h"
#include "value.h"

#define NAMES_MAX	64
#define DEPTH		6

static bool ends_with(const char *s, const char *tail)
{
	size_t n = strlen(s), m = strlen(tail);

	return n > m && !strcmp(s + n - m, tail);
}

void value_key_short(const char *name, char out[40])
{
	snprintf(out, 40, "%.39s", name);
	if (ends_with(out, "_bytes"))
		out[strlen(out) - 6] = '\0';
}

/* The field of one part of a key; "memory" finds "memory_bytes", "timeout" finds "timeout_s". */
static const struct api_field *find(const struct api_schema *s, const char *part, size_t n)
{
	static const char *const units[] = { "_bytes", "_s", NULL };
	const struct api_field *f = api_field(s, part, n);

	for (size_t i = 0; !f && units[i]; i++) {
		AUTO_FREE char *with = xasprintf("%.*s%s", (int)n, part, units[i]);

		f = api_field(s, with, strlen(with));
	}
	return f;
}

static const struct api_schema *config_of(const struct api_schema *s)
{
	const struct api_field *f = api_field(s, "config", 6);

	return f && f->type == API_OBJECT ? f->sub : NULL;
}

static int unknown(const struct api_schema *s, const char *part, size_t n, struct err *e)
{
	const struct api_schema *both[] = { s, config_of(s) };
	char names[NAMES_MAX][40];
	const char *list[NAMES_MAX + 1] = { NULL }, *near;
	AUTO_FREE char *word = xstrndup(part, n);
	size_t k = 0;
	int r = fail(e, ERR_INVALID, "there is no field \"%s\"", word);

	for (size_t i = 0; i < COUNT(both); i++)
		for (const struct api_field *f = both[i] ? both[i]->fields : NULL; f && f->name && k < NAMES_MAX; f++) {
			value_key_short(f->name, names[k]);
			list[k] = names[k];
			k++;
		}
	near = did_you_mean(word, list);
	if (near)
		err_hint(e, "did you mean %s?", near);
	else
		err_hint(e, "vmctl help fields %s lists them", s->name);
	return r;
}

/* leaves */

static json_t *list_of_words(const char *text)
{
	json_t *j = json_array();

	while (*text) {
		size_t n = strcspn(text, ",");

		if (n)
			json_array_append_new(j, json_stringn(text, n));
		text += n + (text[n] == ',');
	}
	return j;
}

static int one_of(const struct api_field *f, const char *text, struct err *e)
{
	char all[256] = "";
	const char *near;
	int r;

	for (size_t i = 0; f->names[i]; i++) {
		if (!strcmp(f->names[i], text))
			return 0;
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i ? ", " : "", f->names[i]);
	}
	r = fail(e, ERR_INVALID, "%s can't be \"%s\", only one of: %s", f->name, text, all);
	near = did_you_mean(text, f->names);
	if (near)
		err_hint(e, "did you mean %s=%s?", f->name, near);
	return r;
}

static json_t *integer(const struct api_field *f, const char *text, struct err *e)
{
	uint64_t v;
	bool bytes = ends_with(f->name, "_bytes");
	char name[40];

	value_key_short(f->name, name);
	if ((bytes ? text_size(text, &v) : text_u64(text, &v)) < 0 || v > INT64_MAX) {
		fail(e, ERR_INVALID, "%s: \"%s\" is not a %s", name, text, bytes ? "size" : "whole number");
		err_hint(e, bytes ? "write it as 4GiB, 512MiB, or in bytes" : "write it in digits: 4");
		return NULL;
	}
	return json_integer((json_int_t)v);
}

static json_t *leaf(const struct api_field *f, const char *text, struct err *e)
{
	json_t *j;

	if (!strcmp(text, "null"))
		return json_null();
	if (text[0] == '{' || (text[0] == '[' && f->type != API_STRING)) {
		j = json_parse(text, strlen(text), 1024 * 1024, NULL);
		if (!j)
			fail(e, ERR_INVALID, "%s: that looks like JSON, and isn't", f->name);
		return j;
	}
	switch (f->type) {
	case API_STRING: case API_TIME:
		if (f->names && one_of(f, text, e) < 0)
			return NULL;
		return json_string(text);
	case API_INTEGER:
		return integer(f, text, e);
	case API_BOOLEAN:
		if (!strcmp(text, "true") || !strcmp(text, "yes") || !strcmp(text, "on"))
			return json_true();
		if (!strcmp(text, "false") || !strcmp(text, "no") || !strcmp(text, "off"))
			return json_false();
		fail(e, ERR_INVALID, "%s is yes or no, not \"%s\"", f->name, text);
		return NULL;
	case API_STRINGS:
		return list_of_words(text);
	case API_ANY:
		return json_string(text);
	case API_OBJECT: case API_MAP: case API_LIST: case API_LABELS:
		break;
	}
	fail(e, ERR_INVALID, "%s has parts: write %s.PART=..., or JSON", f->name, f->name);
	return NULL;
}

/* walking */

struct walk {
	json_t *at;			/* the object that the last part goes into */
	const struct api_schema *schema, *top;	/* top: of the object itself; a new disk of it is created by a change */
	const struct api_field *field;	/* of the last part; NULL: a name in a map of texts */
	char *last;			/* owned: its JSON name */
	bool entry;			/* the last part names an entry of a map: only null or JSON */
};

static json_t *enter(json_t *in, const char *name)
{
	json_t *j = json_object_get(in, name);

	if (!json_is_object(j)) {
		j = json_object();
		json_object_set_new(in, name, j);
	}
	return j;
}

/* Behind a field of type map, the next part is a name of the user's. */
static int walk_map(struct walk *w, const char **key, struct err *e)
{
	size_t n = strcspn(*key, ".");

	if (!n)
		return fail(e, ERR_INVALID, "%s: a name is missing behind the dot", w->field->name);
	w->at = enter(w->at, w->field->name);
	w->last = xstrndup(*key, n);
	*key += n;
	if (w->field->type == API_LABELS) {	/* a label's name may have dots */
		AUTO_FREE char *begin = TAKE(w->last);

		w->last = xasprintf("%s%s", begin, *key);
		*key += strlen(*key);
		w->field = NULL;
		return 0;
	}
	w->schema = w->field->sub;
	if (!**key) {
		w->entry = true;
		return 0;
	}
	w->at = enter(w->at, w->last);
	free(TAKE(w->last));
	++*key;
	return 1;
}

static int walk(struct walk *w, const char *key, struct err *e)
{
	const struct api_schema *config = config_of(w->schema);
	size_t n = strcspn(key, ".");

	if (config && !find(w->schema, key, n) && find(config, key, n)) {
		w->at = enter(w->at, "config");
		w->schema = config;
	}
	w->top = w->schema;
	for (int depth = 0; depth < DEPTH; depth++) {
		n = strcspn(key, ".");
		w->field = find(w->schema, key, n);
		if (!w->field)
			return unknown(w->schema, key, n, e);
		key += n;
		if (!*key) {
			w->last = xstrdup(w->field->name);
			return 0;
		}
		key++;
		if (w->field->type == API_MAP || w->field->type == API_LABELS) {
			int r = walk_map(w, &key, e);

			if (r <= 0)
				return r;
		} else if (w->field->type == API_OBJECT) {
			w->at = enter(w->at, w->field->name);
			w->schema = w->field->sub;
		} else {
			return fail(e, ERR_INVALID, "%s has no parts", w->field->name);
		}
	}
	return fail(e, ERR_INVALID, "that key has too many parts");
}

int value_put(json_t *into, const struct api_schema *s, const char *key, json_t *value, struct err *e)
{
	struct walk w = { .at = into, .schema = s };
	int r = walk(&w, key, e);

	if (!r)
		json_object_set(w.at, w.last, value);
	json_decref(value);
	free(w.last);
	return r;
}

static json_t *value_of(const struct walk *w, const char *text, bool creating, struct err *e)
{
	json_t *j;

	if (!w->field)
		return !strcmp(text, "null") ? json_null() : json_string(text);
	if (w->entry) {
		j = json_parse(text, strlen(text), 1024 * 1024, NULL);
		if (json_is_object(j) || json_is_null(j))
			return j;
		if (!strcmp(text, "null"))
			return json_null();
		json_decref(j);
		fail(e, ERR_INVALID, "\"%s\" has parts: write %s.%s.PART=..., or =null to remove it", w->last, w->field->name, w->last);
		return NULL;
	}
	if (w->field->flags & API_READ_ONLY) {
		fail(e, ERR_INVALID, "%s is only shown, it can't be set", w->field->name);
		return NULL;
	}
	if (w->field->flags & API_CREATE_ONLY && !creating && w->schema == w->top) {
		fail(e, ERR_INVALID, "%s is settled at creation and can't be changed", w->field->name);
		return NULL;
	}
	return leaf(w->field, text, e);
}

int value_set(json_t *into, const struct api_schema *s, const char *assignment, bool creating, struct err *e)
{
	const char *equals = strchr(assignment, '=');
	AUTO_FREE char *key = xstrndup(assignment, equals ? (size_t)(equals - assignment) : 0);
	struct walk w = { .at = into, .schema = s };
	json_t *j;
	int r;

	if (!equals || equals == assignment) {
		fail(e, ERR_INVALID, "\"%s\" is no KEY=VALUE", assignment);
		return err_hint(e, "write it as cpus=2 or memory=1GiB");
	}
	r = walk(&w, key, e);
	j = r < 0 ? NULL : value_of(&w, equals + 1, creating, e);
	if (j)
		json_object_set_new(w.at, w.last, j);
	free(w.last);
	return j ? 0 : -1;
}

static void keys_of(const struct api_schema *s, const char *prefix, bool creating, int depth,
		    void (*fn)(void *, const char *, const struct api_field *), void *arg)
{
	for (const struct api_field *f = s->fields; f->name; f++) {
		char shown[40];
		value_key_short(f->name, shown);
		AUTO_FREE char *key = xasprintf(f->type == API_LABELS ? "%s%s.NAME" : "%s%s", prefix, shown);
		AUTO_FREE char *inside = xasprintf(f->type == API_MAP ? "%s.NAME." : "%s.", key);

		if (depth && !strcmp(f->name, "name"))
			continue;		/* an entry's name stands in its key */
		if (f->flags & API_READ_ONLY || (f->flags & API_CREATE_ONLY && !creating))
			continue;
		if (f->type == API_OBJECT && !strcmp(f->name, "config"))
			keys_of(f->sub, prefix, creating, depth + 1, fn, arg);
		else if ((f->type == API_OBJECT || f->type == API_MAP) && depth < DEPTH)
			keys_of(f->sub, inside, creating, depth + 1, fn, arg);
		else
			fn(arg, key, f);
	}
}

void value_keys(const struct api_schema *s, bool creating, void (*fn)(void *, const char *, const struct api_field *), void *arg)
{
	keys_of(s, "", creating, 0, fn, arg);
}
