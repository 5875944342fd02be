// LINK: hv-core/base
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "child.h"
#include "file.h"
#include "jail.h"
#include "mem.h"
#include "t.h"
#include "text.h"

static sd_event *ev;
static unsigned nended;
static int status;
static char said[70000];
static struct child *child;
static bool timed_out;

static void on_ended(void *arg, int wstatus, const char *err_text)
{
	nended++;
	status = wstatus;
	snprintf(said, sizeof(said), "%s", err_text);
	timed_out = child_timed_out(child);
	child_free(child);		/* the usual place */
	child = NULL;
	sd_event_exit(ev, 0);
}

/* HOW(h.in = 5; h.out = 6) starts from the usual. */
#define HOW(set) ({ struct child_how h = { .exec_fd = -1, .in = -1, .out = -1, .stderr_max = 4096 }; set; h; })

static int start(struct child_how how, const char *script, struct err *e)
{
	const char *const argv[] = { "/bin/sh", "-c", script, NULL };

	if (!how.argv)
		how.argv = argv;
	sd_event_new(&ev);
	child = child_start(ev, &how, on_ended, NULL, e);
	return child ? 0 : -1;
}

static void run(struct child_how how, const char *script)
{
	struct err e = { 0 };

	if (start(how, script, &e))
		return t_fail(__FILE__, __LINE__, "%s", e.msg);
	sd_event_loop(ev);
	sd_event_unref(ev);
	eq_int(nended, 1);
}

static void jailed(const int *fds, size_t nfds, const char *script, int code, const char *words)
{
	nended = 0;
	run(HOW(h.jailed = true; h.fds = fds; h.nfds = nfds), script);
	eq_int(WEXITSTATUS(status), code);
	if (!strstr(said, words))
		t_fail(__FILE__, __LINE__, "%s: it said %s", script, said);
}

TEST(a_jailed_child_uses_what_it_was_given)
{
	char name[] = "/tmp/jail-XXXXXX", open_this[64];
	int fd = mkstemp(name);

	if (geteuid() != 0)
		return t_skip("needs root");
	fchmod(fd, 0600);
	snprintf(open_this, sizeof(open_this), "echo x >%s", name);
	jailed(&fd, 1, "echo good >/proc/self/fd/3 && exec /bin/cat /proc/self/fd/3 >&2", 0, "good");
	jailed(&fd, 1, "exec /bin/chown 1 /proc/self/fd/3", 1, "not permitted");
	if (jail_has_landlock()) {
		jailed(NULL, 0, "exec /bin/cat /etc/passwd", 1, "Permission denied");
		jailed(NULL, 0, open_this, 2, "Permission denied");
		jailed(NULL, 0, "exec /bin/cat /proc/self/status", 1, "Permission denied");
	}
	close(fd);
	unlink(name);
}

TEST(its_exit_code_and_its_words_are_told)
{
	run(HOW(), "echo sorry >&2; exit 3");
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 3);
	eq_str(said, "sorry");
}

TEST(its_signal_is_told)
{
	run(HOW(), "kill -TERM $$");
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	eq_str(said, "");
}

TEST(only_the_last_words_are_kept)
{
	run(HOW(h.stderr_max = 1000),
	    "i=0; while [ $i -lt 5000 ]; do echo line $i >&2; i=$((i+1)); done; sleep 0.1; echo the end >&2");
	ok(strlen(said) > 900 && strlen(said) <= 1000);
	ok(strstr(said, "the end"));
}

TEST(what_cannot_be_executed_is_an_error_at_once)
{
	struct err e = { 0 };
	const char *const argv[] = { "/no/such/program", NULL };

	ok(start(HOW(h.argv = argv), NULL, &e) < 0);
	eq_int(e.code, ERR_NOT_FOUND);
	ok(strstr(e.msg, "/no/such/program"));
	eq_int(waitpid(-1, NULL, WNOHANG), -1);	/* nothing is left to be waited for */
	eq_int(errno, ECHILD);
	eq_int(nended, 0);
	sd_event_unref(ev);
}

TEST(a_program_can_be_executed_by_descriptor)
{
	const char *const argv[] = { "a-name", "-c", "echo $0 >&2", NULL };
	int fd = open("/bin/sh", O_PATH | O_CLOEXEC);

	run(HOW(h.argv = argv; h.exec_fd = fd), NULL);
	eq_str(said, "a-name");
	close(fd);
}

