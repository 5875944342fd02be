/* cmd_login.c: login, logout, whoami. A login makes a token for this machine, valid for 90 days, and keeps that. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "call.h"
#include "command.h"
#include "fields.h"
#include "mem.h"
#include "out.h"
#include "target.h"
#include "text.h"
#include "tty.h"

#define TOKEN_DAYS	90

/* Log in by password: *ret_cookie is "name=value". */
static int open_session(struct ctl *c, const char *user, const char *password, char **ret_cookie)
{
	json_t *body = json_pack("{s:s, s:s}", "name", user, "password", password);
	AUTO_FREE char *text = json_dumps(body, JSON_COMPACT);
	struct http_request q = HTTP_REQUEST("POST", "/api/v1/session");
	struct http_answer a;
	struct err e = { 0 };
	const char *cookie;

	json_decref(body);
	q.headers = "Content-Type: application/json\r\n";
	q.body = text;
	q.body_len = strlen(text);
	if (http_do(&c->http, &q, &a, &e) < 0) {
		http_answer_fini(&a);
		ctl_fail(&e);
		return e.code == ERR_FORBIDDEN ? CTL_DENIED : CTL_CONNECT;
	}
	cookie = reply_header(&a.reply, "set-cookie");
	if (a.reply.status >= 400)
		call_problem(&a, &e);
	else if (!cookie)
		fail(&e, ERR_INTERNAL, "the login brought no session");
	else
		*ret_cookie = xstrndup(cookie, strcspn(cookie, ";"));
	http_answer_fini(&a);
	explicit_bzero(text, strlen(text));
	return e.code ? ctl_fail(&e) : CTL_OK;
}

/* With the session, make the token. */
static int make_token(struct ctl *c, const char *headers)
{
	char host[65] = "", expires[32];
	struct call k = { .op = "token_create", .headers = headers };
	const char *secret;
	int code;

	gethostname(host, sizeof(host) - 1);
	text_time_format(now_usec() + TOKEN_DAYS * 86400 * 1000000ll, expires);
	k.body = json_pack("{s:o, s:s}", "name", json_sprintf("vmctl on %.50s", host), "expires", expires);
	code = call(c, &k);
	secret = json_string_value(json_object_get(k.ret, "secret"));
	if (!code && !secret) {
		say("the login brought no token");
		code = CTL_FAILED;
	}
	if (!code)
		code = target_keep_token(c, secret, json_string_value(json_object_get(k.ret, "id")));
	if (!code) {
		free(c->http.authorization);
		c->http.authorization = xasprintf("Bearer %s", secret);
	}
	json_decref(k.ret);
	return code;
}

static int login_by_password(struct ctl *c, const char *user)
{
	AUTO_FREE char *prompt = xasprintf("Password of %s at %s", user, c->where), *cookie = NULL, *headers = NULL;
	struct call end = { .op = "session_delete", .quiet = true };
	struct err e = { 0 };
	char *password;
	int code;

	/* First the connection: no password is asked for a host that isn't trusted. */
	if (!c->http.conn && c->http.dial(c->http.arg, &c->http.conn, &e) < 0) {
		ctl_fail(&e);
		return CTL_CONNECT;
	}
	password = tty_secret(prompt, false, &e);
	if (!password)
		return ctl_fail(&e);
	free(TAKE(c->http.authorization));
	code = open_session(c, user, password, &cookie);
	explicit_bzero(password, strlen(password));
	free(password);
	if (code)
		return code;
	headers = xasprintf("Cookie: %s\r\nOrigin: %s\r\n", cookie, c->where);
	code = make_token(c, headers);
	end.headers = headers;
	char *token = TAKE(c->http.authorization);
	call(c, &end);
	json_decref(end.ret);
	c->http.authorization = token;
	return code;
}

static int login_by_token(struct ctl *c)
{
	struct err e = { 0 };
	char *token = tty_secret("Token", false, &e);
	struct call k = { .op = "session_get" };
	int code;

	if (!token)
		return ctl_fail(&e);
	free(c->http.authorization);
	c->http.authorization = xasprintf("Bearer %s", token);
	code = call(c, &k);
	if (!code)
		code = target_keep_token(c, token, NULL);
	explicit_bzero(token, strlen(token));
	free(token);
	json_decref(k.ret);
	return code;
}

static int who(struct ctl *c)
{
	struct call k = { .op = "session_get" };
	int code = call(c, &k);

	if (!code)
		code = out_object(c, k.ret, NULL);
	json_decref(k.ret);
	return code;
}

int cmd_login(struct ctl *c, const struct command *cmd, struct args *a)
{
	bool bad = false, token = args_flag(a, "--token", NULL);
	const char *user = args_value(a, "--user", "-u", &bad);
	int code = bad ? ctl_usage("--user wants a name") : command_rest(cmd, a, 0, 1);

	if (code)
		return code;
	if (!target_is_remote(c)) {
		say("on this machine no login is needed: croftd knows you by your user id");
		say_hint("for another host: vmctl login --host https://HOST:PORT");
		return CTL_USAGE;
	}
	if (a->n)
		user = a->v[0];
	code = token ? login_by_token(c) : login_by_password(c, user ? user : "admin");
	if (code)
		return code;
	fprintf(stderr, "Logged in at %s. Say --host, or set CROFT_HOST=%s\n", c->where, c->where);
	return c->output == OUT_TABLE ? CTL_OK : who(c);
}

int cmd_logout(struct ctl *c, const struct command *cmd, struct args *a)
{
	AUTO_FREE char *id = NULL;
	int code = command_rest(cmd, a, 0, 0);

	if (code)
		return code;
	if (!target_is_remote(c))
		return ctl_usage("there is no login to end on this machine; name the host: --host https://HOST:PORT");
	id = target_token_id();
	if (id) {
		struct call k = { .op = "token_delete", .params = { id }, .quiet = true };

		code = call(c, &k);
		json_decref(k.ret);
		if (code && k.err.code != ERR_UNAUTHENTICATED && k.err.code != ERR_NOT_FOUND) {
			ctl_fail(&k.err);
			say_hint("the token is forgotten here, but may be valid there: vmctl token ls");
		}
	}
	return target_keep_token(c, NULL, NULL);
}

int cmd_whoami(struct ctl *c, const struct command *cmd, struct args *a)
{
	int code = command_rest(cmd, a, 0, 0);

	return code ? code : who(c);
}
