#include <stdio.h>
#include <string.h>
#include "command.h"
#include "mem.h"
#include "short.h"
#include "value.h"

const struct command commands[] = {
	{ "ls", "[PATTERN]", "list VMs", vm_ls, "vm_list", true },
	{ "info", "VM...", "show all of a VM: what is wanted, what is, and why", vm_info, "vm_get", true },
	{ "create", "NAME [KEY=VALUE...] [--start]", "create a VM", vm_create, "vm_create", true, .more =
	  "  vmctl create web cpus=2 memory=1GiB disk=20GiB cdrom='[local] debian.iso'\n"
	  "  vmctl create db image='[local] debian.qcow2' disk=40GiB forward=2222:22 --start" },
	{ "run", "NAME [KEY=VALUE...] [--detach]", "create a VM, start it, and open its console", vm_run, "vm_create", true },
	{ "start", "VM...", "power on", vm_power, "vm_start", true },
	{ "shutdown", "VM... [timeout=SECONDS]", "ask the guest to shut down, and wait until it has", vm_power, "vm_shutdown", true },
	{ "reboot", "VM... [timeout=SECONDS]", "ask the guest to shut down, and start it again", vm_power, "vm_reboot" },
	{ "reset", "VM...", "reset the machine at once", vm_power, "vm_reset" },
	{ "poweroff", "VM...", "power off at once, as by pulling the plug", vm_power, "vm_poweroff" },
	{ "pause", "VM...", "stop the guest's CPUs", vm_power, "vm_pause" },
	{ "resume", "VM...", "let a paused guest go on", vm_power, "vm_resume" },
	{ "suspend", "VM...", "save the guest's memory to disk and end it; start goes on from there", vm_power, "vm_suspend" },
	{ "discard", "VM...", "throw the saved memory of a suspended VM away: it is off then", vm_power, "vm_discard" },
	{ "answer", "VM retry|poweroff", "answer the question of a VM whose disk is full or failing", vm_answer, "vm_answer" },
	{ "freeze", "VM... [timeout=SECONDS]", "freeze the guests' file systems, for a minute at most", vm_power, "vm_freeze" },
	{ "thaw", "VM...", "thaw them again", vm_power, "vm_thaw" },
	{ "set-time", "VM...", "set the guests' clocks to the host's", vm_power, "vm_set_time" },
	{ "set", "VM KEY=VALUE...", "change a VM; KEY=null sets a key back or removes an entry", vm_set, "vm_set", true, .more =
	  "  vmctl set web memory=4GiB cpus=4\n"
	  "  vmctl set web disks.data.limits.write_iops=500 cdroms.cd0.iso=null labels.env=prod" },
	{ "rm", "VM... [--force]", "delete VMs that are off, with their disks; --force powers them off", vm_rm, "vm_delete", true },
	{ "console", "VM", "open the serial console; Ctrl-] leaves it", vm_console, "console_create", true },
	{ "wait", "VM [--for STATE,...]", "wait until the VM is in a state: off, running, ...", vm_wait, NULL },
	{ "events", "[--follow] [--kinds vm.*,task.*] [--after N] [--limit N]", "show what happened; --follow: what happens",
	  cmd_events, NULL, true },
	{ "host", "", "show this host and what it can do, with reasons", cmd_host, "host_get" },
	{ "doctor", "[--deep]", "examine this host: what is not as it should be, and what mends it", cmd_doctor, "host_doctor",
	  .offline = true, .more = "  exits with 1 when there are errors; --deep reads the whole database, too" },
	{ "usb", "", "list the USB devices that are plugged into this host, and which VM has which", cmd_usb, "host_usb_list", .more =
	  "  vmctl set web usb.stick.vendor=0951 usb.stick.product=1666\n"
	  "  vmctl set web usb.modem.port=1-1.2 usb.stick=null" },
	{ "login", "[USER] [--token]", "log in at another host: vmctl login --host https://HOST:PORT", cmd_login, NULL },
	{ "logout", "", "log out there, and forget its token", cmd_logout, NULL },
	{ "whoami", "", "show who you are there, and what you may do", cmd_whoami, "session_get" },
	{ "backup-config", "FILE", "keep users and VMs of this host in a file; disks stay where they are", cmd_backup, "config_backup" },
	{ "restore-config", "FILE", "bring users and VMs of such a file to this host", cmd_restore, "config_restore" },
	{ "api", "[METHOD] PATH [--data JSON|@FILE|-] [--file FILE]", "send a request of your own", cmd_api, NULL },
	{ "completion", "bash|zsh|fish", "print what makes the shell complete vmctl's words", cmd_completion, NULL, .offline = true },
	{ "help", "[COMMAND | fields NAME | exit-codes]", "explain a command", cmd_help, NULL, .offline = true },
	{ "__man", NULL, NULL, cmd_man, NULL, .offline = true },
	{ "__complete", NULL, NULL, cmd_complete, NULL, .offline = true },
	{ 0 }
};

const char help_options[] =
	"  --host https://HOST:PORT  another host than this one (CROFT_HOST)\n"
	"  --socket PATH             croftd's socket; else CROFT_HOME, ./run, /run/croft are looked at\n"
	"  --fingerprint SHA256      of the other host's certificate, instead of being asked\n"
	"  -o, --output FORMAT       table, json, jsonl or name\n"
	"  --columns A,B.C           columns of a table, --no-headers without the first line, --bytes plain sizes\n"
	"  --no-wait                 print the task instead of waiting for its end; --timeout SECONDS: wait no longer\n"
	"  -y, --yes                 don't ask before something is deleted\n";

