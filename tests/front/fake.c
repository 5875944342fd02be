/* fake.c: a process that plays croftd for croft-front. By the path of a request:
 *
 *	/api/hello		REPLY 200 "hello"
 *	/api/head		REPLY 200, the REQUEST as text
 *	/api/refuse		REPLY 403 at once, whatever the body
 *	/api/echo		COLLECT 1 MiB, REPLY the body		/api/small: COLLECT 10 bytes
 *	/api/large		REPLY 300,000 bytes by memfd
 *	/api/store		STORE into the file "stored", then REPLY 201; ?MAX, ?dead: into a pipe that nobody reads
 *	/api/send		SEND the file "sent" (?OFFSET-LENGTH), lane "disk"; /api/send-dead: a descriptor that never answers
 *	/api/never		nothing
 *	/api/withdraw		WITHDRAW
 *	/api/follow		FOLLOW audience 7 from ?N		/api/post: EVENT of ?BYTES; /api/gap: skips a number
 *				/api/lost: tells so; /api/pass: a frame without a number, "passing"
 *	/api/join		JOIN with an echo, protocol "binary"	/api/flood: JOIN with endless bytes
 *	/api/renew		CERTIFICATE with a new one, then with junk
 *
 * AGAIN is answered with FOLLOW and the text "missed after N". */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "build_id.h"
#include "buf.h"
#include "door.h"
#include "file.h"
#include "mem.h"
#include "rig.h"

enum { UID = 64321 };
struct rig *rig;
static sd_event *ev;
static struct door *door;
static uint64_t last_event = 10;
static char flood[65536];

static void reply(uint64_t id, unsigned status, const char *headers, const void *p, size_t n)
{
	door_send(door, DOOR_REPLY, id, &(struct door_reply){ .status = status, .headers = headers, .body = { p, n } }, NULL, 0);
}

static void reply_text(uint64_t id, unsigned status, const char *text)
{
	reply(id, status, "Content-Type: text/plain\r\n", text, strlen(text));
}

static int open_in(const char *name, int flags)
{
	AUTO_FREE char *path = xasprintf("%s/%s", rig->folder, name);
	return open(path, flags | O_CLOEXEC, 0600);
}

static void on_head(uint64_t id, const struct door_request *r)
{
	AUTO_FREE char *text = xasprintf("%s %s ?%s peer=%s ticket=%s host=%s auth=%s range=%s length=%llu ws=%u\n", r->method,
		r->path, r->query ? r->query : "-", r->peer, r->ticket ? r->ticket : "-", r->host ? r->host : "-",
		r->authorization ? r->authorization : "-", r->range ? r->range : "-",
		(unsigned long long)r->content_length, r->websocket);
	reply_text(id, 200, text);
}

static void on_large(uint64_t id, const struct door_request *r)
{
	AUTO_FREE char *p = xmalloc(300000);
	for (int i = 0; i < 300000; i++)
		p[i] = 'a' + i % 26;
	int fd = file_memfd("large", p, 300000, 0400);
	door_send(door, DOOR_REPLY, id, &(struct door_reply){ .status = 200 }, &fd, 1);
}

static void on_store(uint64_t id, const struct door_request *r)
{
	static int dead[2] = { -1, -1 };
	struct door_store m = { .lane = "disk", .max = 8ull << 30, .deadline_usec = 10000000 };
	bool stuck = r->query && !strcmp(r->query, "dead");

	if (stuck && dead[0] < 0 && pipe2(dead, O_CLOEXEC))
		return;
	if (stuck) {
		m.lane = "dead";
		m.deadline_usec = 300000;
	} else if (r->query) {
		m.max = strtoull(r->query, NULL, 10);
	}
	int fd = stuck ? dup(dead[1]) : open_in("stored", O_RDWR | O_CREAT | O_TRUNC);
	door_send(door, DOOR_STORE, id, &m, &fd, 1);
}

static void on_send(uint64_t id, const struct door_request *r)
{
	unsigned long long offset = 0, length = DOOR_NO_LENGTH;
	int fd = open_in("sent", O_RDONLY);

	if (r->query)
		sscanf(r->query, "%llu-%llu", &offset, &length);
	door_send(door, DOOR_SEND, id, &(struct door_send){ .status = r->query ? 206 : 200, .headers = "X-Sent: yes\r\n",
		.lane = "disk", .offset = offset, .length = length, .deadline_usec = 10000000 }, &fd, 1);
}

