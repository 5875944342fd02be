#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "reply.h"
#include "text.h"

#define TRAILERS_MAX	32

void reply_init(struct reply *r)
{
	*r = (struct reply){ .head = BUF_INIT(REPLY_HEAD_MAX) };
}

void reply_fini(struct reply *r)
{
	buf_fini(&r->head);
}

static int bad(struct err *e, const char *what)
{
	return fail(e, ERR_BAD_REQUEST, "the answer can't be understood: %s", what);
}

const char *reply_header(const struct reply *r, const char *name)
{
	size_t n = strlen(name);
	const char *end = r->head.data ? r->head.data + r->head.len : NULL;

	for (const char *line = r->head.data; line && line < end; line += strlen(line) + 1) {
		if (strncasecmp(line, name, n) || line[n] != ':')
			continue;
		line += n + 1;
		return line + strspn(line, " \t");
	}
	return NULL;
}

/* The head is there: split it into lines, and find out how long the body is. */
static int head_done(struct reply *r, struct err *e)
{
	const char *length, *coding, *connection;
	char version, tail;

	for (size_t i = 0; i < r->head.len; i++) {
		if (r->head.data[i] == '\0')
			return bad(e, "a NUL in its head");
		if (r->head.data[i] == '\r' && r->head.data[i + 1] == '\n')
			r->head.data[i] = r->head.data[i + 1] = '\0', i++;
		else if (r->head.data[i] == '\n')
			return bad(e, "a line of its head");
	}
	if (sscanf(r->head.data, "HTTP/1.%c %3d%c", &version, &r->status, &tail) < 2 || r->status < 100 || r->status > 599)
		return bad(e, "its first line");
	length = reply_header(r, "content-length");
	coding = reply_header(r, "transfer-encoding");
	connection = reply_header(r, "connection");
	r->close = version == '0' || (connection && strcasestr(connection, "close"));
	r->at = REPLY_BODY;
	if (r->status == 101 || r->status == 204 || r->status == 304 || r->no_body) {
		r->ended = true;
	} else if (coding) {
		if (strcasecmp(coding, "chunked"))
			return bad(e, "its transfer encoding");
		r->at = REPLY_CHUNK_HEAD;
	} else if (length) {
		if (text_u64(length, &r->left) < 0)
			return bad(e, "its length");
		r->ended = !r->left;
	} else {
		r->to_end = r->close = true;
		r->left = UINT64_MAX;
	}
	return 0;
}

static int read_head(struct reply *r, const char *p, size_t n, size_t *used, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		buf_addc(&r->head, p[i]);
		if (r->head.over)
			return bad(e, "its head is too long");
		if (r->head.len < 4 || memcmp(r->head.data + r->head.len - 4, "\r\n\r\n", 4))
			continue;
		*used = i + 1;
		int ret = head_done(r, e);
		if (!ret && r->status < 200 && r->status != 101) {	/* 100, 103: another head follows */
			buf_reset(&r->head);
			r->status = 0;
			r->ended = false;
			r->to_end = false;
			r->at = REPLY_HEAD;
		}
		return ret;
	}
	*used = n;
	return 0;
}

/* Collects up to a line's end. True when it is there, without the end. */
static bool read_line(struct reply *r, const char *p, size_t n, size_t *used)
{
	for (*used = 0; *used < n; ) {
		char c = p[(*used)++];

		if (c == '\n') {
			if (r->line_len && r->line[r->line_len - 1] == '\r')
				r->line_len--;
			r->line[r->line_len] = '\0';
			return true;
		}
		if (r->line_len == sizeof(r->line) - 1)
			r->line_len--;		/* too long: what is read from it fails */
		r->line[r->line_len++] = c;
	}
	return false;
}

static int read_chunk_head(struct reply *r, struct err *e)
{
	size_t digits = strspn(r->line, "0123456789abcdefABCDEF");

	if (!digits || digits > 15 || (r->line[digits] && r->line[digits] != ';' && r->line[digits] != ' '))
		return bad(e, "the length of a chunk");
	sscanf(r->line, "%15lx", &r->left);
	r->at = r->left ? REPLY_CHUNK : REPLY_TRAILER;
	r->line_len = 0;
	return 0;
}

static int line_came(struct reply *r, struct err *e)
{
	if (r->at == REPLY_CHUNK_HEAD)
		return read_chunk_head(r, e);
	if (r->at == REPLY_CHUNK_END) {
		if (r->line_len)
			return bad(e, "the end of a chunk");
		r->at = REPLY_CHUNK_HEAD;
	} else if (!r->line_len) {
		r->ended = true;
	} else if (r->left++ == TRAILERS_MAX) {
		return bad(e, "too many trailers");
	}
	r->line_len = 0;
	return 0;
}

int reply_read(struct reply *r, const char *p, size_t n, size_t *ret_used, const char **ret_p, size_t *ret_n, struct err *e)
{
	*ret_used = 0;
	*ret_n = 0;
	if (r->ended || !n)
		return 0;
	if (r->at == REPLY_HEAD)
		return read_head(r, p, n, ret_used, e);
	if (r->at != REPLY_BODY && r->at != REPLY_CHUNK)
		return read_line(r, p, n, ret_used) ? line_came(r, e) : 0;
	*ret_p = p;
	*ret_n = *ret_used = n < r->left ? n : (size_t)r->left;
	if (!r->to_end)
		r->left -= *ret_n;
	if (!r->left && r->at == REPLY_CHUNK)
		r->at = REPLY_CHUNK_END;
	else if (!r->left)
		r->ended = true;
	return 0;
}

int reply_eof(struct reply *r, struct err *e)
{
	if (r->ended)
		return 0;
	if (r->status && r->to_end) {
		r->ended = true;
		return 0;
	}
	return fail(e, ERR_UNAVAILABLE, "the connection ended in the middle of the answer");
}
