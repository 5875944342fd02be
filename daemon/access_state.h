/* access_state.h: what access.c keeps, for access_*.c and the api of users, tokens and sessions alone. */
#pragma once
#include "access.h"
#include "change.h"
#include "list.h"
#include "lockout.h"

#define SESSION_IDLE_USEC	(12 * 3600 * 1000000ll)
#define SESSION_LIFE_USEC	(7 * 24 * 3600 * 1000000ll)
#define SESSION_WRITE_USEC	(600 * 1000000ll)	/* how much of its idle time may be lost in a crash */
#define SESSIONS_MAX		1000
#define SESSIONS_OF_USER	100
#define TOKENS_OF_USER		100
#define USERS_MAX		1000

struct user {
	char id[37], *name;
	uint64_t revision;
	enum role role;
	char *password;			/* its hash; NULL: no login by password */
	int64_t created;
};
struct token {
	char id[37], *name, hash[65], user_id[37];
	struct user *user;		/* in memory it goes with its user, as in the database */
	enum role role;
	int64_t created, expires;	/* 0: never */
	bool over;			/* it has expired, and its streams were ended */
};
struct session {
	char hash[65], peer[64], user_id[37];
	struct user *user;
	int64_t created, expires, written;
};
struct access {
	struct croft *c;
	struct map *users, *users_by_name, *tokens, *tokens_by_hash, *sessions;	/* the first of each kind by id or hash */
	struct claim claim;		/* users change one at a time: or the last two admins could demote each other */
	struct lockout *lockout;
	struct list logins;		/* passwords to be checked, in order */
	unsigned hashing;		/* of them, in the lane */
	struct lane *nss;		/* a slow directory server delays no login */
	sd_event_source *expiry;	/* of the next session or token */
};

struct user *access_user(const struct access *a, const char *key);		/* by name or id; NULL */
struct user *access_user_or_fail(const struct access *a, const char *key, struct err *e);
void access_add_user(struct access *a, struct user *u);				/* taken */
void access_remove_user(struct access *a, struct user *u);	/* and its tokens, sessions, streams; not freed */
void user_free(struct user *u);
void token_free(struct token *t);
void access_add_token(struct access *a, struct token *t);			/* taken */
void access_remove_token(struct access *a, struct token *t);			/* and its streams */
void access_add_session(struct access *a, struct session *s);		/* taken; too many: the oldest goes */
void access_remove_session(struct access *a, struct session *s);		/* and its streams; not the row */
void access_end_sessions(struct access *a, const struct user *u, const char *but);	/* @but: a hash, or "" */

void who_of_user(struct who *w, enum who_via via, const struct user *u);

/* 256 random bits as base64url, and the hash by which we know them. */
void secret_new(char out[44]);
void secret_hash(const char *secret, char out[65]);

/* Is this the password of the user @name? Checked in order, at most two at once, and never two of the same name and
 * address. @done gets the user, or the error: 401, 429 of a lock-out, or 503 when too many wait. It may be called from here. */
void login_check(struct access *a, const char *name, const char *peer, const char *password,
		 void (*done)(void *arg, struct user *u, const struct err *e), void *arg);
void logins_free(struct access *a);		/* those who wait get 503 */
/* Hash a new password in the lane. @hash is borrowed. */
void password_make(struct access *a, const char *password, void (*done)(void *arg, const char *hash, const struct err *e),
		   void *arg);
/* api_user.c: change @u on behalf of @r (taken; the claim is held, and dropped at the end). @hash NULL: the password
 * stays; "": none from now on. @keep: hash of the session that goes on, or "". @status: 200 with the user, or 204. */
void user_change(struct req *r, struct user *u, enum role role, const char *hash, const char *keep, int status);