static void on_send_dead(uint64_t id, const struct door_request *r)
{
	static int p[2] = { -1, -1 };
	if (p[0] < 0 && pipe2(p, O_CLOEXEC))
		return;
	int fd = dup(p[0]);
	door_send(door, DOOR_SEND, id, &(struct door_send){ .status = 200, .lane = "dead", .length = 100,
		.deadline_usec = 300000 }, &fd, 1);
}

static void on_follow(uint64_t id, const struct door_request *r)
{
	static const char text[] = ": welcome\n\n";
	int fd = file_memfd("text", text, sizeof(text) - 1, 0400);
	door_send(door, DOOR_FOLLOW, id, &(struct door_follow){ .audience = 7, .from = last_event }, &fd, 1);
}

static void post(uint64_t previous, size_t n)
{
	struct buf AUTO_BUF b = BUF_INIT(65536);
	buf_addf(&b, "id: %llu\ndata: ", (unsigned long long)++last_event);
	while (b.len < n)
		buf_addc(&b, 'x');
	buf_adds(&b, "\n\n");
	door_send(door, DOOR_EVENT, 0, &(struct door_event){ .audience = 7, .seq = last_event, .previous = previous,
		.frame = { b.data, b.len } }, NULL, 0);
}

static int on_echo(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	static char *held[1024];
	static size_t held_n[1024];
	ssize_t n;

	if (events & EPOLLOUT && held[fd]) {
		n = send(fd, held[fd], held_n[fd], MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0) {
			memmove(held[fd], held[fd] + n, held_n[fd] - n);
			held_n[fd] -= n;
		}
	}
	if (events & EPOLLIN && !held_n[fd]) {
		if (!held[fd])
			held[fd] = xmalloc(65536);
		n = recv(fd, held[fd], 65536, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN)) {
			sd_event_source_disable_unref(s);
			close(fd);
			rig->ended++;
			return 0;
		}
		held_n[fd] = n > 0 ? n : 0;
	}
	sd_event_source_set_io_events(s, held_n[fd] ? EPOLLOUT : EPOLLIN);
	return 0;
}

static int on_flood(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	if (send(fd, flood, sizeof(flood), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN) {
		sd_event_source_disable_unref(s);
		close(fd);
		rig->ended++;
	}
	return 0;
}

static void on_join(uint64_t id, const struct door_request *r)
{
	int sv[2];
	sd_event_source *s;
	bool is_flood = !strcmp(r->path, "/api/flood");

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv))
		return;
	sd_event_add_io(ev, &s, sv[0], is_flood ? EPOLLOUT : EPOLLIN, is_flood ? on_flood : on_echo, NULL);
	door_send(door, DOOR_JOIN, id, &(struct door_join){ .protocol = "binary" }, &sv[1], 1);
}

