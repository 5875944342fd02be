// LINK: hv-core/base
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "door.h"
#include "mem.h"
#include "t.h"
#include "text.h"

/* ---- the codec ---- */

static char wire[DOOR_MAX];

/* Encode @msg into wire, decode it into @ret. */
static size_t there_and_back(enum door_type type, const void *msg, unsigned nfds, void *ret)
{
	enum door_type got;
	uint64_t id;
	unsigned n;
	size_t len = 0;

	eq_int(door_encode(type, 77, msg, nfds, wire, sizeof(wire), &len), 0);
	eq_int(door_decode(wire, len, &got, &id, &n, ret, door_size(type)), 0);
	eq_int(got, type);
	eq_int(id, 77);
	eq_int(n, nfds);
	return len;
}

static const struct door_request request = {
	.method = "POST", .path = "/api/v1/vms", .query = "", .peer = "fe80::1", .ticket = "t", .host = "h",
	.origin = "https://h", .authorization = "Bearer x", .cookie = "c=1", .content_type = "application/json",
	.accept = "*/*", .if_match = "\"1\"", .if_none_match = "*", .idempotency_key = "k", .prefer = "wait=60",
	.last_event_id = "12", .range = "bytes=0-", .upload_offset = "5", .repr_digest = "sha-256=:x:",
	.content_length = UINT64_MAX, .websocket = 1,
};

TEST(a_request_arrives_with_every_field)
{
	struct door_request got;

	there_and_back(DOOR_REQUEST, &request, 0, &got);
	const char *const *in = (const char *const *)&request, *const *out = (const char *const *)&got;
	for (size_t i = 0; i < offsetof(struct door_request, content_length) / sizeof(char *); i++) {
		ok(in[i] && out[i] && in[i] != out[i]);
		eq_str(out[i], in[i]);
	}
	ok(got.content_length == UINT64_MAX);
	eq_int(got.websocket, 1);
}

TEST(a_text_that_is_not_there_stays_null_and_an_empty_one_stays_empty)
{
	struct door_request got, in = { .method = "GET", .path = "/", .peer = "unix", .query = "" };

	there_and_back(DOOR_REQUEST, &in, 0, &got);
	ok(!got.cookie && !got.ticket && !got.repr_digest);
	eq_str(got.query, "");
}

TEST(numbers_and_bytes_of_the_other_types_arrive)
{
	struct door_hello h = {
		.build = "b", .listeners = 1, .uid = 2, .gid = 3, .certificate = "c", .key = "k", .requests_max = 4,
		.events_credit = 5, .connections_max = 6, .connections_per_address = 7, .head_timeout_ms = 8,
		.idle_timeout_ms = 9, .ring_bytes = 10,
	}, h2;
	struct door_reply r = { .status = 200, .headers = "A: b\r\n", .body = { "a\0b", 3 }, .close = 1 }, r2;
	struct door_send s = { .status = 206, .headers = "x", .lane = "l", .offset = 1, .length = DOOR_NO_LENGTH,
			       .deadline_usec = 3 }, s2;
	struct door_store t = { .lane = "l", .offset = 1ull << 40, .max = 2, .deadline_usec = 3 }, t2;
	struct door_event v = { .audience = 1, .seq = 2, .previous = 3, .frame = { "data", 4 } }, v2;

	there_and_back(DOOR_HELLO, &h, 3, &h2);
	eq_str(h2.build, "b");
	eq_str(h2.key, "k");
	ok(h2.listeners == 1 && h2.uid == 2 && h2.gid == 3 && h2.requests_max == 4 && h2.events_credit == 5 &&
	   h2.connections_max == 6 && h2.connections_per_address == 7 && h2.head_timeout_ms == 8 &&
	   h2.idle_timeout_ms == 9 && h2.ring_bytes == 10);
	there_and_back(DOOR_REPLY, &r, 0, &r2);
	ok(r2.status == 200 && r2.close == 1 && r2.body.n == 3 && !memcmp(r2.body.p, "a\0b", 4));
	eq_str(r2.headers, "A: b\r\n");
	there_and_back(DOOR_SEND, &s, 1, &s2);
	ok(s2.status == 206 && s2.offset == 1 && s2.length == UINT64_MAX && s2.deadline_usec == 3);
	eq_str(s2.lane, "l");
	there_and_back(DOOR_STORE, &t, 1, &t2);
	ok(t2.offset == 1ull << 40 && t2.max == 2 && t2.deadline_usec == 3);
	there_and_back(DOOR_EVENT, &v, 0, &v2);
	ok(v2.audience == 1 && v2.seq == 2 && v2.previous == 3 && v2.frame.n == 4);
	there_and_back(DOOR_STORED, &(struct door_stored){ 5, EIO }, 0, &v2);
	ok(((struct door_stored *)&v2)->bytes == 5 && ((struct door_stored *)&v2)->error == EIO);
	there_and_back(DOOR_SENT, &(struct door_sent){ 6, ENOSPC }, 0, &v2);
	ok(((struct door_sent *)&v2)->bytes == 6 && ((struct door_sent *)&v2)->error == ENOSPC);
	there_and_back(DOOR_FOLLOW, &(struct door_follow){ 7, 8 }, 1, &v2);
	ok(((struct door_follow *)&v2)->audience == 7 && ((struct door_follow *)&v2)->from == 8);
}

