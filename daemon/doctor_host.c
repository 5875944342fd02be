/* doctor_host.c: what the doctor sees of the machine: processes under our uids, run folders, interfaces, the clock. Read
 * in a lane, compared with the rows in the loop. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "child.h"
#include "db.h"
#include "doctor.h"
#include "file.h"
#include "lane.h"
#include "mem.h"
#include "run.h"
#include "text.h"

#define HOUR_USEC	(3600 * 1000000ll)

struct seen_process { pid_t pid; uint32_t uid; uint64_t start_time; char name[16]; const struct machine *vm; };
struct seen_folder { char uuid[37], name[64]; enum run_state state; pid_t pid, shim; char why[256]; };
struct looking {
	struct job job;
	struct exam_part *part;
	int run_fd;
	uint32_t uid_first, uid_count, shim_uid;
	struct field_vec processes, folders, taps;	/* of seen_process, seen_folder, char * */
	int64_t built_usec;		/* croftd's own file */
	char *home;
	bool read_only;
	struct err err;
};

/* ---- in the lane */

static void look_at_process(struct looking *l, pid_t pid)
{
	AUTO_FREE char *text = NULL;
	struct seen_process p = { .pid = pid };
	unsigned long long uid;
	char path[40];

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	if (file_read_at(AT_FDCWD, path, 65536, &text, NULL) < 0)
		return;
	const char *line = strstr(text, "\nUid:");

	if (!line || sscanf(line, "\nUid: %llu", &uid) != 1 || strstr(text, "\nState:\tZ"))
		return;
	p.uid = (uint32_t)uid;
	if (p.uid - l->uid_first >= l->uid_count && p.uid != l->shim_uid)
		return;
	if (sscanf(text, "Name: %15[^\n]", p.name) != 1)
		snprintf(p.name, sizeof p.name, "?");
	for (char *c = p.name; *c; c++)		/* its own choice */
		if (*c < ' ' || *c > '~')
			*c = '?';
	p.start_time = proc_start_time(pid);
	*(struct seen_process *)field_vec_add(&l->processes, sizeof p) = p;
}

static void each_entry(const char *folder, void (*fn)(struct looking *l, const char *name), struct looking *l)
{
	DIR *d = opendir(folder);

	for (struct dirent *at; d && (at = readdir(d)); )
		fn(l, at->d_name);
	if (d)
		closedir(d);
}

static void on_proc(struct looking *l, const char *name)
{
	uint64_t pid;

	if (text_u64(name, &pid) == 0)
		look_at_process(l, (pid_t)pid);
}

static void on_net(struct looking *l, const char *name)
{
	AUTO_FREE char *flags = xasprintf("/sys/class/net/%s/tun_flags", name);

	if (strncmp(name, "croft", 5) == 0 && access(flags, F_OK) == 0)
		*(char **)field_vec_add(&l->taps, sizeof(char *)) = xstrdup(name);
}

static void on_folder(void *arg, const struct run_folder *r)
{
	struct looking *l = arg;
	struct seen_folder *f = field_vec_add(&l->folders, sizeof *f);

	*f = (struct seen_folder){ .state = r->state, .pid = r->proc.pid, .shim = r->proc.shim };
	memcpy(f->uuid, r->uuid, sizeof f->uuid);
	snprintf(f->why, sizeof f->why, "%.255s", r->why.msg);
	for (char **a = r->argv; a && *a && a[1]; a++)
		if (strcmp(*a, "-name") == 0 && strncmp(a[1], "guest=", 6) == 0)
			snprintf(f->name, sizeof f->name, "%.*s", (int)strcspn(a[1] + 6, ","), a[1] + 6);
}

/* The processes first: what has ended since is not there any more when it is looked at again. */
static int look_work(struct job *j, struct err *e)
{
	struct looking *l = (struct looking *)j;
	struct stat st;

	each_entry("/proc", on_proc, l);
	each_entry("/sys/class/net", on_net, l);
	l->read_only = file_try(l->home) == -EROFS;
	if (stat("/proc/self/exe", &st) == 0)
		l->built_usec = st.st_mtim.tv_sec * 1000000ll;
	return run_scan(l->run_fd, on_folder, l, e);
}

/* ---- in the loop */

static bool still_there(const struct seen_process *p) { return p->start_time && proc_start_time(p->pid) == p->start_time; }

static int by_uid(const void *a, const void *b)
{
	uint32_t u = ((const struct seen_process *)a)->uid, v = ((const struct seen_process *)b)->uid;

	return u < v ? -1 : u > v;
}

/* Which row has this uid? And is a VM between two states, so that its croft-vm may stand in no folder yet? */
static bool match_rows(const struct croft *c, struct looking *l)
{
	bool between = false;

	if (l->processes.n)
		qsort(l->processes.items, l->processes.n, sizeof(struct seen_process), by_uid);
	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		const struct machine *m = inventory_at(c->inv, i);
		enum vm_state s = m->vm ? vm_state(m->vm) : VM_OFF;
		struct seen_process key = { .uid = m->uid }, *found;

		between = between || s == VM_STARTING || s == VM_ATTACHING || s == VM_ENDING || s == VM_LOST || m->task;
		found = l->processes.n ? bsearch(&key, l->processes.items, l->processes.n, sizeof key, by_uid) : NULL;
		if (found)
			found->vm = m;
	}
	return between;
}

static const struct seen_folder *folder_of(const struct looking *l, pid_t pid)
{
	const struct seen_folder *f = l->folders.items;

	for (size_t i = 0; i < l->folders.n; i++)
		if (f[i].state == RUN_RUNNING && (f[i].pid == pid || f[i].shim == pid))
			return &f[i];
	return NULL;
}

