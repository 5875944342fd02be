/* croft-front: carries TLS, HTTP, WebSocket, the web client and bulk bytes for croftd. It is told everything through
 * the door (descriptor 3), confines itself before the first byte of a client, and decides nothing. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "build_id.h"
#include "bundle.h"
#include "confine.h"
#include "exchange.h"
#include "follow.h"
#include "front.h"
#include "http.h"
#include "log.h"
#include "loop.h"
#include "mem.h"
#include "sandbox.h"
#include "tls.h"

enum { DOOR_FD = 3, SLOW_MS = 50 };

struct front front;
static bool greeted;

static void through_door(enum log_level level, const char *line)
{
	if (front.door && greeted)
		door_send(front.door, DOOR_LOG, 0, &(struct door_log){ level, line }, NULL, 0);
}

static void __attribute__((noreturn)) give_up(const char *why)
{
	dprintf(2, "croft-front: %s\n", why);
	_exit(1);
}

static void on_end(void *arg, const char *why)
{
	_exit(0);	/* no tidying up: a lane may hang in a dead NFS server for ever */
}

static int prepare(const struct door_hello *h, struct err *e)
{
	struct rlimit files = { 0 };
	rlim_t need = (rlim_t)h->connections_max * 4 + h->requests_max * 2 + 64;

	if (strcmp(h->build, BUILD_ID))
		return fail(e, ERR_STATE, "croftd is of another build (%s, this is %s)", h->build, BUILD_ID);
	if (h->uid == 0)
		return fail(e, ERR_FORBIDDEN, "croft-front does not run as root");
	front.requests_max = h->requests_max;
	front.connections_max = h->connections_max;
	front.connections_per_address = h->connections_per_address;
	front.head_timeout_ms = h->head_timeout_ms;
	front.idle_timeout_ms = h->idle_timeout_ms;
	front.ring_bytes = h->ring_bytes;
	if (!getrlimit(RLIMIT_NOFILE, &files) && files.rlim_cur < need) {
		files.rlim_cur = need;
		files.rlim_max = files.rlim_max > need ? files.rlim_max : need;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	exchange_start();
	follow_start();
	int r = http_start(e);
	if (!r && h->certificate && h->key)
		r = tls_start(h->certificate, h->key, e);
	return r;
}

static int confine(const struct door_hello *h, struct err *e)
{
	int r = confine_empty_root(e);
	if (!r)
		r = confine_user(h->uid, h->gid, e);
	if (!r)
		r = sandbox_enter(e);
	return r;
}

static void on_hello(const struct door_hello *h, int *fds, unsigned nfds)
{
	struct err e = { 0 };
	int r = greeted ? fail(&e, ERR_STATE, "a second HELLO") : nfds < h->listeners ?
		fail(&e, ERR_STATE, "HELLO promises more listeners than it brings") : prepare(h, &e);

	if (!r) {
		door_send(front.door, DOOR_HELLO, 0, &(struct door_hello){ .build = BUILD_ID }, NULL, 0);
		greeted = true;
		if (nfds > h->listeners && bundle_open(TAKE_FD(fds[h->listeners]), &e))
			log_error("%s", e.msg);		/* the API works without it */
		r = confine(h, &e);
	}
	for (unsigned i = 0; !r && i < h->listeners; i++)
		r = tls_listen(TAKE_FD(fds[i]), &e);
	if (!r)
		return;
	give_up(e.msg);
}

static void on_message(void *arg, enum door_type type, uint64_t id, const void *msg, int *fds, unsigned nfds)
{
	const struct door_certificate *cert = msg;
	const struct door_connection *con = msg;
	struct err e = { 0 };

	loop_what("door");
	if (type == DOOR_HELLO)
		on_hello(msg, fds, nfds);
	else if (!greeted)
		give_up("the door did not begin with HELLO");
	else if (type == DOOR_CERTIFICATE && cert->certificate && cert->key && tls_certificate(cert->certificate, cert->key, &e))
		log_error("%s", e.msg);
	else if (type == DOOR_CONNECTION && nfds)
		http_add(TAKE_FD(fds[0]), "unix", con->ticket);
	else if (type == DOOR_EVENT)
		follow_event(msg, fds, nfds);
	else
		exchange_verdict(type, id, msg, fds, nfds);
}

static void slow(const char *what, unsigned ms)
{
	log_note("%s took %u ms of the loop", what, ms);
}

int main(int argc, char **argv)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	log_open("croft-front", LOG_INFO, through_door);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);	/* Ctrl-C is croftd's; we end with the door */
	if (null >= 0) {
		dup2(null, 0);
		dup2(null, 1);
		if (null > 2)
			close(null);
	}
	if (fcntl(DOOR_FD, F_GETFD) < 0) {
		dprintf(2, "croft-front is started by croftd\n");
		return 2;
	}
	confine_close_from(DOOR_FD, (int[]){ DOOR_FD }, 1);
	fcntl(DOOR_FD, F_SETFD, FD_CLOEXEC);
	if (sd_event_new(&front.ev) < 0)
		return 1;
	front.door = door_new(front.ev, DOOR_FD, DOOR_OF_FRONT, on_message, on_end, NULL);
	loop_run(front.ev, SLOW_MS, slow);
	return 1;
}
