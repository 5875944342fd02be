// LINK: hv-core
/* The command lines are started for real: QEMU must take them, answer its monitor, and (where a guest is named) run.
 * Skipped where QEMU or the firmware isn't installed. QEMU_STDERR=1 shows what it says. */
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
#include "argv.h"
#include "file.h"
#include "host.h"
#include "mem.h"
#include "spec.h"
#include "t.h"
#include "text.h"

#define UUID "6e1c0f3a-52b4-4d0e-9a57-0c1d2e3f4a5b"

/* An arm64 Image: prints "K\n" and asks PSCI to power off, or waits for interrupts for ever. */
static const uint32_t guest_head[] = {
	0x14000010, 0, 0x80000, 0, 0x10000, 0, 0xa, 0, 0, 0, 0, 0, 0, 0, 0x644d5241, 0,
	0xd2a12013,	/* mov x19, #0x09000000 */
	0x52800962,	/* mov w2, #'K' */
	0xb9000262,	/* str w2, [x19] */
	0x52800142,	/* mov w2, #'\n' */
	0xb9000262,	/* str w2, [x19] */
};
static const uint32_t guest_off[] = {
	0x52800100,	/* mov w0, #8 */
	0x72b08000,	/* movk w0, #0x8400, lsl #16: SYSTEM_OFF */
	0xd4000002,	/* hvc #0 */
};
static const uint32_t guest_idle[] = { 0xd503207f /* wfi */, 0x17ffffff /* b back */ };

struct run {
	char dir[32];
	struct host host;
	struct vm_spec spec;
	pid_t pid;
	int qmp, serial;
	struct argv argv;
};

static int listen_at(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	unlink(path);
	ok(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 1) == 0);
	return fd;
}

static int connect_to(const char *dir, const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s", dir, name);
	ok(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	return fd;
}

static int run_program(const char *const *argv)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 1);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return status;
}

