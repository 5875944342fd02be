/* fields.h: tables that describe C structs to JSON. From a table come decoding, validation with a JSON pointer,
 * encoding, merge patch (RFC 7396), what a change needs (hot or cold), OpenAPI schemas and the fuzz target. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "err.h"
#include "jw.h"

/* What a row without max may have at most. */
#define FIELDS_STR_MAX		4096	/* bytes of a text */
#define FIELDS_JSON_MAX		65536	/* bytes of a F_JSON */
#define FIELDS_ITEMS_MAX	256
#define FIELDS_LABELS_MAX	64	/* key: 1 to 63 of [A-Za-z0-9._/-]; value: up to 255 bytes */

enum field_type {
	F_STR,		/* char *, owned; NULL when empty (also ""); min/max: length in bytes; check: further rule */
	F_U64,		/* uint64_t; min/max; multiple: step when not 0 */
	F_BOOL,		/* bool */
	F_ENUM,		/* int, an index into names[] (NULL-terminated) */
	F_TIME,		/* int64_t, microseconds since the epoch; 0 is null */
	F_OBJECT,	/* struct in place, described by sub; with FIELD_NULLABLE null when its first row, a F_U64, is 0 */
	F_MAP,		/* struct field_vec of sub structs, keyed in JSON by their first row, which is F_STR (a name)
			 * and the first member (offset 0); they hold nothing that no row describes. */
	F_LIST,		/* struct field_vec of sub structs */
	F_STRS,		/* struct field_vec of char * */
	F_LABELS,	/* struct field_vec of struct field_label */
	F_JSON,		/* char *, owned: any JSON value as text (output of facts; in: bounded by max bytes) */
};

enum field_flag {
	FIELD_REQUIRED    = 1 << 0,	/* must be there at creation */
	FIELD_CREATE_ONLY = 1 << 1,	/* a patch that changes it is refused */
	FIELD_HOT         = 1 << 2,	/* a change takes effect while a VM runs; else at its next start */
	FIELD_SECRET      = 1 << 3,	/* accepted, never encoded */
	FIELD_READ_ONLY   = 1 << 4,	/* encoded, refused in input */
	FIELD_NULLABLE    = 1 << 5,	/* encoded as null when empty; else an empty F_STR is left out */
};

struct field_vec { void *items; size_t n; };
struct field_label { char *key, *value; };
#define TAKE_VEC(v)	({ struct field_vec taken_ = (v); (v) = (struct field_vec){}; taken_; })

struct fields;
struct field {
	const char *name;		/* JSON name */
	enum field_type type;
	size_t off;			/* offsetof in the struct */
	unsigned flags;
	uint64_t min, max;		/* numbers: bounds; strings: length; vectors: max items */
	uint64_t multiple;
	const char *const *names;	/* F_ENUM */
	const struct fields *sub;	/* F_OBJECT, F_MAP, F_LIST */
	const char *def;		/* default as JSON text, or NULL: zero/empty */
	bool (*check)(const char *s);	/* F_STR: a rule such as text_is_name */
	const char *rule;		/* what check wants, for the message: "a name of 1 to 63 letters, ..." */
	const char *help;		/* one line */
};
struct fields {
	const char *name;		/* schema name in OpenAPI: "VmConfig" */
	size_t size;			/* sizeof the struct */
	const struct field *rows;	/* ends with a row without name */
	const char *help;
};

enum fields_mode {
	FIELDS_CREATE,	/* defaults filled in, required rows demanded, read-only ones refused */
	FIELDS_PATCH,	/* merge patch onto a filled struct: absent keeps, null resets to the default; in a map or labels
			 * null removes the entry and a new one is created; a list is replaced whole */
	FIELDS_STORED,	/* what fields_encode wrote (database, descriptor): read-only rows accepted, unknown keys ignored,
			 * null is empty, absent is the default; types, bounds and rules hold, as a descriptor may come
			 * from anywhere; required rows are demanded but secrets, which are never encoded */
};

/* Decode @j into @out (zeroed for CREATE and STORED; filled for PATCH). On failure @out is left as it was for PATCH,
 * and empty for the others. @e gets pointer and sentence. Unknown key: ERR_INVALID. Any thread. */
int fields_decode(const struct fields *f, json_t *j, enum fields_mode mode, void *out, struct err *e);
void fields_encode(const struct fields *f, const void *in, struct jw *w, const char *key);	/* as an object */
void fields_encode_rows(const struct fields *f, const void *in, struct jw *w);	/* only the rows, into an open object */
void fields_defaults(const struct fields *f, void *out);	/* into a zeroed struct */
void fields_fini(const struct fields *f, void *p);		/* frees what the rows own and zeroes */
void fields_copy(const struct fields *f, const void *from, void *to);	/* deep, into a zeroed struct */
bool fields_equal(const struct fields *f, const void *a, const void *b);
/* Call @fn with the JSON pointer of each row (leaf, or map entry added/removed) that differs. */
void fields_diff(const struct fields *f, const void *a, const void *b,
		 void (*fn)(void *arg, const char *pointer, const struct field *row), void *arg);

/* What the JSON pointer @pointer names (a row, a map's entry, or what is below them) becomes in @to as it is in @from: it
 * is copied, or removed where @from has none. A pointer to nothing changes nothing. */
void fields_adopt(const struct fields *f, void *to, const void *from, const char *pointer);

/* Parse bounded JSON text: at most @max bytes, 32 levels, strict UTF-8, no duplicate keys, no NUL. Free with
 * json_decref. Depth is checked before the parser recurses. */
json_t *json_parse(const char *text, size_t n, size_t max, struct err *e);
void *field_vec_add(struct field_vec *v, size_t size);		/* a new zeroed item at the end; moves the others */
/* NULL when there is none of that name; the first row of a F_MAP's struct is the name. */
void *field_vec_find(const struct field_vec *v, size_t size, const char *name);
