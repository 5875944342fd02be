#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "mem.h"
#include "talk.h"

static const char *target, *token;
static char pin[65];
static char answer[1 << 18];

void die(const char *fmt, ...)
{
	va_list ap;

	fputs("bench: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

struct conn *talk_dial(void)
{
	struct conn *c;
	struct err e = {};
	int r = *target == '/' ? conn_unix(target, TALK_DEADLINE, &c, &e) :
		conn_tls("127.0.0.1", (uint16_t)atoi(target), *pin ? pin : NULL, pin, TALK_DEADLINE, &c, &e);

	if (r < 0)
		die("%s", e.msg);
	return c;
}

void talk_to(const char *to, const char *with)
{
	target = to;
	token = with;
	if (*target != '/')
		conn_close(talk_dial());	/* learns the certificate's pin */
}

void talk_send(struct conn *c, const char *method, const char *path, const char *more, const char *body, size_t length)
{
	bool none = strcmp(token, "-") == 0;
	AUTO_FREE char *all = xasprintf("%s %s HTTP/1.1\r\nHost: localhost\r\n%s%s%s%sContent-Length: %zu\r\n\r\n%s", method, path,
					none ? "" : "Authorization: Bearer ", none ? "" : token, none ? "" : "\r\n", more,
					length, body);

	if (conn_write(c, all, strlen(all), TALK_DEADLINE) < 0)
		die("%s %s cannot be sent", method, path);
}

int talk_answer(struct conn *c, char *buf, size_t cap)
{
	size_t n = 0;
	char *end = NULL, *length;

	while (!end) {
		ssize_t got = n < cap - 1 ? conn_read(c, buf + n, cap - 1 - n, TALK_DEADLINE) : -1;

		if (got <= 0)
			die("the connection ended within an answer's head");
		n += (size_t)got;
		buf[n] = 0;
		end = strstr(buf, "\r\n\r\n");
	}
	int status = atoi(buf + 9);

	end[2] = 0;
	length = strcasestr(buf, "\r\nContent-Length:");
	n -= (size_t)(end + 4 - buf);
	size_t left = (length ? strtoull(length + 17, NULL, 10) : 0) - n, kept = n;

	memmove(buf, end + 4, n);
	while (left) {
		bool room = left < cap - kept;		/* else it is only counted */
		ssize_t got = conn_read(c, room ? buf + kept : buf, left < cap - 1 ? left : cap - 1, TALK_DEADLINE);

		if (got <= 0)
			die("the connection ended within an answer");
		left -= (size_t)got;
		kept = room ? kept + (size_t)got : 0;
	}
	buf[kept] = 0;
	return status;
}

const char *talk(struct conn *c, const char *method, const char *path, const char *body, int want)
{
	talk_send(c, method, path, *body ? "Content-Type: application/json\r\nPrefer: wait=60\r\n" : "Prefer: wait=60\r\n",
		  body, strlen(body));
	int status = talk_answer(c, answer, sizeof answer);

	if (status != want)
		die("%s %s: %d instead of %d: %.500s", method, path, status, want, answer);
	return answer;
}

/* ---- WebSocket */

struct conn *talk_console(const char *vm)
{
	struct conn *c = talk_dial();
	AUTO_FREE char *path = xasprintf("/api/v1/vms/%s/console", vm);
	const char *url = strstr(talk(c, "POST", path, "{\"kind\":\"serial\"}", 201), "\"url\":\"");

	if (!url)
		die("the console of %s has no url", vm);
	AUTO_FREE char *socket = xstrndup(url + 7, strcspn(url + 7, "\""));

	talk_send(c, "GET", socket, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
		  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 0);
	for (size_t n = 0; n < 4 || memcmp(answer + n - 4, "\r\n\r\n", 4) != 0; n++)	/* not a byte of what follows */
		if (n == sizeof answer || conn_read(c, answer + n, 1, TALK_DEADLINE) != 1)
			die("the console of %s was not opened", vm);
	if (atoi(answer + 9) != 101)
		die("the console of %s was not opened: %.500s", vm, answer);
	return c;
}

uint64_t talk_payload(const uint8_t *p, size_t n, uint8_t *ret_last)
{
	static uint64_t left;		/* in the frame */
	static uint8_t head[10];
	static unsigned have;
	uint64_t found = 0;

	while (n) {
		size_t take = left < n ? (size_t)left : n;

		if (take) {
			found += take;
			left -= take;
			p += take;
			n -= take;
			*ret_last = p[-1];
			continue;
		}
		head[have++] = *p++;
		n--;
		unsigned small = head[1] & 127, want = have < 2 ? 2 : small == 126 ? 4 : small == 127 ? 10 : 2;

		if (have < want)
			continue;
		left = want == 2 ? small : 0;
		for (unsigned i = 2; i < want; i++)
			left = left << 8 | head[i];
		have = 0;
	}
	return found;
}

/* ---- numbers */

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double percentile(double *v, size_t n, unsigned percent)
{
	qsort(v, n, sizeof *v, by_size);
	return v[n * percent / 100];
}

double median(double *v, size_t n) { return percentile(v, n, 50); }
