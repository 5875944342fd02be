/* fronts.h: the front processes and croftd's end of their doors. One front serves the network, and one, started on
 * demand and gone when idle, the unix socket. A front that dies is started again; the listeners are ours, so nobody is
 * refused meanwhile. */
#pragma once
#include <stddef.h>
#include "croft.h"
#include "door.h"

struct fronts;
struct front;
struct req;

int fronts_new(struct croft *c, struct fronts **ret, struct err *e);	/* listens; starts the network front */
void fronts_free(struct fronts *f);		/* ends them */
void fronts_certificate(struct fronts *f);	/* c->certificate has changed */
pid_t fronts_pid(const struct fronts *f, bool local);	/* 0 when it does not run */
bool fronts_serve(const struct fronts *f);	/* the network's front is up */
const char *fronts_socket(const struct croft *c);	/* the folder of croft.sock */
uint16_t fronts_port(const struct fronts *f);	/* of the first listener */
/* Send a verdict of @r; fds are taken. Nothing happens when the client has gone. */
void front_send(struct front *f, enum door_type type, uint64_t id, const void *msg, const int *fds, unsigned nfds);
/* EVENT messages that may still be sent to it before an ACK. */
unsigned *front_credit(struct front *f);
struct front *fronts_next(struct fronts *fs, struct front *f);
void **front_audiences(struct front *f);	/* event.c's word on what this front follows */
void front_adopt(struct front *f, struct req *r);	/* a new id */
void front_left(struct front *f);			/* one of its ids has ended */
void fronts_withdraw(struct fronts *f, const char *key);	/* end streams and sockets of a session, token or user */
