/* man.c: vmctl(1), from the same tables as the help: `vmctl __man >vmctl.1`. */
#include <stdio.h>
#include <string.h>
#include "command.h"
#include "version.h"

/* Text for roff: no line begins with a dot or a quote, backslashes and hyphens are themselves. */
static void roff(const char *s)
{
	bool start = true;

	for (; *s; s++) {
		if (start && (*s == '.' || *s == '\''))
			printf("\\&");
		if (*s == '\\')
			printf("\\e");
		else if (*s == '-')
			printf("\\-");
		else
			putchar(*s);
		start = *s == '\n';
	}
}

static void term(const char *name, const char *usage, const char *help)
{
	printf(".TP\n.B ");
	roff(name);
	if (usage && *usage) {
		printf("\\fR ");
		roff(usage);
	}
	printf("\n");
	roff(help);
	printf("\n");
}

int cmd_man(struct ctl *c, const struct command *self, struct args *a)
{
	char code[12];

	printf(".TH VMCTL 1 \"\" \"Croft " CROFT_VERSION "\" \"Croft\"\n.SH NAME\nvmctl \\- the VMs of this host, or of another one\n");
	printf(".SH SYNOPSIS\n.B vmctl\nCOMMAND [WORDS...] [OPTIONS]\n.SH COMMANDS\n");
	for (const struct command *cmd = commands; cmd->name; cmd++) {
		if (!cmd->help)
			continue;
		term(cmd->name, cmd->usage, cmd->help);
		if (cmd->more) {
			printf(".IP\n.nf\n");
			roff(cmd->more);
			printf("\n.fi\n");
		}
	}
	printf(".SH MORE COMMANDS\nStraight from the API: vmctl NOUN VERB [WORDS...] [KEY=VALUE...]\n");
	for (size_t i = 0; command_nouns[i]; i++)
		for (const struct api_op *op = NULL; (op = api_op_next(op)); ) {
			size_t n = strlen(command_nouns[i]);

			if (!strncmp(op->id, command_nouns[i], n) && op->id[n] == '_')
				term(command_nouns[i], op->id + n + 1, op->help);
		}
	printf(".SH OPTIONS\n.nf\n");
	roff(help_options);
	printf(".fi\n.SH EXIT STATUS\n");
	for (int i = 0; i < CTL_NEXIT; i++) {
		snprintf(code, sizeof(code), "%d", i);
		term(code, NULL, ctl_exit_help[i]);
	}
	printf(".SH FILES\n");
	term("~/.config/croft/hosts.json", NULL, "other hosts: the fingerprints of their certificates, and tokens");
	term("CROFT_HOME/croft.sock, ./run/croft.sock, /run/croft/croft.sock", NULL, "where croftd is looked for");
	printf(".SH ENVIRONMENT\n");
	term("CROFT_HOME, CROFT_HOST, CROFT_TOKEN", NULL, "the home of a croftd, another host, a token for it");
	return fflush(stdout) ? CTL_FAILED : CTL_OK;
}
