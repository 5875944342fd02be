#include "head.h"
#include <string.h>
#include <strings.h>
#include "http.h"
#include "mem.h"
#include "text.h"
#include "ws.h"

#define ROW(header, field, single) { header, sizeof(header) - 1, offsetof(struct door_request, field), single }
static const struct row { const char *name; size_t n, off; bool single; } rows[] = {
	ROW("Host", host, true),
	ROW("Origin", origin, true),
	ROW("Authorization", authorization, true),
	ROW("Cookie", cookie, true),
	ROW("Content-Type", content_type, true),
	ROW("Accept", accept, false),
	ROW("If-Match", if_match, true),
	ROW("If-None-Match", if_none_match, true),
	ROW("Idempotency-Key", idempotency_key, true),
	ROW("Prefer", prefer, false),
	ROW("Last-Event-ID", last_event_id, true),
	ROW("Range", range, true),
	ROW("Upload-Offset", upload_offset, true),
	ROW("Repr-Digest", repr_digest, true),
};

static bool same(const char *name, size_t n, const char *other, size_t on)
{
	return n == on && !strncasecmp(name, other, n);
}

static const struct row *find(const char *name, size_t n)
{
	for (size_t i = 0; i < COUNT(rows); i++)
		if (same(name, n, rows[i].name, rows[i].n))
			return &rows[i];
	return NULL;
}

static bool take_header(void *arg, const char *name, size_t n, const char *value)
{
	const struct row *row = find(name, n);
	const char **at = row ? (const char **)((char *)arg + row->off) : NULL;

	if (at && !*at)
		*at = value;
	return true;
}

void head_request(struct xchg *x, struct door_request *r)
{
	http_headers(x, take_header, r);
}

struct check {
	uint32_t seen;			/* rows */
	unsigned lengths, encodings, keys, versions;
	const char *length, *encoding, *key, *version, *upgrade, *connection, *expect;
	bool twice, odd;
};

static bool check_header(void *arg, const char *name, size_t n, const char *value)
{
	struct check *c = arg;
	const struct row *row = find(name, n);

	for (const unsigned char *p = (const unsigned char *)value; *p; p++)
		c->odd |= (*p < 0x20 && *p != '\t') || *p == 0x7f;
	if (row) {
		uint32_t bit = 1u << (row - rows);
		c->twice |= row->single && c->seen & bit;
		c->seen |= bit;
	}
#define KEEP(header, field, count) if (same(name, n, header, sizeof(header) - 1)) { if (!c->field) c->field = value; count; }
	KEEP("Content-Length", length, c->lengths++)
	else KEEP("Transfer-Encoding", encoding, c->encodings++)
	else KEEP("Sec-WebSocket-Key", key, c->keys++)
	else KEEP("Sec-WebSocket-Version", version, c->versions++)
	else KEEP("Upgrade", upgrade, )
	else KEEP("Connection", connection, )
	else KEEP("Expect", expect, )
#undef KEEP
	return true;
}

static bool has_token(const char *list, const char *token)
{
	size_t n = strlen(token);

	while (list && *list) {
		list += strspn(list, " \t,");
		size_t len = strcspn(list, ", \t");
		if (len == n && !strncasecmp(list, token, n))
			return true;
		list += len;
	}
	return false;
}

static void bad(struct xchg *x, unsigned status, const char *why)
{
	if (x->bad)
		return;
	x->bad = why;
	x->bad_status = status;
}

static void check_websocket(struct xchg *x, const struct check *c)
{
	if (!has_token(c->upgrade, "websocket"))
		return;
	if (strcmp(x->method, "GET") || x->http10 || x->length || !has_token(c->connection, "upgrade"))
		bad(x, 400, "An upgrade to WebSocket is a GET of HTTP/1.1 without body and with \"Connection: Upgrade\".");
	else if (c->versions != 1 || strcmp(c->version, "13"))
		bad(x, 426, "Only version 13 of WebSocket is spoken here.");
	else if (c->keys != 1 || !ws_key_ok(c->key))
		bad(x, 400, "Sec-WebSocket-Key is not the base64 of 16 bytes.");
	else
		x->websocket = true;
}

static bool target_ok(const char *s)
{
	for (const unsigned char *p = (const unsigned char *)s; *p; p++)
		if (*p <= 0x20 || *p >= 0x7f)
			return false;
	return true;
}

void head_check(struct xchg *x)
{
	struct check c = { 0 };

	http_headers(x, check_header, &c);
	if (c.encodings)
		x->length = DOOR_NO_LENGTH;
	else if (c.lengths && text_u64(c.length, &x->length))
		bad(x, 400, "Content-Length is not a number.");
	x->expects = c.expect && !strcasecmp(c.expect, "100-continue") && !x->http10;
	if (c.lengths + c.encodings > 1)
		bad(x, 400, "The length of the body is given more than once.");
	else if (c.encodings && (strcasecmp(c.encoding, "chunked") || x->http10))
		bad(x, 501, "Of transfer encodings only \"chunked\" is known.");
	else if (c.lengths && x->length == DOOR_NO_LENGTH)
		bad(x, 413, "The body is too large.");
	if (c.twice)
		bad(x, 400, "A header that may stand only once is repeated.");
	if (c.odd)
		bad(x, 400, "A header contains control characters.");
	if (x->path[0] != '/' || !target_ok(x->path) || (x->query && !target_ok(x->query)))
		bad(x, 400, "The target of the request is not a path.");
	check_websocket(x, &c);
}
