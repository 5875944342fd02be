// LINK: hv-core
/* Run folders as croftd finds them at its start: good, old, hostile. Needs neither root nor QEMU. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "buf.h"
#include "child.h"
#include "file.h"
#include "mem.h"
#include "ring.h"
#include "run.h"
#include "t.h"

#define UUID	"11111111-2222-4333-8444-555555555555"
static char home[] = "/tmp/croft-run-XXXXXX";
static int run;

static void enter(void)
{
	ok(mkdtemp(home));
	run = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void leave(void)
{
	int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	file_remove_tree(tmp, home + 5);
	close(tmp);
	close(run);
}

static void put(const char *uuid, const char *name, const char *text)
{
	char path[128];
	mkdirat(run, uuid, 0700);
	snprintf(path, sizeof(path), "%s/%s", uuid, name);
	ok(file_publish_at(run, path, text, strlen(text), 0600) == 0);
}

static int lock(const char *uuid)		/* until it is closed */
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[128];
	put(uuid, "alive", "");
	snprintf(path, sizeof(path), "%s/alive", uuid);
	int fd = openat(run, path, O_RDWR | O_CLOEXEC);
	ok(fcntl(fd, F_OFD_SETLK, &whole) == 0);
	return fd;
}

static enum run_state state_of(const char *uuid)
{
	struct run_folder r;
	struct err e = { 0 };
	if (run_read(run, uuid, &r, &e) < 0)
		return RUN_UNKNOWN;
	enum run_state s = r.state;
	run_folder_fini(&r);
	return s;
}

TEST(the_lock_decides)
{
	bool alive = true;
	struct err e = { 0 };
	enter();
	eq_int(run_alive(run, UUID, &alive), 0);	/* nothing is there */
	ok(!alive);
	put(UUID, "alive", "");
	eq_int(state_of(UUID), RUN_ENDED);
	int fd = lock(UUID), child[2];
	eq_int(state_of(UUID), RUN_RUNNING);
	eq_int(run_remove(run, UUID, &e), -EBUSY);
	ok(pipe(child) == 0);
	if (!fork()) {				/* inherited, as QEMU does */
		char c;
		close(child[1]);
		(void)!read(child[0], &c, 1);
		_exit(0);
	}
	close(fd);
	eq_int(state_of(UUID), RUN_RUNNING);
	close(child[1]);
	wait(NULL);
	eq_int(state_of(UUID), RUN_ENDED);
	eq_int(run_remove(run, UUID, &e), 0);
	ok(faccessat(run, UUID, F_OK, 0) < 0);
	eq_int(run_remove(run, UUID, &e), 0);
	close(child[0]);
	leave();
}

TEST(a_process_is_the_second_witness)
{
	char text[256], boot[37];
	int status;
	boot_id(boot);
	enter();
	pid_t pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	unsigned long long start = proc_start_time(pid);
	snprintf(text, sizeof(text), "{\"boot_id\":\"%s\",\"pid\":%d,\"start_time\":%llu}", boot, pid, start);
	put(UUID, "launch.json", text);
	eq_int(state_of(UUID), RUN_RUNNING);
	snprintf(text, sizeof(text), "{\"boot_id\":\"%s\",\"pid\":%d,\"start_time\":%llu}", boot, pid, start + 1);
	put(UUID, "launch.json", text);			/* another process of the same pid */
	eq_int(state_of(UUID), RUN_ENDED);
	snprintf(text, sizeof(text), "{\"boot_id\":\"x\",\"pid\":%d,\"start_time\":%llu}", pid, start);
	put(UUID, "launch.json", text);
	eq_int(state_of(UUID), RUN_HISTORY);
	snprintf(text, sizeof(text), "{\"boot_id\":\"%s\",\"pid\":%d,\"start_time\":%llu}", boot, pid, start);
	put(UUID, "launch.json", text);
	kill(pid, SIGKILL);
	siginfo_t si;
	waitid(P_PID, pid, &si, WEXITED | WNOWAIT);
	eq_int(state_of(UUID), RUN_ENDED);		/* a zombie has ended */
	waitpid(pid, &status, 0);
	leave();
}

