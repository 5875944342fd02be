/* vmrig.h: a real QEMU with a guest of 160 bytes, for test_keeper.c and test_shim.c. Needs root. */
#pragma once
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "file.h"
#include "keeper.h"
#include "mem.h"
#include "t.h"
#include "text.h"

/* tests/fixtures/shim/guest.S: says "R", echoes, floods at 'f' and then says '~', powers off at 'q'. */
static const uint32_t rig_guest[] = {
	0x14000010, 0x00000000, 0x00080000, 0x00000000, 0x00001000, 0x00000000, 0x0000000a, 0x00000000,
	0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x644d5241, 0x00000000,
	0xd2a12013, 0x52800a40, 0xb9000260, 0xb9401a61, 0x3727ffe1, 0xb9400260, 0x12001c00, 0x7101c41f,
	0x540001c0, 0x7101981f, 0x54000060, 0xb9000260, 0x17fffff7, 0x52a00082, 0x12001443, 0x11008063,
	0xb9000263, 0x71000442, 0x54ffff81, 0x52800fc0, 0xb9000260, 0x17ffffee, 0x52800100, 0x72b08000,
	0xd4000002, 0x14000000,
};
enum { RIG_QMP = 10, RIG_SERIAL = 11, RIG_KERNEL = 12, RIG_SHIM_UID = 61000 };
#define RIG_UID (62000u + (unsigned)getpid() % 3000)	/* one that no other run of the tests uses now */
#define RIG_UUID "3b241101-e2bb-4255-8caf-4136c566a962"

struct rig {
	struct keeper_house house;
	struct keeper *k;
	char home[64], shim[4096];
	int parked, running, degraded, ended, failed;
	pid_t shim_pid;
	struct vm_proc proc;
	struct vm_end end;
	struct err err;
	bool hold;			/* don't say GO by itself */
	size_t console_bytes;
	const char *qemu;
	bool no_root;			/* without the private root */
};

static void rig_parked(void *arg, pid_t shim)
{
	struct rig *r = arg;
	r->parked++;
	r->shim_pid = shim;
	if (!r->hold)
		keeper_go(r->k);
}
static void rig_running(void *arg, const struct vm_proc *p)
{
	struct rig *r = arg;
	r->running++;
	r->proc = *p;
}
static void rig_degraded(void *arg, const struct err *e) { ((struct rig *)arg)->degraded++; }
static void rig_ended(void *arg, const struct vm_end *end)
{
	struct rig *r = arg;
	r->ended++;
	r->end = *end;
}
static void rig_failed(void *arg, const struct err *e)
{
	struct rig *r = arg;
	r->failed++;
	r->err = *e;
}
static const struct keeper_ops rig_ops = { rig_parked, rig_running, rig_degraded, rig_ended, rig_failed };

/* Run the loop until @cond or @ms have passed; true when @cond holds. */
#define rig_until(r, cond, ms) ({ \
	int64_t until_ = mono_usec() + (int64_t)(ms) * 1000; \
	while (!(cond) && mono_usec() < until_) \
		sd_event_run((r)->house.ev, 10000); \
	(cond); })

