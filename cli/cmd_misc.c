/* cmd_misc.c: events, host, usb, api. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "call.h"
#include "command.h"
#include "fields.h"
#include "file.h"
#include "stream.h"
#include "mem.h"
#include "out.h"

#define INPUT_MAX	(8 << 20)

/* events */

static const char *text_of(json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "";
}

static const char *name_of(json_t *event)
{
	json_t *data = json_object_get(event, "data");
	const char *name = text_of(data, "name");

	return *name ? name : *text_of(data, "target_name") ? text_of(data, "target_name") : text_of(event, "target");
}

/* One event as a line: time, kind, name, what of it a person wants to know. */
static void event_line(json_t *event)
{
	json_t *data = json_object_get(event, "data");
	const char *state = json_string_value(out_at(data, "status.state"));

	printf("%.19sZ  %-18s ", text_of(event, "time"), text_of(event, "kind"));
	out_plain(name_of(event), stdout);
	if (!state)
		state = text_of(data, "state");
	if (*state)
		printf(": %s", state);
	if (*text_of(data, "step")) {
		printf(", ");
		out_plain(text_of(data, "step"), stdout);
	}
	if (*text_of(event, "user")) {
		printf("  (");
		out_plain(text_of(event, "user"), stdout);
		printf(")");
	}
	printf("\n");
}

static void show_event(struct ctl *c, json_t *event)
{
	if (c->output == OUT_TABLE) {
		event_line(event);
	} else if (c->output == OUT_NAME) {
		printf("%lld\n", (long long)json_integer_value(json_object_get(event, "seq")));
	} else {
		json_dumpf(event, stdout, JSON_COMPACT);
		printf("\n");
	}
}

static int on_event(void *arg, const char *kind, uint64_t seq, json_t *event)
{
	if (!strcmp(kind, "reset"))
		say("events were missed: what follows begins at %llu", (unsigned long long)seq);
	else
		show_event(arg, event);
	return fflush(stdout) || ferror(stdout);
}

/* All that are kept, from @after on; of them the last @limit are shown. */
static int list_events(struct ctl *c, const char *kinds, const char *after, size_t limit)
{
	json_t *kept = json_array(), *event;
	uint64_t next = after ? strtoull(after, NULL, 10) : 0;
	int code = CTL_OK;
	size_t i, n = 1;

	while (!code && n) {
		struct buf b AUTO_BUF = BUF_INIT(4096);
		struct call k = { .op = "event_list" };

		buf_addf(&b, "limit=1000&after=%llu", (unsigned long long)next);
		if (kinds) {
			buf_adds(&b, "&kinds=");
			http_escape(&b, kinds, false);
		}
		k.query = b.data;
		code = call(c, &k);
		n = json_array_size(json_object_get(k.ret, "items"));
		json_array_extend(kept, json_object_get(k.ret, "items"));
		next = (uint64_t)json_integer_value(json_object_get(k.ret, "next"));
		while (json_array_size(kept) > limit + 1000)
			json_array_remove(kept, 0);
		json_decref(k.ret);
	}
	while (json_array_size(kept) > limit)
		json_array_remove(kept, 0);
	if (!code && c->output == OUT_JSON)
		code = out_list(c, kept, NULL);
	else
		json_array_foreach(kept, i, event)
			if (!code)
				show_event(c, event);
	json_decref(kept);
	return code;
}

int cmd_events(struct ctl *c, const struct command *cmd, struct args *a)
{
	bool bad = false, on = args_flag(a, "--follow", "-f");
	const char *kinds = args_value(a, "--kinds", NULL, &bad), *after = args_value(a, "--after", NULL, &bad);
	const char *limit = args_value(a, "--limit", "-n", &bad);
	int code = bad ? ctl_usage("--kinds, --after and --limit want a value") : command_rest(cmd, a, 0, 0);

	if (code)
		return code;
	if (after && strspn(after, "0123456789") != strlen(after))
		return ctl_usage("--after wants the number of an event, not \"%s\"", after);
	if (on)
		return follow(c, kinds, after, c->timeout_s, NULL, on_event, c);
	return list_events(c, kinds, after, limit ? (size_t)strtoul(limit, NULL, 10) : after ? 100000 : 30);
}

