/* bare.c: the limit beside fan.c: a process that does nothing but write to many who read.
 *
 *	bare CLIENTS BYTES SECONDS
 * A child writes BYTES to each of CLIENTS unix sockets in turn, as one send each, and waits where one is full. Prints how
 * many sends a second there were, and how many in a second of the child's CPU time. */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "mem.h"
#include "talk.h"
#include "world.h"

static void write_all(int (*pair)[2], int clients, size_t bytes, atomic_bool *over, _Atomic uint64_t *sent)
{
	AUTO_FREE char *event = xcalloc(1, bytes);

	while (!atomic_load(over)) {
		for (int i = 0; i < clients && !atomic_load(over); i++) {
			while (send(pair[i][0], event, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
				if (errno != EAGAIN)
					die("send: %m");
				if (poll(&(struct pollfd){ .fd = pair[i][0], .events = POLLOUT }, 1, 100) == 0 && atomic_load(over))
					return;
			}
			atomic_fetch_add(sent, 1);
		}
	}
}

static void read_until(int ep, int64_t end)
{
	static char buf[256 * 1024];
	struct epoll_event ev[256];

	while (mono_usec() < end) {
		int n = epoll_wait(ep, ev, 256, 50);

		for (int i = 0; i < n; i++)
			if (recv(ev[i].data.fd, buf, sizeof buf, MSG_DONTWAIT) < 0 && errno != EAGAIN)
				die("recv: %m");
	}
}

int main(int argc, char **argv)
{
	struct { atomic_bool over; _Atomic uint64_t sent; } *shared;
	struct rusage use;
	int ep = epoll_create1(EPOLL_CLOEXEC), status;

	if (argc != 4)
		die("usage: bare CLIENTS BYTES SECONDS");
	int clients = atoi(argv[1]), seconds = atoi(argv[3]);
	size_t bytes = strtoul(argv[2], NULL, 10);
	int (*pair)[2] = xcalloc((size_t)clients, sizeof *pair);

	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap: %m");
	for (int i = 0; i < clients; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair[i]) < 0)
			die("socketpair: %m");
		epoll_ctl(ep, EPOLL_CTL_ADD, pair[i][1], &(struct epoll_event){ .events = EPOLLIN, .data.fd = pair[i][1] });
	}
	pid_t child = fork();

	if (child < 0)
		die("fork: %m");
	if (child == 0) {
		write_all(pair, clients, bytes, &shared->over, &shared->sent);
		_exit(0);
	}
	read_until(ep, mono_usec() + seconds * (int64_t)SECOND);
	uint64_t sent = atomic_load(&shared->sent);

	atomic_store(&shared->over, true);
	if (wait4(child, &status, 0, &use) < 0 || status)
		die("the writer ended with %d", status);
	double cpu_s = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;

	printf("%.0f %.0f\n", (double)sent / seconds, (double)sent / cpu_s);
	free(pair);
	return 0;
}