TEST(every_type_has_rows)
{
	for (int t = DOOR_NONE + 1; t < DOOR_NTYPES; t++) {
		char zero[512] = { 0 }, got[512];
		ok(door_size(t) > 0 && door_size(t) < sizeof(zero));
		there_and_back(t, zero, 0, got);
	}
	eq_int(door_size(DOOR_NONE), 0);
	eq_int(door_size(DOOR_NTYPES), 0);
}

static int decode(size_t len)
{
	enum door_type type;
	uint64_t id, big[64];
	unsigned n;
	AUTO_FREE char *exact = xmemdup(wire, len + !len);	/* so that a sanitizer sees one byte too far */
	return door_decode(exact, len, &type, &id, &n, big, sizeof(big));
}

TEST(a_message_that_is_cut_or_changed_is_refused)
{
	struct door_request got;
	size_t len = there_and_back(DOOR_REQUEST, &request, 0, &got);

	for (size_t n = 0; n < len; n++)
		eq_int(decode(n), -EBADMSG);
	eq_int(decode(len), 0);
	wire[len - 1] = 0;
	eq_int(decode(len + 1), -EBADMSG);
	for (size_t i = 0; i < len; i++) {	/* any single byte changed: accepted or refused, never a crash */
		wire[i] ^= 0xff;
		int r = decode(len);
		ok(r == 0 || r == -EBADMSG);
		wire[i] ^= 0xff;
	}
	char *path = memmem(wire, len, "/api/v1/vms", 11);
	path[3] = 0;				/* a NUL inside a text */
	eq_int(decode(len), -EBADMSG);
	path[3] = 'i';
	path[11] = 'x';				/* no NUL behind it */
	eq_int(decode(len), -EBADMSG);
	path[11] = 0;
	uint32_t none = UINT32_MAX;		/* a path must be there */
	memcpy(path - 4, &none, 4);
	eq_int(decode(len), -EBADMSG);
}

TEST(what_does_not_fit_is_not_encoded)
{
	char out[64];
	size_t n;
	struct door_bytes big = { wire, DOOR_MAX };

	eq_int(door_encode(DOOR_REQUEST, 1, &request, 0, out, sizeof(out), &n), -EBADMSG);
	eq_int(door_encode(DOOR_BODY, 1, &(struct door_body){ big }, 0, wire, sizeof(wire), &n), -EBADMSG);
	eq_int(door_encode(DOOR_ACK, 1, &(struct door_ack){ 1 }, DOOR_FDS + 1, out, sizeof(out), &n), -EBADMSG);
}

/* ---- two doors in one loop ---- */

struct end {
	struct door *door;
	sd_event *ev;
	unsigned got, want, ended;
	uint64_t id;
	int fd;			/* the first descriptor that came, kept */
	bool free_inside, echo;
	const char *why;
};

