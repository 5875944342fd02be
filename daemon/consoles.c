/* consoles.c: a ticket is good once, for a minute, for one VM's serial line or screen; a WebSocket can't send headers
 * from a browser, so the ticket stands for who asked for it. */
#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "access.h"
#include "consoles.h"
#include "inventory.h"
#include "map.h"
#include "mem.h"
#include "routes.h"
#include "text.h"

#define TICKET_USEC	(60 * 1000000ll)
#define TICKETS_MAX	1024

static const char *const kind_names[] = { "serial", "screen", NULL };
enum { SERIAL, SCREEN };

struct ticket { char vm[37]; int kind; struct who who; int64_t expires_usec; };
struct consoles { struct map *tickets; };

struct console_input { int kind; };
static const struct field input_rows[] = {
	{ .name = "kind", .type = F_ENUM, .off = offsetof(struct console_input, kind), .names = kind_names, .def = "\"serial\"",
	  .help = "the serial line (bytes both ways), or the screen (RFB, as VNC speaks it)" },
	{}
};
static const struct fields input_fields = { "ConsoleCreate", sizeof(struct console_input), input_rows, "a console to be opened" };

struct console_view { char *ticket, *url; int kind; int64_t expires; };
#define ROW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct console_view, f), __VA_ARGS__ }
static const struct field view_rows[] = {
	ROW(ticket, F_STR, .help = "good once"),
	ROW(url, F_STR, .help = "path of the WebSocket"),
	ROW(kind, F_ENUM, .names = kind_names, .help = "serial or screen"),
	ROW(expires, F_TIME, .help = "until then it has to be opened"),
	{}
};
static const struct fields view_fields = { "Console", sizeof(struct console_view), view_rows, "a ticket for a console" };

struct consoles *consoles_new(struct croft *c)
{
	struct consoles *cs = xnew(consoles);

	cs->tickets = map_new();
	return cs;
}

static void expire(struct consoles *cs, int64_t now)
{
	struct ticket *t;
	const char *key;

	for (size_t i = 0; (t = map_next(cs->tickets, &i, &key)); )
		if (t->expires_usec <= now)
			free(map_del(cs->tickets, key));
}

void consoles_free(struct consoles *cs)
{
	if (!cs)
		return;
	expire(cs, INT64_MAX);
	map_free(cs->tickets);
	free(cs);
}

static void api_create(struct req *r)
{
	struct consoles *cs = r->c->consoles;
	struct console_input *in = r->in;
	struct buf b AUTO_BUF = BUF_INIT(65536);
	struct jw w = JW(&b);
	struct err e = {};
	struct machine *m = inventory_find(r, &e);
	uint8_t bytes[32];
	char text[65], url[128];

	if (!m || (m->invalid && machine_usable(m, &e) < 0)) {
		req_fail(r, &e);
		return;
	}
	if (in->kind == SCREEN && m->spec.display == VM_DISPLAY_NONE) {
		fail(&e, ERR_STATE, "%s has no display", m->name);
		err_hint(&e, "set config.display to virtio, and start it again; vmctl console %s opens its serial line", m->name);
		req_fail(r, &e);
		return;
	}
	expire(cs, mono_usec());
	if (map_len(cs->tickets) >= TICKETS_MAX) {
		req_failf(r, ERR_UNAVAILABLE, "too many console tickets are open; they expire within a minute");
		return;
	}
	gnutls_rnd(GNUTLS_RND_KEY, bytes, sizeof bytes);
	text_hex_format(bytes, sizeof bytes, text);
	struct ticket *t = xnew(ticket);

	memcpy(t->vm, m->id, sizeof t->vm);
	t->kind = in->kind;
	t->who = r->who;
	t->expires_usec = mono_usec() + TICKET_USEC;
	map_set(cs->tickets, text, t);
	snprintf(url, sizeof url, "/api/v1/consoles/%s", text);
	struct console_view v = { .ticket = text, .url = url, .kind = t->kind, .expires = now_usec() + TICKET_USEC };

	fields_encode(&view_fields, &v, &w, NULL);
	req_reply_buf(r, 201, NULL, &b);
}

struct screen { struct req *r; int fd; };

static void screen_done(void *arg, const struct err *e)
{
	struct screen *s = arg;

	if (e) {
		close(s->fd);
		req_fail(s->r, e);
	} else {
		req_join(s->r, s->fd, "binary");
	}
	free(s);
}

static void open_console(struct req *r, const struct ticket *t)
{
	struct machine *m = inventory_get(r->c->inv, t->vm);
	struct err e = {};
	int pair[2];

	if (!m || !m->vm) {
		req_failf(r, ERR_NOT_FOUND, "the VM of this ticket is gone");
		return;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		req_failf(r, ERR_UNAVAILABLE, "no socket can be made: %s", strerror(errno));
		return;
	}
	r->who = t->who;
	if (t->kind == SERIAL) {
		if (vm_serial_viewer(m->vm, pair[1], &e) == 0) {
			req_join(r, pair[0], "binary");
			return;
		}
	} else {
		struct screen *s = xnew(screen);

		*s = (struct screen){ .r = r, .fd = pair[0] };
		if (vm_screen_viewer(m->vm, pair[1], screen_done, s, &e) == 0)
			return;
		free(s);
	}
	close(pair[0]);
	req_fail(r, &e);
}

static void api_open(struct req *r)
{
	struct ticket *t = map_del(r->c->consoles->tickets, r->param[0]);

	if (!t || t->expires_usec <= mono_usec() || !access_valid(r->c, &t->who)) {
		struct err e = {};

		fail(&e, ERR_NOT_FOUND, "there is no such console ticket, or it was used, or it is older than a minute");
		err_hint(&e, "POST /api/v1/vms/NAME/console gives a new one");
		req_fail(r, &e);
	} else {
		open_console(r, t);
	}
	free(t);
}

const struct route routes_console[] = {
	{ "POST", "/api/v1/vms/{vm}/console", "console_create", PERM_VM_CONSOLE, ROUTE_CREATED | ROUTE_OPTIONAL | ROUTE_PASSING,
	  &input_fields, &view_fields, NULL, api_create, "get a one-time ticket for a VM's serial console or screen" },
	{ "GET", "/api/v1/consoles/{ticket}", "console_open", PERM_ANYBODY, ROUTE_SOCKET, NULL, NULL, NULL, api_open,
	  "open a console with its ticket" },
	{}
};