static void make_certificate(char **cert, char **key)
{
	gnutls_x509_privkey_t k;
	gnutls_x509_crt_t c;
	gnutls_datum_t out;
	unsigned char serial = 1;

	gnutls_x509_privkey_init(&k);
	gnutls_x509_privkey_generate(k, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	gnutls_x509_crt_init(&c);
	gnutls_x509_crt_set_version(c, 3);
	gnutls_x509_crt_set_key(c, k);
	gnutls_x509_crt_set_serial(c, &serial, 1);
	gnutls_x509_crt_set_dn_by_oid(c, GNUTLS_OID_X520_COMMON_NAME, 0, "croft", 5);
	gnutls_x509_crt_set_activation_time(c, time(NULL) - 3600);
	gnutls_x509_crt_set_expiration_time(c, time(NULL) + 86400);
	gnutls_x509_crt_sign2(c, c, k, GNUTLS_DIG_SHA256, 0);
	gnutls_x509_crt_export2(c, GNUTLS_X509_FMT_PEM, &out);
	*cert = xstrndup((char *)out.data, out.size);
	gnutls_free(out.data);
	gnutls_x509_privkey_export2(k, GNUTLS_X509_FMT_PEM, &out);
	*key = xstrndup((char *)out.data, out.size);
	gnutls_free(out.data);
	gnutls_x509_crt_deinit(c);
	gnutls_x509_privkey_deinit(k);
}

static void on_hello_request(uint64_t id, const struct door_request *r) { reply_text(id, 200, "hello\n"); }
static void on_refuse(uint64_t id, const struct door_request *r) { reply_text(id, 403, "no\n"); }
static void on_never(uint64_t id, const struct door_request *r) { }
static void on_collect(uint64_t id, const struct door_request *r)
{
	door_send(door, DOOR_COLLECT, id, &(struct door_collect){ strcmp(r->path, "/api/small") ? 1 << 20 : 10 }, NULL, 0);
}
static void on_renew(uint64_t id, const struct door_request *r)
{
	AUTO_FREE char *cert = NULL, *key = NULL;

	make_certificate(&cert, &key);
	door_send(door, DOOR_CERTIFICATE, 0, &(struct door_certificate){ cert, key }, NULL, 0);
	door_send(door, DOOR_CERTIFICATE, 0, &(struct door_certificate){ "junk", "junk" }, NULL, 0);
	reply_text(id, 200, "renewed\n");
}
static void on_withdraw(uint64_t id, const struct door_request *r)
{
	door_send(door, DOOR_WITHDRAW, id, &(struct door_withdraw){ 0 }, NULL, 0);
}
static void on_post(uint64_t id, const struct door_request *r)
{
	post(last_event, r->query ? strtoull(r->query, NULL, 10) : 0);
	reply_text(id, 200, "posted\n");
}
static void on_gap(uint64_t id, const struct door_request *r)
{
	last_event++;		/* an event that the front never hears of */
	post(last_event, 0);
	reply_text(id, 200, "posted\n");
}
static void on_lost(uint64_t id, const struct door_request *r)
{
	last_event++;
	door_send(door, DOOR_EVENT, 0, &(struct door_event){ .audience = 7, .seq = last_event, .previous = UINT64_MAX,
		.frame = { "", 0 } }, NULL, 0);
	reply_text(id, 200, "posted\n");
}

static void on_pass(uint64_t id, const struct door_request *r)
{
	door_send(door, DOOR_EVENT, 0, &(struct door_event){ .audience = 7, .seq = last_event, .previous = last_event,
		.frame = { "data: passing\n\n", 15 } }, NULL, 0);
	reply_text(id, 200, "posted\n");
}

static const struct { const char *path; void (*fn)(uint64_t id, const struct door_request *r); } routes[] = {
	{ "/api/hello", on_hello_request }, { "/api/head", on_head }, { "/api/refuse", on_refuse }, { "/api/echo", on_collect },
	{ "/api/small", on_collect }, { "/api/large", on_large }, { "/api/store", on_store }, { "/api/send", on_send },
	{ "/api/send-dead", on_send_dead }, { "/api/never", on_never }, { "/api/withdraw", on_withdraw },
	{ "/api/follow", on_follow }, { "/api/post", on_post }, { "/api/gap", on_gap }, { "/api/lost", on_lost }, { "/api/join", on_join },
	{ "/api/pass", on_pass }, { "/api/flood", on_join }, { "/api/renew", on_renew },
};

static void on_request(uint64_t id, const struct door_request *r)
{
	rig->requests++;
	for (size_t i = 0; i < COUNT(routes); i++)
		if (!strcmp(r->path, routes[i].path)) {
			routes[i].fn(id, r);
			return;
		}
	reply_text(id, 404, "no route\n");
}

static void on_body(uint64_t id, const struct door_body *b, int *fds, unsigned nfds)
{
	AUTO_FREE char *p = NULL;
	size_t n = b->body.n;

	if (nfds && file_read_fd(fds[0], 4 << 20, &p, &n))
		return;
	rig->body_bytes = n;
	if (n <= DOOR_INLINE) {
		reply(id, 200, NULL, p ? p : b->body.p, n);
		return;
	}
	int fd = file_memfd("echo", p, n, 0400);
	door_send(door, DOOR_REPLY, id, &(struct door_reply){ .status = 200 }, &fd, 1);
}

static void on_again(uint64_t id, uint64_t after)
{
	AUTO_FREE char *text = xasprintf("data: missed after %llu\n\n", (unsigned long long)after);
	int fd = file_memfd("text", text, strlen(text), 0400);

	rig->again++;
	door_send(door, DOOR_FOLLOW, id, &(struct door_follow){ .audience = 7, .from = last_event }, &fd, 1);
}

static void on_message(void *arg, enum door_type type, uint64_t id, const void *msg, int *fds, unsigned nfds)
{
	const struct door_stored *stored = msg;
	const struct door_sent *sent = msg;

	switch ((int)type) {
	case DOOR_REQUEST:
		on_request(id, msg);
		break;
	case DOOR_BODY:
		on_body(id, msg, fds, nfds);
		break;
	case DOOR_STORED:
		rig->stored_bytes = stored->bytes;
		rig->stored_error = stored->error;
		reply_text(id, stored->error ? 507 : 201, stored->error ? "failed\n" : "stored\n");
		break;
	case DOOR_SENT:
		rig->sent_bytes = sent->bytes;
		rig->sent_error = sent->error;
		break;
	case DOOR_GONE:
		rig->gone++;
		break;
	case DOOR_AGAIN:
		on_again(id, ((const struct door_again *)msg)->after);
		break;
	case DOOR_ACK:
		rig->acks += ((const struct door_ack *)msg)->events;
		break;
	case DOOR_LOG:
		rig->logs++;
		if (!strstr(((const struct door_log *)msg)->line, "of the loop"))	/* a loaded machine */
			fprintf(stderr, "# front: %s\n", ((const struct door_log *)msg)->line);
		break;
	}
}

static void on_end(void *arg, const char *why)
{
	sd_event_exit(ev, 0);
}

static int on_term(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	door_free(door);
	door = NULL;
	sd_event_exit(ev, 0);
	return 0;
}

static int on_local(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (client >= 0)
		door_send(door, DOOR_CONNECTION, 0, &(struct door_connection){ "ticket-of-root" }, &client, 1);
	return 0;
}

static int listen_tcp(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (bind(fd, (struct sockaddr *)&in, sizeof(in)) || listen(fd, 512) || getsockname(fd, (struct sockaddr *)&in, &n))
		abort();
	rig->port = ntohs(in.sin_port);
	return fd;
}

static int listen_unix(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s/socket", rig->folder);
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) || listen(fd, 512))
		abort();
	return fd;
}