static void on_message(void *arg, enum door_type type, uint64_t id, const void *msg, int *fds, unsigned nfds)
{
	struct end *e = arg;

	e->got++;
	if (e->echo)
		door_send(e->door, DOOR_REPLY, id, &(struct door_reply){ .status = 200, .body = { "hi", 2 } }, NULL, 0);
	else
		ok(!e->id || id == e->id + 1);	/* in order */
	e->id = id;
	if (nfds && e->fd < 0)
		e->fd = TAKE_FD(fds[0]);
	if (e->free_inside) {
		door_free(e->door);
		e->door = NULL;
	}
	if (e->got == e->want)
		sd_event_exit(e->ev, 0);
}

static void on_ended(void *arg, const char *why)
{
	struct end *e = arg;

	e->ended++;
	e->why = why;
	door_free(e->door);
	e->door = NULL;
	sd_event_exit(e->ev, 0);
}

static struct end front, croftd;

static void pair(void)
{
	int fd[2];

	sd_event_new(&front.ev);
	croftd.ev = front.ev;
	eq_int(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	front.fd = croftd.fd = -1;
	front.door = door_new(front.ev, fd[0], DOOR_OF_FRONT, on_message, on_ended, &front);
	croftd.door = door_new(front.ev, fd[1], DOOR_OF_CROFTD, on_message, on_ended, &croftd);
}

static void unpair(void)
{
	door_free(front.door);
	door_free(croftd.door);
	sd_event_unref(front.ev);
}

static int fds_open(void)
{
	int n = 0;
	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

TEST(messages_and_descriptors_pass)
{
	int p[2], before;
	char c;

	pair();
	before = fds_open();
	eq_int(pipe(p), 0);
	croftd.want = 2;
	door_send(front.door, DOOR_REQUEST, 1, &request, NULL, 0);
	door_send(front.door, DOOR_BODY, 2, &(struct door_body){ 0 }, p, 2);
	sd_event_loop(front.ev);
	eq_int(croftd.got, 2);
	ok(croftd.fd >= 0 && fcntl(croftd.fd, F_GETFD) == FD_CLOEXEC);
	eq_int(fds_open(), before + 1);		/* the writing end was closed for us: nobody kept it */
	eq_int(read(croftd.fd, &c, 1), 0);
	close(croftd.fd);
	unpair();
}

TEST(a_flood_is_queued_and_comes_in_order)
{
	AUTO_FREE char *body = xcalloc(1, 8000);

	pair();
	croftd.want = 1500;
	for (unsigned i = 1; i <= croftd.want; i++)
		door_send(front.door, DOOR_BODY, i, &(struct door_body){ { body, 8000 } }, NULL, 0);
	ok(door_queued(front.door) > 1 << 20);	/* far more than the socket takes */
	sd_event_loop(front.ev);
	eq_int(croftd.got, 1500);
	eq_int(croftd.id, 1500);
	eq_int(door_queued(front.door), 0);
	unpair();
}

TEST(a_queue_without_a_reader_ends_the_door_and_closes_what_it_held)
{
	AUTO_FREE char *body = xcalloc(1, DOOR_INLINE);
	int before;

	pair();
	before = fds_open();
	door_free(croftd.door);
	croftd.door = NULL;
	int fd[2];
	eq_int(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd), 0);
	door_free(front.door);
	front.door = door_new(front.ev, fd[0], DOOR_OF_FRONT, on_message, on_ended, &front);
	for (int i = 0; i < 2000; i++) {
		int p = i == 1000 ? dup(0) : -1;
		door_send(front.door, DOOR_BODY, i, &(struct door_body){ { body, DOOR_INLINE } }, &p, p >= 0);
	}
	eq_int(front.ended, 0);		/* told from the loop only */
	sd_event_loop(front.ev);
	eq_int(front.ended, 1);
	close(fd[1]);
	eq_int(fds_open(), before - 2);
	unpair();
}

TEST(the_last_words_of_a_closed_end_are_still_read)
{
	pair();
	for (unsigned i = 1; i <= 3; i++)
		door_send(front.door, DOOR_ACK, i, &(struct door_ack){ i }, NULL, 0);
	door_send(croftd.door, DOOR_WITHDRAW, 1, &(struct door_withdraw){ 0 }, NULL, 0);	/* unread: a reset */
	door_free(front.door);
	front.door = NULL;
	door_send(croftd.door, DOOR_WITHDRAW, 2, &(struct door_withdraw){ 0 }, NULL, 0);
	sd_event_loop(front.ev);
	eq_int(croftd.got, 3);
	eq_int(croftd.ended, 1);
	eq_str(croftd.why, "the other end has gone");
	unpair();
}

TEST(a_type_of_the_wrong_side_ends_the_door)
{
	pair();
	door_send(front.door, DOOR_REPLY, 1, &(struct door_reply){ .status = 200 }, NULL, 0);
	sd_event_loop(front.ev);
	eq_int(croftd.got, 0);
	eq_int(croftd.ended, 1);
	unpair();
}

static void raw(const void *p, size_t n, int nfds_sent)
{
	union { struct cmsghdr align; char b[CMSG_SPACE(sizeof(int) * 32)]; } control = { 0 };
	struct iovec iov = { (void *)p, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fd[2], before;

	pair();
	door_free(front.door);
	door_free(croftd.door);
	front.door = NULL;
	croftd.got = croftd.ended = 0;
	before = fds_open();
	eq_int(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd), 0);
	croftd.door = door_new(front.ev, fd[1], DOOR_OF_CROFTD, on_message, on_ended, &croftd);
	if (nfds_sent) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * nfds_sent);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
				       .cmsg_len = CMSG_LEN(sizeof(int) * nfds_sent) };
		memset(CMSG_DATA(c), 0, sizeof(int) * nfds_sent);	/* stdin, many times */
	}
	eq_int(sendmsg(fd[0], &m, 0), n);
	sd_event_loop(front.ev);
	eq_int(croftd.got, 0);
	eq_int(croftd.ended, 1);
	close(fd[0]);
	eq_int(fds_open(), before);
	unpair();
}

