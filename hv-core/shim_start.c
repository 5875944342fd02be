#include "shim_start.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctl.h"
#include "file.h"
#include "mem.h"

#define CONSOLE_BYTES	(256 * 1024)
#define MEMLOCK_BYTES	(64 * 1024)
#define CTL_BUFFER	(1 << 20)

/* What of the host every QEMU sees, read-only: its libraries, and what its user-mode network needs to resolve names. */
static const char *const binds[] = {
	"/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/resolv.conf",
};

struct child *shim_start(const struct keeper_house *h, int dir, const char *uuid, bool adopt,
			 void (*ended)(void *arg, int wstatus, const char *err_text), void *arg, int *ret_ctl,
			 struct err *e)
{
	const char *argv[] = { h->shim, uuid, adopt ? "adopt" : NULL, NULL };
	int pair[2], size = CTL_BUFFER;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return fail_errno(e, errno, "make croft-vm's channel"), NULL;
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	int fds[] = { dir, pair[1] };
	struct child_how how = { .argv = argv, .exec_fd = -1, .fds = fds, .nfds = 2, .in = -1, .out = -1,
				 .new_session = true, .stderr_max = 4096 };
	struct child *c = child_start(h->ev, &how, ended, arg, e);
	close(pair[1]);
	if (c)
		*ret_ctl = pair[0];
	else
		close(pair[0]);
	return c;
}

static struct ctl_texts texts(const char *const *list, const char **room, size_t n)
{
	for (; list && *list; list++)
		room[n++] = *list;
	room[n] = NULL;
	return (struct ctl_texts){ (char **)room, n };
}

static size_t length(const char *const *list)
{
	size_t n = 0;
	while (list && list[n])
		n++;
	return n;
}

int shim_send_launch(const struct keeper_house *h, int ctl, const struct keeper_launch *l, struct err *e)
{
	char boot[37];
	uint32_t numbers[CTL_FDS];
	int fds[CTL_FDS];
	size_t nbinds = COUNT(binds);
	AUTO_FREE const char **all = xcalloc(COUNT(binds) + length(l->binds) + 2, sizeof(*all));
	AUTO_FREE const char **argv = xcalloc(length(l->argv) + 1, sizeof(*argv));
	AUTO_FREE const char **devices = xcalloc(length(l->devices) + 1, sizeof(*devices));
	if (l->nfds > CTL_FDS)
		return fail(e, ERR_INVALID, "the VM needs %zu descriptors, more than %d", l->nfds, CTL_FDS);
	for (size_t i = 0; i < l->nfds; i++) {
		numbers[i] = l->fds[i].number;
		fds[i] = l->fds[i].fd;
	}
	memcpy(all, binds, sizeof(binds));
	if (strncmp(l->argv[0], "/usr/", 5))		/* a QEMU that was built somewhere else */
		all[nbinds++] = l->argv[0];
	boot_id(boot);
	struct ctl_launch m = {
		.uuid = (char *)l->uuid, .boot_id = boot, .version = (char *)h->version,
		.qemu_version = (char *)l->qemu_version, .argv = texts(l->argv, argv, 0),
		.numbers = { numbers, l->nfds }, .qmp = l->qmp, .serial = l->serial, .agent = l->agent, .uid = l->uid, .gid = l->gid,
		.shim_uid = h->shim_uid, .shim_gid = h->shim_gid, .private_root = l->private_root,
		.console_bytes = l->console_bytes ? l->console_bytes : CONSOLE_BYTES,
		.devices = texts(l->devices, devices, 0), .binds = texts(l->binds, all, nbinds),
		.memlock_bytes = l->memlock_bytes ? l->memlock_bytes : MEMLOCK_BYTES,
		.cpus = (char *)l->cpus,
	};
	int r = ctl_send(ctl, CTL_LAUNCH, 1, &m, fds, l->nfds);
	return r < 0 ? fail_errno(e, r, "tell croft-vm what to start") : 0;
}

int shim_send_adopt(const struct keeper_house *h, int ctl, const struct run_folder *f, int pidfd, struct err *e)
{
	char boot[37];
	boot_id(boot);
	struct ctl_launch m = {
		.uuid = (char *)f->uuid, .boot_id = boot, .version = (char *)h->version,
		.qemu_version = (char *)f->qemu_version, .argv = { f->argv, length((const char *const *)f->argv) },
		.uid = f->proc.uid, .shim_uid = h->shim_uid, .shim_gid = h->shim_gid, .console_bytes = CONSOLE_BYTES,
		.pid = f->proc.pid, .start_time = f->proc.start_time, .confinement = (char *)f->proc.confinement,
	};
	int r = ctl_send(ctl, CTL_ADOPT, 1, &m, &pidfd, 1);
	return r < 0 ? fail_errno(e, r, "tell croft-vm what to adopt") : 0;
}

int shim_folder(int run_fd, const char *uuid, struct err *e)
{
	static const char *const old[] = {
		"launch.json", "end.json", "console.ring", "qemu.log", "ctl", "qmp", "serial", "agent",
	};
	int dir = file_open_dir(run_fd, uuid, true, 0700);
	if (dir < 0)
		return fail_errno(e, dir, "make the run folder %s", uuid);
	for (size_t i = 0; i < COUNT(old); i++)
		if (unlinkat(dir, old[i], 0) < 0 && errno != ENOENT) {
			fail_errno(e, errno, "remove %s of the last run of %s", old[i], uuid);
			close(dir);
			return -EIO;
		}
	return dir;
}
