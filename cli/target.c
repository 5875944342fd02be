#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fields.h"
#include "file.h"
#include "mem.h"
#include "target.h"
#include "text.h"

#define HOSTS_MAX	(1024 * 1024)
#define CONNECT_USEC	(10 * 1000000ull)

static struct {
	char host[64], name[80], pin[65];
	uint16_t port;
} remote;

/* the file */

static char *hosts_path(bool make)
{
	const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	AUTO_FREE char *dir = xdg && *xdg == '/' ? xasprintf("%s/croft", xdg) : xasprintf("%s/.config/croft", home ? home : "");

	if (make)
		file_mkdirs(dir, 0700);
	return xasprintf("%s/hosts.json", dir);
}

static json_t *hosts_load(void)
{
	AUTO_FREE char *path = hosts_path(false), *text = NULL;
	size_t n;
	json_t *j = NULL;

	if (!file_read_at(AT_FDCWD, path, HOSTS_MAX, &text, &n))
		j = json_parse(text, n, HOSTS_MAX, NULL);
	if (text && !json_is_object(j))
		say("%s can't be read and is ignored", path);
	if (!json_is_object(j)) {
		json_decref(j);
		j = json_object();
	}
	return j;
}

/* Set (or, NULL, remove) one text of this host. */
static int remember(const char *key, const char *value)
{
	json_t *all = hosts_load(), *one = json_object_get(all, remote.name);
	AUTO_FREE char *path = hosts_path(true), *text = NULL;
	struct err e = { 0 };
	int r;

	if (!json_is_object(one)) {
		one = json_object();
		json_object_set_new(all, remote.name, one);
	}
	if (value)
		json_object_set_new(one, key, json_string(value));
	else
		json_object_del(one, key);
	text = json_dumps(all, JSON_INDENT(2));
	json_decref(all);
	r = file_publish_at(AT_FDCWD, path, text, strlen(text), 0600);
	if (r < 0) {
		fail_errno(&e, r, "write %s", path);
		return ctl_fail(&e);
	}
	return CTL_OK;
}

/* connecting */

static int dial_socket(void *arg, struct conn **ret, struct err *e)
{
	struct ctl *c = arg;
	int r = conn_unix(c->where, CONNECT_USEC, ret, e);

	if (r < 0 && e->code == ERR_FORBIDDEN)
		err_hint(e, "use sudo, or ask the administrator for the group croft");
	else if (r < 0)
		err_hint(e, "is croftd running? systemctl status croftd, or: make run");
	return r;
}

static int trust(struct ctl *c, const char *fingerprint, struct err *e)
{
	if (c->fingerprint) {
		if (!strcasecmp(c->fingerprint, fingerprint))
			return 0;
		return fail(e, ERR_FORBIDDEN, "the certificate of %s has the fingerprint %s, not the given one", remote.name, fingerprint);
	}
	if (ctl_ask("The certificate of %s is not known yet. Its SHA-256 fingerprint is\n  %s\n"
		    "On that host `vmctl host` shows the true one. Is it the same?", remote.name, fingerprint))
		return 0;
	fail(e, ERR_FORBIDDEN, "the certificate of %s isn't trusted", remote.name);
	return err_hint(e, "if the host shows the same one: vmctl login --host %s --fingerprint %s", remote.name, fingerprint);
}

static int dial_tls(void *arg, struct conn **ret, struct err *e)
{
	struct ctl *c = arg;
	char fingerprint[65] = "";
	bool known = *remote.pin && !c->fingerprint;
	int r = conn_tls(remote.host, remote.port, known ? remote.pin : NULL, fingerprint, CONNECT_USEC, ret, e);

	if (r < 0 && *fingerprint)
		err_hint(e, "if it was renewed on purpose: vmctl login --host %s --fingerprint %s", remote.name, fingerprint);
	else if (r < 0 && !*e->hint)
		err_hint(e, "is the host up, and is this its address and port?");
	if (r < 0 || known)
		return r;
	r = trust(c, fingerprint, e);
	if (r < 0) {
		conn_close(TAKE(*ret));
		return r;
	}
	memcpy(remote.pin, fingerprint, sizeof(remote.pin));
	if (remember("fingerprint", fingerprint))
		say("so it will be asked again");
	return 0;
}

/* finding */

static int set_remote(struct ctl *c, const char *given)
{
	const char *s = !strncasecmp(given, "https://", 8) ? given + 8 : given, *token = getenv("CROFT_TOKEN");
	AUTO_FREE char *text = xstrndup(s, strcspn(s, "/"));
	json_t *all, *one;

	if (text_host_port(text, remote.host, &remote.port) < 0) {
		AUTO_FREE char *with = xasprintf(strchr(text, ':') && *text != '[' ? "[%s]:443" : "%s:443", text);

		if (text_host_port(with, remote.host, &remote.port) < 0 || !*remote.host)
			return ctl_usage("\"%s\" is not a host: write it as https://HOST:PORT", given);
	}
	snprintf(remote.name, sizeof(remote.name), strchr(remote.host, ':') ? "[%s]:%u" : "%s:%u", remote.host, remote.port);
	all = hosts_load();
	one = json_object_get(all, remote.name);
	if (json_is_string(json_object_get(one, "fingerprint")))
		snprintf(remote.pin, sizeof(remote.pin), "%s", json_string_value(json_object_get(one, "fingerprint")));
	if (!token)
		token = json_string_value(json_object_get(one, "token"));
	if (token)
		c->http.authorization = xasprintf("Bearer %s", token);
	json_decref(all);
	c->where = xasprintf("https://%s", remote.name);
	c->http.host = remote.name;
	c->http.dial = dial_tls;
	c->http.arg = c;
	return CTL_OK;
}

static char *find_socket(const struct ctl *c)
{
	const char *home = getenv("CROFT_HOME");

	if (c->socket)
		return xstrdup(c->socket);
	if (home && *home)
		return xasprintf("%s/croft.sock", home);
	if (!access("./run/croft.sock", F_OK))
		return xstrdup("./run/croft.sock");
	return xstrdup("/run/croft/croft.sock");
}

int target_find(struct ctl *c)
{
	const char *host = c->host ? c->host : c->socket ? NULL : getenv("CROFT_HOST");

	if (c->host && c->socket)
		return ctl_usage("--host and --socket exclude each other");
	if (host && *host)
		return set_remote(c, host);
	c->where = find_socket(c);
	c->http.host = "localhost";
	c->http.dial = dial_socket;
	c->http.arg = c;
	if (access(c->where, F_OK) < 0 && errno == ENOENT) {
		say("no croftd is running here: there is no %s", c->where);
		say_hint("start it: make run, or systemctl start croftd; or name another host: --host https://HOST:PORT");
		return CTL_CONNECT;
	}
	return CTL_OK;
}

bool target_is_remote(const struct ctl *c)
{
	return *remote.host != '\0';
}

int target_keep_token(struct ctl *c, const char *token, const char *id)
{
	int code = remember("token", token);

	return code ? code : remember("token_id", id);
}

char *target_token_id(void)
{
	json_t *all = hosts_load();
	const char *id = json_string_value(json_object_get(json_object_get(all, remote.name), "token_id"));
	char *ret = id ? xstrdup(id) : NULL;

	json_decref(all);
	return ret;
}

void target_fini(struct ctl *c)
{
	http_close(&c->http);
	free(c->http.authorization);
	free(c->where);
}
