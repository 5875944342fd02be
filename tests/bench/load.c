/* load.c: the client of `make bench`: measures single requests, rates, uploads, a console and croftd's start.
 *
 *	load TARGET TOKEN get PATH COUNT		median and 99th percentile in ms
 *	load TARGET TOKEN changed PATH VM COUNT		the same, each after a change of that VM
 *	load TARGET TOKEN create PREFIX COUNT		the same, creating simulated VMs
 *	load TARGET TOKEN rate PATH CONNECTIONS MS	answers a second
 *	load TARGET TOKEN sweep PATH CONNECTIONS	slowest round in ms: 1, 2 ... connections ask at once, each round twice
 *	load TARGET TOKEN put PATH FILE			seconds
 *	load TARGET TOKEN echo VM MIB			MB a second through a console that echoes, counted one way
 *	load TARGET TOKEN start PATH LOG CROFTD ...	ms from exec to the first answer; croftd is ended again
 * TARGET: a socket's path, or the port of https://127.0.0.1. TOKEN: "-" for none. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "mem.h"
#include "talk.h"
#include "text.h"

#define FRAME	(64 * 1024)
static char buffer[4 * FRAME];

static double ms_since(int64_t start) { return (double)(mono_usec() - start) / 1000; }

static void measure(const char *what, const char *path, const char *vm, int count)
{
	AUTO_FREE double *ms = xcalloc((size_t)count, sizeof *ms);
	struct conn *c = talk_dial(), *other = talk_dial();
	bool create = strcmp(what, "create") == 0;
	int warm = create ? 10 : count / 10 + 5;

	for (int i = -warm; i < count; i++) {
		AUTO_FREE char *change = xasprintf("{\"config\":{\"description\":\"%d\"}}", i);
		AUTO_FREE char *vm_path = xasprintf("/api/v1/vms/%s", vm ?: "");
		AUTO_FREE char *body = xasprintf("{\"name\":\"%s%d\",\"config\":{\"engine\":\"sim\"}}", path, i + warm);

		if (vm)
			talk(other, "PATCH", vm_path, change, 200);
		int64_t start = mono_usec();

		if (create)
			talk(c, "POST", "/api/v1/vms", body, 201);
		else
			talk(c, "GET", path, "", 200);
		if (i >= 0)
			ms[i] = ms_since(start);
	}
	printf("%.4f %.4f\n", percentile(ms, (size_t)count, 50), percentile(ms, (size_t)count, 99));
	conn_close(c);
	conn_close(other);
}

/* ---- rate: each connection has one request under way; one thread, so that little is taken from the two that answer */

struct asker { struct conn *c; size_t n; char buf[16384]; };

static bool whole(struct asker *a)
{
	char *end, *length;

	a->buf[a->n] = 0;
	if (!(end = strstr(a->buf, "\r\n\r\n")) || !(length = strcasestr(a->buf, "\r\nContent-Length:")))
		return false;
	if (a->n < (size_t)(end + 4 - a->buf) + strtoull(length + 17, NULL, 10))
		return false;
	if (atoi(a->buf + 9) != 200)
		die("%d instead of 200", atoi(a->buf + 9));
	a->n = 0;
	return true;
}

static bool answered(struct asker *a)
{
	for (;;) {
		ssize_t got = conn_read(a->c, a->buf + a->n, sizeof a->buf - 1 - a->n, 0);

		if (got == -ETIMEDOUT)
			return false;
		if (got <= 0)
			die("a connection ended within an answer");
		a->n += (size_t)got;
		if (whole(a))
			return true;
	}
}

static struct asker *asker_add(int ep)
{
	struct asker *a = xnew(asker);

	a->c = talk_dial();
	epoll_ctl(ep, EPOLL_CTL_ADD, conn_fd(a->c), &(struct epoll_event){ .events = EPOLLIN, .data.ptr = a });
	return a;
}

/* Waits for answers; those who got one are in @ready. */
static int answers(int ep, int connections, struct asker *ready[64])
{
	struct epoll_event ev[64];
	int n = epoll_wait(ep, ev, 64, 10000), found = 0;

	if (n <= 0)
		die("a stall: no answer for 10 s on %d connections", connections);
	for (int i = 0; i < n; i++)
		if (answered(ev[i].data.ptr))
			ready[found++] = ev[i].data.ptr;
	return found;
}

static void rate(const char *path, int connections, int ms)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), waiting = connections;
	struct asker *ready[64];
	uint64_t count = 0;

	for (int i = 0; i < connections; i++)
		talk_send(asker_add(ep)->c, "GET", path, "", "", 0);
	int64_t start = mono_usec(), now = start, warm = start + ms * 100, end = start + ms * 1000;

	while (waiting) {		/* at the end each must have its last answer */
		int n = answers(ep, waiting, ready);
		bool counting = now < end;

		now = mono_usec();
		for (int i = 0; i < n; i++) {
			count += counting;
			if (now < end)
				talk_send(ready[i]->c, "GET", path, "", "", 0);
			else
				waiting--;
		}
		if (now < warm) {
			start = now;
			count = 0;
		}
		if (counting && now >= end)
			end = now;
	}
	printf("%.0f\n", (double)count * 1e6 / (double)(end - start));
}

