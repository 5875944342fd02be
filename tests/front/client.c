#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "mem.h"
#include "rig.h"

const gnutls_datum_t *client_ticket;

static int dial(enum via via)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(rig->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = 5 };
	int one = 1;
	int fd = socket(via == TLS ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s/socket", rig->folder);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	int r = via == TLS ? connect(fd, (struct sockaddr *)&in, sizeof(in)) : connect(fd, (struct sockaddr *)&un, sizeof(un));
	if (r) {
		close(fd);
		return -1;
	}
	return fd;
}

struct client *client_open(enum via via)
{
	static gnutls_certificate_credentials_t cred;
	struct client *c = xnew(client);
	int r;

	c->fd = dial(via);
	if (c->fd < 0) {
		free(c);
		return NULL;
	}
	if (via == UNIX)
		return c;
	if (!cred)
		gnutls_certificate_allocate_credentials(&cred);
	gnutls_init(&c->s, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
	gnutls_set_default_priority(c->s);
	gnutls_credentials_set(c->s, GNUTLS_CRD_CERTIFICATE, cred);
	gnutls_transport_set_int(c->s, c->fd);
	if (client_ticket)
		gnutls_session_set_data(c->s, client_ticket->data, client_ticket->size);
	do
		r = gnutls_handshake(c->s);
	while (r < 0 && r != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(r));
	if (r < 0) {
		client_close(c);
		return NULL;
	}
	return c;
}

void client_close(struct client *c)
{
	if (!c)
		return;
	if (c->s)
		gnutls_deinit(c->s);
	close(c->fd);
	free(c->buf);
	free(c);
}

bool client_send(struct client *c, const void *p, size_t n)
{
	while (n) {
		ssize_t r = c->s ? gnutls_record_send(c->s, p, n) : send(c->fd, p, n, MSG_NOSIGNAL);
		if (r <= 0)
			return false;
		p = (const char *)p + r;
		n -= r;
	}
	return true;
}

bool client_say(struct client *c, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	bool fine = n >= 0 && client_send(c, text, n);
	free(text);
	return fine;
}

static ssize_t receive(struct client *c, void *p, size_t n)
{
	ssize_t r;
	int tries = 0;		/* a ticket of TLS 1.3 is told as AGAIN, and so is a timeout */

	do
		r = c->s ? gnutls_record_recv(c->s, p, n) : recv(c->fd, p, n, 0);
	while (c->s && (r == GNUTLS_E_INTERRUPTED || r == GNUTLS_E_REHANDSHAKE || (r == GNUTLS_E_AGAIN && tries++ < 4)));
	return r < 0 ? (c->s && r == GNUTLS_E_PREMATURE_TERMINATION ? 0 : -1) : r;
}

ssize_t client_recv(struct client *c, void *p, size_t n)
{
	if (!c->n)
		return receive(c, p, n);
	n = n < c->n ? n : c->n;
	memcpy(p, c->buf, n);
	memmove(c->buf, c->buf + n, c->n - n + 1);
	c->n -= n;
	return n;
}

bool client_exact(struct client *c, void *p, size_t n)
{
	while (n) {
		ssize_t r = client_recv(c, p, n);
		if (r <= 0)
			return false;
		p = (char *)p + r;
		n -= r;
	}
	return true;
}

static bool more(struct client *c)
{
	c->buf = xrealloc(c->buf, c->n + 65536 + 1);
	ssize_t r = receive(c, c->buf + c->n, 65536);
	if (r <= 0)
		return false;
	c->n += r;
	c->buf[c->n] = '\0';
	return true;
}

bool client_wait_for(struct client *c, const char *text)
{
	while (!c->n || !memmem(c->buf, c->n, text, strlen(text)))
		if (!more(c))
			return false;
	return true;
}

void client_half_close(struct client *c)
{
	if (c->s)
		gnutls_bye(c->s, GNUTLS_SHUT_WR);
	shutdown(c->fd, SHUT_WR);
}

static void eat(struct client *c, size_t n)
{
	memmove(c->buf, c->buf + n, c->n - n + 1);
	c->n -= n;
}

static bool body_of(struct client *c, struct reply *r)
{
	const char *length = strcasestr(r->head, "\r\nContent-Length:");
	size_t cap = 0;

	r->body = xmalloc(1);
	if (length || !strcasestr(r->head, "\r\nTransfer-Encoding: chunked")) {
		r->n = length ? strtoull(length + 17, NULL, 10) : 0;
		r->body = xrealloc(r->body, r->n + 1);
		r->body[r->n] = '\0';
		return client_exact(c, r->body, r->n);
	}
	for (;;) {
		if (!client_wait_for(c, "\r\n"))
			return false;
		char *end;
		size_t n = strtoull(c->buf, &end, 16);
		eat(c, (char *)memmem(c->buf, c->n, "\r\n", 2) - c->buf + 2);
		if (r->n + n + 3 > cap)
			r->body = xrealloc(r->body, cap = 2 * (r->n + n + 3));
		if (!client_exact(c, r->body + r->n, n + 2))
			return false;
		r->n += n;
		r->body[r->n] = '\0';
		if (!n)
			return true;
	}
}

bool client_reply(struct client *c, struct reply *r, bool head_only)
{
	*r = (struct reply){ 0 };
	do {
		free(r->head);
		r->head = NULL;
		if (!client_wait_for(c, "\r\n\r\n"))
			return false;
		size_t n = (char *)memmem(c->buf, c->n, "\r\n\r\n", 4) - c->buf + 4;
		r->head = xstrndup(c->buf, n);
		eat(c, n);
		if (sscanf(r->head, "HTTP/1.1 %d", &r->status) != 1)
			return false;
	} while (r->status == 100);
	return head_only || r->status == 304 || r->status == 204 || body_of(c, r);
}

void reply_free(struct reply *r)
{
	free(r->head);
	free(r->body);
	*r = (struct reply){ 0 };
}

int ask(enum via via, const char *request, char *body, size_t cap)
{
	struct client *c = client_open(via);
	struct reply r = { 0 };
	int status = 0;

	if (!c)
		return -1;
	client_send(c, request, strlen(request));
	if (client_reply(c, &r, !strncmp(request, "HEAD", 4)))
		status = r.status;
	if (body)
		snprintf(body, cap, "%s", r.body ? r.body : "");
	reply_free(&r);
	client_close(c);
	return status;
}

int get(enum via via, const char *path, char *body, size_t cap)
{
	char *request = xasprintf("GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path);
	int status = ask(via, request, body, cap);
	free(request);
	return status;
}
