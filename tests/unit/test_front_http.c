// LINK: tests/front
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "mem.h"
#include "rig.h"
#include "text.h"

#define BOTH(v) for (enum via v = UNIX; v <= TLS; v++)

static bool gone_1(void) { return rig->gone == 1; }
static bool gone_4(void) { return rig->gone == 4; }
static bool served_tls(void) { return get(TLS, "/api/hello", NULL, 0) == 200; }
static bool gone_2(void) { return rig->gone == 2; }

TEST(get_over_both)
{
	char body[256];

	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		eq_int(get(v, "/api/hello", body, sizeof(body)), 200);
		eq_str(body, "hello\n");
	}
	rig_stop();
}

TEST(the_head_reaches_croftd_raw)
{
	char body[512];

	rig_start(&(struct rig_how){ 0 });
	eq_int(ask(TLS, "GET /api/head?a=%2F&b=+ HTTP/1.1\r\nHost: x:1\r\nAuthorization: Bearer t\r\nRANGE: bytes=1-\r\n\r\n",
		   body, sizeof(body)), 200);
	eq_str(body, "GET /api/head ?a=%2F&b=+ peer=127.0.0.1 ticket=- host=x:1 auth=Bearer t range=bytes=1- length=0 ws=0\n");
	eq_int(ask(UNIX, "FROB /api/head HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", body, sizeof(body)), 200);
	eq_str(body, "FROB /api/head ?- peer=unix ticket=ticket-of-root host=x auth=- range=- length=3 ws=0\n");
	rig_stop();
}

TEST(a_connection_is_kept_and_pipelined)
{
	struct reply r;

	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		struct client *c = client_open(v);
		for (int i = 0; i < 50; i++)
			client_say(c, "GET /api/hello HTTP/1.1\r\nHost: h\r\n\r\n");
		for (int i = 0; i < 50; i++) {
			ok(client_reply(c, &r, false));
			eq_int(r.status, 200);
			reply_free(&r);
		}
		/* A refusal of a small body does not cost the connection. */
		for (int i = 0; i < 3; i++) {
			client_say(c, "POST /api/refuse HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345");
			ok(client_reply(c, &r, false));
			eq_int(r.status, 403);
			reply_free(&r);
		}
		client_close(c);
	}
	rig_stop();
}

TEST(bodies_are_collected)
{
	static char big[200000];
	char body[256];
	struct reply r;

	rig_start(&(struct rig_how){ 0 });
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = 'A' + i % 26;
	BOTH(v) {
		eq_int(ask(v, "POST /api/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nabcd", body, sizeof(body)), 200);
		eq_str(body, "abcd");
		eq_int(ask(v, "POST /api/echo HTTP/1.1\r\nHost: h\r\n\r\n", body, sizeof(body)), 200);
		eq_str(body, "");
		eq_int(ask(v, "POST /api/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
			   body, sizeof(body)), 200);
		eq_str(body, "abcde");
		struct client *c = client_open(v);
		client_say(c, "POST /api/echo HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", sizeof(big));
		ok(client_send(c, big, sizeof(big)));
		ok(client_reply(c, &r, false));
		eq_int(r.status, 200);
		ok(r.n == sizeof(big) && !memcmp(r.body, big, r.n));
		reply_free(&r);
		client_close(c);
	}
	rig_stop();
}

TEST(a_body_over_the_limit_is_413)
{
	char body[1024];

	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		eq_int(ask(v, "POST /api/small HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n12345678901", body, sizeof(body)), 413);
		ok(strstr(body, "\"type\":\"/problems/too-large\""));
		eq_int(ask(v, "POST /api/small HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n",
			   body, sizeof(body)), 413);
	}
	ok(rig_wait(gone_4));
	rig_stop();
}

TEST(a_large_answer_comes_by_memfd)
{
	struct reply r;

	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		struct client *c = client_open(v);
		for (int i = 0; i < 3; i++) {
			client_say(c, "GET /api/large HTTP/1.1\r\nHost: h\r\n\r\n");
			ok(client_reply(c, &r, false));
			eq_int(r.n, 300000);
			ok(r.n == 300000 && r.body[299999] == 'a' + 299999 % 26);
			reply_free(&r);
			client_say(c, "HEAD /api/large HTTP/1.1\r\nHost: h\r\n\r\n");
			ok(client_reply(c, &r, true));
			ok(r.head && strstr(r.head, "Content-Length: 300000\r\n"));
			reply_free(&r);
		}
		client_close(c);
	}
	rig_stop();
}