const struct command *command_find(const char *name)
{
	for (const struct command *cmd = commands; cmd->name; cmd++)
		if (!strcmp(cmd->name, name))
			return cmd;
	return NULL;
}

int command_rest(const struct command *cmd, const struct args *a, int least, int most)
{
	const char *unknown = args_unknown(a);

	if (unknown) {
		ctl_usage("%s knows no %s", cmd->name, unknown);
		say_hint("vmctl help %s", cmd->name);
		return CTL_USAGE;
	}
	if (a->n >= least && (most < 0 || a->n <= most))
		return CTL_OK;
	if (a->n < least)
		ctl_usage("%s wants more words: vmctl %s %s", cmd->name, cmd->name, cmd->usage);
	else
		ctl_usage("\"%s\" is one word too many: vmctl %s %s", a->v[most], cmd->name, cmd->usage);
	return CTL_USAGE;
}

void help_short(void)
{
	printf("vmctl: the VMs of this host, or of another one\n\n");
	for (const struct command *cmd = commands; cmd->name; cmd++)
		if (cmd->everyday)
			printf("  vmctl %-9s %s\n", cmd->name, cmd->help);
	printf("\nvmctl help shows all commands and options, vmctl help COMMAND explains one.\n");
}

static void help_all(void)
{
	printf("vmctl COMMAND [WORDS...] [OPTIONS]\n\n");
	for (const struct command *cmd = commands; cmd->name; cmd++)
		if (cmd->help)
			printf("  %-11s %s\n", cmd->name, cmd->help);
	printf("\nand, straight from the API (vmctl help NOUN shows the verbs):\n\n ");
	for (size_t i = 0; command_nouns[i]; i++)
		if (noun_op(command_nouns[i], "list") || noun_op(command_nouns[i], "create") || noun_op(command_nouns[i], "get"))
			printf(" %s", command_nouns[i]);
	printf("\n\nOptions, anywhere:\n%s", help_options);
}

static void print_key(void *arg, const char *key, const struct api_field *f)
{
	printf("  %-26s %s", key, f->help ? f->help : "");
	for (size_t i = 0; f->names && f->names[i]; i++)
		printf("%s%s", i ? ", " : " (", f->names[i]);
	printf("%s%s%s\n", f->names ? ")" : "", f->def ? "; default " : "", f->def ? f->def : "");
}

static void print_keys(const struct api_op *op)
{
	if (!op || !op->in)
		return;
	printf("\nKEY=VALUE, or --KEY VALUE:\n");
	if (api_field(op->in, "config", 6)) {
		for (const struct short_key *k = short_keys; k->name; k++)
			if (short_fits(k, op))
				printf("  %-26s %s\n", k->name, k->help);
		printf("\n");
	}
	value_keys(op->in, !(op->flags & API_PATCH), print_key, NULL);
}

static void print_query(const struct api_op *op)
{
	bool any = false;

	for (const struct api_param *p = op ? op->query : NULL; p && p->name; p++) {
		printf("%s  --%-24s %s\n", any ? "" : "\nOptions:\n", p->name, p->help ? p->help : "");
		any = true;
	}
}

void help_command(const struct command *cmd)
{
	const struct api_op *op = cmd->op ? api_op(cmd->op) : NULL;

	printf("vmctl %s %s\n\n  %s\n", cmd->name, cmd->usage, cmd->help);
	if (op && strcmp(op->permission, "none") && strcmp(op->permission, "login"))
		printf("  It needs the permission %s.\n", op->permission);
	if (cmd->more)
		printf("\n%s\n", cmd->more);
	print_query(cmd->fn == vm_ls ? op : NULL);
	print_keys(cmd->fn == vm_console || cmd->fn == cmd_restore ? NULL : op);
}

static int help_noun(const char *noun)
{
	size_t n = strlen(noun);
	bool any = false;

	for (const struct api_op *op = NULL; (op = api_op_next(op)); ) {
		if (strncmp(op->id, noun, n) || op->id[n] != '_' || op->flags & API_SOCKET)
			continue;
		printf("vmctl %s %s", noun, op->id + n + 1);
		for (const struct api_param *p = op->params; p->name; p++)
			printf(" %s", p->name);
		printf("\n  %s\n", op->help);
		print_query(op);
		print_keys(op);
		printf("\n");
		any = true;
	}
	if (any && !strcmp(noun, "task"))
		printf("vmctl task wait task\n  wait for its end\n");
	return any ? CTL_OK : CTL_USAGE;
}

static int help_fields(const char *name)
{
	for (const struct api_op *op = NULL; (op = api_op_next(op)); ) {
		if (!op->in || strcmp(op->in->name, name))
			continue;
		print_keys(op);
		return CTL_OK;
	}
	return ctl_usage("there are no fields \"%s\"", name);
}

int cmd_help(struct ctl *c, const struct command *self, struct args *a)
{
	const struct command *cmd = a->n ? command_find(a->v[0]) : NULL;

	if (!a->n) {
		help_all();
		return CTL_OK;
	}
	if (!strcmp(a->v[0], "exit-codes")) {
		for (int i = 0; i < CTL_NEXIT; i++)
			printf("  %d  %s\n", i, ctl_exit_help[i]);
		return CTL_OK;
	}
	if (!strcmp(a->v[0], "fields"))
		return a->n > 1 ? help_fields(a->v[1]) : ctl_usage("vmctl help fields NAME");
	if (cmd && cmd->help) {
		help_command(cmd);
		return CTL_OK;
	}
	for (size_t i = 0; command_nouns[i]; i++)
		if (!strcmp(command_nouns[i], a->v[0]) && !help_noun(a->v[0]))
			return CTL_OK;
	return ctl_usage("there is no command \"%s\"; vmctl help lists them", a->v[0]);
}
