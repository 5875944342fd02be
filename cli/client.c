#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "client.h"
#include "mem.h"

#define PIECE	(256 * 1024)

void http_answer_fini(struct http_answer *a)
{
	reply_fini(&a->reply);
	buf_fini(&a->body);
}

void http_close(struct http *h)
{
	conn_close(TAKE(h->conn));
}

void http_escape(struct buf *b, const char *s, bool slashes)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')
			buf_addc(b, (char)c);
		else if (strchr("0123456789-._~", c) || (slashes && c == '/'))
			buf_addc(b, (char)c);
		else
			buf_addf(b, "%%%02X", c);
	}
}

static int send_file(struct http *h, const struct http_request *q, uint64_t timeout, struct err *e)
{
	AUTO_FREE char *piece = xmalloc(PIECE);
	uint64_t done = 0;

	while (done < q->length) {
		size_t want = q->length - done < PIECE ? (size_t)(q->length - done) : PIECE;
		ssize_t n = pread(q->body_fd, piece, want, (off_t)(q->offset + done));
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail_errno(e, errno, "read the file");
		if (!n)
			return fail(e, ERR_STATE, "the file became shorter while it was sent");
		r = conn_write(h->conn, piece, (size_t)n, timeout);
		if (r < 0)
			return r;
		done += (uint64_t)n;
		if (q->sent)
			q->sent(q->arg, done);
	}
	return 0;
}

static int send_request(struct http *h, const struct http_request *q, uint64_t timeout, struct err *e)
{
	struct buf b AUTO_BUF = BUF_INIT(HTTP_BODY_MAX);
	uint64_t length = q->body_fd >= 0 ? q->length : q->body_len;
	int r;

	buf_addf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: vmctl\r\n", q->method, q->path, h->host);
	if (h->authorization)
		buf_addf(&b, "Authorization: %s\r\n", h->authorization);
	if (q->body || q->body_fd >= 0 || !strcmp(q->method, "POST"))
		buf_addf(&b, "Content-Length: %llu\r\n", (unsigned long long)length);
	if (q->headers)
		buf_adds(&b, q->headers);
	buf_adds(&b, "\r\n");
	if (q->body)
		buf_add(&b, q->body, q->body_len);
	if (b.over)
		return fail(e, ERR_TOO_LARGE, "the request is too large");
	r = conn_write(h->conn, b.data, b.len, timeout);
	return r < 0 || q->body_fd < 0 ? r : send_file(h, q, timeout, e);
}

static int take(const struct http_request *q, struct http_answer *a, const char *p, size_t n, struct err *e)
{
	if (q->data && a->reply.status < 300)
		return q->data(q->arg, p, n) ? -ECANCELED : 0;
	buf_add(&a->body, p, n);
	return a->body.over ? fail(e, ERR_TOO_LARGE, "the answer is larger than %u MiB", HTTP_BODY_MAX >> 20) : 0;
}

/* Feed what was read; what is behind the end of an answer is only there after 101. */
static int feed(const struct http_request *q, struct http_answer *a, const char *p, size_t n, struct err *e)
{
	while (n && !a->reply.ended) {
		const char *piece;
		size_t used, len;
		bool had_head = a->reply.status;
		int r = reply_read(&a->reply, p, n, &used, &piece, &len, e);

		if (!r && !had_head && a->reply.status && a->reply.status < 300 && q->began && q->began(q->arg))
			r = -ECANCELED;
		if (!r && len)
			r = take(q, a, piece, len, e);
		if (r < 0)
			return r;
		p += used;
		n -= used;
	}
	if (n && a->reply.status == 101)
		buf_add(&a->body, p, n);
	else if (n)
		a->reply.close = true;
	return 0;
}

static int read_answer(struct http *h, const struct http_request *q, uint64_t timeout, struct http_answer *a, bool *ret_any,
		       struct err *e)
{
	AUTO_FREE char *piece = xmalloc(PIECE);

	a->reply.no_body = !strcmp(q->method, "HEAD");
	while (!a->reply.ended) {
		ssize_t n = conn_read(h->conn, piece, PIECE, timeout);
		int r;

		if (n < 0)
			return n == -ETIMEDOUT ? fail(e, ERR_TIMEOUT, "croftd has not answered %s %s within %llu s", q->method,
						      q->path, (unsigned long long)timeout / 1000000) : (int)n;
		if (!n)
			return *ret_any ? reply_eof(&a->reply, e) : -ECONNRESET;
		*ret_any = true;
		r = feed(q, a, piece, (size_t)n, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int attempt(struct http *h, const struct http_request *q, struct http_answer *a, bool *ret_any, struct err *e)
{
	uint64_t timeout = q->timeout_usec ? q->timeout_usec : HTTP_TIMEOUT_USEC;
	int r = send_request(h, q, timeout, e), answer;

	if (r < 0 && e->code)
		return r;
	/* A refusal may come before all was sent, and then the connection is closed: read it all the same. */
	answer = read_answer(h, q, timeout, a, ret_any, e);
	if (answer < 0 && r < 0 && !*ret_any)
		return r;
	if (r < 0)
		a->reply.close = true;
	return answer;
}

static bool can_be_repeated(const struct http_request *q)
{
	return !strcmp(q->method, "GET") || !strcmp(q->method, "HEAD") || (q->headers && strstr(q->headers, "Idempotency-Key:"));
}

int http_do(struct http *h, const struct http_request *q, struct http_answer *a, struct err *e)
{
	/* Lost before a byte of an answer came: closed while it lay idle, or croft-front has ended. */
	bool any = false, again = h->conn != NULL || can_be_repeated(q);
	int r;

	*a = (struct http_answer){ .body = BUF_INIT(HTTP_BODY_MAX) };
	reply_init(&a->reply);
	for (;;) {
		r = h->conn ? 0 : h->dial(h->arg, &h->conn, e);
		if (r < 0)
			return r;
		r = attempt(h, q, a, &any, e);
		if (r < 0 || a->reply.close)
			http_close(h);
		if (r >= 0 || (r == -ECANCELED && !e->code))	/* done, or its taker has had enough */
			return 0;
		if (any || !again || e->code)
			break;
		again = false;
	}
	if (!e->code) {
		fail(e, ERR_UNAVAILABLE, "the connection to croftd was lost: %s", strerror(-r));
		err_hint(e, "is croftd all right? journalctl -u croftd");
	}
	return r;
}