static pid_t start_front(int fd)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);
	pid_t pid = fork();

	if (pid)
		return pid;
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	path[n] = '\0';
	for (int i = 0; i < 3; i++)
		*strrchr(path, '/') = '\0';	/* …/tests/unit/test_x */
	strcat(path, "/croft-front");
	dup2(fd, 3);
	execl(path, "croft-front", NULL);
	_exit(127);
}

static void say_hello(const struct rig_how *h, int tcp)
{
	char *cert, *key;
	int fds[2] = { tcp, h->bundle ? open(h->bundle, O_RDONLY | O_CLOEXEC) : -1 };

	make_certificate(&cert, &key);
	door_send(door, DOOR_HELLO, 0, &(struct door_hello){ .build = h->build ? h->build : BUILD_ID, .listeners = 1,
		.uid = h->as_root ? 0 : UID, .gid = UID,
		.certificate = cert, .key = key, .requests_max = h->requests_max ? h->requests_max : 64, .events_credit = 64,
		.connections_max = h->connections_max ? h->connections_max : 2048,
		.connections_per_address = h->per_address ? h->per_address : 2048,
		.head_timeout_ms = h->head_ms ? h->head_ms : 5000, .idle_timeout_ms = h->idle_ms ? h->idle_ms : 30000,
		.ring_bytes = h->ring ? h->ring : 65536 }, fds, h->bundle ? 2 : 1);
	free(cert);
	free(key);
}

static void __attribute__((noreturn)) play(const struct rig_how *h)
{
	int sv[2], local;
	sd_event_source *s;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (sd_event_new(&ev) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv))
		abort();
	sigset_t term;
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	sd_event_add_signal(ev, NULL, SIGTERM, on_term, NULL);
	int tcp = listen_tcp();
	local = listen_unix();
	rig->front = start_front(sv[1]);
	close(sv[1]);
	door = door_new(ev, sv[0], DOOR_OF_CROFTD, on_message, on_end, NULL);
	sd_event_add_io(ev, &s, local, EPOLLIN, on_local, NULL);
	say_hello(h, tcp);
	rig->fake = getpid();
	sd_event_loop(ev);
	int status = 0;
	waitpid(rig->front, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fprintf(stderr, "# croft-front ended with status %#x\n", status);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
}

void rig_start(const struct rig_how *how)
{
	if (!rig)
		rig = mmap(NULL, sizeof(*rig), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(rig, 0, sizeof(*rig));
	strcpy(rig->folder, "/tmp/croft-front-XXXXXX");
	if (!mkdtemp(rig->folder))
		abort();
	fflush(NULL);
	if (!fork())
		play(how);
	for (int i = 0; i < 500 && !rig->fake; i++)
		usleep(10000);
}

int rig_end(void)
{
	int status = 0;
	char command[128];

	kill(rig->fake, SIGTERM);	/* the door's end is the front's end */
	while (wait(&status) < 0 && errno == EINTR)
		;
	static const char *const names[] = { "socket", "stored", "sent" };
	for (size_t i = 0; i < COUNT(names); i++) {
		snprintf(command, sizeof(command), "%s/%s", rig->folder, names[i]);
		unlink(command);
	}
	rmdir(rig->folder);
	return status;
}

void rig_stop(void)
{
	eq_int(rig_end(), 0);
}

bool rig_wait(bool (*cond)(void))
{
	for (int i = 0; i < 500; i++) {
		if (cond())
			return true;
		usleep(10000);
	}
	return false;
}
