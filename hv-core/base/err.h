/* err.h: one error type. It lives on the caller's stack: nothing to free. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

/* code, HTTP status, errno, slug of the problem type, title of the problem document (RFC 9457) */
#define ERR_TABLE(X) \
	X(ERR_BAD_REQUEST,     400, EBADMSG,      "bad-request",          "The request cannot be read") \
	X(ERR_UNAUTHENTICATED, 401, EACCES,       "unauthenticated",      "Log in first") \
	X(ERR_FORBIDDEN,       403, EPERM,        "forbidden",            "Not allowed") \
	X(ERR_NOT_FOUND,       404, ENOENT,       "not-found",            "No such thing") \
	X(ERR_METHOD,          405, EOPNOTSUPP,   "method-not-allowed",   "That cannot be done here") \
	X(ERR_EXISTS,          409, EEXIST,       "name-taken",           "The name is taken") \
	X(ERR_STATE,           409, ENOTCONN,     "wrong-state",          "Not possible in this state") \
	X(ERR_BUSY,            409, EBUSY,        "busy",                 "Another task holds the object") \
	X(ERR_STALE,           412, ESTALE,       "revision-mismatch",    "The object has changed") \
	X(ERR_TOO_LARGE,       413, EFBIG,        "too-large",            "The body is too large") \
	X(ERR_MEDIA_TYPE,      415, EPROTO,       "unsupported-media-type", "The body has the wrong media type") \
	X(ERR_RANGE,           416, ERANGE,       "range-not-satisfiable", "No such range") \
	X(ERR_INVALID,         422, EINVAL,       "invalid",              "The request is not valid") \
	X(ERR_NO_REVISION,     428, ENODATA,      "revision-required",    "Say which revision you change") \
	X(ERR_TOO_MANY,        429, EDQUOT,       "too-many-attempts",    "Too many attempts") \
	X(ERR_INTERNAL,        500, EIO,          "internal",             "An internal error") \
	X(ERR_UNSUPPORTED,     501, ENOSYS,       "unsupported",          "This host cannot do that") \
	X(ERR_UNAVAILABLE,     503, EAGAIN,       "unavailable",          "Not available right now") \
	X(ERR_TIMEOUT,         504, ETIMEDOUT,    "timeout",              "It took too long") \
	X(ERR_NO_SPACE,        507, ENOSPC,       "no-space",             "No space is left") \
	X(ERR_CANCELLED,       409, ECANCELED,    "cancelled",            "The task was cancelled") \
	X(ERR_INTERRUPTED,     500, EINTR,        "interrupted",          "The task was interrupted")

enum err_code {
	ERR_NONE,
#define X(code, http, no, slug, title) code,
	ERR_TABLE(X)
#undef X
	ERR_NCODES
};

struct err {
	enum err_code code;
	char pointer[96];	/* JSON pointer of the field to blame, or "" */
	char msg[352];		/* one sentence for a person, no newline */
	char hint[224];		/* the way out, or "" */
	char permission[24];	/* what a 403 lacks, or "" */
	uint64_t task;		/* the task that holds the object, or 0 */
	unsigned retry_after_s;	/* for 429 and 503, or 0 */
};

/* Fill @e (may be NULL) and return the code's -errno, so that callers can "return fail(...)". Any thread. */
int fail(struct err *e, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4), cold));
/* Same, with ERR_INVALID and the JSON pointer of the offending field. */
int fail_at(struct err *e, const char *pointer, const char *fmt, ...) __attribute__((format(printf, 3, 4), cold));
/* Same, for a system call that failed with errno @no (positive or negative): the code is chosen by errno
 * (ENOSPC -> no-space, ENOENT -> not-found, ... else internal) and strerror is appended: "open x: No such file". */
int fail_errno(struct err *e, int no, const char *fmt, ...) __attribute__((format(printf, 3, 4), cold));
/* Same, with all that @why says. */
int fail_as(struct err *e, const struct err *why);
/* Add the way out to a filled error. Returns the code's -errno again. */
int err_hint(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3), cold));

int err_http(enum err_code code);		/* HTTP status */
const char *err_slug(enum err_code code);	/* "not-found" */
const char *err_title(enum err_code code);
enum err_code err_from_slug(const char *slug);	/* ERR_INTERNAL for an unknown one */
