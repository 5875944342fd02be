/* fields_leaf.c: rows that hold one value. */
#include "fields_in.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "buf.h"
#include "mem.h"
#include "text.h"

/* "64 MiB (67108864)" for what counts bytes, else "67108864". */
static const char *number_text(const struct field *row, uint64_t v, char out[64])
{
	size_t n = strlen(row->name);
	char size[24];
	uint64_t back;

	snprintf(out, 64, "%llu", (unsigned long long)v);
	if (v < 1024 || n < 5 || strcmp(row->name + n - 5, "bytes"))
		return out;
	text_size_format(v, size);
	if (!text_size(size, &back) && back == v)
		snprintf(out, 64, "%s (%llu)", size, (unsigned long long)v);
	return out;
}

static int decode_u64(struct decode d, const struct field *row, json_t *j, uint64_t *out, const struct at *at)
{
	char a[64], b[64];
	uint64_t max = row->max ? row->max : UINT64_MAX;

	if (!json_is_integer(j))
		return field_refuse(d.e, at, "must be a whole number, not %s", field_kind(j));
	json_int_t v = json_integer_value(j);
	if (v < 0)
		return field_refuse(d.e, at, "must not be negative; %lld is", (long long)v);
	uint64_t u = (uint64_t)v;
	if (d.mode == FIELDS_STORED && !u) {	/* how an unset one was written */
		*out = 0;
		return 0;
	}
	if ((u < row->min || u > max) && row->min && row->max)
		return field_refuse(d.e, at, "must be between %s and %s; %llu is not", number_text(row, row->min, a),
			      number_text(row, max, b), (unsigned long long)u);
	if (u < row->min)
		return field_refuse(d.e, at, "must be at least %s; %llu is not", number_text(row, row->min, a),
			      (unsigned long long)u);
	if (u > max)
		return field_refuse(d.e, at, "must be at most %s; %llu is not", number_text(row, max, a),
			      (unsigned long long)u);
	if (row->multiple && u % row->multiple)
		return field_refuse(d.e, at, "must be a multiple of %s; %llu is not",
				    number_text(row, row->multiple, a), (unsigned long long)u);
	*out = u;
	return 0;
}

int field_check_text(struct decode d, const struct field *row, const char *s, size_t n, const struct at *at)
{
	size_t max = row->max && row->type == F_STR ? row->max : FIELDS_STR_MAX;

	/* The rule first: "must be a MAC address" says more than a length. */
	if (row->check && !row->check(s)) {
		if (row->flags & FIELD_SECRET)
			return field_refuse(d.e, at, "must be %s", row->rule ? row->rule : "well formed");
		return field_refuse(d.e, at, "must be %s; \"%.40s\" is not", row->rule ? row->rule : "well formed", s);
	}
	if (n > max)
		return field_refuse(d.e, at, "must be at most %zu bytes long; this has %zu", max, n);
	if (row->type == F_STR && n < row->min)
		return n ? field_refuse(d.e, at, "must be at least %llu bytes long; this has %zu",
				  (unsigned long long)row->min, n) : field_refuse(d.e, at, "must not be empty");
	return 0;
}

/* An empty text is kept as NULL, so that there is one way of being empty. */
static int decode_str(struct decode d, const struct field *row, json_t *j, char **out, const struct at *at)
{
	if (!json_is_string(j))
		return field_refuse(d.e, at, "must be a text, not %s", field_kind(j));
	const char *s = json_string_value(j);
	size_t n = json_string_length(j);
	if (!n && row->flags & FIELD_REQUIRED)
		return field_refuse(d.e, at, "must not be empty");
	if (n || (row->min && d.mode != FIELDS_STORED)) {
		int r = field_check_text(d, row, s, n, at);

		if (r < 0)
			return r;
	}
	free(*out);
	*out = n ? xstrdup(s) : NULL;
	return 0;
}

static int decode_enum(struct decode d, const struct field *row, json_t *j, int *out, const struct at *at)
{
	AUTO_BUF struct buf list = BUF_INIT(256);

	for (int i = 0; row->names[i]; i++) {
		if (json_is_string(j) && !strcmp(json_string_value(j), row->names[i])) {
			*out = i;
			return 0;
		}
		buf_addf(&list, "%s%s", i ? ", " : "", row->names[i]);
	}
	if (!json_is_string(j))
		return field_refuse(d.e, at, "must be one of %s, not %s", list.data, field_kind(j));
	return field_refuse(d.e, at, "must be one of %s; \"%.40s\" is not", list.data, json_string_value(j));
}

static int decode_time(struct decode d, json_t *j, int64_t *out, const struct at *at)
{
	if (!json_is_string(j) || text_time(json_string_value(j), out) < 0)
		return field_refuse(d.e, at, "must be a time such as \"2026-11-23T12:00:00Z\"");
	return 0;
}

static int decode_json(struct decode d, const struct field *row, json_t *j, char **out, const struct at *at)
{
	size_t max = row->max ? row->max : FIELDS_JSON_MAX;
	size_t n = json_dumpb(j, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);

	if (n > max)
		return field_refuse(d.e, at, "must be at most %zu bytes of JSON; this has %zu", max, n);
	free(*out);
	*out = xcalloc(n + 1, 1);
	json_dumpb(j, *out, n, JSON_COMPACT | JSON_ENCODE_ANY);
	return 0;
}

int field_decode_leaf(struct decode d, const struct field *row, json_t *j, void *p, const struct at *at)
{
	switch (row->type) {
	case F_STR:
		return decode_str(d, row, j, p, at);
	case F_U64:
		return decode_u64(d, row, j, p, at);
	case F_BOOL:
		if (!json_is_boolean(j))
			return field_refuse(d.e, at, "must be true or false, not %s", field_kind(j));
		*(bool *)p = json_is_true(j);
		return 0;
	case F_ENUM:
		return decode_enum(d, row, j, p, at);
	case F_TIME:
		return decode_time(d, j, p, at);
	case F_JSON:
		return decode_json(d, row, j, p, at);
	case F_OBJECT:
	case F_MAP:
	case F_LIST:
	case F_STRS:
	case F_LABELS:
		break;
	}
	return -EINVAL;
}
