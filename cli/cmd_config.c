/* cmd_config.c: backup-config, restore-config. The document holds password hashes, so its file is the owner's alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "call.h"
#include "command.h"
#include "fields.h"
#include "file.h"
#include "mem.h"
#include "out.h"

#define CONFIG_MAX	(64u << 20)

int cmd_backup(struct ctl *c, const struct command *cmd, struct args *a)
{
	struct call k = { .op = "config_backup" };
	int code = command_rest(cmd, a, 1, 1), r;
	AUTO_FREE char *text = NULL;
	struct err e = { 0 };

	if (!code)
		code = call(c, &k);
	if (code)
		return code;
	text = json_dumps(k.ret, JSON_INDENT(1));
	if (!strcmp(a->v[0], "-")) {
		puts(text);
	} else if ((r = file_publish_at(AT_FDCWD, a->v[0], text, strlen(text), 0600)) < 0) {
		fail_errno(&e, r, "write %s", a->v[0]);
		code = ctl_fail(&e);
	} else if (c->output == OUT_TABLE) {
		fprintf(stderr, "%s keeps %zu users and %zu VMs. It holds password hashes: keep it as you keep keys.\n", a->v[0],
			json_array_size(json_object_get(k.ret, "users")), json_array_size(json_object_get(k.ret, "vms")));
	}
	json_decref(k.ret);
	return code;
}

int cmd_restore(struct ctl *c, const struct command *cmd, struct args *a)
{
	struct call k = { .op = "config_restore" };
	int code = command_rest(cmd, a, 1, 1), r;
	AUTO_FREE char *text = NULL;
	struct err e = { 0 };
	size_t n;

	if (code)
		return code;
	r = !strcmp(a->v[0], "-") ? file_read_fd(STDIN_FILENO, CONFIG_MAX, &text, &n)
				  : file_read_at(AT_FDCWD, a->v[0], CONFIG_MAX, &text, &n);
	if (r < 0)
		fail_errno(&e, r, "read %s", a->v[0]);
	else if (!(k.body = json_parse(text, n, CONFIG_MAX, &e)))
		err_hint(&e, "it should be what vmctl backup-config has written");
	if (!k.body)
		return ctl_fail(&e);
	code = call(c, &k);
	if (!code)
		code = out_object(c, k.ret, NULL);
	json_decref(k.ret);
	return code;
}
