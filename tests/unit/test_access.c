// LINK: daemon hv-core storage net
#include <crypt.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "access_state.h"
#include "db.h"
#include "file.h"
#include "lane.h"
#include "map.h"
#include "mem.h"
#include "password.h"
#include "t.h"
#include "text.h"

static struct croft c;
static char home[64];
static char *password;			/* the first admin's */

static void open_it(void)
{
	AUTO_FREE char *path = xasprintf("%s/croft.db", home);
	struct err e = {};

	c = (struct croft){};
	sd_event_new(&c.ev);
	eq_int(db_open(c.ev, path, &c.frozen, &c.db, &e), 0);
	eq_int(events_new(&c, &c.events, &e), 0);
	eq_int(access_new(&c, &c.access, &e), 0);
	c.auth_lane = lane_new(c.ev, "auth", 2, 64);
	eq_int(access_first_admin(&c, &password, &e), 0);
}

static void close_it(void)
{
	c.stopping = true;
	lane_free(c.auth_lane);
	db_close(c.db);
	access_free(c.access);
	events_free(c.events);
	sd_event_unref(c.ev);
	free(TAKE(password));
}

static void start(void)
{
	strcpy(home, "/tmp/croft-access-XXXXXX");
	ok(mkdtemp(home));
	open_it();
}

static void stop(void)
{
	close_it();
	file_remove_tree(AT_FDCWD, home);
}

/* Run the loop until *done. */
static void until(const bool *done)
{
	for (int64_t end = mono_usec() + 30 * 1000000ll; !*done && mono_usec() < end; )
		sd_event_run(c.ev, 100000);
	ok(*done);
}

/* ---- SQL of a test: one statement at once */

struct sql { struct db_job job; const char *text; int64_t number; };

static int sql_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct sql *s = (struct sql *)j;
	struct db_rows *q;
	int r = db_query(tx, &q, e, s->text, NULL);

	if (r < 0 || (r = db_next(q, e)) <= 0)
		return r;
	s->number = db_int(q, 0);
	db_done(q);
	return 0;
}

static void sql_done(struct db_job *j, const struct err *e) { ((struct sql *)j)->text = NULL; }

static int64_t sql(const char *text)
{
	struct sql s = { .text = text };

	db_run(c.db, &s.job, sql_work, sql_done);
	while (s.text)
		sd_event_run(c.ev, 100000);
	return s.number;
}

/* ---- passwords */

static struct err last;
static unsigned answers;
static char order[64];

static void on_check(void *arg, struct user *u, const struct err *e)
{
	last = e ? *e : (struct err){};
	snprintf(order + strlen(order), sizeof order - strlen(order), "%d ", e ? err_http(e->code) : 200);
	ok(e || strcmp(u->name, "admin") == 0);
	answers++;
}

static int try_password(const char *name, const char *peer, const char *pw)
{
	unsigned want = answers + 1;

	login_check(c.access, name, peer, pw, on_check, NULL);
	while (answers < want)
		sd_event_run(c.ev, 100000);
	return last.code;
}

TEST(the_first_admin_logs_in_and_is_made_once)
{
	start();
	eq_int(strlen(password), 20);
	eq_int(strcspn(password, "l10OI"), 20);
	eq_int(try_password("admin", "10.0.0.1", password), 0);
	eq_int(try_password("admin", "10.0.0.1", "another"), ERR_UNAUTHENTICATED);
	eq_int(try_password("nobody", "10.0.0.1", "another"), ERR_UNAUTHENTICATED);
	eq_str(last.msg, "the name or the password is wrong");
	close_it();
	open_it();
	ok(!password);
	ok(access_user(c.access, "admin"));
	stop();
}

TEST(six_at_once_are_five_and_a_lock_out)
{
	start();
	*order = 0;
	for (int i = 0; i < 7; i++)
		login_check(c.access, "ghost", "::ffff:10.0.0.1", "wrong", on_check, NULL);
	answers = 0;
	while (answers < 7)
		sd_event_run(c.ev, 100000);
	eq_str(order, "401 401 401 401 401 429 429 ");
	ok(last.retry_after_s > 890 && last.retry_after_s <= 900);
	ok(strstr(last.msg, "::ffff:10.0.0.1"));
	eq_int(try_password("ghost", "10.0.0.1", "wrong"), ERR_TOO_MANY);
	eq_int(try_password("ghost", "10.0.0.2", "wrong"), ERR_UNAUTHENTICATED);
	eq_int(try_password("admin", "10.0.0.1", password), 0);
	stop();
}

TEST(the_queue_is_bounded_for_each_address)
{
	start();
	*order = 0;
	answers = 0;
	for (int i = 0; i < 9; i++)
		login_check(c.access, i % 2 ? "a" : "b", "10.0.0.1", "wrong", on_check, NULL);
	eq_int(answers, 1);
	eq_int(last.code, ERR_UNAVAILABLE);
	eq_int(last.retry_after_s, 1);
	login_check(c.access, "admin", "10.0.0.2", password, on_check, NULL);
	while (answers < 10)
		sd_event_run(c.ev, 100000);
	ok(strstr(order, " 200 "));
	stop();
}

