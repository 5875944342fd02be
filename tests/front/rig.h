/* rig.h: for the tests of croft-front: a process that plays croftd (fake.c) with the real croft-front, and a small
 * blocking client for TLS and the unix socket (client.c). What the fake answers depends on the path, see fake.c. */
#pragma once
#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "t.h"

struct rig {			/* shared with the fake */
	pid_t fake, front;
	int port;
	char folder[64];	/* with "socket", "stored", "sent" */
	volatile unsigned requests, gone, again, stored_error, sent_error, acks, ended, logs;
	volatile uint64_t stored_bytes, sent_bytes, body_bytes;
};
extern struct rig *rig;

struct rig_how { unsigned requests_max, connections_max, per_address, head_ms, idle_ms, ring; const char *bundle, *build; bool as_root; };
void rig_start(const struct rig_how *how);	/* zero fields: generous defaults */
void rig_stop(void);
int rig_end(void);		/* the same, but its wait status is the caller's to judge */
bool rig_wait(bool (*cond)(void));		/* up to 5 s */

enum via { UNIX, TLS };
struct client { int fd; gnutls_session_t s; char *buf; size_t n; };
extern const gnutls_datum_t *client_ticket;	/* to resume with, or NULL */
struct client *client_open(enum via via);	/* NULL when refused */
void client_close(struct client *c);
bool client_send(struct client *c, const void *p, size_t n);	/* all of it */
bool client_say(struct client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
ssize_t client_recv(struct client *c, void *p, size_t n);	/* what is there; 0: end; -1: error or 5 s of silence */
bool client_exact(struct client *c, void *p, size_t n);
void client_half_close(struct client *c);
bool client_wait_for(struct client *c, const char *text);	/* in c->buf; read more until it is there */

struct reply { int status; char *head, *body; size_t n; };
bool client_reply(struct client *c, struct reply *r, bool head_only);	/* one HTTP answer; free with reply_free */
void reply_free(struct reply *r);
/* One request on its own connection: its status, 0 when the connection ended without an answer. */
int ask(enum via via, const char *request, char *body, size_t cap);
int get(enum via via, const char *path, char *body, size_t cap);
