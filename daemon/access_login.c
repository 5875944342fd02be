/* access_login.c: passwords, checked and made in the auth lane. Strangers may ask as much as they like: the queue is
 * bounded, also for each address, and who is locked out costs no hash. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "access_state.h"
#include "lane.h"
#include "log.h"
#include "mem.h"
#include "password.h"
#include "text.h"

#define HASHES_MAX	2		/* at once: 16 MiB each */
#define LOGINS_MAX	64		/* waiting */
#define LOGINS_OF_PEER	8

struct login {
	struct job job;
	struct list in_logins;
	struct access *a;
	bool running;
	int right;
	char *name, *password, *hash;
	char peer[64], address[64];
	void (*done)(void *arg, struct user *u, const struct err *e);
	void *arg;
};

static void wipe(char *s)
{
	explicit_bzero(s, strlen(s));
	free(s);
}

static void login_end(struct login *l, struct user *u, const struct err *e)
{
	list_remove(&l->in_logins);
	l->done(l->arg, u, e);
	wipe(l->password);
	free(l->hash);
	free(l->name);
	free(l);
}

static int too_many(const struct login *l, unsigned wait_s, struct err *e)
{
	fail(e, ERR_TOO_MANY, "too many failed logins from %s; the next try is possible in %u s", l->peer, wait_s);
	e->retry_after_s = wait_s;
	return err_hint(e, "sessions, tokens and vmctl on the host itself go on working");
}

static int login_work(struct job *j, struct err *e)
{
	struct login *l = (struct login *)j;

	l->right = password_matches(l->password, l->hash, e);
	return l->right < 0 ? l->right : 0;
}

static void dispatch(struct access *a);	/* whoever is told an answer may ask again: it bears that */

static void login_done(struct job *j, const struct err *e)
{
	struct login *l = (struct login *)j;
	struct access *a = l->a;
	struct user *u = access_user(a, l->name);
	struct err wrong = {};

	a->hashing--;
	/* The password may have been changed meanwhile. */
	if (!e && l->right > 0 && u && u->password && strcmp(u->password, l->hash) == 0) {
		lockout_passed(a->lockout, l->name, l->peer);
		login_end(l, u, NULL);
	} else if (e) {
		login_end(l, NULL, e);
	} else {
		if (lockout_failed(a->lockout, l->name, l->peer, mono_usec()))
			log_note("too many failed logins of %s from %s: locked for %d s", u ? u->name : "unknown users", l->address,
				 LOCKOUT_S);
		fail(&wrong, ERR_UNAUTHENTICATED, "the name or the password is wrong");
		err_hint(&wrong, "an admin sets a new password with vmctl user set NAME, or root on the host itself");
		login_end(l, NULL, &wrong);
	}
	dispatch(a);
}

static bool same_pair(const struct login *a, const struct login *b)
{
	return strcmp(a->address, b->address) == 0 && strcmp(a->name, b->name) == 0;
}

/* One pair has one try at a time, so that six at once are not six before the first has failed. */
static struct login *next_due(struct access *a)
{
	LIST_FOR(l, &a->logins, struct login, in_logins) {
		bool busy = l->running;

		LIST_FOR(other, &a->logins, struct login, in_logins)
			busy |= other->running && same_pair(l, other);
		if (!busy)
			return l;
	}
	return NULL;
}

static void dispatch(struct access *a)
{
	struct login *l;
	struct err e = {};

	while (!a->c->stopping && a->hashing < HASHES_MAX && (l = next_due(a))) {
		unsigned wait_s = lockout_left(a->lockout, l->name, l->peer, mono_usec());
		struct user *u = access_user(a, l->name);

		if (wait_s) {
			too_many(l, wait_s, &e);
			login_end(l, NULL, &e);
			continue;
		}
		l->running = true;
		a->hashing++;
		l->hash = xstrdup(u && u->password ? u->password : PASSWORD_NOBODY);
		lane_run(a->c->auth_lane, &l->job, login_work, login_done);
	}
}

static size_t waiting(const struct access *a, const char *address)
{
	size_t n = 0;

	LIST_FOR(l, &a->logins, struct login, in_logins)
		n += !address || strcmp(l->address, address) == 0;
	return n;
}

void login_check(struct access *a, const char *name, const char *peer, const char *password,
		 void (*done)(void *arg, struct user *u, const struct err *e), void *arg)
{
	struct login *l = xnew(login);
	struct err e = {};

	l->a = a;
	l->name = xstrdup(name);
	l->password = xstrdup(password);
	snprintf(l->peer, sizeof l->peer, "%s", peer ?: "");
	lockout_address(l->peer, l->address);
	l->done = done;
	l->arg = arg;
	if (waiting(a, NULL) >= LOGINS_MAX || waiting(a, l->address) >= LOGINS_OF_PEER) {
		fail(&e, ERR_UNAVAILABLE, "too many logins wait to be checked");
		e.retry_after_s = 1;
		login_end(l, NULL, &e);
		return;
	}
	list_append(&a->logins, &l->in_logins);
	dispatch(a);
}

void logins_free(struct access *a)
{
	struct err e = {};

	fail(&e, ERR_UNAVAILABLE, "croftd is being stopped");
	while (!list_empty(&a->logins))
		login_end(LIST_ENTRY(a->logins.next, struct login, in_logins), NULL, &e);
}

/* ---- new passwords */

struct making {
	struct job job;
	char *password, *hash;
	void (*done)(void *arg, const char *hash, const struct err *e);
	void *arg;
};

static int making_work(struct job *j, struct err *e)
{
	struct making *m = (struct making *)j;

	return password_hash(m->password, &m->hash, e);
}

static void making_done(struct job *j, const struct err *e)
{
	struct making *m = (struct making *)j;

	m->done(m->arg, m->hash, e);
	wipe(m->password);
	free(m->hash);
	free(m);
}

void password_make(struct access *a, const char *password, void (*done)(void *arg, const char *hash, const struct err *e),
		   void *arg)
{
	struct making *m = xnew(making);

	m->password = xstrdup(password);
	m->done = done;
	m->arg = arg;
	lane_run(a->c->auth_lane, &m->job, making_work, making_done);
}
