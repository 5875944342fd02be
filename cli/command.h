/* command.h: the table of vmctl's commands. */
#pragma once
#include "api.h"
#include "args.h"
#include "vmctl.h"

struct command {
	const char *name, *usage, *help;
	int (*fn)(struct ctl *c, const struct command *cmd, struct args *a);
	const char *op;			/* the operation behind it; its fields and options are shown by help */
	bool everyday;			/* one of the ten that matter */
	bool offline;			/* needs no croftd */
	const char *more;		/* further lines of help, or NULL */
};
extern const struct command commands[];		/* ends with a NULL name */
const struct command *command_find(const char *name);
/* Commands like `vmctl user create`: a noun of the API's operationIds. NULL-terminated list of nouns. */
extern const char *const command_nouns[];
int noun_run(struct ctl *c, const char *noun, struct args *a);
/* The operation for what a person calls it: ("user", "ls") -> user_list. */
const struct api_op *noun_op(const char *noun, const char *verb);

int vm_ls(struct ctl *c, const struct command *cmd, struct args *a);
int vm_info(struct ctl *c, const struct command *cmd, struct args *a);
int vm_create(struct ctl *c, const struct command *cmd, struct args *a);
int vm_run(struct ctl *c, const struct command *cmd, struct args *a);
int vm_power(struct ctl *c, const struct command *cmd, struct args *a);
int vm_answer(struct ctl *c, const struct command *cmd, struct args *a);
int vm_set(struct ctl *c, const struct command *cmd, struct args *a);
void say_pending(const json_t *vm);		/* cmd_vm.c: what of it waits for the next start, on stderr */
int vm_rm(struct ctl *c, const struct command *cmd, struct args *a);
int vm_wait(struct ctl *c, const struct command *cmd, struct args *a);
int vm_console(struct ctl *c, const struct command *cmd, struct args *a);
int console_open(struct ctl *c, const char *vm);		/* console.c */
int cmd_events(struct ctl *c, const struct command *cmd, struct args *a);
int cmd_login(struct ctl *c, const struct command *cmd, struct args *a);
int cmd_logout(struct ctl *c, const struct command *cmd, struct args *a);
int cmd_whoami(struct ctl *c, const struct command *cmd, struct args *a);
int cmd_host(struct ctl *c, const struct command *cmd, struct args *a);
int cmd_doctor(struct ctl *c, const struct command *cmd, struct args *a);	/* cmd_doctor.c */
int cmd_usb(struct ctl *c, const struct command *cmd, struct args *a);
int cmd_api(struct ctl *c, const struct command *cmd, struct args *a);
int cmd_backup(struct ctl *c, const struct command *cmd, struct args *a);
int cmd_restore(struct ctl *c, const struct command *cmd, struct args *a);
int cmd_man(struct ctl *c, const struct command *cmd, struct args *a);
int cmd_help(struct ctl *c, const struct command *cmd, struct args *a);
int cmd_completion(struct ctl *c, const struct command *cmd, struct args *a);
int cmd_complete(struct ctl *c, const struct command *cmd, struct args *a);
int file_transfer(struct ctl *c, const struct api_op *op, struct args *a);	/* transfer.c */
int task_wait(struct ctl *c, struct args *a);
int task_cancel(struct ctl *c, struct args *a);

/* Refuse options and words that nobody took: 0 or CTL_USAGE. @least..@most words are wanted (-1: any number). */
int command_rest(const struct command *cmd, const struct args *a, int least, int most);
/* Take the query parameters of @op from the options: "--limit 5". Caller frees; CTL_USAGE by *ret_code. */
char *command_query(const struct api_op *op, struct args *a, int *ret_code);
void command_options(const struct api_op *op, struct args *a);	/* "--memory 1GiB" is "memory=1GiB", too */
/* KEY=VALUE words (and what short.c makes of them) from the @from-th on into @body. 0, or CTL_USAGE with the reason said. */
int command_body(const struct api_op *op, const struct args *a, int from, json_t *body);
extern const char help_options[];	/* the global ones, a line each */
void help_short(void);			/* what `vmctl` alone shows */
void help_command(const struct command *cmd);
