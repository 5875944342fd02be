/* jw.h: writes JSON straight into a buffer. Keys are NULL inside arrays and at the top. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "buf.h"

struct jw { struct buf *b; uint64_t more, arrays; int depth; };	/* bit d for depth d, at most 60: comma due; array */

#define JW(buf)	((struct jw){ .b = (buf) })
void jw_obj(struct jw *w, const char *key);
void jw_arr(struct jw *w, const char *key);
void jw_end(struct jw *w);				/* closes the innermost object or array */
void jw_str(struct jw *w, const char *key, const char *s);	/* NULL writes null; bad UTF-8 becomes U+FFFD */
void jw_strn(struct jw *w, const char *key, const char *s, size_t n);
void jw_strf(struct jw *w, const char *key, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void jw_u64(struct jw *w, const char *key, uint64_t v);
void jw_i64(struct jw *w, const char *key, int64_t v);
void jw_real(struct jw *w, const char *key, double v);	/* 3 decimals */
void jw_bool(struct jw *w, const char *key, bool v);
void jw_null(struct jw *w, const char *key);
void jw_time(struct jw *w, const char *key, int64_t usec);	/* RFC 3339, or null for 0 */
void jw_raw(struct jw *w, const char *key, const char *json, size_t n);	/* JSON text made elsewhere */