TEST(a_password_that_changes_meanwhile_does_not_count)
{
	start();
	struct user *u = access_user(c.access, "admin");

	answers = 0;
	login_check(c.access, "admin", "10.0.0.1", password, on_check, NULL);
	free(u->password);
	u->password = xstrdup(PASSWORD_NOBODY);
	while (!answers)
		sd_event_run(c.ev, 100000);
	eq_int(last.code, ERR_UNAUTHENTICATED);
	stop();
}

TEST(nobody_costs_as_much_as_somebody)
{
	AUTO_FREE char *setting = crypt_gensalt_ra("$y$", 0, NULL, 0);

	eq_int(strncmp(setting, PASSWORD_NOBODY, 7), 0);	/* "$y$j9T$": method and cost */
	eq_int(password_matches("", PASSWORD_NOBODY, NULL), 0);
	eq_int(password_matches("x", "not a hash", NULL) != 1, 1);
}

/* ---- cookies and tokens */

static int identify(const char *authorization, const char *cookie, struct who *w)
{
	struct door_request head = { .authorization = authorization, .cookie = cookie };

	last = (struct err){};
	access_identify(&c, &head, w, &last);
	return last.code;
}

static void add_token(const char *secret, enum role role, int64_t expires)
{
	struct token *t = xnew(token);

	text_uuid_random(t->id);
	t->name = xstrdup("ci");
	t->role = role;
	t->expires = expires;
	secret_hash(secret, t->hash);
	memcpy(t->user_id, access_user(c.access, "admin")->id, sizeof t->user_id);
	access_add_token(c.access, t);
}

static struct session *add_session(const char *secret, int64_t created, int64_t expires)
{
	struct session *s = xnew(session);

	secret_hash(secret, s->hash);
	s->created = s->written = created;
	s->expires = expires;
	memcpy(s->user_id, access_user(c.access, "admin")->id, sizeof s->user_id);
	access_add_session(c.access, s);
	return s;
}

TEST(a_token_is_its_user_and_its_role)
{
	struct who w;

	start();
	add_token("croft_one", ROLE_OPERATOR, 0);
	eq_int(identify("Bearer croft_one", NULL, &w), 0);
	eq_int(w.via, WHO_TOKEN);
	eq_str(w.name, "admin");
	eq_int(w.perms, role_perms(ROLE_OPERATOR));
	ok(access_valid(&c, &w));
	eq_int(identify("bearer  croft_one", NULL, &w), 0);
	eq_int(identify("Bearer croft_two", NULL, &w), ERR_UNAUTHENTICATED);
	eq_int(identify("Bearer", NULL, &w), ERR_UNAUTHENTICATED);
	eq_int(identify("Bearercroft_one", NULL, &w), ERR_UNAUTHENTICATED);
	eq_int(identify("Basic Og==", NULL, &w), ERR_UNAUTHENTICATED);
	eq_int(identify("", NULL, &w), ERR_UNAUTHENTICATED);

	access_user(c.access, "admin")->role = ROLE_VIEWER;	/* never more than its user */
	ok(!access_valid(&c, &w));				/* what began with more ends */
	eq_int(identify("Bearer croft_one", NULL, &w), 0);
	eq_int(w.perms, role_perms(ROLE_VIEWER));
	eq_int(w.role, ROLE_VIEWER);
	stop();
}

TEST(an_expired_token_says_so)
{
	struct who w;

	start();
	add_token("croft_old", ROLE_ADMIN, 1);
	eq_int(identify("Bearer croft_old", NULL, &w), ERR_UNAUTHENTICATED);
	eq_str(last.msg, "the token \"ci\" of admin has expired at 1970-01-01T00:00:00.000Z");
	stop();
}

#define SECRET "0123456789abcdefghijABCDEFGHIJ-_0123456789a"	/* 43 */

TEST(cookies_are_read_strictly)
{
	static const struct { const char *cookie; enum err_code code; enum who_via via; } rows[] = {
		{ NULL, 0, WHO_NOBODY },
		{ "", 0, WHO_NOBODY },
		{ "theme=dark", 0, WHO_NOBODY },
		{ "__Host-croft=" SECRET, 0, WHO_SESSION },
		{ "a=b; __Host-croft=" SECRET "; c=d", 0, WHO_SESSION },
		{ "a=b;__Host-croft=" SECRET ";", 0, WHO_SESSION },
		{ "x__Host-croft=" SECRET, 0, WHO_NOBODY },
		{ "__Host-croftx=" SECRET, 0, WHO_NOBODY },
		{ "__host-croft=" SECRET, 0, WHO_NOBODY },
		{ "a=__Host-croft=" SECRET, 0, WHO_NOBODY },
		{ "__Host-croft=", ERR_UNAUTHENTICATED, 0 },
		{ "__Host-croft=" SECRET "x", ERR_UNAUTHENTICATED, 0 },
		{ "__Host-croft=" SECRET " ", ERR_UNAUTHENTICATED, 0 },
		{ "__Host-croft=\"" SECRET "\"", ERR_UNAUTHENTICATED, 0 },
		{ "__Host-croft=" SECRET "; __Host-croft=" SECRET, ERR_UNAUTHENTICATED, 0 },
		{ "__Host-croft=1123456789abcdefghijABCDEFGHIJ-_0123456789a", ERR_UNAUTHENTICATED, 0 },
	};

	start();
	add_session(SECRET, now_usec(), now_usec() + 1000000);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct who w = {};

		eq_int(identify(NULL, rows[i].cookie, &w), rows[i].code);
		eq_int(w.via, rows[i].via);
	}
	stop();
}

