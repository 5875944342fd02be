/* cmd_doctor.c: `vmctl doctor`: what is not as it should be at a host, and how to mend it. Where croftd does not answer
 * it is what is looked at: its lock, its unit, its last words. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "call.h"
#include "command.h"
#include "mem.h"
#include "out.h"
#include "target.h"

#define PATIENCE_S	20	/* an examination ends after 10 s, whatever does not answer */

static const char *text_of(json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "";
}

static long long count_of(json_t *j, const char *key) { return (long long)json_integer_value(json_object_get(j, key)); }

static void show(json_t *finding)
{
	printf("%-8s ", text_of(finding, "severity"));
	out_plain(text_of(finding, "text"), stdout);
	printf("  [%s]\n", text_of(finding, "what"));
	if (*text_of(finding, "hint")) {
		printf("         ");
		out_plain(text_of(finding, "hint"), stdout);
		printf("\n");
	}
}

static int show_all(struct ctl *c, json_t *answer, const struct api_schema *s)
{
	json_t *findings = json_object_get(answer, "findings"), *finding;
	size_t i;

	if (c->output != OUT_TABLE)
		return c->output == OUT_JSON ? out_object(c, answer, s) : out_list(c, findings, NULL);
	json_array_foreach(findings, i, finding)
		show(finding);
	if (!json_array_size(findings))
		printf("nothing found, %lld things looked at\n", count_of(answer, "looked_at"));
	else
		printf("%lld errors, %lld warnings, %lld notes; %lld things looked at\n", count_of(answer, "errors"),
		       count_of(answer, "warnings"), count_of(answer, "notes"), count_of(answer, "looked_at"));
	return fflush(stdout) ? CTL_FAILED : CTL_OK;
}

/* croftd holds a lock on HOME/lock as long as it lives: one that is held and does not answer hangs. */
static void look_at_croftd(const struct ctl *c)
{
	AUTO_FREE char *home = xstrndup(c->where, strrchr(c->where, '/') ? (size_t)(strrchr(c->where, '/') - c->where) : 0);
	bool installed = !strcmp(home, "/run/croft");
	AUTO_FREE char *lock = xasprintf("%s/lock", installed ? "/var/lib/croft" : home);
	AUTO_CLOSE int fd = open(lock, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	bool held = fd >= 0 && fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;

	if (fd < 0 && errno == EACCES)
		say_hint("as root, vmctl doctor can say more");
	else if (held)
		say_hint("croftd runs (it holds %s) and does not answer: it hangs, or has too much to do; VMs run on whatever it does",
			 lock);
	else
		say_hint("croftd does not run; VMs that ran run on without it, and it finds them again when it starts");
	say_hint("what it said: %s", installed ? "journalctl -u croftd -n 50" : "the terminal of make run");
	say_hint("start it again: %s", installed ? "systemctl restart croftd" : "make run");
}

int cmd_doctor(struct ctl *c, const struct command *cmd, struct args *a)
{
	bool deep = args_flag(a, "--deep", NULL);
	struct call k = { .op = "host_doctor", .query = deep ? "deep=true" : NULL, .patience_s = c->timeout_s ?: PATIENCE_S };
	int code = command_rest(cmd, a, 0, 0);

	if (code)
		return code;
	code = target_find(c);
	if (!code)
		code = call(c, &k);
	if (!code)
		code = show_all(c, k.ret, api_op(k.op)->out);
	if (!code && count_of(k.ret, "errors"))
		code = CTL_FAILED;
	if ((code == CTL_CONNECT || code == CTL_TIMEOUT) && c->where && !target_is_remote(c))
		look_at_croftd(c);
	json_decref(k.ret);
	return code;
}
