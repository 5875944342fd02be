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

/* A firmware. Says Z when the bank of the variables is zero from 1 MiB on, but for one word, else X; then R when that
 * word is written already, else it writes it and says W. */
static const uint32_t guest_flash[] = {
	0xd2a12013,	/* mov x19, #0x09000000: the serial line */
	0xd2a08214,	/* mov x20, #0x04100000 */
	0xd2a10015,	/* mov x21, #0x08000000: the end of the bank */
	0xd2a0a016,	/* mov x22, #0x05000000 */
	0xf2900016,	/* movk x22, #0x8000: the word, 16 MiB and 32 KiB into the bank */
	0x52800b43,	/* mov w3, #'Z' */
	0xb9400282,	/* 1: ldr w2, [x20] */
	0x34000082,	/* cbz w2, 2f */
	0xeb16029f,	/* cmp x20, x22 */
	0x54000040,	/* b.eq 2f */
	0x52800b03,	/* mov w3, #'X' */
	0x91001294,	/* 2: add x20, x20, #4 */
	0xeb15029f,	/* cmp x20, x21 */
	0x54ffff21,	/* b.ne 1b */
	0xb9000263,	/* str w3, [x19] */
	0xb94002c2,	/* ldr w2, [x22] */
	0x52800a43,	/* mov w3, #'R' */
	0x350000e2,	/* cbnz w2, 3f */
	0x320a83e2,	/* mov w2, #0x00400040: program a word, to both chips */
	0xb90002c2,	/* str w2, [x22] */
	0x52800ae3,	/* mov w3, #'W' */
	0xb90002c3,	/* str w3, [x22] */
	0x32009fe2,	/* mov w2, #0x00ff00ff: back to reading */
	0xb90002c2,	/* str w2, [x22] */
	0xb9000263,	/* 3: str w3, [x19] */
	0x52800142,	/* mov w2, #'\n' */
	0xb9000262,	/* str w2, [x19] */
	0x52800100, 0x72b08000, 0xd4000002,	/* as guest_off */
};

struct run {
	char dir[32];
	unsigned vars_cluster_bytes;
	bool own_firmware;		/* guest_flash instead of AAVMF */
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

/* A flash bank as a fresh file in the run's folder. */
static int open_bank(struct run *r, const struct argv_fd *f)
{
	bool code = f->what == ARGV_FD_FW_CODE;
	AUTO_FREE char *path = xasprintf("%s/%s", r->dir, code ? "code" : "vars"), *own = xasprintf("%s/own", r->dir);
	AUTO_FREE char *cluster = xasprintf("cluster_size=%u", code ? 65536 : r->vars_cluster_bytes);
	const char *raw = code ? r->own_firmware ? own : r->host.firmware.code : r->host.firmware.vars;

	if (code && r->own_firmware) {
		eq_int(file_publish_at(AT_FDCWD, own, guest_flash, sizeof(guest_flash), 0600), 0);
		eq_int(truncate(own, 64 << 20), 0);
	}
	if (access(path, F_OK))
		eq_int(run_program((const char *[]){ "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", cluster,
						     raw, path, NULL }),
		       0);
	return open(path, (f->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
}

/* A disk as a fresh file in the run's folder. */
static int open_image(struct run *r, const struct argv_fd *f)
{
	AUTO_FREE char *path = xasprintf("%s/%s", r->dir, f->name);
	const struct vm_disk *d = field_vec_find(&r->spec.disks, sizeof(*d), f->name);

	if (access(path, F_OK))
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
	AUTO_FREE char *agent = xasprintf("%s/agent", r->dir);

	switch (f->what) {
	case ARGV_FD_QMP:	return listen_at(qmp);
	case ARGV_FD_SERIAL:	return listen_at(serial);
	case ARGV_FD_AGENT:	return listen_at(agent);
	case ARGV_FD_KERNEL:	return open_kernel(&r->spec);
	case ARGV_FD_FOLDER:	return -1;
	case ARGV_FD_INITRD:	return file_memfd("initrd", "0707", 4, 0444);
	case ARGV_FD_FW_CODE:
	case ARGV_FD_FW_VARS:	return open_bank(r, f);
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
	struct vm_plan plan = { UUID, "test", r->vars_cluster_bytes };
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

static bool prepare(struct run *r)
{
	struct err e = { 0 };

	*r = (struct run){ .dir = "/tmp/test-argv-XXXXXX", .vars_cluster_bytes = 512, .qmp = -1, .serial = -1 };
	ok(host_probe("", &r->host, &e) == 0);
	if (!r->host.qemu.path || !r->host.firmware.code) {
		host_fini(&r->host);
		t_skip("QEMU or its UEFI firmware is not installed");
		return false;
	}
	ok(mkdtemp(r->dir) != NULL);
	return true;
}

static bool start(struct run *r, const char *config) { return prepare(r) && start_in(r, config); }

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

TEST(memory_that_grows)
{
	struct run r;

	if (!start(&r, "{" KERNEL("idle") ",'display':'none'," RAM ",'memory_max_bytes':1073741824,"
		       "'usb':{'stick':{'port':'1-1'}}}"))
		return;
	handshake(&r, "\"status\": \"running\"");
	say(r.qmp, "{\"execute\":\"query-memory-devices\"}\n");
	ok(read_until(r.qmp, "\"max-size\": 939524096", 10));
	stop(&r);
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

/* MiB that the flash banks, each a mapping of 64 MiB, have in memory. */
static unsigned flash_mib(const struct run *r)
{
	AUTO_FREE char *path = xasprintf("/proc/%d/smaps", (int)r->pid);
	unsigned long kib, size = 0, resident = 0;
	unsigned banks = 0;
	char line[512];
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Size: %lu kB", &kib) == 1)
			size = kib;
		else if (sscanf(line, "Rss: %lu kB", &kib) == 1 && size == 65536) {
			banks++;
			resident += kib;
		}
	}
	if (f)
		fclose(f);
	eq_int(banks, 2);
	return (unsigned)(resident / 1024);
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
	printf("# the flash banks hold %u MiB of memory\n", flash_mib(&r));
	ok(flash_mib(&r) <= 8);		/* 4 where pages are huge; 128 when QEMU has read all of it */
	stop(&r);
}

static void boot_own_firmware(struct run *r, const char *says)
{
	int status = -1;

	ok(start_in(r, "{" RAM ",'display':'none'}"));
	ok(read_until(r->serial, says, 30));
	ok(waitpid(r->pid, &status, 0) == r->pid);
	eq_int(status, 0);
	r->pid = 0;
}

/* Far from what firmware uses, where the store has no cluster yet, a guest writes a word. At the next start it is there,
 * and zeros around it: nothing that QEMU had in its memory, which is never zero here. */
TEST(flash_keeps_what_a_guest_writes_and_nothing_else)
{
	static const unsigned clusters[] = { 512, 65536 };
	struct err e = { 0 };

	setenv("MALLOC_PERTURB_", "165", 1);
	for (size_t i = 0; i < COUNT(clusters); i++) {
		struct run r, again = { .vars_cluster_bytes = clusters[i], .own_firmware = true, .qmp = -1, .serial = -1 };

		if (!prepare(&r))
			break;
		r.vars_cluster_bytes = clusters[i];
		r.own_firmware = true;
		boot_own_firmware(&r, "ZW\n");
		memcpy(again.dir, r.dir, sizeof(r.dir));
		ok(host_probe("", &again.host, &e) == 0);
		boot_own_firmware(&again, "ZR\n");
		stop(&r);
		stop(&again);
	}
	unsetenv("MALLOC_PERTURB_");
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
