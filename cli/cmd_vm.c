/* cmd_vm.c: the everyday commands: what is done with VMs. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "call.h"
#include "command.h"
#include "stream.h"
#include "mem.h"
#include "out.h"
#include "short.h"

static const char *text_at(json_t *j, const char *path)
{
	const char *s = json_string_value(out_at(j, path));

	return s ? s : "";
}

/* To a person who looks at the list: what is wrong with the host may be why something is missing in it. */
static void tell_problems(struct ctl *c)
{
	struct call k = { .op = "host_get", .quiet = true };
	json_t *text;
	size_t i;

	if (call(c, &k) == 0)
		json_array_foreach(json_object_get(json_object_get(k.ret, "agent"), "problems"), i, text)
			fprintf(stderr, "Attention: %s\n", json_string_value(text));
	json_decref(k.ret);
}

int vm_ls(struct ctl *c, const struct command *cmd, struct args *a)
{
	const struct api_op *op = api_op("vm_list");
	int code = 0;
	AUTO_FREE char *query = command_query(op, a, &code);
	struct call k = { .op = "vm_list" };
	struct buf b AUTO_BUF = BUF_INIT(64 * 1024);
	json_t *items;

	if (code || (code = command_rest(cmd, a, 0, 1)))
		return code;
	buf_adds(&b, query ? query : "");
	if (a->n) {
		buf_adds(&b, b.len ? "&name=" : "name=");
		for (const char *p = a->v[0]; *p; p++) {
			char one[2] = { *p };

			if (*p == '*')
				buf_addc(&b, '*');
			else
				http_escape(&b, one, false);
		}
	}
	k.query = b.data;
	code = call_list(c, &k, &items);
	if (code)
		return code;
	code = out_list(c, items, op->out);
	if (!json_array_size(items) && c->output == OUT_TABLE && isatty(STDERR_FILENO))
		fprintf(stderr, "No VMs%s. A first one: vmctl create NAME disk=20GiB cdrom='[local] FILE.iso'\n",
			a->n ? " of that name" : "");
	if (c->output == OUT_TABLE && isatty(STDERR_FILENO))
		tell_problems(c);
	json_decref(items);
	return code;
}

int vm_info(struct ctl *c, const struct command *cmd, struct args *a)
{
	int code = command_rest(cmd, a, 1, -1);

	for (int i = 0; i < a->n && !code; i++) {
		struct call k = { .op = "vm_get", .params = { a->v[i] } };

		code = call(c, &k);
		if (!code)
			code = out_object(c, k.ret, api_op(k.op)->out);
		json_decref(k.ret);
	}
	return code;
}

/* After a change: its name and state in a line, or what --output asks for. */
static int show_result(struct ctl *c, json_t *vm)
{
	if (!vm)
		return CTL_OK;
	if (!c->no_wait && json_object_get(vm, "kind")) {	/* it had ended before it was waited for */
		struct call k = { .op = "vm_get", .params = { text_at(vm, "target") } };
		int code = call(c, &k);

		if (!code)
			code = show_result(c, k.ret);
		json_decref(k.ret);
		return code;
	}
	if (c->output != OUT_TABLE || !json_object_get(vm, "status"))
		return out_object(c, vm, api_op("vm_get")->out);
	out_plain(text_at(vm, "name"), stdout);
	printf(": %s\n", text_at(vm, "status.state"));
	return fflush(stdout) ? CTL_FAILED : CTL_OK;
}

/* The start of a VM that was created so is a task of its own. */
static int wait_for_start(struct ctl *c, const char *name, json_t **ret)
{
	struct buf query AUTO_BUF = BUF_INIT(1024);
	struct call k = { .op = "task_list" };
	json_t *task;
	int code;

	buf_adds(&query, "limit=1&target=");
	http_escape(&query, name, false);
	k.query = query.data;
	code = call(c, &k);
	task = json_array_get(json_object_get(k.ret, "items"), 0);
	if (!code && !strcmp(text_at(task, "kind"), "vm.start")) {
		json_decref(TAKE(*ret));
		code = call_wait_task(c, (uint64_t)json_integer_value(json_object_get(task, "id")), ret);
		if (code)
			say_hint("%s is created, but doesn't run; vmctl info %s", name, name);
	}
	json_decref(k.ret);
	return code;
}

/* The name may stand behind options: bring the first word that is no KEY=VALUE to the front. */
static bool name_first(struct args *a)
{
	for (int i = 0; i < a->n; i++) {
		char *name = a->v[i];

		if (strchr(name, '='))
			continue;
		memmove(a->v + 1, a->v, (size_t)i * sizeof(*a->v));
		a->v[0] = name;
		return true;
	}
	return false;
}

