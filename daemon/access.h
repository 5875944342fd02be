/* access.h: users, tokens, sessions, and who may come in. Password hashes are checked in the auth lane, at most two at
 * once; identities of tokens and sessions are found in memory. */
#pragma once
#include "croft.h"
#include "door.h"
#include "err.h"
#include "fields.h"
#include "who.h"

struct access;
struct req;

int access_new(struct croft *c, struct access **ret, struct err *e);	/* loads all rows; at start */
void access_free(struct access *a);
/* Who sends this? A bearer token or a session cookie. No credentials: 0 and WHO_NOBODY. Wrong ones: ERR_UNAUTHENTICATED. */
int access_identify(struct croft *c, const struct door_request *head, struct who *ret, struct err *e);
/* A local user: resolves uid in the auth lane (NSS may block) and calls @done in the loop. uid 0 is answered at once. */
void access_local(struct croft *c, uid_t uid, int peer_fd, void (*done)(void *arg, const struct who *w), void *arg);
/* Is @w still who it was: its session or token good, its user there, with the same permissions? Asked before events and
 * for streams. */
bool access_valid(struct croft *c, const struct who *w);
/* A local user's connection lives on while the Croft user changes: @w is brought up to date, maybe to WHO_NOBODY. */
void access_refresh(struct croft *c, struct who *w);
/* The admin at first start: creates it, *ret_password is owned by the caller and printed once. NULL when users exist. With
 * @ret_password NULL it gets no password: root sets one. */
int access_first_admin(struct croft *c, char **ret_password, struct err *e);
bool access_has_passwords(const struct croft *c);	/* can anybody log in by one? */
