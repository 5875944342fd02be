/* fields_in.h: what the parts of the decoder share (fields.c, fields_leaf.c, fields_at.c). For nobody else. */
#pragma once
#include "fields.h"

/* Where we are in the document: a chain on the stack, written out only when something is wrong. */
struct at { const struct at *up; const char *key; size_t index; };	/* key NULL: an index */

struct decode {
	enum fields_mode mode;
	struct err *e;
};

/* ERR_INVALID at a place: "disks.root.size_bytes must be ...", with its JSON pointer. */
int field_refuse(struct err *e, const struct at *at, const char *fmt, ...) __attribute__((format(printf, 3, 4), cold));
/* An unknown key below @up, with the row that may have been meant. @named: the first row is not for clients. */
int field_refuse_unknown(struct err *e, const struct fields *f, bool named, const char *key, const struct at *up)
	__attribute__((cold));
const char *field_kind(const json_t *j);			/* "an array" */

/* One value into the row's place @p. */
int field_decode_leaf(struct decode d, const struct field *row, json_t *j, void *p, const struct at *at);
/* The row's rules for one text, also for the name of a map's entry. */
int field_check_text(struct decode d, const struct field *row, const char *s, size_t n, const struct at *at);