TEST(requests_move_a_sessions_end_but_not_beyond_its_life)
{
	struct who w;

	start();
	struct session *s = add_session(SECRET, now_usec() - 1000000, now_usec() + 1000000);

	eq_int(identify(NULL, "__Host-croft=" SECRET, &w), 0);
	ok(s->expires > now_usec() + SESSION_IDLE_USEC - 60 * 1000000ll);
	s->created = now_usec() - SESSION_LIFE_USEC + 60 * 1000000ll;
	eq_int(identify(NULL, "__Host-croft=" SECRET, &w), 0);
	eq_int(s->expires, s->created + SESSION_LIFE_USEC);
	stop();
}

TEST(a_session_ends_by_itself_also_on_disk)
{
	struct who w;

	start();
	ok(sql("INSERT INTO sessions SELECT 'aa', id, '::1', 5, 6 FROM users") == 0);
	ok(sql("INSERT INTO sessions SELECT 'bb', id, '::1', 5, 9e18 FROM users") == 0);
	eq_int(sql("SELECT count(*) FROM sessions"), 2);
	close_it();
	open_it();
	eq_int(sql("SELECT count(*) FROM sessions"), 1);
	ok(map_get(c.access->sessions, "bb"));
	add_session(SECRET, now_usec(), now_usec() + 300000);
	w = (struct who){ .via = WHO_SESSION, .perms = role_perms(ROLE_ADMIN) };
	secret_hash(SECRET, w.key);
	ok(access_valid(&c, &w));
	for (int64_t end = mono_usec() + 10000000; map_len(c.access->sessions) > 1 && mono_usec() < end; )
		sd_event_run(c.ev, 100000);	/* no request comes: the timer alone */
	eq_int(map_len(c.access->sessions), 1);
	ok(!access_valid(&c, &w));
	eq_int(identify(NULL, "__Host-croft=" SECRET, &w), ERR_UNAUTHENTICATED);
	stop();
}

TEST(of_too_many_sessions_the_oldest_goes)
{
	char secret[44];

	start();
	add_session(SECRET, 5, now_usec() + 60 * 1000000ll);
	for (int i = 0; i < SESSIONS_OF_USER - 1; i++) {
		secret_new(secret);
		eq_int(strlen(secret), 43);
		add_session(secret, 10 + i, now_usec() + 60 * 1000000ll);
	}
	struct who w;

	eq_int(identify(NULL, "__Host-croft=" SECRET, &w), 0);
	secret_new(secret);
	add_session(secret, 1000, now_usec() + 60 * 1000000ll);
	eq_int(map_len(c.access->sessions), SESSIONS_OF_USER);
	eq_int(identify(NULL, "__Host-croft=" SECRET, &w), ERR_UNAUTHENTICATED);
	stop();
}

TEST(a_user_takes_its_tokens_and_sessions_along)
{
	start();
	add_token("croft_one", ROLE_ADMIN, 0);
	add_session(SECRET, 5, now_usec() + 60 * 1000000ll);
	struct user *u = access_user(c.access, "admin");
	struct who w = { .via = WHO_UNIX, .name = "admin", .perms = role_perms(ROLE_ADMIN) };

	memcpy(w.user_id, u->id, sizeof w.user_id);
	ok(access_valid(&c, &w));
	access_remove_user(c.access, u);
	user_free(u);
	ok(!access_valid(&c, &w));
	access_refresh(&c, &w);
	eq_int(w.via, WHO_NOBODY);
	eq_str(w.why, "the Croft user admin was deleted");
	eq_int(map_len(c.access->tokens) + map_len(c.access->tokens_by_hash) + map_len(c.access->sessions), 0);
	stop();
}

/* ---- the unix socket */

static struct who met;
static bool arrived;

static void on_local(void *arg, const struct who *w)
{
	met = *w;
	arrived = true;
}

TEST(local_users_are_known_by_the_kernel)
{
	int pair[2];

	start();
	eq_int(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	arrived = false;
	access_local(&c, 0, pair[0], on_local, NULL);
	ok(arrived);		/* at once: no directory server is asked about root */
	eq_int(met.via, WHO_UNIX);
	eq_int(met.perms, role_perms(ROLE_ADMIN));
	eq_str(met.user_id, "");
	arrived = false;
	access_local(&c, 4000000, pair[0], on_local, NULL);
	until(&arrived);
	eq_int(met.via, WHO_NOBODY);
	eq_str(met.why, "the local uid 4000000 has no name on this host");
	close(pair[0]);
	close(pair[1]);
	stop();
}

T_MAIN
