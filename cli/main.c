/* main.c: vmctl: global options, then the command. */
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "command.h"
#include "target.h"
#include "version.h"

static int read_output(struct ctl *c, const char *name)
{
	const char *near;

	for (int i = 0; i < OUT_NFORMATS; i++)
		if (!strcmp(name, ctl_output_names[i])) {
			c->output = (enum ctl_output)i;
			return CTL_OK;
		}
	near = did_you_mean(name, ctl_output_names);
	ctl_usage("--output is table, json, jsonl or name, not \"%s\"", name);
	if (near)
		say_hint("did you mean --output %s?", near);
	return CTL_USAGE;
}

static int read_options(struct ctl *c, struct args *a)
{
	bool bad = false;
	const char *output, *timeout;
	char *end;

	c->socket = args_value(a, "--socket", NULL, &bad);
	c->host = args_value(a, "--host", NULL, &bad);
	c->fingerprint = args_value(a, "--fingerprint", NULL, &bad);
	c->columns = args_value(a, "--columns", NULL, &bad);
	c->no_headers = args_flag(a, "--no-headers", NULL);
	c->no_wait = args_flag(a, "--no-wait", NULL);
	c->bytes = args_flag(a, "--bytes", NULL);
	c->yes = args_flag(a, "--yes", "-y");
	output = args_value(a, "--output", "-o", &bad);
	timeout = args_value(a, "--timeout", NULL, &bad);
	if (bad)
		return ctl_usage("the last option wants a value; vmctl help");
	if (timeout) {
		c->timeout_s = (unsigned)strtoul(timeout, &end, 10);
		if (*end || !c->timeout_s || c->timeout_s > 1000000)
			return ctl_usage("--timeout wants seconds, not \"%s\"", timeout);
	}
	return output ? read_output(c, output) : CTL_OK;
}

static int unknown_command(const char *word)
{
	const char *names[64], *near;
	size_t n = 0;

	for (const struct command *cmd = commands; cmd->name; cmd++)
		if (cmd->help)
			names[n++] = cmd->name;
	for (size_t i = 0; command_nouns[i]; i++)
		names[n++] = command_nouns[i];
	names[n] = NULL;
	near = did_you_mean(word, names);
	ctl_usage("there is no command \"%s\"", word);
	if (near)
		say_hint("did you mean vmctl %s?", near);
	else
		say_hint("vmctl help lists them");
	return CTL_USAGE;
}

static bool is_noun(const char *word)
{
	for (size_t i = 0; command_nouns[i]; i++)
		if (!strcmp(command_nouns[i], word))
			return true;
	return false;
}

static int run(struct ctl *c, struct args *a)
{
	char *word = a->v[0];
	const struct command *cmd = command_find(word);
	struct args rest = { a->n - 1, a->v + 1, a->options > 0 ? a->options - 1 : 0 };
	int code;

	if (!cmd && !is_noun(word))
		return unknown_command(word);
	if ((!cmd || cmd->help) && args_flag(&rest, "--help", "-h")) {
		struct args one = { 1, a->v, 0 };

		return cmd_help(c, NULL, &one);
	}
	code = cmd && cmd->offline ? CTL_OK : target_find(c);
	if (code)
		return code;
	return cmd ? cmd->fn(c, cmd, &rest) : noun_run(c, word, &rest);
}

int main(int argc, char **argv)
{
	struct ctl c = { 0 };
	struct args a = args_from(argc - 1, argv + 1);
	int code;

	setlocale(LC_CTYPE, "");
	signal(SIGPIPE, SIG_IGN);
	if (!a.n) {
		help_short();
		return CTL_OK;
	}
	if (args_flag(&a, "--version", NULL)) {
		printf("vmctl " CROFT_VERSION "\n");
		return CTL_OK;
	}
	code = read_options(&c, &a);
	if (!code && (!a.n || !strcmp(a.v[0], "--help") || !strcmp(a.v[0], "-h")))
		code = cmd_help(&c, NULL, &(struct args){ 0, a.v, 0 });
	else if (!code)
		code = run(&c, &a);
	target_fini(&c);
	return code;
}
