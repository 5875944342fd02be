/* cmd_noun.c: `vmctl NOUN VERB`: every operation of the API that has no command of its own, straight from the table.
 * Words are the parameters of its path, then KEY=VALUE; options are its query. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "call.h"
#include "command.h"
#include "mem.h"
#include "out.h"
#include "short.h"
#include "tty.h"
#include "value.h"

const char *const command_nouns[] = {
	"disk", "task", "user", "token", "file", "folder", "upload", "datastore", "network", "config", "maintenance", "autostart", NULL
};

static const struct { const char *said, *means; } verbs[] = {
	{ "ls", "list" }, { "rm", "delete" }, { "info", "get" }, { "show", "get" }, { "add", "create" }, { "mk", "create" },
	{ "mkdir", "create" }, { "put", "upload" }, { "get", "download" },
};

static const struct api_op *op_of(const char *noun, const char *verb)
{
	AUTO_FREE char *id = xasprintf("%s_%s", noun, verb);

	return api_op(id);
}

const struct api_op *noun_op(const char *noun, const char *verb)
{
	const struct api_op *op = op_of(noun, verb);

	for (size_t i = 0; !op && i < COUNT(verbs); i++)
		if (!strcmp(verbs[i].said, verb))
			op = op_of(noun, verbs[i].means);
	return op;
}

static int unknown_verb(const char *noun, const char *verb)
{
	const char *names[32], *near;
	size_t n = 0, len = strlen(noun);

	for (const struct api_op *op = NULL; n < 31 && (op = api_op_next(op)); )
		if (!strncmp(op->id, noun, len) && op->id[len] == '_')
			names[n++] = op->id + len + 1;
	names[n] = NULL;
	near = did_you_mean(verb, names);
	ctl_usage("there is no vmctl %s %s", noun, verb);
	if (near)
		say_hint("did you mean vmctl %s %s?", noun, near);
	else
		say_hint("vmctl help %s lists what there is", noun);
	return CTL_USAGE;
}

char *command_query(const struct api_op *op, struct args *a, int *ret_code)
{
	struct buf b = BUF_INIT(64 * 1024);

	for (const struct api_param *p = op ? op->query : NULL; p && p->name; p++) {
		AUTO_FREE char *name = xasprintf("--%s", p->name);
		bool bad = false;
		const char *value = p->flag ? (args_flag(a, name, NULL) ? "true" : NULL) : args_value(a, name, NULL, &bad);

		if (bad)
			*ret_code = ctl_usage("%s wants a value: %s", name, p->help ? p->help : "");
		if (!value)
			continue;
		buf_addf(&b, "%s%s=", b.len ? "&" : "", p->name);
		http_escape(&b, value, false);
	}
	return b.len ? buf_take(&b) : NULL;
}

static bool is_switch(void *arg, const char *name)
{
	const struct api_op *op = arg;
	const struct api_field *config = api_field(op->in, "config", 6), *f = api_field(op->in, name, strlen(name));

	if (!f && config)
		f = api_field(config->sub, name, strlen(name));
	return f && f->type == API_BOOLEAN;
}

void command_options(const struct api_op *op, struct args *a)
{
	if (op && op->in)
		args_to_words(a, is_switch, (void *)(uintptr_t)op);
}

/* A secret never stands among the arguments, where everybody on the machine can read it. */
static int secret(json_t *body, const struct api_schema *s, const char *word, const struct api_field *f)
{
	const char *given = strchr(word, '=') + 1;
	struct err e = { 0 };
	char *text;

	if (strcmp(given, "-")) {
		ctl_usage("a %s isn't given in the command line, where others can read it", f->name);
		say_hint("write %s=- : it is asked for, or read from stdin", f->name);
		return CTL_USAGE;
	}
	text = tty_secret(f->name, true, &e);
	if (!text)
		return ctl_fail(&e);
	value_put(body, s, f->name, json_string(text), &e);
	explicit_bzero(text, strlen(text));
	free(text);
	return CTL_OK;
}

int command_body(const struct api_op *op, const struct args *a, int from, json_t *body)
{
	for (int i = from; i < a->n; i++) {
		const char *word = a->v[i];
		const struct api_field *f = api_field(op->in, word, strcspn(word, "="));
		struct err e = { 0 };
		int r;

		if (f && f->flags & API_SECRET && strchr(word, '=')) {
			r = secret(body, op->in, word, f);
			if (r)
				return r;
			continue;
		}
		r = short_set(body, op->in, word, &e);
		if (!r)
			r = value_set(body, op->in, word, !(op->flags & API_PATCH), &e);
		if (r < 0) {
			ctl_fail(&e);
			return CTL_USAGE;
		}
	}
	return CTL_OK;
}

/* The parameters of the path from the first words. "[local] a/b" fills datastore and path. @ret_n: words used. */
static int fill_params(const struct api_op *op, struct args *a, const char *params[3], char **ret_store, char **ret_query, int *ret_n)
{
	bool has_path = op->params[0].name && op->params[1].name && !strcmp(op->params[1].name, "path");
	bool has_store = op->params[0].name && !strcmp(op->params[0].name, "datastore") && strstr(op->id, "file");
	int n = 0;

	if (has_path || has_store) {		/* "[store] path", or a path on "local" */
		const char *word = a->n ? a->v[0] : has_path ? NULL : "", *path = word, *close;

		if (!word)
			return ctl_usage("which file? Write it as '[local] iso/debian.iso', or just iso/debian.iso");
		close = *word == '[' ? strchr(word, ']') : NULL;
		*ret_store = close ? xstrndup(word + 1, (size_t)(close - word - 1)) : xstrdup("local");
		if (close)
			path = close + 1 + (close[1] == ' ');
		params[0] = *ret_store;
		params[1] = path;
		if (!has_path && *path) {
			struct buf b = BUF_INIT(8192);

			buf_adds(&b, "path=");
			http_escape(&b, path, true);
			*ret_query = buf_take(&b);
		}
		*ret_n = a->n > 0;
		return CTL_OK;
	}
	for (; op->params[n].name && n < 3; n++) {
		if (n >= a->n)
			return ctl_usage("which %s? It stands behind the command", op->params[n].name);
		params[n] = a->v[n];
	}
	*ret_n = n;
	return CTL_OK;
}