static int create(struct ctl *c, const struct command *cmd, struct args *a, bool start, json_t **ret)
{
	const struct api_op *op = api_op("vm_create");
	json_t *body = json_object();
	struct call k = { .op = "vm_create" };
	int code;

	command_options(op, a);
	code = command_rest(cmd, a, 1, -1);
	if (!code && !name_first(a))
		code = ctl_usage("what is the new VM's name? vmctl %s NAME %s", cmd->name, a->v[0]);
	if (!code)
		code = command_body(op, a, 1, body);
	if (code) {
		json_decref(body);
		return code;
	}
	json_object_set_new(body, "name", json_string(a->v[0]));
	if (start)
		json_object_set_new(body, "start", json_true());
	short_defaults(body, op->in);
	k.body = body;
	code = call(c, &k);
	*ret = k.ret;
	return code || !start || c->no_wait ? code : wait_for_start(c, a->v[0], ret);
}

int vm_create(struct ctl *c, const struct command *cmd, struct args *a)
{
	bool start = args_flag(a, "--start", NULL);
	json_t *vm = NULL;
	int code = create(c, cmd, a, start, &vm);

	if (!code)
		code = show_result(c, vm);
	json_decref(vm);
	return code;
}

int vm_run(struct ctl *c, const struct command *cmd, struct args *a)
{
	bool detached = args_flag(a, "--detach", "-d");
	json_t *vm = NULL;
	int code = create(c, cmd, a, true, &vm);

	if (!code && (detached || c->no_wait || !isatty(STDIN_FILENO)))
		code = show_result(c, vm);
	else if (!code)
		code = console_open(c, a->v[0]);
	json_decref(vm);
	return code;
}

/* start, shutdown, ...: the operation is vm_NAME; KEY=VALUE words are its body. */
int vm_power(struct ctl *c, const struct command *cmd, struct args *a)
{
	const struct api_op *op = api_op(cmd->op);
	int code, worst = CTL_OK, vms = 0;
	json_t *body = op && op->in ? json_object() : NULL;

	command_options(op, a);
	code = command_rest(cmd, a, 1, -1);
	while (!code && vms < a->n && !strchr(a->v[vms], '='))
		vms++;
	if (!code && !vms)
		code = ctl_usage("which VM? vmctl %s %s", cmd->name, cmd->usage);
	if (!code && vms < a->n)
		code = body ? command_body(op, a, vms, body) : ctl_usage("%s takes no \"%s\"", cmd->name, a->v[vms]);
	for (int i = 0; i < vms && !code && !call_interrupted(); i++) {
		struct call k = { .op = cmd->op, .params = { a->v[i] }, .body = json_incref(body) };
		int one = call(c, &k);

		if (!one)
			one = show_result(c, k.ret);
		json_decref(k.ret);
		worst = one > worst ? one : worst;
	}
	json_decref(body);
	return code ? code : worst;
}

int vm_answer(struct ctl *c, const struct command *cmd, struct args *a)
{
	struct call k = { .op = cmd->op };
	int code;

	command_options(api_op(k.op), a);
	code = command_rest(cmd, a, 2, 2);
	if (code)
		return code;
	k.params[0] = a->v[0];
	k.body = json_pack("{s:s}", "choice", a->v[1]);
	code = call(c, &k);
	if (!code)
		code = show_result(c, k.ret);
	json_decref(k.ret);
	return code;
}

void say_pending(const json_t *vm)
{
	const json_t *pending = json_object_get(vm, "pending"), *reasons = json_object_get(vm, "pending_reasons");
	json_t *one, *reason;
	const char *at;
	size_t i;

	if (json_array_size(pending)) {
		fprintf(stderr, "takes effect at the next start:");
		json_array_foreach(pending, i, one) {
			const char *last = strrchr(json_string_value(one), '/');

			fprintf(stderr, " %s", last ? last + 1 : "?");
		}
		fprintf(stderr, "\n");
	}
	json_object_foreach((json_t *)reasons, at, reason) {
		out_plain(strncmp(at, "/config/", 8) ? at : at + 8, stderr);
		fprintf(stderr, ": ");
		out_plain(json_string_value(reason), stderr);
		fprintf(stderr, "\n");
	}
}

int vm_set(struct ctl *c, const struct command *cmd, struct args *a)
{
	struct call k = { .op = "vm_set", .body = json_object() };
	int code;

	command_options(api_op(k.op), a);
	code = command_rest(cmd, a, 2, -1);
	if (!code)
		code = command_body(api_op(k.op), a, 1, k.body);
	if (code) {
		json_decref(k.body);
		return code;
	}
	k.params[0] = a->v[0];
	code = call(c, &k);
	if (code)
		return code;
	code = show_result(c, k.ret);
	say_pending(k.ret);
	json_decref(k.ret);
	return code;
}