TEST(a_refusal_comes_before_the_body)
{
	struct reply r;

	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		struct client *c = client_open(v);
		client_say(c, "PUT /api/refuse HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n");
		ok(client_wait_for(c, "\r\n\r\n"));
		ok(c->buf && !strncmp(c->buf, "HTTP/1.1 403", 12));	/* and not 100 */
		client_close(c);
		c = client_open(v);
		client_say(c, "POST /api/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
		ok(client_wait_for(c, "HTTP/1.1 100 Continue\r\n\r\n"));
		client_say(c, "ok");
		ok(client_reply(c, &r, false));
		eq_int(r.status, 200);
		reply_free(&r);
		client_close(c);
	}
	rig_stop();
}

/* Without Expect the answer comes while the body is under way, and must not be lost in a reset. */
TEST(a_refusal_in_the_midst_of_a_large_body)
{
	static char block[65536];
	struct reply r;

	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		struct client *c = client_open(v);
		client_say(c, "PUT /api/refuse HTTP/1.1\r\nHost: h\r\nContent-Length: 20000000\r\n\r\n");
		bool sent = true;
		for (int i = 0; i < 100 && sent; i++)
			sent = client_send(c, block, sizeof(block));
		ok(sent);
		ok(client_reply(c, &r, false));
		eq_int(r.status, 403);
		reply_free(&r);
		client_close(c);
	}
	rig_stop();
}

TEST(a_half_closed_client_gets_its_answer)
{
	struct reply r;

	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		struct client *c = client_open(v);
		client_say(c, "GET /api/hello HTTP/1.1\r\nHost: h\r\n\r\n");
		client_half_close(c);
		ok(client_reply(c, &r, false));
		eq_int(r.status, 200);
		reply_free(&r);
		client_close(c);
		c = client_open(v);
		client_say(c, "POST /api/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nxyz");
		client_half_close(c);
		ok(client_reply(c, &r, false));
		eq_int(r.status, 200);
		reply_free(&r);
		client_close(c);
	}
	rig_stop();
}

TEST(a_client_that_leaves_is_gone)
{
	struct linger reset = { 1, 0 };

	rig_start(&(struct rig_how){ 0 });
	struct client *c = client_open(UNIX);
	client_say(c, "GET /api/never HTTP/1.1\r\nHost: h\r\n\r\n");
	while (rig->requests < 1)
		usleep(1000);
	client_close(c);
	ok(rig_wait(gone_1));
	c = client_open(TLS);
	client_say(c, "GET /api/never HTTP/1.1\r\nHost: h\r\n\r\n");
	while (rig->requests < 2)
		usleep(1000);
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	client_close(c);
	ok(rig_wait(gone_2));
	eq_int(get(TLS, "/api/hello", NULL, 0), 200);
	rig_stop();
}

TEST(withdrawn_requests_end)
{
	rig_start(&(struct rig_how){ 0 });
	BOTH(v)
		eq_int(get(v, "/api/withdraw", NULL, 0), 0);
	eq_int(rig->gone, 0);
	BOTH(v)
		eq_int(get(v, "/api/hello", NULL, 0), 200);
	rig_stop();
}

TEST(requests_over_the_limit_wait_their_turn)
{
	struct client *held[4], *c[20];
	struct reply r;

	rig_start(&(struct rig_how){ .requests_max = 4 });
	for (int i = 0; i < 4; i++) {
		held[i] = client_open(UNIX);
		client_say(held[i], "GET /api/never HTTP/1.1\r\nHost: h\r\n\r\n");
	}
	for (int i = 0; i < 20; i++) {
		c[i] = client_open(i % 2 ? TLS : UNIX);
		client_say(c[i], "GET /api/hello HTTP/1.1\r\nHost: h\r\n\r\n");
	}
	usleep(200000);
	ok(rig->requests <= 4);
	client_close(held[0]);
	for (int i = 0; i < 20; i++) {
		ok(client_reply(c[i], &r, false));
		eq_int(r.status, 200);
		reply_free(&r);
		client_close(c[i]);
	}
	for (int i = 1; i < 4; i++)
		client_close(held[i]);
	rig_stop();
}