static int ask_first(const struct ctl *c, const char *noun, const char *what)
{
	if (c->yes || ctl_ask("Delete the %s %s?", noun, what))
		return CTL_OK;
	return ctl_usage("nothing was deleted; --yes says it without a question");
}

static int show(struct ctl *c, const struct api_op *op, json_t *answer)
{
	const char *secret_text = json_string_value(json_object_get(answer, "secret"));

	if (!answer)
		return CTL_OK;
	if (secret_text && c->output == OUT_TABLE) {
		say("this is shown once, keep it:");
		printf("%s\n", secret_text);
		return fflush(stdout) ? CTL_FAILED : CTL_OK;
	}
	say_pending(answer);
	return out_object(c, answer, op->out);
}

static int run_op(struct ctl *c, const char *noun, const struct api_op *op, struct args *a)
{
	AUTO_FREE char *store = NULL, *path_query = NULL, *query = NULL;
	struct call k = { .op = op->id };
	int used = 0, code = 0;
	json_t *items = NULL;

	query = command_query(op, a, &code);
	if (code)
		return code;
	command_options(op, a);
	if (args_unknown(a))
		return ctl_usage("%s %s knows no %s", noun, op->id + strlen(noun) + 1, args_unknown(a));
	code = fill_params(op, a, k.params, &store, &path_query, &used);
	if (code)
		return code;
	k.query = query ? query : path_query;
	if (!strcmp(op->method, "DELETE") && k.params[0] && strcmp(noun, "task"))
		code = ask_first(c, noun, k.params[1] ? k.params[1] : k.params[0]);
	if (code)
		return code;
	if (op->in) {
		k.body = json_object();
		if (api_field(op->in, "name", 4) && (!op->params[0].name || strstr(op->id, "_create")) &&
		    used < a->n && !strchr(a->v[used], '='))
			json_object_set_new(k.body, "name", json_string(a->v[used++]));
		code = command_body(op, a, used, k.body);
	} else if (used < a->n) {
		code = ctl_usage("\"%s\" is one word too many", a->v[used]);
	}
	if (code) {
		json_decref(k.body);
		return code;
	}
	if (op->flags & API_LISTS) {
		code = call_list(c, &k, &items);
		code = code ? code : out_list(c, items, op->out);
	} else {
		code = call(c, &k);
		code = code ? code : show(c, op, k.ret);
	}
	json_decref(items);
	json_decref(k.ret);
	return code;
}

int noun_run(struct ctl *c, const char *noun, struct args *a)
{
	const char *verb = a->n && a->v[0][0] != '-' ? a->v[0] : "list";
	struct args rest = *a;
	const struct api_op *op;

	if (a->n && a->v[0][0] != '-') {
		rest.v++;
		rest.n--;
		rest.options -= rest.options > 0;
	}
	if (!strcmp(noun, "task") && !strcmp(verb, "wait"))
		return task_wait(c, &rest);
	if (!strcmp(noun, "task") && !strcmp(verb, "cancel"))
		return task_cancel(c, &rest);
	op = noun_op(noun, verb);
	if (!op)
		return unknown_verb(noun, verb);
	if (op->flags & (API_BYTES_IN | API_BYTES_OUT))
		return file_transfer(c, op, &rest);
	return run_op(c, noun, op, &rest);
}

/* tasks */

static int task_number(const struct args *a, uint64_t *ret)
{
	char *end;

	if (a->n != 1)
		return ctl_usage("which task? Its number stands behind the command; vmctl task ls shows them");
	*ret = strtoull(a->v[0], &end, 10);
	return *end || !*ret ? ctl_usage("\"%s\" is not the number of a task", a->v[0]) : CTL_OK;
}

int task_wait(struct ctl *c, struct args *a)
{
	json_t *ret = NULL;
	uint64_t id;
	struct call k = { .op = "task_get" };
	int code = task_number(a, &id);

	if (code)
		return code;
	k.params[0] = a->v[0];
	code = call(c, &k);		/* is there one? */
	json_decref(k.ret);
	if (!code)
		code = call_wait_task(c, id, &ret);
	if (!code && ret && c->output != OUT_TABLE)
		code = out_object(c, ret, NULL);
	json_decref(ret);
	return code;
}

int task_cancel(struct ctl *c, struct args *a)
{
	struct call k = { .op = "task_cancel" };
	bool no_wait = c->no_wait;
	uint64_t id;
	int code = task_number(a, &id);

	if (code)
		return code;
	k.params[0] = a->v[0];
	c->no_wait = true;		/* its end, cancelled, is what is wanted here */
	code = call(c, &k);
	c->no_wait = no_wait;
	json_decref(k.ret);
	if (code || no_wait)
		return code;
	struct err e = { 0 };
	struct ctl quiet = *c;
	struct call get = { .op = "task_get", .params = { a->v[0] }, .headers = "Prefer: wait=60\r\n", .quiet = true };

	code = call(&quiet, &get);
	c->http = quiet.http;
	json_decref(get.ret);
	e = get.err;
	if (code && e.code != ERR_CANCELLED)
		return ctl_fail(&e);
	if (c->output == OUT_TABLE)
		printf("task %s: %s\n", a->v[0], code ? "cancelled" : "done before it could be cancelled");
	return CTL_OK;
}
