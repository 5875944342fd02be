// LINK: tests/front daemon/front
/* What a croft-front that was taken over could do: what /proc says of it, on the normal build. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "confine.h"
#include "front.h"
#include "mem.h"
#include "rig.h"
#include "sandbox.h"

struct front front;

enum { UID = 64321 };

static char *status_of(const char *name)
{
	static char line[256];
	char path[64];
	size_t n = strlen(name);
	FILE *f;

	sprintf(path, "/proc/%d/status", rig->front);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, n) && line[n] == ':') {
			fclose(f);
			line[strcspn(line, "\n")] = '\0';
			return line + n + 1 + strspn(line + n + 1, "\t ");
		}
	if (f)
		fclose(f);
	return strcpy(line, "?");
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The kinds of all open descriptors, sorted: "/dev/null anon_inode:[eventpoll] …". */
static void descriptors(char out[4096])
{
	char path[64], link[512], target[256], *kinds[64];
	size_t n = 0;
	struct dirent *de;

	sprintf(path, "/proc/%d/fd", rig->front);
	DIR *d = opendir(path);
	while (d && (de = readdir(d)) && n < 64) {
		if (de->d_name[0] == '.')
			continue;
		snprintf(link, sizeof(link), "%s/%s", path, de->d_name);
		ssize_t len = readlink(link, target, sizeof(target) - 1);
		target[len > 0 ? len : 0] = '\0';
		char *colon = strstr(target, ":[");
		if (colon && strncmp(target, "anon_inode", 10))
			*colon = '\0';			/* a socket's number */
		kinds[n++] = xstrdup(target);
	}
	if (d)
		closedir(d);
	qsort(kinds, n, sizeof(*kinds), by_text);
	out[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		strcat(strcat(out, i ? " " : ""), kinds[i]);
		free(kinds[i]);
	}
}

static int entries_of_root(void)
{
	char path[64];
	int n = 0;
	struct dirent *de;

	sprintf(path, "/proc/%d/root", rig->front);
	DIR *d = opendir(path);
	if (!d)
		return -1;
	while ((de = readdir(d)))
		n += strcmp(de->d_name, ".") && strcmp(de->d_name, "..");
	closedir(d);
	return n;
}

TEST(nothing_is_left_to_take)
{
	static const char *const caps[] = { "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb" };
	char text[4096];

	rig_start(&(struct rig_how){ 0 });
	eq_int(get(TLS, "/api/hello", NULL, 0), 200);
	sprintf(text, "%d\t%d\t%d\t%d", UID, UID, UID, UID);
	eq_str(status_of("Uid"), text);
	eq_str(status_of("Gid"), text);
	eq_str(status_of("Groups"), "");
	for (size_t i = 0; i < COUNT(caps); i++)
		eq_str(status_of(caps[i]), "0000000000000000");
	eq_str(status_of("NoNewPrivs"), "1");
	eq_str(status_of("Seccomp"), "2");
	eq_int(entries_of_root(), 0);
	rig_stop();
}

/* null twice, stderr, the door, the loop's epoll and timers, MHD's two epolls (and an eventfd from 1.0 on), one listener. */
TEST(descriptors_are_these)
{
	char text[4096], err[256] = "", expect[4096];

	rig_start(&(struct rig_how){ 0 });
	eq_int(get(TLS, "/api/hello", NULL, 0), 200);
	usleep(300000);
	descriptors(text);
	ssize_t n = readlink("/proc/self/fd/2", err, sizeof(err) - 1);
	char *colon = n > 0 ? strstr(err, ":[") : NULL;
	if (colon)
		*colon = '\0';
	const char *kinds[] = { "/dev/null", "/dev/null", err, "socket", "socket", "anon_inode:[eventpoll]", "anon_inode:[eventpoll]",
		"anon_inode:[eventpoll]", "anon_inode:[timerfd]",
#if MHD_VERSION >= 0x01000000
		"anon_inode:[eventfd]",
#endif
	};
	qsort(kinds, COUNT(kinds), sizeof(*kinds), by_text);
	expect[0] = '\0';
	for (size_t i = 0; i < COUNT(kinds); i++)
		strcat(strcat(expect, i ? " " : ""), kinds[i]);
	eq_str(text, expect);
	rig_stop();
}

TEST(root_and_other_builds_are_refused)
{
	rig_start(&(struct rig_how){ .as_root = true });
	eq_int(WEXITSTATUS(rig_end()), 1);
	rig_start(&(struct rig_how){ .build = "another" });
	eq_int(WEXITSTATUS(rig_end()), 1);
}

/* What happens to a process in the front's own confinement that tries something: its errno, or minus the signal. */
static int attempt(long (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct err e = { 0 };
		close(2);
		if (confine_empty_root(&e) || confine_user(UID, UID, &e) || sandbox_enter(&e))
			_exit(255);
		_exit(fn() < 0 ? errno : 0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static long try_open(void) { return syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY); }
static long try_socket(void) { return syscall(SYS_socket, AF_INET, SOCK_STREAM, 0); }
static long try_process(void) { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
static long try_exec(void) { return syscall(SYS_execve, "/bin/true", NULL, NULL); }
static long try_ptrace(void) { return syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0); }
static long try_setuid(void) { return syscall(SYS_setuid, 0); }
static long try_connect(void) { return syscall(SYS_connect, 0, NULL, 0); }
static long try_mount(void) { return syscall(SYS_mount, NULL, "/", NULL, 0, NULL); }
static long try_userns(void) { return syscall(SYS_unshare, CLONE_NEWUSER); }
static long try_kill(void) { return syscall(SYS_kill, 1, 0); }

TEST(a_probe_inside_gets_nothing)
{
	static const struct { const char *name; long (*fn)(void); int want; } tries[] = {
		{ "openat", try_open, EPERM }, { "socket", try_socket, EPERM }, { "clone", try_process, EPERM },
		{ "execve", try_exec, -SIGSYS }, { "ptrace", try_ptrace, -SIGSYS }, { "setuid", try_setuid, -SIGSYS },
		{ "connect", try_connect, -SIGSYS }, { "mount", try_mount, -SIGSYS }, { "unshare", try_userns, -SIGSYS },
		{ "kill", try_kill, -SIGSYS },
	};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	t_skip("a sanitizer needs some of these calls");
	return;
#endif
	for (size_t i = 0; i < COUNT(tries); i++) {
		int got = attempt(tries[i].fn);
		if (got != tries[i].want)
			t_fail(__FILE__, __LINE__, "%s: %d, want %d", tries[i].name, got, tries[i].want);
	}
}

T_MAIN
