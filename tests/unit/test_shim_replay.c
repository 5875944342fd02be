// LINK: hv-core
/* Every croft-vm that was ever released is spoken to by today's croftd. tests/fixtures/shim/VERSION/ holds what one had
 * written (launch.json) and said (exchange: for each request's type, the bytes of its answer in hex; 0: what it says
 * unasked when QEMU ends). A player stands in for it; pid, start time and boot id are put in, as nothing else can be
 * true today. "v1-least" was written by hand: the fewest fields that version 1 may send, and no viewers.
 *
 * A new recording is made from the croft-vm that was just built, to be committed with its release:
 *	CROFT_RECORD=tests/fixtures/shim/v2 build/tests/unit/test_shim_replay record */
#include "vmrig.h"
#include <jansson.h>
#include <sys/pidfd.h>
#include <sys/un.h>
#include "child.h"
#include "ctl.h"

struct said { uint32_t to; size_t n; char bytes[4096]; };
static struct said exchange[16];
static size_t nexchange;

static void root_path(char *out, size_t cap, const char *rest)	/* build/tests/unit/test_x -> the tree */
{
	char exe[1024] = "";
	(void)!readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	for (int i = 0; i < 4; i++)
		*strrchr(exe, '/') = 0;
	snprintf(out, cap, "%s/%s", exe, rest);
}

static void load_exchange(const char *folder)
{
	char path[4096], line[9000];
	snprintf(path, sizeof(path), "%s/exchange", folder);
	FILE *f = fopen(path, "re");
	nexchange = 0;
	while (f && nexchange < COUNT(exchange) && fgets(line, sizeof(line), f)) {
		struct said *s = &exchange[nexchange++];
		char *hex = line;
		*s = (struct said){ .to = (uint32_t)strtoul(line, &hex, 10) };
		for (unsigned byte; sscanf(hex, " %2x", &byte) == 1; hex += hex[0] == ' ' ? 3 : 2)
			s->bytes[s->n++] = (char)byte;
	}
	ok(f && nexchange);
	if (f)
		fclose(f);
}

/* ---- the player ---- */

static void play(int fd, uint32_t to, uint32_t id, pid_t qemu)
{
	for (size_t i = 0; i < nexchange; i++) {
		struct said s = exchange[i];
		uint32_t type, pid = qemu;
		uint64_t start = proc_start_time(qemu);
		if (s.to != to)
			continue;
		memcpy(&type, s.bytes + 4, 4);
		memcpy(s.bytes + 8, &id, 4);
		if (type == CTL_STATE) {
			memcpy(s.bytes + 20, &pid, 4);
			memcpy(s.bytes + 24, &start, 8);
		}
		(void)!send(fd, s.bytes, s.n, MSG_NOSIGNAL);
	}
}

static void play_client(int fd, pid_t qemu, int pidfd)
{
	struct pollfd p[] = { { .fd = fd, .events = POLLIN }, { .fd = pidfd, .events = POLLIN } };
	while (poll(p, 2, 20000) > 0) {
		struct ctl_message m;
		if (p[1].revents) {
			waitpid(qemu, NULL, 0);
			play(fd, 0, 0, qemu);
			return;
		}
		if (ctl_recv(fd, &m) <= 0)
			return;
		for (size_t i = 0; i < m.nfds; i++)
			(void)!write(m.fds[i], "from long ago", 13);
		play(fd, m.type, m.id, qemu);
		ctl_fini(&m);
	}
}

static void write_launch(const char *folder, int dir, pid_t qemu)
{
	char path[4096], boot[37];
	snprintf(path, sizeof(path), "%s/launch.json", folder);
	json_t *j = json_load_file(path, 0, NULL);
	boot_id(boot);
	json_object_set_new(j, "pid", json_integer(qemu));
	json_object_set_new(j, "start_time", json_integer((json_int_t)proc_start_time(qemu)));
	json_object_set_new(j, "boot_id", json_string(boot));
	char *text = json_dumps(j, 0);
	file_publish_at(dir, "launch.json", text, strlen(text), 0600);
	free(text);
	json_decref(j);
}

