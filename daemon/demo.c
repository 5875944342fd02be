#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>
#include "demo.h"
#include "file.h"
#include "log.h"
#include "mem.h"
#include "req.h"
#include "settings.h"
#include "stores.h"

#define FILE_MAX	(512u << 20)
static const char *const files[] = { "vmlinuz", "initrd.gz", "cmdline" };

static int copy(int from, int to, const char *name, struct err *e)
{
	AUTO_FREE char *data = NULL;
	size_t n;
	int r = file_read_at(from, name, FILE_MAX, &data, &n);

	if (r == 0)
		r = file_publish_at(to, name, data, n, 0600);
	return r < 0 ? fail_errno(e, r, "copy the demo guest's %s", name) : 0;
}

/* in the datastore's bulk lane */
struct copying {
	struct job job;
	struct croft *c;
	int dirfd;		/* of the datastore, which waits for its lanes before it goes */
	char *command_line;
};

static int copy_work(struct job *j, struct err *e)
{
	struct copying *cp = (struct copying *)j;
	AUTO_CLOSE int from = open(cp->c->opt.demo, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int to = file_open_dir(cp->dirfd, "demo-guest", true, 0700);
	size_t n;
	int r = 0;

	if (from < 0)
		return fail_errno(e, ENOENT, "open the demo guest's folder %s", cp->c->opt.demo);
	if (to < 0)
		return fail_errno(e, to, "make the folder demo-guest on the datastore");
	for (size_t i = 0; r == 0 && i < COUNT(files); i++)
		r = copy(from, to, files[i], e);
	if (r == 0 && (r = file_read_at(to, "cmdline", 4096, &cp->command_line, &n)) < 0)
		fail_errno(e, r, "read the demo guest's command line");
	return r;
}

static void created(struct req *r, int status, const char *body, size_t n, void *arg)
{
	if (status == 201)
		log_note("the VM demo was created; vmctl console demo shows it boot");
	else
		log_error("the VM demo cannot be created: %.*s", (int)n, body);
}

static void make(struct croft *c, const char *command_line)
{
	const char *ds = stores_at(c, 0)->ds->name;
	AUTO_FREE char *image = xasprintf("[%s] demo-guest/vmlinuz", ds), *initrd = xasprintf("[%s] demo-guest/initrd.gz", ds);
	AUTO_FREE char *line = xstrndup(command_line, strcspn(command_line, "\n"));
	json_t *config = json_pack("{s:s, s:I, s:s, s:s, s:s, s:{s:s, s:s, s:s}, s:{s:{s:s}}}",
				   "description", "a small Debian guest to look at", "memory_bytes", (json_int_t)512 << 20,
				   "firmware", "kernel", "display", "virtio", "engine", "qemu",
				   "kernel", "image", image, "initrd", initrd, "command_line", line,
				   "nics", "net0", "network", "nat");

	req_own(c, "POST", "/api/v1/vms", json_pack("{s:s, s:o, s:b}", "name", "demo", "config", config, "start", 1), created, NULL);
}

static void copy_done(struct job *j, const struct err *e)
{
	struct copying *cp = (struct copying *)j;

	if (e)
		log_error("there is no demo VM: %s", e->msg);
	else if (!cp->c->stopping)
		make(cp->c, cp->command_line);
	free(cp->command_line);
	free(cp);		/* @e is in it */
}

static void opened(void *arg, const struct err *e)
{
	struct croft *c = arg;
	struct datastore *ds = stores_at(c, 0)->ds;

	if (e) {
		log_error("there is no demo VM: %s", e->msg);
		return;
	}
	struct copying *cp = xnew(copying);

	cp->c = c;
	cp->dirfd = ds->dirfd;
	lane_run(ds->bulk, &cp->job, copy_work, copy_done);
}

void demo_begin(struct croft *c)
{
	struct err e = {};
	bool first;

	if (c->opt.demo && settings_first_time(c, "demo", &first, &e) == 0 && first)
		datastore_refresh(stores_at(c, 0)->ds, opened, c);	/* behind the opening, in its lane */
}