TEST(torn_messages_end_the_door_and_leak_no_descriptor)
{
	size_t n;

	raw("short", 5, 0);
	door_encode(DOOR_ACK, 1, &(struct door_ack){ 1 }, 0, wire, sizeof(wire), &n);
	raw(wire, n, 3);		/* descriptors that the head does not tell */
	raw(wire, n, DOOR_FDS + 4);	/* more than there is room for */
	door_encode(DOOR_ACK, 1, &(struct door_ack){ 1 }, 2, wire, sizeof(wire), &n);
	raw(wire, n, 1);
	AUTO_FREE char *big = xcalloc(1, DOOR_MAX + 100);
	door_encode(DOOR_ACK, 1, &(struct door_ack){ 1 }, 0, big, DOOR_MAX, &n);
	raw(big, DOOR_MAX + 100, 0);
}

TEST(a_door_may_be_freed_by_its_own_callback)
{
	pair();
	croftd.free_inside = true;
	croftd.want = 1;
	for (int i = 1; i < 10; i++)
		door_send(front.door, DOOR_ACK, i, &(struct door_ack){ 1 }, NULL, 0);
	sd_event_loop(front.ev);
	eq_int(croftd.got, 1);
	unpair();
}

TEST(a_round_trip_is_fast)
{
	pair();
	croftd.echo = true;
	front.echo = false;
	front.want = 20000;
	int64_t from = mono_usec();
	for (unsigned i = 1; i <= front.want; i++)
		door_send(front.door, DOOR_REQUEST, i, &request, NULL, 0);
	sd_event_loop(front.ev);
	int64_t took = mono_usec() - from;
	eq_int(front.got, 20000);
	printf("# %lld round trips per second\n", 20000ll * 1000000 / (long long)took);
	ok(took < 10 * 1000000);	/* far from the goal on purpose: a loaded machine is no bug */
	unpair();
}

T_MAIN