/* In a process of its own, like the one that it stands for; says through @ready when it listens. */
static void player(struct rig *r, const char *folder, int ready)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	mkdirat(r->house.run_fd, RIG_UUID, 0700);
	int dir = openat(r->house.run_fd, RIG_UUID, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int alive = openat(dir, "alive", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	fcntl(alive, F_OFD_SETLK, &whole);
	pid_t qemu = fork();
	if (!qemu) {
		for (;;)
			pause();
	}
	write_launch(folder, dir, qemu);
	snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/ctl", dir);
	int ctl = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), pidfd = pidfd_open(qemu, 0);
	if (bind(ctl, (struct sockaddr *)&at, sizeof(at)) || listen(ctl, 4))
		_exit(1);
	(void)!write(ready, &qemu, sizeof(qemu));
	for (int fd; (fd = accept4(ctl, NULL, NULL, SOCK_CLOEXEC)) >= 0; close(fd))
		play_client(fd, qemu, pidfd);
	_exit(0);
}

static void replay(const char *name, bool has_viewers, int how)
{
	struct rig r;
	char folder[2048], rest[128], text[64];
	pid_t qemu = 0;
	int pair[2];
	if (!rig_init(&r))
		return;
	snprintf(rest, sizeof(rest), "tests/fixtures/shim/%s", name);
	root_path(folder, sizeof(folder), rest);
	load_exchange(folder);
	ok(pipe(pair) == 0);
	pid_t old = fork();
	if (!old)
		player(&r, folder, pair[1]);
	ok(read(pair[0], &qemu, sizeof(qemu)) == sizeof(qemu) && qemu > 0);
	if (rig_attach(&r) && rig_until(&r, r.running, 4000)) {
		eq_int(r.proc.pid, qemu);
		ok(!r.proc.adopted);
		ok(r.proc.confinement[0]);		/* what the answer lacks comes from launch.json */
		int v = rig_viewer(&r, 0);
		ok(!has_viewers || rig_expect(&r, v, "from long ago", 3000, text, sizeof(text)));
		rig_until(&r, false, 200);
		eq_int(r.degraded + r.failed + r.ended, 0);
		keeper_free(TAKE(r.k));			/* and a second time */
		ok(rig_attach(&r) && rig_until(&r, r.running, 4000));
		eq_int(keeper_kill(r.k, NULL), 0);
		ok(rig_until(&r, r.ended, 4000));
		eq_int(r.end.how, how);
		close(v);
	} else {
		t_fail(__FILE__, __LINE__, "%s is not attached to: %s", name, r.err.msg);
	}
	kill(qemu, SIGKILL);
	kill(old, SIGKILL);
	waitpid(old, NULL, 0);
	rig_fini(&r);
}

TEST(v1) { replay("v1", true, VM_END_KILLED); }
TEST(v1_least) { replay("v1-least", false, VM_END_UNKNOWN); }

/* ---- making a recording ---- */

static void record_answer(FILE *f, uint32_t to, int fd)
{
	char bytes[4096];
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n = poll(&p, 1, 5000) == 1 ? recv(fd, bytes, sizeof(bytes), 0) : -1;
	ok(n > 0);
	fprintf(f, "%u ", to);
	for (ssize_t i = 0; i < n; i++)
		fprintf(f, "%02x", (unsigned char)bytes[i]);
	fprintf(f, "\n");
}

TEST(record)
{
	static const uint32_t requests[] = { CTL_HELLO, CTL_STATUS, CTL_VIEWER, CTL_GO };
	struct rig r;
	char path[4096], *launch;
	const char *to = getenv("CROFT_RECORD");
	size_t n;
	if (!to) {
		t_skip("CROFT_RECORD names no folder");
		return;
	}
	if (!rig_init(&r))
		return;
	snprintf(path, sizeof(path), "%s/exchange", to);
	FILE *f = fopen(path, "we");
	ok(f);
	if (f && rig_boot(&r) && rig_guest_up(&r)) {
		int fd = rig_dial(&r), pair[2];
		ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
		for (size_t i = 0; i < COUNT(requests); i++) {
			struct ctl_hello hello = { (char *)"recorder" };
			eq_int(ctl_send(fd, requests[i], 1, &hello, pair, requests[i] == CTL_VIEWER), 0);
			record_answer(f, requests[i], fd);
		}
		keeper_kill(r.k, NULL);
		record_answer(f, 0, fd);
		close(fd);
		snprintf(path, sizeof(path), "%s/launch.json", RIG_UUID);
		ok(file_read_at(r.house.run_fd, path, 1 << 20, &launch, &n) == 0);
		ok(file_publish_at(AT_FDCWD, (snprintf(path, sizeof(path), "%s/launch.json", to), path), launch, n, 0644) == 0);
		free(launch);
	}
	if (f)
		fclose(f);
	rig_fini(&r);
}

T_MAIN