static void sweep(const char *path, int connections)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct asker **all = xcalloc((size_t)connections, sizeof *all), *ready[64];
	double slowest = 0;

	for (int n = 1; n <= connections; n++) {
		all[n - 1] = asker_add(ep);
		for (int round = 0; round < 2; round++) {
			int64_t start = mono_usec();

			for (int i = 0; i < n; i++)
				talk_send(all[i]->c, "GET", path, "", "", 0);
			for (int left = n; left; )
				left -= answers(ep, n, ready);
			slowest = ms_since(start) > slowest ? ms_since(start) : slowest;
		}
	}
	printf("%.1f\n", slowest);
	free(all);
}

static void put(const char *path, const char *name)
{
	struct conn *c = talk_dial();
	struct stat st;
	int fd = open(name, O_RDONLY);
	int64_t start = mono_usec();
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		die("%s cannot be read: %m", name);
	talk_send(c, "PUT", path, "", "", (size_t)st.st_size);
	while ((n = read(fd, buffer, sizeof buffer)) > 0)
		if (conn_write(c, buffer, (size_t)n, TALK_DEADLINE) < 0)
			die("the file cannot be sent");
	int status = talk_answer(c, buffer, sizeof buffer);

	if (status != 201)
		die("PUT %s: %d: %.500s", path, status, buffer);
	printf("%.4f\n", ms_since(start) / 1000);
	close(fd);
	conn_close(c);
}

/* ---- a console that echoes: frames of 64 KiB out, whatever frames in; payload bytes are counted */

struct echo { struct conn *c; uint64_t bytes; };

static void *send_frames(void *arg)
{
	struct echo *e = arg;
	static uint8_t frame[14 + FRAME] = { 0x82, 0x80 | 127, [2 + 5] = FRAME >> 16, [10] = 1, 2, 3, 4 };

	for (uint64_t n = 0; n < e->bytes; n += FRAME)
		if (conn_write(e->c, frame, sizeof frame, TALK_DEADLINE) < 0)
			die("a frame cannot be sent");
	return NULL;
}

static void echo(const char *vm, int mib)
{
	struct echo e = { talk_console(vm), (uint64_t)mib << 20 };
	uint64_t have = 0;
	pthread_t thread;
	uint8_t last;
	ssize_t got;
	int64_t start;

	while ((got = conn_read(e.c, buffer, sizeof buffer, SECOND / 2)) > 0)	/* its greeting */
		talk_payload((uint8_t *)buffer, (size_t)got, &last);
	start = mono_usec();
	pthread_create(&thread, NULL, send_frames, &e);
	while (have < e.bytes) {
		if ((got = conn_read(e.c, buffer, sizeof buffer, 10 * SECOND)) <= 0)
			die("the console ended after %llu of %llu bytes: %s", (unsigned long long)have, (unsigned long long)e.bytes,
			    got ? strerror((int)-got) : "end of file");
		have += talk_payload((uint8_t *)buffer, (size_t)got, &last);
	}
	printf("%.1f\n", (double)e.bytes / (double)(mono_usec() - start));
	pthread_join(thread, NULL);
	conn_close(e.c);
}

/* ---- start */

static pid_t spawn(char **argv, const char *log)
{
	posix_spawn_file_actions_t files;
	pid_t pid;

	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	posix_spawn_file_actions_adddup2(&files, 1, 2);
	if (posix_spawn(&pid, argv[0], &files, NULL, argv, environ))
		die("%s cannot be started", argv[0]);
	return pid;
}

static void start(const char *socket, const char *path, const char *log, char **argv)
{
	int64_t begin = mono_usec();
	pid_t pid = spawn(argv, log);
	struct conn *c = NULL;
	struct err e;
	int status;

	while (conn_unix(socket, SECOND, &c, &e) < 0) {
		if (mono_usec() - begin > 30 * (int64_t)SECOND || waitpid(pid, &status, WNOHANG) == pid)
			die("croftd did not start: %s (%s)", e.msg, log);
		usleep(100);
	}
	talk(c, "GET", path, "", 200);
	printf("%.3f\n", ms_since(begin));
	conn_close(c);
	kill(pid, SIGTERM);
	waitpid(pid, &status, 0);
}

int main(int argc, char **argv)
{
	if (argc < 6)
		die("usage: load TARGET TOKEN get|changed|create|rate|put|echo|start ...");
	const char *what = argv[3];

	signal(SIGPIPE, SIG_IGN);
	talk_to(argv[1], argv[2]);
	if (strcmp(what, "rate") == 0 && argc == 7)
		rate(argv[4], atoi(argv[5]), atoi(argv[6]));
	else if (strcmp(what, "sweep") == 0 && argc == 6)
		sweep(argv[4], atoi(argv[5]));
	else if (strcmp(what, "changed") == 0 && argc == 7)
		measure(what, argv[4], argv[5], atoi(argv[6]));
	else if ((strcmp(what, "get") == 0 || strcmp(what, "create") == 0) && argc == 6)
		measure(what, argv[4], NULL, atoi(argv[5]));
	else if (strcmp(what, "put") == 0 && argc == 6)
		put(argv[4], argv[5]);
	else if (strcmp(what, "echo") == 0 && argc == 6)
		echo(argv[4], atoi(argv[5]));
	else if (strcmp(what, "start") == 0 && argc >= 7)
		start(argv[1], argv[4], argv[5], argv + 6);
	else
		die("unknown words");
	return 0;
}
