/* route.h: the table of the API. From it come dispatch, 404 and 405, authorisation, body handling, OpenAPI, vmctl's
 * help, and the test that walks every route. */
#pragma once
#include "fields.h"
#include "who.h"

struct req;

enum route_flag {
	ROUTE_TASK      = 1 << 0,	/* answers 202 with a task; Prefer: wait makes it synchronous */
	ROUTE_LIST      = 1 << 1,	/* answers {"items": [...], "next": ...} of out; takes limit and after */
	ROUTE_PATCH     = 1 << 2,	/* the body is a merge patch: handed on as JSON, decoded by the handler */
	ROUTE_OPTIONAL  = 1 << 3,	/* the body may be absent: defaults */
	ROUTE_BYTES_IN  = 1 << 4,	/* the body is bytes: the handler answers with store */
	ROUTE_BYTES_OUT = 1 << 5,	/* answers bytes, not JSON */
	ROUTE_STREAM    = 1 << 6,	/* SSE, or a long poll */
	ROUTE_SOCKET    = 1 << 7,	/* WebSocket */
	ROUTE_IF_MATCH  = 1 << 8,	/* honours If-Match against the object's revision */
	ROUTE_NO_CONTENT = 1 << 9,	/* 204 */
	ROUTE_CREATED   = 1 << 10,	/* 201 with Location */
	ROUTE_STORED    = 1 << 11,	/* the body is what another answer of ours gave: read-only rows and all */
	ROUTE_PASSING   = 1 << 12,	/* no GET, and changes nothing that is kept: taken on a read-only home, too */
};

struct route_query { const char *name, *type, *help; };	/* type: string, integer, boolean */
struct route {
	const char *method, *path;	/* "/api/v1/vms/{vm}"; a last "{path...}" takes the rest */
	const char *id;			/* operationId in OpenAPI: "vm_start" */
	enum perm perm;
	unsigned flags;
	const struct fields *in, *out;	/* NULL: no body */
	const struct route_query *query;	/* ends with a NULL name */
	void (*fn)(struct req *r);	/* answers, or starts something that will; exactly once */
	const char *help;		/* one line */
};

#define ROUTE_PARAMS 3
/* The tables of all api_*.c, NULL-terminated; each ends with a row without method. */
extern const struct route *const route_tables[];
/* Iterate over all rows. */
const struct route *route_next(const struct route *r);	/* NULL: the first; returns NULL after the last */
/* 0, -ENOENT, or -EOPNOTSUPP with the methods that are allowed in @allow. @params get owned, decoded texts. HEAD matches
 * GET rows. A bad escape is -EBADMSG. */
int route_match(const char *method, const char *path, const struct route **ret, char *params[ROUTE_PARAMS],
		char allow[64]);
