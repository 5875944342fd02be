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

static int copy_all(struct croft *c, struct err *e)
{
	struct store *s = stores_at(c, 0);
	AUTO_CLOSE int from = open(c->opt.demo, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int to = file_open_dir(s->ds->dirfd, "demo-guest", true, 0700);
	int r = 0;

	if (from < 0)
		return fail_errno(e, ENOENT, "open the demo guest's folder %s", c->opt.demo);
	if (to < 0)
		return fail_errno(e, to, "make the folder demo-guest on the datastore");
	for (size_t i = 0; r == 0 && i < COUNT(files); i++)
		r = copy(from, to, files[i], e);
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

void demo_begin(struct croft *c)
{
	AUTO_FREE char *command_line = NULL;
	struct err e = {};
	bool first;
	size_t n;

	if (!c->opt.demo || settings_first_time(c, "demo", &first, &e) < 0 || !first)
		return;
	struct store *s = stores_at(c, 0);

	while (s->ds->status.state == DATASTORE_OPENING && sd_event_run(c->ev, UINT64_MAX) >= 0)
		;
	if (copy_all(c, &e) < 0 || file_read_at(s->ds->dirfd, "demo-guest/cmdline", 4096, &command_line, &n) < 0)
		log_error("there is no demo VM: %s", e.msg);
	else
		make(c, command_line);
}