TEST(descriptors_are_placed_and_all_others_closed)
{
	int leak = open("/dev/null", O_RDONLY);		/* not even close-on-exec */
	int p[2], q[2], fds[3];
	AUTO_FREE char *text = NULL;
	size_t n;

	eq_int(pipe(p), 0);
	eq_int(pipe(q), 0);
	/* the worst order: what goes to 3 is at 5, what goes to 5 is at 3 or so */
	fds[0] = q[1];
	fds[1] = p[1];
	fds[2] = leak;
	run(HOW(h.fds = fds; h.nfds = 3; h.out = p[1]),
	    "echo three >&3; echo four >&4; exec ls /proc/self/fd >&1 2>/dev/null");
	close(p[1]);
	close(q[1]);
	eq_int(file_read_fd(q[0], 1000, &text, &n), 0);
	eq_str(text, "three\n");
	free(TAKE(text));
	eq_int(file_read_fd(p[0], 1000, &text, &n), 0);
	eq_str(text, "four\n0\n1\n2\n3\n4\n5\n6\n");	/* 6 is the folder that ls reads */
}

TEST(environment_mask_handlers_umask_and_nice_are_reset)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	setenv("SECRET", "x", 1);
	umask(0);
	setpriority(PRIO_PROCESS, 0, 5);
	run(HOW(), "exec >&2; env | grep -v ^PWD= | sort; umask; pwd; ulimit -c >/dev/null;"
	    "grep -E '^Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f19 /proc/self/stat");
	char *path = strstr(said, "PATH=");
	ok(path && strstr(path, "/usr/bin"));
	ok(!strstr(said, "SECRET"));
	ok(strstr(said, "LANG=C.UTF-8"));
	ok(strstr(said, "\n0077\n/\n"));
	ok(strstr(said, "SigBlk:\t0000000000000000"));
	/* 32 and 33 are the C library's own, and stay as make's posix_spawn has left them. */
	char *ignored = strstr(said, "SigIgn:\t");

	ok(ignored && !(strtoull(ignored + 8, NULL, 16) & ~0x180000000ull));
	if (!getuid())
		eq_str(strrchr(said, '\n'), "\n0");
}

TEST(a_new_session_can_be_had)
{
	run(HOW(h.new_session = true), "cut -d' ' -f1,6 /proc/$$/stat >&2");
	int pid, session;
	ok(sscanf(said, "%d %d", &pid, &session) == 2 && pid == session);
}

TEST(a_deadline_kills)
{
	int64_t from = mono_usec();
	run(HOW(h.deadline_usec = 50000), "echo working >&2; exec sleep 60");
	ok(timed_out);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	eq_str(said, "working\nkilled at its deadline of 0 s");
	ok(mono_usec() - from < 10000000);
}

TEST(freeing_kills_and_reaps_without_a_call)
{
	struct err e = { 0 };

	eq_int(start(HOW(), "exec sleep 60", &e), 0);
	pid_t pid = child_pid(child);
	ok(proc_start_time(pid) > 0);
	child_free(child);
	for (int i = 0; i < 100 && !kill(pid, 0); i++)
		sd_event_run(ev, 20000);
	eq_int(kill(pid, 0), -1);
	eq_int(proc_start_time(pid), 0);
	sd_event_unref(ev);
	eq_int(nended, 0);
}

TEST(a_released_child_lives_on_and_is_reaped)
{
	struct err e = { 0 };
	int p[2], q[2];
	char c;

	eq_int(pipe(p), 0);
	eq_int(pipe(q), 0);
	eq_int(start(HOW(h.in = p[0]; h.out = q[1]), "read x; echo $x", &e), 0);
	close(p[0]);
	close(q[1]);
	pid_t pid = child_pid(child);
	child_release(child);
	sd_event_run(ev, 10000);
	eq_int(kill(pid, 0), 0);
	eq_int(write(p[1], "k\n", 2), 2);
	eq_int(read(q[0], &c, 1), 1);
	eq_int(c, 'k');
	for (int i = 0; i < 100 && !kill(pid, 0); i++)
		sd_event_run(ev, 20000);
	eq_int(kill(pid, 0), -1);
	sd_event_unref(ev);
	eq_int(nended, 0);
}

TEST(a_grandchild_that_holds_stderr_delays_nothing)
{
	int64_t from = mono_usec();
	run(HOW(), "sleep 30 & exit 0");
	ok(WIFEXITED(status) && !WEXITSTATUS(status));
	ok(mono_usec() - from < 10000000);
}

TEST(a_flood_of_words_ends)
{
	run(HOW(h.deadline_usec = 200000), "while :; do echo word word word >&2; done");
	ok(timed_out);
	ok(strlen(said) > 1000);
}

TEST(the_start_time_is_found_behind_any_name)
{
	ok(proc_start_time(getpid()) > 0);
	eq_int(proc_start_time(getpid()), proc_start_time(getpid()));
	eq_int(proc_start_time(0x3fffffff), 0);
}

T_MAIN