static inline bool rig_init(struct rig *r)
{
	if (geteuid() || access("/usr/bin/qemu-system-aarch64", X_OK)) {
		t_skip("needs root and qemu-system-aarch64");
		return false;
	}
	char exe[4000] = "";
	(void)!readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	for (int i = 0; i < 3; i++)
		*strrchr(exe, '/') = 0;		/* build/tests/unit/test_x -> build */
	*r = (struct rig){ .qemu = "/usr/bin/qemu-system-aarch64", .home = "/tmp/croft-rig-XXXXXX" };
	snprintf(r->shim, sizeof(r->shim), "%s/croft-vm", exe);
	if (!mkdtemp(r->home) || access(r->shim, X_OK)) {
		t_fail(__FILE__, __LINE__, "no %s: make it first", r->shim);
		return false;
	}
	signal(SIGPIPE, SIG_IGN);	/* a failed test must still clean up */
	sd_event_new(&r->house.ev);
	r->house.run_fd = open(r->home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r->house.shim = r->shim;
	r->house.version = "test";
	r->house.shim_uid = r->house.shim_gid = RIG_SHIM_UID;
	return true;
}

static inline struct keeper *rig_start(struct rig *r, struct err *e)
{
	const char *argv[] = {
		r->qemu, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "virt", "-cpu",
		"cortex-a57", "-accel", "tcg", "-m", "32", "-sandbox",
		"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-kernel", "/proc/self/fd/12", "-chardev", "socket,id=ser,fd=11,server=on,wait=on", "-serial",
		"chardev:ser", "-chardev", "socket,id=mon,fd=10,server=on,wait=off", "-mon", "chardev=mon,mode=control",
		NULL,
	};
	struct keeper_fd fd = { file_memfd("kernel", rig_guest, sizeof(rig_guest), 0444), RIG_KERNEL };
	struct keeper_launch l = {
		.uuid = RIG_UUID, .argv = argv, .fds = &fd, .nfds = 1, .qmp = RIG_QMP, .serial = RIG_SERIAL,
		.uid = RIG_UID, .gid = RIG_UID, .qemu_version = "any", .console_bytes = r->console_bytes,
		.private_root = !r->no_root,
	};
	r->k = keeper_start(&r->house, &l, &rig_ops, r, e);
	close(fd.fd);
	return r->k;
}

static inline bool rig_boot(struct rig *r)	/* start it, and wait until it runs */
{
	struct err e = { 0 };
	if (!rig_start(r, &e) || !rig_until(r, r->running || r->failed || r->ended, 20000) || !r->running) {
		t_fail(__FILE__, __LINE__, "the VM did not start: %s%s %s", e.msg, r->err.msg, r->end.said);
		return false;
	}
	return true;
}

static inline bool rig_attach(struct rig *r)
{
	struct err e = { 0 };
	r->running = r->ended = r->failed = 0;
	r->k = keeper_attach(&r->house, RIG_UUID, &rig_ops, r, &e);
	if (!r->k)
		t_fail(__FILE__, __LINE__, "attach: %s", e.msg);
	return r->k;
}

static inline void rig_fini(struct rig *r)
{
	struct run_folder f;
	if (r->k)
		keeper_free(TAKE(r->k));
	if (run_read(r->house.run_fd, RIG_UUID, &f, NULL) == 0) {	/* whatever a failed test has left running */
		if (f.state == RUN_RUNNING && f.proc.pid > 0) {
			kill(f.proc.pid, SIGKILL);
			if (f.proc.shim > 0)
				kill(f.proc.shim, SIGCONT);
		}
		run_folder_fini(&f);
	}
	for (int i = 0; i < 300; i++) {
		bool alive = false;
		if (run_alive(r->house.run_fd, RIG_UUID, &alive) == 0 && !alive)
			break;
		usleep(10000);
	}
	sd_event_unref(r->house.ev);
	close(r->house.run_fd);
	int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	file_remove_tree(tmp, r->home + strlen("/tmp/"));
	close(tmp);
}

static inline bool rig_connect(struct rig *r, int fd)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	snprintf(to.sun_path, sizeof(to.sun_path), "%s/%s/ctl", r->home, RIG_UUID);
	return connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0;
}

static inline int rig_dial(struct rig *r)		/* a connection of our own to its croft-vm, blocking */
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (!rig_connect(r, fd))
		t_fail(__FILE__, __LINE__, "connect: %s", strerror(errno));
	return fd;
}

/* A viewer of the serial console; @buffer: of its socket, 0: as it is. */
static inline int rig_viewer(struct rig *r, int buffer)
{
	int pair[2];
	struct err e = { 0 };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	if (buffer)
		setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	if (keeper_viewer(r->k, pair[1], &e) < 0)
		t_fail(__FILE__, __LINE__, "viewer: %s", e.msg);
	return pair[0];
}

/* Read until the text ends with @want, at most @ms without anything new. The text so far is in @out. */
static inline bool rig_expect(struct rig *r, int fd, const char *want, int ms, char *out, size_t cap)
{
	size_t n = 0, len = strlen(want);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	out[0] = 0;
	while (n < cap - 1) {
		if (poll(&p, 1, ms) != 1)
			return false;
		ssize_t got = read(fd, out + n, cap - 1 - n);
		if (got <= 0)
			return false;
		n += got;
		out[n] = 0;
		if (n >= len && !memcmp(out + n - len, want, len))
			return true;
	}
	return false;
}

static inline bool rig_guest_up(struct rig *r)		/* it has said its "R" */
{
	char text[8];
	int v = rig_viewer(r, 0);
	bool up = rig_expect(r, v, "R", 5000, text, sizeof(text));
	close(v);
	return up;
}