TEST(split_at_every_byte)
{
	static const char text[] = "POST /api/echo?x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
		"POST /api/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
	struct reply r;

	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		for (size_t cut = 0; cut <= sizeof(text) - 1; cut++) {
			struct client *c = client_open(v);
			client_send(c, text, cut);
			usleep(500);
			client_send(c, text + cut, sizeof(text) - 1 - cut);
			for (int i = 0; i < 2; i++) {
				ok(client_reply(c, &r, false));
				eq_str(r.body, i ? "abcd" : "hello");
				reply_free(&r);
			}
			client_close(c);
		}
		struct client *c = client_open(v);	/* and each byte for itself */
		for (size_t i = 0; i < sizeof(text) - 1; i++)
			client_send(c, text + i, 1);
		ok(client_reply(c, &r, false));
		eq_str(r.body, "hello");
		reply_free(&r);
		client_close(c);
	}
	rig_stop();
}

TEST(malformed_requests_are_refused)
{
	static const struct { const char *text; int status, or; } bad[] = {	/* or: what libmicrohttpd 1.0 says */
		{ "GET /api/hello HTTP/1.1\r\n\r\n", 400 },		/* no Host */
		{ "GET /api/hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400 },
		{ "GET /api/hello HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n", 400 },
		{ "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400 },
		{ "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400 },
		{ "POST /api/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, 400 },
		{ "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400 },
		{ "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 413 },
		{ "POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0x10\r\n\r\n", 400 },
		{ "POST /api/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400 },
		{ "GET hello HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
		{ "GET http://a/api/hello HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
		{ "GET /api/\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
		{ "GET /api/\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
		{ "GET /api/hello HTTP/1.1\r\nHost: a\r\nX: \x02\r\n\r\n", 400 },
		{ "GET /api/join HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 426 },
		{ "GET /api/join HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n", 400 },
		{ "GET /api/join HTTP/1.1\r\nHost: a\r\n\r\n", 426 },
		{ "\x16\x03\x01 junk\r\n\r\n", 400 },
	};

	rig_start(&(struct rig_how){ 0 });
	BOTH(v)
		for (size_t i = 0; i < COUNT(bad); i++) {
			int status = ask(v, bad[i].text, NULL, 0);
			if (status != bad[i].status && status != bad[i].or)
				t_fail(__FILE__, __LINE__, "case %zu: %d, want %d", i, status, bad[i].status);
		}
	BOTH(v)
		eq_int(get(v, "/api/hello", NULL, 0), 200);
	rig_stop();
}

TEST(heads_are_bounded)
{
	enum { CAP = 400000 };
	char *text = xmalloc(CAP), body[1024];

	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		snprintf(text, CAP, "GET /api/%09000d HTTP/1.1\r\nHost: h\r\n\r\n", 1);
		eq_int(ask(v, text, body, sizeof(body)), 414);
		ok(strstr(body, "\"status\":414"));
		snprintf(text, CAP, "GET /api/hello HTTP/1.1\r\nHost: h\r\nX: %020000d\r\n\r\n", 1);
		eq_int(ask(v, text, body, sizeof(body)), 431);
		ok(strstr(body, "\"status\":431"));
		snprintf(text, CAP, "GET /api/hello HTTP/1.1\r\nHost: h\r\nX: %0300000d\r\n\r\n", 1);
		int status = ask(v, text, NULL, 0);	/* the client may not be able to send it all */
		ok(status == 431 || status == 0);
	}
	eq_int(get(TLS, "/api/hello", NULL, 0), 200);
	eq_int(rig->requests, 1);
	rig_stop();
	free(text);
}

TEST(slow_heads_are_cut)
{
	char c1;

	rig_start(&(struct rig_how){ .head_ms = 300, .idle_ms = 1000 });
	BOTH(v) {
		struct client *c = client_open(v);
		for (int i = 0; i < 40; i++) {		/* a byte now and then keeps nobody alive */
			if (!client_send(c, "GET /api/hello HTTP/1.1\r\nHost: h\r\nX: 0123456789" + i, 1))
				break;
			usleep(20000);
		}
		ok(client_wait_for(c, " 408 "));
		client_close(c);
		c = client_open(v);			/* an idle connection ends too */
		client_say(c, "GET /api/hello HTTP/1.1\r\nHost: h\r\n\r\n");
		ok(client_wait_for(c, "hello\n"));
		c->n = 0;
		eq_int(client_recv(c, &c1, 1), 0);
		client_close(c);
	}
	rig_stop();
}

/* A handshake that never comes ends with the deadline. */
TEST(mute_tls_clients_are_cut)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval patience = { .tv_sec = 5 };
	char byte;

	rig_start(&(struct rig_how){ .head_ms = 300 });
	in.sin_port = htons(rig->port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	ok(!connect(fd, (struct sockaddr *)&in, sizeof(in)));
	ok(send(fd, "\x16\x03\x01", 3, 0) == 3);
	eq_int(recv(fd, &byte, 1, 0), 0);
	close(fd);
	rig_stop();
}

TEST(connections_are_counted)
{
	struct client *c[10];
	int open_now = 0;

	rig_start(&(struct rig_how){ .per_address = 6 });
	for (int i = 0; i < 10; i++) {
		c[i] = client_open(TLS);
		open_now += !!c[i];
	}
	eq_int(open_now, 6);
	for (int i = 0; i < 10; i++)
		client_close(c[i]);
	ok(rig_wait(served_tls));
	rig_stop();
	rig_start(&(struct rig_how){ .connections_max = 3 });
	open_now = 0;
	for (int i = 0; i < 10; i++) {
		c[i] = client_open(TLS);
		open_now += !!c[i];
	}
	eq_int(open_now, 3);
	eq_int(get(UNIX, "/api/hello", NULL, 0), 200);
	for (int i = 0; i < 10; i++)
		client_close(c[i]);
	rig_stop();
}

/* libmicrohttpd's own epoll thread stalls at k x 128 connections that are active at once; ours must not. */
TEST(no_stall_at_any_number_of_connections)
{
	static const int numbers[] = { 127, 128, 129, 255, 256, 257, 512 };
	static struct client *c[512];
	struct reply r;

	rig_start(&(struct rig_how){ 0 });
	for (size_t k = 0; k < COUNT(numbers); k++) {
		int answered = 0, n = numbers[k];
		for (int i = 0; i < n; i++)
			c[i] = client_open(UNIX);
		for (int round = 0; round < 3; round++) {
			for (int i = 0; i < n; i++)
				client_say(c[i], "GET /api/hello HTTP/1.1\r\nHost: h\r\n\r\n");
			for (int i = 0; i < n; i++) {
				answered += client_reply(c[i], &r, false) && r.status == 200;
				reply_free(&r);
			}
		}
		eq_int(answered, 3 * n);
		for (int i = 0; i < n; i++)
			client_close(c[i]);
	}
	rig_stop();
}

static int by_value(const void *a, const void *b)
{
	return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

TEST(round_trips)
{
	enum { N = 2000 };
	static int usec[N];
	struct reply r;

	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		struct client *c = client_open(v);
		for (int i = 0; i < N; i++) {
			int64_t from = mono_usec();
			client_say(c, "GET /api/hello HTTP/1.1\r\nHost: h\r\n\r\n");
			ok(client_reply(c, &r, false));
			reply_free(&r);
			usec[i] = mono_usec() - from;
		}
		qsort(usec, N, sizeof(*usec), by_value);
		printf("# GET over %s: p50 %d us, p99 %d us\n", v == TLS ? "TLS" : "unix", usec[N / 2], usec[N * 99 / 100]);
		ok(usec[N / 2] < 20000);
		client_close(c);
	}
	rig_stop();
}

static void fingerprint(struct client *c, char out[20])
{
	unsigned n = 0;
	size_t len = 20;
	const gnutls_datum_t *der = gnutls_certificate_get_peers(c->s, &n);

	memset(out, 0, 20);
	ok(der && n == 1 && !gnutls_fingerprint(GNUTLS_DIG_SHA1, der, out, &len));
}

TEST(a_renewed_certificate_is_for_new_connections)
{
	char before[20], after[20];
	struct reply r;

	rig_start(&(struct rig_how){ 0 });
	struct client *old = client_open(TLS);
	fingerprint(old, before);
	client_say(old, "POST /api/renew HTTP/1.1\r\nHost: h\r\n\r\n");
	ok(client_reply(old, &r, false));
	reply_free(&r);
	struct client *new = client_open(TLS);
	fingerprint(new, after);
	ok(memcmp(before, after, 20));
	client_say(old, "GET /api/hello HTTP/1.1\r\nHost: h\r\n\r\n");
	ok(client_reply(old, &r, false));
	eq_int(r.status, 200);
	reply_free(&r);
	client_close(old);
	client_close(new);
	eq_int(rig->logs, 1);		/* the junk was refused, and told */
	rig_stop();
}

static bool versions(const char *priority, const char *want)
{
	struct client *c = xnew(client);
	gnutls_certificate_credentials_t cred;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(rig->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	gnutls_datum_t alpn[] = { { (unsigned char *)"h2", 2 }, { (unsigned char *)"http/1.1", 8 } }, chosen = { 0 };
	int r;

	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	ok(!connect(c->fd, (struct sockaddr *)&in, sizeof(in)));
	gnutls_certificate_allocate_credentials(&cred);
	gnutls_init(&c->s, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
	gnutls_priority_set_direct(c->s, priority, NULL);
	gnutls_credentials_set(c->s, GNUTLS_CRD_CERTIFICATE, cred);
	gnutls_alpn_set_protocols(c->s, alpn, 2, 0);
	gnutls_transport_set_int(c->s, c->fd);
	do
		r = gnutls_handshake(c->s);
	while (r < 0 && !gnutls_error_is_fatal(r));
	bool fine = want ? !r && !strcmp(gnutls_protocol_get_name(gnutls_protocol_get_version(c->s)), want) &&
		    !gnutls_alpn_get_selected_protocol(c->s, &chosen) && chosen.size == 8 : r < 0;
	client_close(c);
	gnutls_certificate_free_credentials(cred);
	return fine;
}

TEST(only_tls_1_2_and_1_3)
{
	rig_start(&(struct rig_how){ 0 });
	ok(versions("NORMAL:-VERS-ALL:+VERS-TLS1.3", "TLS1.3"));
	ok(versions("NORMAL:-VERS-ALL:+VERS-TLS1.2", "TLS1.2"));
	ok(versions("LEGACY:-VERS-ALL:+VERS-TLS1.1", NULL));
	rig_stop();
}

TEST(sessions_are_resumed)
{
	struct reply r;
	gnutls_datum_t data = { 0 };

	rig_start(&(struct rig_how){ 0 });
	struct client *c = client_open(TLS);
	client_say(c, "GET /api/hello HTTP/1.1\r\nHost: h\r\n\r\n");	/* the ticket comes with the first bytes */
	ok(client_reply(c, &r, false));
	reply_free(&r);
	ok(!gnutls_session_get_data2(c->s, &data));
	client_close(c);
	client_ticket = &data;
	c = client_open(TLS);
	client_ticket = NULL;
	ok(c && gnutls_session_is_resumed(c->s));
	client_say(c, "GET /api/hello HTTP/1.1\r\nHost: h\r\n\r\n");
	ok(client_reply(c, &r, false));
	reply_free(&r);
	client_close(c);
	gnutls_free(data.data);
	rig_stop();
}

/* Somebody who asks for much and never reads costs a bounded buffer, and not for ever. */
TEST(clients_that_never_read_are_cut)
{
	rig_start(&(struct rig_how){ .idle_ms = 1000, .head_ms = 1000 });
	BOTH(v) {
		struct client *c = client_open(v);
		struct timeval patience = { .tv_usec = 300000 };
		setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		int sent = 0;
		while (sent < 1000 && client_say(c, "GET /api/large HTTP/1.1\r\nHost: h\r\n\r\n"))
			sent++;
		usleep(3500000);
		eq_int(get(v, "/api/hello", NULL, 0), 200);
		char sink[65536];
		size_t got = 0;
		ssize_t n;
		while ((n = client_recv(c, sink, sizeof(sink))) > 0)
			got += n;
		ok(got < 30000000);		/* what lay in buffers, and then the end */
		client_close(c);
	}
	rig_stop();
}

TEST(http_on_the_https_port_is_told)
{
	rig_start(&(struct rig_how){ 0 });
	char command[256], line[256] = "";
	snprintf(command, sizeof(command), "curl -s -m 3 http://127.0.0.1:%d/", rig->port);
	FILE *f = popen(command, "r");
	ok(f && fgets(line, sizeof(line), f) && strstr(line, "HTTPS"));
	if (f)
		pclose(f);
	rig_stop();
}

TEST(junk_hurts_nobody)
{
	unsigned seed = 7;
	char junk[4096];

	rig_start(&(struct rig_how){ 0 });
	for (int i = 0; i < 200; i++) {
		struct client *c = client_open(i % 2 ? TLS : UNIX);
		size_t n = rand_r(&seed) % sizeof(junk);
		for (size_t k = 0; k < n; k++)
			junk[k] = rand_r(&seed) % 4 ? "GET /api/ehloHTP1.: \r\n\r\n"[rand_r(&seed) % 24] : rand_r(&seed);
		client_send(c, junk, n);
		client_close(c);
	}
	BOTH(v)
		eq_int(get(v, "/api/hello", NULL, 0), 200);
	rig_stop();
}

T_MAIN
