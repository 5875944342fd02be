/* fuzz_http.c: a client's bytes through libmicrohttpd and all of the front's handlers, with a croftd in the same loop
 * whose verdict is chosen by the path. The first byte says where the input is cut in two. At the end no id may be left. */
// LINK: daemon/front
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "exchange.h"
#include "file.h"
#include "follow.h"
#include "front.h"
#include "http.h"
#include "log.h"
#include "mem.h"

struct front front;
static struct door *croftd;
static uint64_t open_ids[64];		/* as croftd sees it; a GONE may cross a REPLY */

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void opened(uint64_t id)
{
	for (size_t i = 0; i < COUNT(open_ids); i++)
		if (!open_ids[i]) {
			open_ids[i] = id;
			return;
		}
	abort();	/* more than requests_max, by far */
}

static bool ended(uint64_t id)
{
	for (size_t i = 0; i < COUNT(open_ids); i++)
		if (open_ids[i] == id) {
			open_ids[i] = 0;
			return true;
		}
	return false;
}

static bool any_open(void)
{
	for (size_t i = 0; i < COUNT(open_ids); i++)
		if (open_ids[i])
			return true;
	return false;
}

static void reply(uint64_t id, unsigned status)
{
	if (!ended(id))
		return;
	door_send(croftd, DOOR_REPLY, id, &(struct door_reply){ .status = status, .headers = "X-Y: z\r\n", .body = { "text", 4 },
		.close = status == 500 }, NULL, 0);
}

static void verdict(uint64_t id, char kind)
{
	int fd = -1, sv[2];

	switch (kind) {
	case 'c':
		door_send(croftd, DOOR_COLLECT, id, &(struct door_collect){ 1000 }, NULL, 0);
		break;
	case 's':
		fd = memfd_create("stored", MFD_CLOEXEC);
		door_send(croftd, DOOR_STORE, id, &(struct door_store){ .lane = "l", .max = 100000, .deadline_usec = 1000000 }, &fd, 1);
		break;
	case 'd':
		fd = file_memfd("sent", "0123456789", 10, 0400);
		door_send(croftd, DOOR_SEND, id, &(struct door_send){ .status = 200, .lane = "l", .offset = 2, .length = 8,
			.deadline_usec = 1000000 }, &fd, 1);
		break;
	case 'f':
		door_send(croftd, DOOR_FOLLOW, id, &(struct door_follow){ 1, 1 }, NULL, 0);
		door_send(croftd, DOOR_EVENT, 0, &(struct door_event){ 1, 3, 2, { "data: x\n\n", 9 } }, NULL, 0);
		break;
	case 'j':
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv))
			abort();
		if (send(sv[0], "hello", 5, MSG_NOSIGNAL) != 5)
			abort();
		close(sv[0]);
		door_send(croftd, DOOR_JOIN, id, &(struct door_join){ "binary" }, &sv[1], 1);
		break;
	case 'w':
		door_send(croftd, DOOR_WITHDRAW, id, &(struct door_withdraw){ 0 }, NULL, 0);
		ended(id);
		break;
	case 'n':
		break;
	default:
		reply(id, kind == 'x' ? 500 : 200);
	}
}

static void on_croftd(void *arg, enum door_type type, uint64_t id, const void *msg, int *fds, unsigned nfds)
{
	if (type == DOOR_REQUEST) {
		opened(id);
		verdict(id, ((const struct door_request *)msg)->path[4] ? ((const struct door_request *)msg)->path[5] : 0);
	} else if (type == DOOR_BODY || type == DOOR_STORED) {
		reply(id, 200);
	} else if (type == DOOR_SENT || type == DOOR_GONE) {
		ended(id);
	} else if (type == DOOR_AGAIN) {
		door_send(croftd, DOOR_FOLLOW, id, &(struct door_follow){ 1, 3 }, NULL, 0);
	}
}

static void on_front(void *arg, enum door_type type, uint64_t id, const void *msg, int *fds, unsigned nfds)
{
	if (type == DOOR_EVENT)
		follow_event(msg, fds, nfds);
	else
		exchange_verdict(type, id, msg, fds, nfds);
}

static void on_end(void *arg, const char *why)
{
	abort();
}

static void start(void)
{
	struct err e = { 0 };
	int sv[2];

	front = (struct front){ .requests_max = 4, .connections_max = 16, .connections_per_address = 16,
		.head_timeout_ms = 60000, .idle_timeout_ms = 60000, .ring_bytes = 1000 };
	if (sd_event_new(&front.ev) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv))
		abort();
	front.door = door_new(front.ev, sv[0], DOOR_OF_FRONT, on_front, on_end, NULL);
	croftd = door_new(front.ev, sv[1], DOOR_OF_CROFTD, on_croftd, on_end, NULL);
	exchange_start();
	follow_start();
	if (http_start(&e))
		abort();
}

static void settle(int fd)
{
	static char sink[65536];

	for (int i = 0; i < 10000 && sd_event_run(front.ev, 0) > 0; i++)
		while (fd >= 0 && recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
}

static void say(int fd, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t r = send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (r > 0) {
			p += r;
			n -= r;
		}
		settle(fd);
		if (r <= 0)
			break;		/* the front has closed, or waits */
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	int sv[2];

	if (!front.ev)
		start();
	if (n < 2)
		return 0;
	size_t cut = 1 + p[0] * (n - 1) / 256;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv))
		abort();
	http_add(sv[1], "fuzz", "ticket");
	say(sv[0], p + 1, cut - 1);
	say(sv[0], p + cut, n - cut);
	if (p[0] & 1)
		shutdown(sv[0], SHUT_WR);
	settle(sv[0]);
	close(sv[0]);
	for (int i = 0; i < 1000 && (settle(-1), any_open()); i++)
		sd_event_run(front.ev, 1000);	/* a lane may still work */
	if (any_open())
		abort();
	return 0;
}