static void tell_process(struct exam *x, const struct looking *l, const struct seen_process *p, bool between)
{
	const struct croft *c = exam_croft(x);
	bool shim = p->uid == l->shim_uid;
	AUTO_FREE char *hint = xasprintf("kill %d", (int)p->pid), *object = xasprintf("process %d", (int)p->pid);
	struct vm_status st = {};

	if ((!shim && p->uid - c->uid_base < 16) || folder_of(l, p->pid) || !still_there(p))
		return;		/* a front; or its folder tells of it */
	if (shim && !between)
		exam_find(x, SEVERITY_WARNING, "keeper-without-vm", object, hint, "the process %d (%s) keeps no guest that is known",
			  (int)p->pid, p->name);
	if (shim)
		return;
	if (p->vm && p->vm->vm)
		vm_status(p->vm->vm, &st);
	if (!p->vm)
		exam_find(x, SEVERITY_ERROR, "guest-without-vm", object, hint,
			  "the process %d (%s) runs as a guest's user %u, and no VM has it", (int)p->pid, p->name, p->uid);
	else if (!p->vm->task && !vm_state_alive(st.state) && st.since_usec < exam_began(x))
		exam_find(x, SEVERITY_ERROR, "guest-of-vm-that-is-off", p->vm->name, hint,
			  "the process %d (%s) runs as the user of %s, which is off", (int)p->pid, p->name, p->vm->name);
}

static void tell_folder(struct exam *x, const struct seen_folder *f)
{
	const struct croft *c = exam_croft(x);
	const struct machine *m = inventory_get(c->inv, f->uuid);
	AUTO_FREE char *path = xasprintf("%s/vm/%s", c->run, f->uuid), *quoted = shell_quote(path);
	AUTO_FREE char *rm = xasprintf("rm -r %s", quoted), *end = xasprintf("kill %d", (int)f->pid);

	if (f->state == RUN_UNKNOWN)
		exam_find(x, SEVERITY_WARNING, "run-folder-unreadable", f->uuid, NULL, "%s cannot be read: %s", path, f->why);
	else if (f->state == RUN_RUNNING && (!m || !m->vm))
		exam_find(x, SEVERITY_ERROR, "guest-without-vm", f->uuid, f->pid ? end : NULL,
			  "the guest %s (%s) runs as process %d, and %s",
			  *f->name ? f->name : "?", f->uuid, (int)f->pid, m ? m->invalid : "the database has no VM with its UUID");
	else if (f->state != RUN_RUNNING && !m)
		exam_find(x, SEVERITY_NOTE, "run-folder-left", f->uuid, rm, "%s is left of a VM that is no more", path);
}

static void tell(struct exam *x, struct looking *l)
{
	const struct croft *c = exam_croft(x);
	bool between = match_rows(c, l);

	for (size_t i = 0; i < l->folders.n; i++)
		tell_folder(x, &((struct seen_folder *)l->folders.items)[i]);
	for (size_t i = 0; i < l->processes.n; i++)
		tell_process(x, l, &((struct seen_process *)l->processes.items)[i], between);
	for (size_t i = 0; i < l->taps.n; i++) {
		const char *name = ((char **)l->taps.items)[i];
		AUTO_FREE char *quoted = shell_quote(name), *rm = xasprintf("ip link delete %s", quoted);

		exam_find(x, SEVERITY_WARNING, "tap-without-vm", name, rm, "the interface %s has a name of ours, and no VM uses it", name);
	}
	if (l->built_usec > now_usec() + HOUR_USEC)
		exam_find(x, SEVERITY_ERROR, "clock-wrong", NULL, "timedatectl set-ntp true",
			  "the clock of this host is behind the day when croftd was built: certificates and times are wrong");
	if (l->read_only && !c->frozen.code)	/* else it was told when croftd started */
		exam_find(x, SEVERITY_ERROR, "home-read-only", NULL, "journalctl -k",
			  "the home %s has become read-only: VMs that run go on, and nothing can be changed; " DB_READ_ONLY_HINT, c->home);
	exam_looked(x, l->folders.n + l->processes.n + l->taps.n + 2);
}

static void look_done(struct job *j, const struct err *e)
{
	struct looking *l = (struct looking *)j;
	struct exam_part *part = l->part;
	struct exam *x = exam_of(part);

	if (e)
		exam_find(x, SEVERITY_ERROR, "run-folders-unreadable", NULL, NULL, "%s", e->msg);
	if (!exam_over(x) && !exam_croft(x)->stopping)
		tell(x, l);
	for (size_t i = 0; i < l->taps.n; i++)
		free(((char **)l->taps.items)[i]);
	free(l->processes.items);
	free(l->folders.items);
	free(l->taps.items);
	free(l->home);
	free(l);
	exam_part_end(part);
}

void doctor_host(struct exam *x)
{
	struct croft *c = exam_croft(x);
	struct looking *l = xnew(looking);

	if (!c->doctor_lane)
		c->doctor_lane = lane_new(c->ev, "doctor", 1, 16);
	l->part = exam_part(x, xstrdup("the host's processes"));
	l->run_fd = inventory_run_fd(c->inv);
	l->uid_first = c->uid_base;
	l->uid_count = c->uid_count;
	l->shim_uid = c->shim_uid;
	l->home = xstrdup(c->home);
	lane_run(c->doctor_lane, &l->job, look_work, look_done);
}