static int remove_one(struct ctl *c, const char *name, bool force)
{
	struct call k = { .op = "vm_delete", .params = { name } }, off = { .op = "vm_poweroff", .params = { name }, .quiet = true };
	int code;

	if (force) {		/* one that is off already is fine */
		call(c, &off);
		json_decref(off.ret);
	}
	code = call(c, &k);
	json_decref(k.ret);
	return code;
}

int vm_rm(struct ctl *c, const struct command *cmd, struct args *a)
{
	bool force = args_flag(a, "--force", "-f");
	int code = command_rest(cmd, a, 1, -1), worst = CTL_OK;

	for (int i = 0; i < a->n && !code; i++) {
		int one;

		if (!c->yes && !ctl_ask("Delete the VM %s with all its disks?", a->v[i]))
			return ctl_usage("nothing was deleted; --yes says it without a question");
		one = remove_one(c, a->v[i], force);
		worst = one > worst ? one : worst;
	}
	return code ? code : worst;
}

int vm_console(struct ctl *c, const struct command *cmd, struct args *a)
{
	int code = command_rest(cmd, a, 1, 1);

	return code ? code : console_open(c, a->v[0]);
}

/* wait */

struct waiting {
	struct ctl *c;
	const char *name, *states;
	char id[40];
	char last[32];
	bool there, gone;
	int code;
};

static bool is_one_of(const char *state, const char *list)
{
	size_t n = strlen(state);

	for (const char *p = list; n && (p = strstr(p, state)); p += n)
		if ((p == list || p[-1] == ',') && (!p[n] || p[n] == ','))
			return true;
	return false;
}

/* The stream of events runs: whatever changes from now on will be told. So look how things are. */
static int look(void *arg)
{
	struct waiting *w = arg;
	struct ctl c = *w->c;
	struct call k = { .op = "vm_get", .params = { w->name } };

	c.http.conn = NULL;		/* a connection of its own */
	w->code = call(&c, &k);
	http_close(&c.http);
	snprintf(w->id, sizeof(w->id), "%s", text_at(k.ret, "id"));
	snprintf(w->last, sizeof(w->last), "%s", text_at(k.ret, "status.state"));
	w->there = is_one_of(w->last, w->states);
	json_decref(k.ret);
	return w->code || w->there;
}

static int on_event(void *arg, const char *kind, uint64_t seq, json_t *event)
{
	struct waiting *w = arg;
	json_t *data = json_object_get(event, "data");

	if (!strcmp(kind, "reset"))
		return look(w);
	if (strcmp(text_at(event, "target"), w->id))
		return 0;
	if (!strcmp(kind, "vm.deleted")) {
		w->gone = true;
		return 1;
	}
	if (*text_at(data, "status.state"))
		snprintf(w->last, sizeof(w->last), "%s", text_at(data, "status.state"));
	w->there = is_one_of(w->last, w->states);
	return w->there;
}

static int known_states(const char *list)
{
	const struct api_field *status = api_field(api_op("vm_get")->out, "status", 6);
	const struct api_field *state = status ? api_field(status->sub, "state", 5) : NULL;

	while (state && state->names && *list) {
		size_t n = strcspn(list, ",");
		AUTO_FREE char *one = xstrndup(list, n);
		const char *near;
		bool found = false;

		for (size_t i = 0; state->names[i]; i++)
			found |= !strcmp(state->names[i], one);
		if (!found) {
			near = did_you_mean(one, state->names);
			ctl_usage("a VM is never \"%s\"", one);
			if (near)
				say_hint("did you mean --for %s?", near);
			return CTL_USAGE;
		}
		list += n + (list[n] == ',');
	}
	return CTL_OK;
}

int vm_wait(struct ctl *c, const struct command *cmd, struct args *a)
{
	bool bad = false;
	const char *states = args_value(a, "--for", NULL, &bad);
	int code = command_rest(cmd, a, 1, 1);
	struct waiting w = { .c = c, .states = states ? states : "off" };

	if (bad)
		return ctl_usage("--for wants a state: --for running, or --for off,paused");
	if (code || (code = known_states(w.states)))
		return code;
	w.name = a->v[0];
	code = follow(c, "vm.*", NULL, c->timeout_s, look, on_event, &w);
	if (w.code)
		return w.code;
	if (w.gone) {
		say("%s was deleted meanwhile", w.name);
		return CTL_NOT_FOUND;
	}
	if (code == CTL_TIMEOUT)
		say("%s is %s after %u s, not %s", w.name, w.last, c->timeout_s, w.states);
	else if (!code && c->output == OUT_TABLE)
		printf("%s: %s\n", w.name, w.last);
	return code;
}