int cmd_host(struct ctl *c, const struct command *cmd, struct args *a)
{
	struct call k = { .op = "host_get" };
	int code = command_rest(cmd, a, 0, 0);

	if (!code)
		code = call(c, &k);
	if (!code)
		code = out_object(c, k.ret, api_op(k.op)->out);
	json_decref(k.ret);
	return code;
}

/* usb: what is plugged into the host, and which VM has it */

int cmd_usb(struct ctl *c, const struct command *cmd, struct args *a)
{
	struct call k = { .op = "host_usb_list" };
	int code = command_rest(cmd, a, 0, 0);

	if (!code)
		code = call(c, &k);
	if (!code)
		code = out_list(c, json_object_get(k.ret, "items"), api_op(k.op)->out);
	json_decref(k.ret);
	return code;
}

/* api: any request, as it is */

static char *read_input(const char *from, int *ret_code)
{
	AUTO_CLOSE int fd = -1;
	char *text = NULL;
	struct err e = { 0 };
	size_t n;
	int r;

	if (from[0] != '@' && strcmp(from, "-"))
		return xstrdup(from);
	fd = !strcmp(from, "-") || !strcmp(from, "@-") ? dup(STDIN_FILENO) : open(from + 1, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -2 : file_read_fd(fd, INPUT_MAX, &text, &n);
	if (r < 0) {
		fail_errno(&e, r, "read %s", from);
		*ret_code = ctl_fail(&e);
	}
	return text;
}

static int print_answer(struct ctl *c, const struct http_answer *a)
{
	json_t *j = a->body.len ? json_parse(a->body.data, a->body.len, HTTP_BODY_MAX, NULL) : NULL;
	struct err e = { 0 };

	if (j && c->output != OUT_JSONL)
		json_dumpf(j, stdout, JSON_INDENT(2));
	else if (a->body.len)
		fwrite(a->body.data, 1, a->body.len, stdout);
	if (j)
		printf("\n");
	json_decref(j);
	if (fflush(stdout))
		return CTL_FAILED;
	if (a->reply.status < 400)
		return CTL_OK;
	call_problem(a, &e);
	return ctl_fail(&e);
}

static int request(struct ctl *c, const char *method, const char *path, char *body, int fd)
{
	AUTO_FREE char *full = !strncmp(path, "/api", 4) ? xstrdup(path) : xasprintf("/api/v1%s%s", *path == '/' ? "" : "/", path);
	struct http_request q = HTTP_REQUEST(method, full);
	struct http_answer a;
	struct err e = { 0 };
	int code;

	if (strpbrk(full, " \r\n") || strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(method))
		return ctl_usage("vmctl api METHOD PATH: the method in capitals, the path escaped");
	q.headers = !body ? NULL : !strcmp(method, "PATCH") ? "Content-Type: application/merge-patch+json\r\n" :
							       "Content-Type: application/json\r\n";
	q.body = body;
	q.body_len = body ? strlen(body) : 0;
	if (fd >= 0) {
		q.headers = "Content-Type: application/octet-stream\r\n";
		q.body_fd = fd;
		q.length = (uint64_t)lseek(fd, 0, SEEK_END);
	}
	code = http_do(&c->http, &q, &a, &e) < 0 ? (ctl_fail(&e), CTL_CONNECT) : print_answer(c, &a);
	http_answer_fini(&a);
	return code;
}

int cmd_api(struct ctl *c, const struct command *cmd, struct args *a)
{
	bool bad = false;
	const char *data = args_value(a, "--data", "-d", &bad), *file = args_value(a, "--file", NULL, &bad);
	int code = bad ? ctl_usage("--data wants JSON, @FILE, or - for stdin; --file a file of bytes") : command_rest(cmd, a, 1, 2);
	AUTO_CLOSE int fd = -1;
	AUTO_FREE char *body = NULL;

	if (code)
		return code;
	if (data)
		body = read_input(data, &code);
	if (code)
		return code;
	if (file && (fd = open(file, O_RDONLY | O_CLOEXEC)) < 0)
		return ctl_usage("%s can't be opened: %s", file, strerror(errno));
	return a->n == 1 ? request(c, "GET", a->v[0], body, fd) : request(c, a->v[0], a->v[1], body, fd);
}
