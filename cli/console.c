/* console.c: a VM's serial line at this terminal. Ctrl-] leaves. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <termios.h>
#include <unistd.h>
#include "call.h"
#include "command.h"
#include "file.h"
#include "mem.h"
#include "text.h"
#include "frames.h"

#define LEAVE		29		/* Ctrl-] */
#define PIECE		65536
#define WRITE_USEC	(30 * 1000000ull)
#define PING_USEC	(20 * 1000000ll)	/* a connection that is dead is noticed by three of them */

struct console {
	struct conn *conn;
	struct ws ws;
	struct buf out;			/* frames to be sent */
	char *early;			/* frames that came with the answer */
	size_t early_len;
	bool raw, left, ended, stdin_open;
	unsigned close_code;
	int64_t heard, pinged;
};

static struct termios before;

static int raw_mode(bool on)
{
	struct termios t = before;

	if (!on)
		return tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return -errno;
	t = before;
	cfmakeraw(&t);
	return tcsetattr(STDIN_FILENO, TCSAFLUSH, &t);
}

static void on_signal(int sig)
{
	raw_mode(false);
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Ask for a ticket, then turn the connection into a WebSocket. */
static int open_socket(struct ctl *c, const char *vm, struct console *k)
{
	struct call ticket = { .op = "console_create", .params = { vm }, .body = json_pack("{s:s}", "kind", "serial") };
	char key[25], accept[29];
	int code = call(c, &ticket);
	const char *url = json_string_value(json_object_get(ticket.ret, "url")), *back;
	struct http_request q = HTTP_REQUEST("GET", url);
	struct http_answer a;
	struct err e = { 0 };

	if (code || !url) {
		json_decref(ticket.ret);
		return code ? code : CTL_FAILED;
	}
	ws_key(key, accept);
	AUTO_FREE char *headers = xasprintf("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
					    "Sec-WebSocket-Protocol: binary\r\nSec-WebSocket-Key: %s\r\n", key);
	q.headers = headers;
	code = http_do(&c->http, &q, &a, &e);
	back = reply_header(&a.reply, "sec-websocket-accept");
	if (!code && a.reply.status >= 400)
		call_problem(&a, &e);
	else if (!code && (a.reply.status != 101 || !back || strcmp(back, accept)))
		fail(&e, ERR_INTERNAL, "croftd made no WebSocket of the connection");
	if (!e.code) {
		k->conn = TAKE(c->http.conn);
		k->out = (struct buf)BUF_INIT(8 << 20);
		k->early = TAKE(a.body.data);
		k->early_len = a.body.len;
	}
	http_answer_fini(&a);
	json_decref(ticket.ret);
	return e.code ? ctl_fail(&e) : CTL_OK;
}

/* What the guest wrote goes to stdout as it is: a terminal at the other end is what a console is. */
static void take_frames(struct console *k, const uint8_t *p, size_t n)
{
	while (!k->ended) {
		const uint8_t *piece;
		size_t used, len;
		enum ws_event ev = ws_read(&k->ws, p, n, &used, &piece, &len);

		p += used;
		n -= used;
		if (ev == WS_MORE)
			return;
		if (ev == WS_DATA && file_write_all(STDOUT_FILENO, piece, len) < 0)
			k->left = k->ended = true;
		if (ev == WS_GOT_PING)
			ws_frame(&k->out, WS_PONG, k->ws.control, k->ws.control_len);
		if (ev == WS_GOT_CLOSE) {
			k->close_code = ws_close_code(&k->ws);
			k->ended = true;
		}
		if (ev == WS_BROKEN)
			k->ended = true;
	}
}

static void from_network(struct console *k)
{
	uint8_t piece[PIECE];

	do {
		ssize_t n = conn_read(k->conn, piece, sizeof(piece), 0);

		if (n == -ETIMEDOUT)
			return;
		if (n <= 0)
			k->ended = true;
		else
			take_frames(k, piece, (size_t)n);
		k->heard = mono_usec();
	} while (!k->ended && conn_pending(k->conn));
}

static void from_stdin(struct console *k)
{
	char piece[4096], *leave;
	ssize_t n = read(STDIN_FILENO, piece, sizeof(piece));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		k->stdin_open = false;
		return;
	}
	leave = k->raw ? memchr(piece, LEAVE, (size_t)n) : NULL;
	if (leave) {
		n = leave - piece;
		k->left = k->ended = true;
	}
	if (n)
		ws_frame(&k->out, WS_BINARY, piece, (size_t)n);
}

static void keep_alive(struct console *k)
{
	int64_t now = mono_usec();

	if (now - k->heard > 3 * PING_USEC)
		k->ended = true;
	if (now - k->pinged < PING_USEC)
		return;
	k->pinged = now;
	ws_frame(&k->out, WS_PING, "", 0);
}

static void pump(struct console *k, int64_t end)
{
	k->heard = k->pinged = mono_usec();
	k->stdin_open = true;
	take_frames(k, (const uint8_t *)k->early, k->early_len);
	while (!k->ended) {
		struct pollfd p[2] = { { conn_fd(k->conn), POLLIN, 0 }, { k->stdin_open ? STDIN_FILENO : -1, POLLIN, 0 } };

		if (end && mono_usec() >= end)
			break;
		if (poll(p, 2, 1000) < 0 && errno != EINTR)
			break;
		if (p[0].revents)
			from_network(k);
		if (p[1].revents && !k->ended)
			from_stdin(k);
		keep_alive(k);
		if (k->out.len && conn_write(k->conn, k->out.data, k->out.len, WRITE_USEC) < 0)
			k->ended = true;
		buf_reset(&k->out);
	}
}

static int verdict(const struct console *k, const char *vm)
{
	if (k->left || k->close_code == 1000)
		return CTL_OK;
	if (k->close_code) {
		say("the console of %s was closed (%u)", vm, k->close_code);
		return CTL_FAILED;
	}
	say("the connection to %s's console was lost", vm);
	say_hint("the VM isn't touched by that; vmctl console %s takes it up again, with what it said meanwhile", vm);
	return CTL_CONNECT;
}

int console_open(struct ctl *c, const char *vm)
{
	struct console k = { .raw = isatty(STDIN_FILENO) };
	int64_t end = c->timeout_s ? mono_usec() + c->timeout_s * 1000000ll : 0;
	int code = open_socket(c, vm, &k);

	if (code)
		return code;
	if (k.raw) {
		fprintf(stderr, "[console of %s; Ctrl-] leaves it]\r\n", vm);
		raw_mode(true);
		signal(SIGTERM, on_signal);
		signal(SIGHUP, on_signal);
	}
	pump(&k, end);
	if (k.raw) {
		raw_mode(false);
		fprintf(stderr, "\r\n");
	}
	if (!k.ended)
		k.left = true;		/* --timeout */
	buf_reset(&k.out);
	ws_frame(&k.out, WS_CLOSE, "\x03\xe8", 2);
	conn_write(k.conn, k.out.data, k.out.len, 1000000);
	conn_close(k.conn);
	buf_fini(&k.out);
	free(k.early);
	return verdict(&k, vm);
}
