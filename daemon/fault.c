#include "fault.h"
#ifdef CROFT_FAULTS
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "file.h"
#include "fronts.h"
#include "inventory.h"
#include "mem.h"
#include "run.h"
#include "task.h"
#include "task_rows.h"

static void say(const char *line)
{
	int fd = getenv("CROFT_FAULT_LOG") ? open(getenv("CROFT_FAULT_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;

	if (fd >= 0)
		dprintf(fd, "%s\n", line);
	close_at(&fd);
}

void fault_table(void)
{
	static const char *const recovery[] = { [STEP_REDO] = "redo", [STEP_UNDO] = "undo", [STEP_INTERRUPT] = "interrupt" };

	for (const struct task_kind *const *k = task_kinds; *k; k++)
		for (unsigned i = 0; (*k)->steps[i].name; i++) {
			AUTO_FREE char *row = xasprintf("step %s:%u %s", (*k)->name, i, recovery[(*k)->steps[i].recovery]);

			say(row);
		}
}

static bool wanted(const char *variable, const char *at)
{
	return getenv(variable) && strcmp(getenv(variable), at) == 0;
}

/* What the run folder says: the keeper's word on it may be older. */
static pid_t shim_of(const struct task *t)
{
	struct run_folder r;
	pid_t pid = 0;

	if (run_read(inventory_run_fd(t->c->inv), t->target, &r, NULL) < 0)
		return 0;
	if (r.state == RUN_RUNNING)
		pid = r.proc.shim;
	run_folder_fini(&r);
	return pid;
}

/* The file is made anew for each kill, while croftd runs. */
static void obey(const struct task *t, const char *at)
{
	const char *order = getenv("CROFT_KILL_ORDER");
	AUTO_FREE char *text = NULL;
	char *point;

	if (!order || file_read_at(AT_FDCWD, order, 256, &text, NULL) < 0 || !(point = strchr(text, ' ')) || strcmp(point + 1, at))
		return;
	unlink(order);
	pid_t pid = strncmp(text, "front", 5) == 0 ? fronts_pid(t->c->fronts, true) : shim_of(t);
	AUTO_FREE char *told = xasprintf("killed %d", (int)pid);

	if (pid > 0)
		kill(pid, SIGKILL);
	say(told);
}

bool fault_at(const struct task *t, const char *where)
{
	AUTO_FREE char *at = xasprintf("%s:%u:%s", t->kind->name, t->step, where);

	say(at);
	if (wanted("CROFT_DIE_AT", at))
		kill(getpid(), SIGKILL);
	obey(t, at);
	if (wanted("CROFT_CANCEL_AT", at)) {
		struct err e = {};
		struct task *open = task_find(t->c, t->id);

		say(!open || task_cancel(open, "a test", NULL, &e) < 0 ? "not cancelled" : "cancelled");
	}
	return wanted("CROFT_FAIL_AT", at);
}
#endif