TEST(all_fields)
{
	struct run_folder r;
	struct err e = { 0 };
	enter();
	put(UUID, "launch.json", "{\"format\":1,\"uuid\":\"" UUID "\",\"boot_id\":\"old\",\"version\":\"0.9\","
	    "\"qemu_version\":\"7.2\",\"pid\":4,\"start_time\":4611686018427387904,\"shim_pid\":3,\"shim_start_time\":2,"
	    "\"uid\":70000,\"adopted\":true,\"confinement\":\"root=private\",\"argv\":[\"/q\",\"-x\"],\"from\":\"2099\"}");
	put(UUID, "end.json", "{\"how\":\"killed\",\"code\":9,\"at\":\"2026-11-23T12:00:00Z\",\"said\":\"bye\\n\",\"new\":[1]}");
	eq_int(run_read(run, UUID, &r, &e), 0);
	eq_int(r.state, RUN_HISTORY);
	eq_int(r.proc.pid, 4);
	eq_int(r.proc.shim, 3);
	eq_int(r.proc.uid, 70000);
	ok(r.proc.adopted && r.proc.start_time == 1ull << 62);
	eq_str(r.version, "0.9");
	eq_str(r.qemu_version, "7.2");
	eq_str(r.proc.confinement, "root=private");
	eq_str(r.argv[1], "-x");
	ok(!r.argv[2]);
	ok(r.has_end && r.end.how == VM_END_KILLED && r.end.code == 9 && r.end.at_usec == 1795435200000000);
	eq_str(r.end.said, "bye\n");
	eq_int(r.why.code, ERR_NONE);
	run_folder_fini(&r);
	leave();
}

TEST(hostile_files)
{
	static const char *const bad[] = {
		"{", "[]", "null", "{\"pid\":-1}", "{\"pid\":99999999999}", "{\"pid\":\"1\"}", "{\"pid\":1.5}",
		"{\"argv\":[1]}", "{\"argv\":\"x\"}", "{\"uuid\":\"much longer than a uuid can ever be, really\"}",
		"{\"boot_id\":\"a\\u0000b\"}", "{\"version\":\"\xff\"}", "{\"pid\":1,\"pid\":2}",
	};
	struct run_folder r;
	struct err e = { 0 };
	enter();
	int fd = lock(UUID);
	AUTO_BUF struct buf deep = BUF_INIT(1 << 20);
	for (int i = 0; i < 100000; i++)
		buf_addc(&deep, '[');
	for (size_t i = 0; i < COUNT(bad) + 2; i++) {
		if (i == COUNT(bad) + 1)
			for (int n = 0; n < 900000; n++)
				buf_addc(&deep, ' ');
		put(UUID, "launch.json", i < COUNT(bad) ? bad[i] : deep.data);
		put(UUID, "end.json", i < COUNT(bad) ? bad[i] : deep.data);
		eq_int(run_read(run, UUID, &r, &e), 0);
		eq_int(r.state, RUN_RUNNING);		/* whatever is written there */
		if (!r.why.msg[0] || r.proc.pid || r.has_end)
			t_fail(__FILE__, __LINE__, "%.40s was taken", i < COUNT(bad) ? bad[i] : "too deep or too large");
		run_folder_fini(&r);
	}
	close(fd);
	leave();
}

TEST(odd_folders)
{
	struct run_folder r;
	struct err e = { 0 };
	enter();
	ok(mkdirat(run, UUID, 0700) == 0);
	ok(symlinkat("/etc/passwd", run, UUID "/launch.json") == 0);
	ok(symlinkat("/etc/passwd", run, UUID "/alive") == 0);
	ok(run_read(run, UUID, &r, &e) < 0);
	ok(run_read(run, "../" UUID, &r, &e) < 0);
	ok(run_read(run, "..", &r, &e) < 0);
	leave();
}

struct seen { int n[4], total; };
static void count(void *arg, const struct run_folder *r)
{
	struct seen *s = arg;
	s->n[r->state]++;
	s->total++;
}

TEST(scan)
{
	struct seen s = { 0 };
	struct err e = { 0 };
	enter();
	int fd = lock("11111111-2222-4333-8444-000000000001");
	put("11111111-2222-4333-8444-000000000002", "alive", "");
	put("11111111-2222-4333-8444-000000000003", "launch.json", "{\"boot_id\":\"another\"}");
	put("not-a-uuid", "launch.json", "{}");
	ok(symlinkat("/etc", run, "11111111-2222-4333-8444-000000000004") == 0);
	eq_int(run_scan(run, count, &s, &e), 0);
	eq_int(s.total, 4);
	eq_int(s.n[RUN_RUNNING], 1);
	eq_int(s.n[RUN_ENDED], 1);
	eq_int(s.n[RUN_HISTORY], 1);
	eq_int(s.n[RUN_UNKNOWN], 1);
	close(fd);
	leave();
}

TEST(history)
{
	char *text;
	size_t n;
	struct ring ring;
	struct err e = { 0 };
	enter();
	eq_int(run_history(run, UUID, &text, &n, &e), 0);
	eq_str(text, "");
	free(text);
	mkdirat(run, UUID, 0700);
	eq_int(ring_create(run, UUID "/console.ring", RING_MIN, &ring), 0);
	for (int i = 0; i < 2000; i++)
		ring_add(&ring, "0123456789", 10);
	ring_close(&ring);
	eq_int(run_history(run, UUID, &text, &n, &e), 0);
	eq_int(n, RING_MIN);
	eq_str(text + n - 3, "789");
	free(text);
	put(UUID, "console.ring", "junk");
	ok(run_history(run, UUID, &text, &n, &e) < 0);
	ok(run_history(run, "..", &text, &n, &e) < 0);
	leave();
}

T_MAIN
