/* complete.c: completion. The shell calls `vmctl __complete WORDS...`, the last word is the one that is being typed. */
#include <stdio.h>
#include <string.h>
#include "call.h"
#include "command.h"
#include "mem.h"
#include "short.h"
#include "target.h"
#include "value.h"

static const char *typed;

static void offer(const char *word, const char *tail)
{
	if (!strncmp(word, typed, strlen(typed)))
		printf("%s%s\n", word, tail);
}

static void offer_key(void *arg, const char *key, const struct api_field *f)
{
	size_t n = strlen(key);

	if (strncmp(typed, key, n) || typed[n] != '=') {
		offer(key, "=");
		return;
	}
	for (size_t i = 0; f->names && f->names[i]; i++) {
		AUTO_FREE char *word = xasprintf("%s=%s", key, f->names[i]);

		offer(word, "");
	}
}

static void offer_keys(const struct api_op *op)
{
	if (!op || !op->in)
		return;
	for (const struct short_key *k = short_keys; k->name; k++)
		if (short_fits(k, op))
			offer(k->name, "=");
	value_keys(op->in, !(op->flags & API_PATCH), offer_key, NULL);
}

/* Names of what is there, when croftd answers quickly. */
static void offer_names(struct ctl *c, const char *op, const char *key)
{
	struct call k = { .op = op, .quiet = true };
	struct http_request q = HTTP_REQUEST("GET", "");
	AUTO_FREE char *path = call_path(api_op(op), k.params, NULL);
	struct http_answer a;
	struct err e = { 0 };
	json_t *all = NULL, *item;
	size_t i;

	q.path = path;
	q.timeout_usec = 200000;
	if (!http_do(&c->http, &q, &a, &e) && a.reply.status == 200)
		all = json_loadb(a.body.data, a.body.len, 0, NULL);
	json_array_foreach(json_object_get(all, "items"), i, item) {
		AUTO_FREE char *text = NULL;
		json_t *v = json_object_get(item, key);

		text = json_is_string(v) ? xstrdup(json_string_value(v)) : json_is_integer(v) ?
		       xasprintf("%lld", (long long)json_integer_value(v)) : xstrdup("");
		if (*text)
			offer(text, "");
	}
	json_decref(all);
	http_answer_fini(&a);
}

static void offer_noun(struct ctl *c, const char *noun, int words)
{
	size_t n = strlen(noun);

	if (words == 2) {
		for (const struct api_op *op = NULL; (op = api_op_next(op)); )
			if (!strncmp(op->id, noun, n) && op->id[n] == '_')
				offer(op->id + n + 1, "");
		return;
	}
	AUTO_FREE char *list = xasprintf("%s_list", noun);
	const struct api_op *op = api_op(list);

	if (op && !op->params[0].name)
		offer_names(c, list, !strcmp(noun, "task") || !strcmp(noun, "token") || !strcmp(noun, "upload") ? "id" : "name");
}

int cmd_complete(struct ctl *c, const struct command *self, struct args *a)
{
	const struct command *cmd;

	typed = a->n ? a->v[a->n - 1] : "";
	if (a->n <= 1) {
		for (cmd = commands; cmd->name; cmd++)
			if (cmd->help)
				offer(cmd->name, "");
		for (size_t i = 0; command_nouns[i]; i++)
			offer(command_nouns[i], "");
		return CTL_OK;
	}
	if (!freopen("/dev/null", "w", stderr) || target_find(c))
		return CTL_OK;
	cmd = command_find(a->v[0]);
	if (!cmd)
		offer_noun(c, a->v[0], a->n);
	else if (cmd->fn == cmd_completion)
		offer("bash", ""), offer("zsh", ""), offer("fish", "");
	else if (cmd->fn == cmd_help)
		for (const struct command *other = commands; other->name; other++)
			offer(other->name, "");
	else if (cmd->op && strstr(cmd->usage, "KEY=VALUE") && a->n > 2)
		offer_keys(api_op(cmd->op));
	else if (strstr(cmd->usage, "VM"))
		offer_names(c, "vm_list", "name");
	return CTL_OK;
}

static const char bash[] =
	"_vmctl() {\n"
	"\tlocal IFS=$'\\n' cur words cword\n"
	"\t_get_comp_words_by_ref -n =: cur words cword 2>/dev/null ||"
	" { words=(\"${COMP_WORDS[@]}\"); cword=$COMP_CWORD; cur=${words[cword]}; }\n"
	"\tCOMPREPLY=($(vmctl __complete -- \"${words[@]:1:cword}\" 2>/dev/null))\n"
	"\t[[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace\n"
	"\tdeclare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions \"$cur\"\n"
	"\t[[ $cur == *=* ]] && COMPREPLY=(\"${COMPREPLY[@]#*=}\")\n"
	"}\n"
	"complete -o default -F _vmctl vmctl\n";
static const char zsh[] =
	"#compdef vmctl\n"
	"_vmctl() {\n"
	"\tlocal -a all\n"
	"\tall=(\"${(@f)$(vmctl __complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\")\n"
	"\tcompadd -Q -S '' -- ${(M)all:#*=}\n"
	"\tcompadd -Q -- ${all:#*=}\n"
	"}\n"
	"compdef _vmctl vmctl\n";
static const char fish[] =
	"complete -c vmctl -f -a '(vmctl __complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'\n";

int cmd_completion(struct ctl *c, const struct command *cmd, struct args *a)
{
	static const struct { const char *shell, *script; } all[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };

	for (size_t i = 0; a->n == 1 && i < COUNT(all); i++)
		if (!strcmp(a->v[0], all[i].shell)) {
			fputs(all[i].script, stdout);
			return CTL_OK;
		}
	if (a->n)
		ctl_usage("there is no completion for %s, only for bash, zsh and fish", a->v[0]);
	else
		ctl_usage("for which shell? vmctl completion bash, zsh or fish");
	say_hint("source <(vmctl completion bash)");
	return CTL_USAGE;
}