/* The disk or variables as a fresh file in the run's folder. */
static int open_image(struct run *r, const struct argv_fd *f)
{
	AUTO_FREE char *path = xasprintf("%s/%s", r->dir, f->name ? f->name : "vars");
	const struct vm_disk *d = f->name ? field_vec_find(&r->spec.disks, sizeof(*d), f->name) : NULL;

	if (f->what == ARGV_FD_FW_VARS && access(path, F_OK))
		eq_int(run_program((const char *[]){ "qemu-img", "convert", "-f", "raw", "-O", "qcow2",
						     r->host.firmware.vars, path, NULL }),
		       0);
	else if (access(path, F_OK))
		eq_int(run_program((const char *[]){ "qemu-img", "create", "-f",
						     d && d->format == VM_FORMAT_QCOW2 ? "qcow2" : "raw", path, "64M",
						     NULL }),
		       0);
	return open(path, (f->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
}

static int open_kernel(const struct vm_spec *s)
{
	char image[4096] = "";
	bool idle = strstr(s->kernel.image, "idle");

	memcpy(image, guest_head, sizeof(guest_head));
	memcpy(image + sizeof(guest_head), idle ? guest_idle : guest_off,
	       idle ? sizeof(guest_idle) : sizeof(guest_off));
	return file_memfd("kernel", image, sizeof(image), 0444);
}

static int open_one(struct run *r, const struct argv_fd *f)
{
	AUTO_FREE char *qmp = xasprintf("%s/qmp", r->dir), *serial = xasprintf("%s/serial", r->dir);

	switch (f->what) {
	case ARGV_FD_QMP:	return listen_at(qmp);
	case ARGV_FD_SERIAL:	return listen_at(serial);
	case ARGV_FD_FW_CODE:	return open(r->host.firmware.code, O_RDONLY | O_CLOEXEC);
	case ARGV_FD_KERNEL:	return open_kernel(&r->spec);
	case ARGV_FD_INITRD:	return file_memfd("initrd", "0707", 4, 0444);
	case ARGV_FD_FW_VARS:
	case ARGV_FD_DISK:
	case ARGV_FD_CDROM:	return open_image(r, f);
	}
	return -1;
}

static void exec_qemu(const struct run *r, const int *fds)
{
	int high[64];
	int log = open("/dev/null", O_WRONLY);

	for (size_t i = 0; i < r->argv.nfds; i++)
		high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 100);
	dup2(log, 1);
	if (!getenv("QEMU_STDERR"))
		dup2(log, 2);
	for (size_t i = 0; i < r->argv.nfds; i++)
		dup2(high[i], r->argv.fds[i].fd);
	execv(r->argv.v[0], r->argv.v);
	_exit(127);
}

/* Build, open, start. False (and a skip or failure told) when it can't be done here. */
static bool start_in(struct run *r, const char *config)
{
	struct vm_plan plan = { UUID, "test" };
	struct err e = { 0 };
	int fds[64];

	AUTO_FREE char *json = xstrdup(config);	/* written with ' for " */
	for (char *q = json; (q = strchr(q, '\'')); )
		*q = '"';
	json_t *j = json_parse(json, strlen(json), 8192, &e);
	ok(j && fields_decode(&vm_spec_fields, j, FIELDS_CREATE, &r->spec, &e) == 0);
	json_decref(j);
	vm_spec_freeze(&r->spec, &r->host, UUID);
	if (argv_build(&r->spec, &r->host, &plan, &r->argv, &e)) {
		t_fail(__FILE__, __LINE__, "%s", e.msg);
		return false;
	}
	ok(r->argv.nfds <= COUNT(fds));
	for (size_t i = 0; i < r->argv.nfds; i++)
		ok((fds[i] = open_one(r, &r->argv.fds[i])) >= 0);
	r->qmp = connect_to(r->dir, "qmp");
	r->serial = connect_to(r->dir, "serial");
	r->pid = fork();
	if (!r->pid)
		exec_qemu(r, fds);
	for (size_t i = 0; i < r->argv.nfds; i++)
		close(fds[i]);
	return true;
}

static bool start(struct run *r, const char *config)
{
	struct err e = { 0 };

	*r = (struct run){ .dir = "/tmp/test-argv-XXXXXX", .qmp = -1, .serial = -1 };
	ok(host_probe("", &r->host, &e) == 0);
	if (!r->host.qemu.path || !r->host.firmware.code) {
		host_fini(&r->host);
		t_skip("QEMU or its UEFI firmware is not installed");
		return false;
	}
	ok(mkdtemp(r->dir) != NULL);
	return start_in(r, config);
}

/* Read until @want has come; @seen keeps the last bytes for the message. */
static bool read_until(int fd, const char *want, int seconds)
{
	char seen[65536];
	size_t n = 0;
	int64_t end = mono_usec() + seconds * 1000000ll;

	while (n < sizeof(seen) - 1 && mono_usec() < end) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		if (poll(&p, 1, (int)((end - mono_usec()) / 1000)) <= 0)
			break;
		ssize_t got = read(fd, seen + n, sizeof(seen) - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
		seen[n] = 0;
		if (memmem(seen, n, want, strlen(want)))
			return true;
	}
	seen[n] = 0;
	t_fail(__FILE__, __LINE__, "waited %d s for \"%s\", saw \"%.600s\"", seconds, want, seen);
	return false;
}

static void say(int fd, const char *command)
{
	ok(file_write_all(fd, command, strlen(command)) == 0);
}

static void handshake(struct run *r, const char *status)
{
	ok(read_until(r->qmp, "\"QMP\"", 20));
	say(r->qmp, "{\"execute\":\"qmp_capabilities\"}\n");
	ok(read_until(r->qmp, "\"return\": {}", 10));
	say(r->qmp, "{\"execute\":\"query-status\"}\n");
	ok(read_until(r->qmp, status, 10));
}

static void stop(struct run *r)
{
	if (r->pid > 0) {
		kill(r->pid, SIGKILL);
		waitpid(r->pid, NULL, 0);
	}
	if (r->qmp >= 0)
		close(r->qmp);
	if (r->serial >= 0)
		close(r->serial);
	argv_fini(&r->argv);
	fields_fini(&vm_spec_fields, &r->spec);
	host_fini(&r->host);
	if (access(r->dir, F_OK))
		return;		/* two runs shared it */
	AUTO_CLOSE int tmp = open("/tmp", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	eq_int(file_remove_tree(tmp, r->dir + strlen("/tmp/")), 0);
}

/* QEMU takes it and its monitor says that the guest runs. */
static void starts(const char *config)
{
	struct run r;

	if (!start(&r, config))
		return;
	handshake(&r, "\"status\": \"running\"");
	stop(&r);
}

#define MIB64 "67108864"
#define RAM "'memory_bytes':134217728"
#define KERNEL(name) "'firmware':'kernel','kernel':{'image':'[local] k/" name "'}"

TEST(kernel_runs_and_ends)
{
	struct run r;
	int status = -1;

	if (!start(&r, "{" KERNEL("off") ",'display':'none'," RAM "}"))
		return;
	ok(read_until(r.serial, "K\n", 20));
	ok(waitpid(r.pid, &status, 0) == r.pid);	/* PSCI SYSTEM_OFF ends QEMU */
	eq_int(status, 0);
	r.pid = 0;
	stop(&r);
}

TEST(kernel_with_everything)
{
	starts("{'firmware':'kernel','kernel':{'image':'[local] k/idle','initrd':'[local] k/i','command_line':'quiet'},"
	       "" RAM ",'cpus':3,'disks':{'a':{'size_bytes':" MIB64 ",'boot_order':1},"
	       "'b':{'size_bytes':" MIB64 ",'format':'raw','bus':'nvme'},'c':{'size_bytes':" MIB64 ",'bus':'scsi'},"
	       "'d':{'size_bytes':" MIB64 ",'read_only':true}},"
	       "'cdroms':{'full':{'iso':'[local] x.iso','boot_order':2},'empty':{}},"
	       "'nics':{'lan':{'boot_order':3},'old':{'model':'e1000e'}}}");
}

TEST(read_only_disks)
{
	starts("{" KERNEL("idle") ",'display':'none'," RAM ",'disks':{"
	       "'a':{'size_bytes':" MIB64 ",'read_only':true},"
	       "'b':{'size_bytes':" MIB64 ",'read_only':true,'bus':'scsi'},"
	       "'c':{'size_bytes':" MIB64 ",'read_only':true,'bus':'nvme'}}}");
}

TEST(gic2_older_machine_other_cpus)
{
	starts("{" KERNEL("idle") ",'accel':'tcg','cpu_model':'cortex-a53','gic':'2','cpus':8," RAM "}");
	starts("{" KERNEL("idle") ",'accel':'tcg','cpu_model':'max','machine':'virt-6.2'," RAM "}");
	starts("{" KERNEL("idle") ",'accel':'tcg','cpu_model':'neoverse-n1','cpus':9," RAM "}");
}

TEST(most_devices)
{
	char config[4096];
	int n = snprintf(config, sizeof(config), "{" KERNEL("idle") "," RAM ",'disks':{");

	for (int i = 0; i < VM_MAX_DISKS; i++)
		n += snprintf(config + n, sizeof(config) - (size_t)n,
			      "%s'd%d':{'size_bytes':" MIB64 ",'boot_order':%d}", i ? "," : "", i, i + 1);
	n += snprintf(config + n, sizeof(config) - (size_t)n, "},'nics':{");
	for (int i = 0; i < VM_MAX_NICS; i++)
		n += snprintf(config + n, sizeof(config) - (size_t)n, "%s'n%d':{}", i ? "," : "", i);
	snprintf(config + n, sizeof(config) - (size_t)n, "},'cdroms':{'a':{},'b':{},'c':{},'d':{}}}");
	starts(config);
}

/* The pflash pair really boots: AAVMF tells its version on the serial line and looks for a system. */
TEST(uefi_boots)
{
	struct run r;

	if (!start(&r, "{'memory_bytes':268435456,"
		       "'disks':{'root':{'size_bytes':" MIB64 ",'boot_order':1}},'nics':{'lan':{}}}"))
		return;
	handshake(&r, "\"status\": \"running\"");
	ok(read_until(r.serial, "UEFI firmware", 40));
	ok(read_until(r.serial, "BdsDxe", 50));
	stop(&r);
}

/* A viewer of the screen is a descriptor that comes by the monitor. */
TEST(viewer_by_add_client)
{
	struct run r;
	int pair[2];
	char hello[13] = "";
	struct iovec io = { (void *)"{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"v\"}}\n", 0 };
	union { char room[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = { .room = "" };
	struct msghdr m = {
		.msg_iov = &io, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};

	if (!start(&r, "{" KERNEL("idle") "," RAM "}"))
		return;
	handshake(&r, "\"status\": \"running\"");
	ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	io.iov_len = strlen(io.iov_base);
	*CMSG_FIRSTHDR(&m) = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
					       .cmsg_type = SCM_RIGHTS,
					       .cmsg_len = CMSG_LEN(sizeof(int)) };
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &pair[1], sizeof(int));
	ok(sendmsg(r.qmp, &m, 0) == (ssize_t)io.iov_len);
	ok(read_until(r.qmp, "\"return\": {}", 10));
	say(r.qmp,
	    "{\"execute\":\"add_client\",\"arguments\":{\"protocol\":\"vnc\",\"fdname\":\"v\",\"skipauth\":true}}\n");
	ok(read_until(r.qmp, "\"return\": {}", 10));
	close(pair[1]);
	ok(recv(pair[0], hello, 12, MSG_WAITALL) == 12);
	eq_str(hello, "RFB 003.008\n");
	close(pair[0]);
	stop(&r);
}

/* QEMU's own lock, through an fdset: the same file opened afresh for a second QEMU is refused. */
TEST(second_qemu_on_the_same_disk_is_refused)
{
	static const char config[] = "{" KERNEL("idle") ",'display':'none'," RAM ","
				     "'disks':{'a':{'size_bytes':" MIB64 "}}}";
	struct run r, second = { .qmp = -1, .serial = -1 };
	struct err e = { 0 };
	int status = -1;

	if (!start(&r, config))
		return;
	handshake(&r, "\"status\": \"running\"");
	memcpy(second.dir, r.dir, sizeof(r.dir));
	ok(host_probe("", &second.host, &e) == 0);
	ok(start_in(&second, config));
	ok(waitpid(second.pid, &status, 0) == second.pid);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	second.pid = 0;
	stop(&r);
	stop(&second);
}

T_MAIN
