/* fronts.c: starting fronts, their doors, and the requests that come through. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "access.h"
#include "build_id.h"
#include "child.h"
#include "event.h"
#include "file.h"
#include "fronts.h"
#include "list.h"
#include "log.h"
#include "mem.h"
#include "req.h"
#include "text.h"

#define CONNECTIONS_MAX	4096
#define REQUESTS_MAX	CONNECTIONS_MAX	/* streams and consoles are ids under way, too: each connection may have one */
#define EVENTS_CREDIT	256
#define RING_BYTES	(512 * 1024)
#define BUCKETS		256
#define HELLO_USEC	(5 * 1000000ull)
#define IDLE_USEC	(60 * 1000000ull)	/* after which the front of the unix socket goes */
#define ACCEPT_PAUSE_USEC (100 * 1000ull)
#define LOG_LINES	20		/* a second */
#define RESTART_USEC	(1000000ull)		/* a front that dies at once is not started faster than this */

struct front {
	struct fronts *fs;
	struct list in_fronts;
	bool local, hello, leaving;
	struct child *child;
	struct door *door;
	struct list reqs[BUCKETS];	/* by id */
	unsigned nreqs;
	int64_t log_second;		/* when it said log_lines */
	unsigned log_lines;
	unsigned credit;
	void *audiences;		/* event.c's */
	uint8_t ticket_key[32];
	struct timer deadline;		/* of hello; then idleness */
	int64_t started_usec;
};

struct fronts {
	struct croft *c;
	struct list all;
	int tcp, unix_fd, bundle, exec_fd;
	uint16_t port;
	struct front *network, *local;
	sd_event_source *on_unix;
	struct timer restart, accept_again;
	bool ending;
};

static int start(struct fronts *fs, bool local, struct err *e);

/* ---- tickets: who a local connection is, unforgeable, good for this front alone */

static void ticket_mac(struct front *f, const char *text, char out[65])
{
	uint8_t mac[32];

	gnutls_hmac_fast(GNUTLS_MAC_SHA256, f->ticket_key, sizeof f->ticket_key, text, strlen(text), mac);
	text_hex_format(mac, sizeof mac, out);
}

static char *ticket_make(struct front *f, const struct who *w)
{
	static uint64_t nonce;
	AUTO_FREE char *text = xasprintf("%llu|%d|%d|%s|%s|%s", (unsigned long long)++nonce, w->via, w->role, w->user_id, w->name, w->why);
	char mac[65];

	ticket_mac(f, text, mac);
	return xasprintf("%s|%s", mac, text);
}

static bool ticket_open(struct front *f, const char *ticket, struct who *w)
{
	char mac[65], text[400], *at = text, *part[6];

	if (!ticket || strlen(ticket) < 66 || strlen(ticket) - 65 >= sizeof text)
		return false;
	snprintf(text, sizeof text, "%s", ticket + 65);
	ticket_mac(f, text, mac);
	if (!text_const_eq(mac, ticket, 64))
		return false;
	for (int i = 0; i < 6; i++)
		part[i] = i < 5 ? strsep(&at, "|") : at;
	*w = (struct who){ .via = (enum who_via)(*part[1] - '0'), .role = (enum role)(*part[2] - '0') };
	w->perms = w->via == WHO_NOBODY ? 0 : role_perms(w->role);
	snprintf(w->user_id, sizeof w->user_id, "%s", part[3]);
	snprintf(w->name, sizeof w->name, "%s", part[4]);
	snprintf(w->why, sizeof w->why, "%s", part[5]);
	return true;
}

/* ---- requests */

void front_adopt(struct front *f, struct req *r)
{
	f->nreqs++;
	list_append(&f->reqs[r->id % BUCKETS], &r->in_front);
}

void front_left(struct front *f) { f->nreqs--; }

static struct req *find(struct front *f, uint64_t id)
{
	LIST_FOR(r, &f->reqs[id % BUCKETS], struct req, in_front)
		if (r->id == id)
			return r;
	return NULL;
}

void front_send(struct front *f, enum door_type type, uint64_t id, const void *msg, const int *fds, unsigned nfds)
{
	door_send(f->door, type, id, msg, fds, nfds);
}

unsigned *front_credit(struct front *f) { return &f->credit; }
void **front_audiences(struct front *f) { return &f->audiences; }

struct front *fronts_next(struct fronts *fs, struct front *f)
{
	if (!fs)
		return NULL;
	struct list *n = f ? f->in_fronts.next : fs->all.next;

	return n == &fs->all ? NULL : LIST_ENTRY(n, struct front, in_fronts);
}

static void idle_over(void *arg)
{
	struct front *f = arg;

	for (int i = 0; i < BUCKETS; i++)
		if (!list_empty(&f->reqs[i])) {
			timer_arm(&f->deadline, f->fs->c->ev, IDLE_USEC, idle_over, f);
			return;
		}
	/* Who comes now gets a front of his own: this one is leaving. */
	f->fs->local = NULL;
	f->leaving = true;
	child_kill(f->child, SIGTERM);
}

static void begin(struct front *f, uint64_t id, const struct door_request *head)
{
	struct who who;

	if (find(f, id) || f->nreqs >= REQUESTS_MAX) {
		log_error("croft-front breaks the rules of the door; it is replaced");
		child_kill(f->child, SIGKILL);
		return;
	}
	if (!f->local) {
		req_begin(f->fs->c, f, id, head, NULL);
		return;
	}
	timer_arm(&f->deadline, f->fs->c->ev, IDLE_USEC, idle_over, f);
	if (!ticket_open(f, head->ticket, &who))
		who = (struct who){ .why = "the connection's ticket is not ours" };
	access_refresh(f->fs->c, &who);
	/* A token or session that is sent along counts instead: the unix socket serves them like any other. */
	req_begin(f->fs->c, f, id, head, head->authorization ? NULL : &who);
}

static void body(struct req *r, const struct door_body *m, int fd)
{
	AUTO_FREE char *text = NULL;
	size_t n;

	/* Only sealed memory is read here: of anything else a front that was taken over could make us wait. */
	int seals = fd >= 0 ? fcntl(fd, F_GET_SEALS) : 0;

	if (fd < 0)
		req_body(r, m->body.p, m->body.n);
	else if (seals >= 0 && (seals & F_SEAL_SHRINK) && (seals & F_SEAL_WRITE) && file_read_fd(fd, req_body_max(r), &text, &n) == 0)
		req_body(r, text, n);
	else
		req_failf(r, ERR_BAD_REQUEST, "the body cannot be read");
}

static void hello(struct front *f, const struct door_hello *m)
{
	if (!m->build || strcmp(m->build, BUILD_ID) != 0) {
		log_error("croft-front is another build (%s) than croftd (%s)", m->build ?: "?", BUILD_ID);
		child_kill(f->child, SIGKILL);
		return;
	}
	f->hello = true;
	timer_disarm(&f->deadline);
	if (f->local)
		timer_arm(&f->deadline, f->fs->c->ev, IDLE_USEC, idle_over, f);
}

/* What it says goes into the log, but not more than a person could read. */
static void front_says(struct front *f, const struct door_log *m)
{
	int64_t second = mono_usec() / 1000000;

	if (second != f->log_second) {
		f->log_second = second;
		f->log_lines = 0;
	}
	if (f->log_lines++ < LOG_LINES)
		log_line((enum log_level)m->level, "front: %s", m->line);
}

static void acked(struct front *f, const struct door_ack *m)
{
	unsigned most = EVENTS_CREDIT - f->credit;	/* whatever it says, it was sent no more */

	event_ack(f->fs->c, f, m->events < most ? m->events : most);
}

static void on_message(void *arg, enum door_type type, uint64_t id, const void *msg, int *fds, unsigned nfds)
{
	struct front *f = arg;
	struct req *r = type == DOOR_REQUEST ? NULL : find(f, id);
	int fd = nfds ? fds[0] : -1;

	switch (type) {
	case DOOR_HELLO: hello(f, msg); return;
	case DOOR_REQUEST: begin(f, id, msg); return;
	case DOOR_LOG: front_says(f, msg); return;
	case DOOR_ACK: acked(f, msg); return;
	case DOOR_BODY:
		if (r && r->phase == REQ_COLLECTING)
			body(r, msg, fd);
		return;
	case DOOR_STORED:
		if (r && r->phase == REQ_STORING) {
			r->phase = REQ_OPEN;
			r->stored(r, ((const struct door_stored *)msg)->bytes, (int)((const struct door_stored *)msg)->error);
		}
		return;
	case DOOR_SENT: case DOOR_GONE:
		if (r)
			req_gone(r);
		return;
	case DOOR_AGAIN:
		if (r)
			event_again(r, ((const struct door_again *)msg)->after);
		return;
	case DOOR_NONE: case DOOR_CERTIFICATE: case DOOR_CONNECTION: case DOOR_REPLY: case DOOR_COLLECT: case DOOR_STORE:
	case DOOR_SEND: case DOOR_JOIN: case DOOR_FOLLOW: case DOOR_EVENT: case DOOR_WITHDRAW: case DOOR_NTYPES:
		return;		/* the door lets none of these in */
	}
}

/* ---- life */

static void front_free(struct front *f)
{
	event_front_gone(f->fs->c, f);
	for (int i = 0; i < BUCKETS; i++)
		while (!list_empty(&f->reqs[i]))
			req_gone(LIST_ENTRY(f->reqs[i].next, struct req, in_front));
	timer_disarm(&f->deadline);
	list_remove(&f->in_fronts);
	door_free(f->door);
	child_free(f->child);
	free(f);
}

static void restart(void *arg)
{
	struct fronts *fs = arg;
	struct err e = {};

	if (!fs->ending && !fs->network && start(fs, false, &e) < 0) {
		log_error("croft-front cannot be started: %s", e.msg);
		timer_arm(&fs->restart, fs->c->ev, RESTART_USEC, restart, fs);
	}
}

static void on_end(void *arg, int wstatus, const char *said)
{
	struct front *f = arg;
	struct fronts *fs = f->fs;
	bool soon = mono_usec() - f->started_usec < (int64_t)RESTART_USEC;

	if (!fs->ending && !f->leaving)
		log_warn("croft-front ended (%s %d)%s%s", WIFSIGNALED(wstatus) ? "signal" : "exit",
			 WIFSIGNALED(wstatus) ? WTERMSIG(wstatus) : WEXITSTATUS(wstatus), *said ? ": " : "", said);
	if (f == fs->local)
		fs->local = NULL;
	if (f == fs->network)
		fs->network = NULL;
	front_free(f);
	if (!fs->ending && !fs->network)
		timer_arm(&fs->restart, fs->c->ev, soon ? RESTART_USEC : 0, restart, fs);
}

static void on_door_end(void *arg, const char *why)
{
	struct front *f = arg;

	if (!f->leaving && !f->fs->ending)
		log_warn("the door of croft-front (pid %d) has ended: %s", (int)child_pid(f->child), why);
	/* Its end as a process is what counts; one that lingers without a door is no use to anybody. */
	child_kill(f->child, SIGKILL);
}

static void hello_over(void *arg)
{
	struct front *f = arg;

	log_error("croft-front (pid %d) has not answered within 5 s", (int)child_pid(f->child));
	child_kill(f->child, SIGKILL);
}

static int start(struct fronts *fs, bool local, struct err *e)
{
	struct croft *c = fs->c;
	struct front *f = xnew(front);
	int pair[2], fds[2], n = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		free(f);
		return fail_errno(e, errno, "make the door's sockets");
	}
	f->fs = fs;
	f->local = local;
	f->credit = EVENTS_CREDIT;
	f->started_usec = mono_usec();
	for (int i = 0; i < BUCKETS; i++)
		list_init(&f->reqs[i]);
	gnutls_rnd(GNUTLS_RND_KEY, f->ticket_key, sizeof f->ticket_key);
	const char *argv[] = { "croft-front", NULL };
	struct child_how how = { .argv = argv, .exec_fd = fs->exec_fd, .fds = &pair[1], .nfds = 1, .in = -1, .out = -1,
				 .new_session = true, .stderr_max = 2000 };

	f->child = child_start(c->ev, &how, on_end, f, e);
	close(pair[1]);
	if (!f->child) {
		close(pair[0]);
		free(f);
		return -e->code;
	}
	list_append(&fs->all, &f->in_fronts);
	f->door = door_new(c->ev, pair[0], DOOR_OF_CROFTD, on_message, on_door_end, f);
	struct door_hello m = {
		.build = BUILD_ID, .uid = c->front_uid, .gid = c->front_gid, .requests_max = REQUESTS_MAX,
		.events_credit = EVENTS_CREDIT, .connections_max = CONNECTIONS_MAX, .connections_per_address = 512,
		.head_timeout_ms = 10000, .idle_timeout_ms = 75000, .ring_bytes = RING_BYTES,
	};
	if (!local) {
		m.listeners = fs->tcp >= 0;
		m.certificate = c->certificate;
		m.key = c->key;
		if (fs->tcp >= 0)
			fds[n++] = fcntl(fs->tcp, F_DUPFD_CLOEXEC, 3);
	}
	if (fs->bundle >= 0)
		fds[n++] = fcntl(fs->bundle, F_DUPFD_CLOEXEC, 3);
	door_send(f->door, DOOR_HELLO, 0, &m, fds, (unsigned)n);
	timer_arm(&f->deadline, c->ev, HELLO_USEC, hello_over, f);
	*(local ? &fs->local : &fs->network) = f;
	return 0;
}

/* ---- the unix socket */

struct arrival { struct croft *c; int fd; };	/* the answer may come after the fronts' end */

static void arrived(void *arg, const struct who *w)
{
	struct arrival *a = arg;
	struct fronts *fs = a->c->fronts;
	struct err e = {};

	if (fs && !fs->ending && (fs->local || start(fs, true, &e) == 0)) {
		AUTO_FREE char *ticket = ticket_make(fs->local, w);
		struct door_connection m = { .ticket = ticket };

		door_send(fs->local->door, DOOR_CONNECTION, 0, &m, &a->fd, 1);
		if (fs->local->hello)	/* or it would go just as this client begins to speak */
			timer_arm(&fs->local->deadline, a->c->ev, IDLE_USEC, idle_over, fs->local);
	} else {
		if (e.code)
			log_error("croft-front for the unix socket cannot be started: %s", e.msg);
		close(a->fd);
	}
	free(a);
}

static void accept_again(void *arg)
{
	sd_event_source_set_enabled(((struct fronts *)arg)->on_unix, SD_EVENT_ON);
}

static int on_connect(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct fronts *fs = arg;
	struct ucred cred;
	socklen_t len = sizeof cred;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (client < 0 && errno != EAGAIN && errno != ECONNABORTED) {	/* out of descriptors: the others wait in the backlog */
		log_warn("cannot take a local client: %s", strerror(errno));
		sd_event_source_set_enabled(s, SD_EVENT_OFF);
		timer_arm(&fs->accept_again, fs->c->ev, ACCEPT_PAUSE_USEC, accept_again, fs);
	}
	if (client < 0)
		return 0;
	if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
		close(client);
		return 0;
	}
	struct arrival *a = xnew(arrival);

	a->c = fs->c;
	a->fd = client;
	access_local(fs->c, cred.uid, client, arrived, a);
	return 0;
}

/* Not below a home that is read-only: what is left there of the last one's socket can't be replaced. */
static bool in_run(const struct croft *c) { return c->opt.installed || c->frozen.code; }
static int socket_dir(const struct croft *c) { return in_run(c) ? c->run_fd : c->home_fd; }
const char *fronts_socket(const struct croft *c) { return in_run(c) ? c->run : c->home; }

static int listen_unix(struct fronts *fs, struct err *e)
{
	struct croft *c = fs->c;
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int dir = socket_dir(c);

	/* By the folder's descriptor: a home may be deeper than the 108 bytes of a socket's name. */
	snprintf(sa.sun_path, sizeof sa.sun_path, "/proc/self/fd/%d/croft.sock", dir);
	unlinkat(dir, "croft.sock", 0);
	fs->unix_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fs->unix_fd < 0 || bind(fs->unix_fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fs->unix_fd, SOMAXCONN) < 0)
		return fail_errno(e, errno, "listen on %s/croft.sock", fronts_socket(c));
	fchmodat(dir, "croft.sock", 0666, 0);	/* who may do what is decided by who it is */
	sd_event_add_io(c->ev, &fs->on_unix, fs->unix_fd, EPOLLIN, on_connect, fs);
	return 0;
}

static int listen_tcp(struct fronts *fs, struct err *e)
{
	struct croft *c = fs->c;
	struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
	struct sockaddr_in four = { .sin_family = AF_INET };
	socklen_t len = sizeof six;
	char host[64];
	uint16_t port;
	int one = 1, zero = 0;

	if (text_host_port(c->opt.listen, host, &port) < 0) {
		fail(e, ERR_INVALID, "--listen %s is no address", c->opt.listen);
		return err_hint(e, "use ADDRESS:PORT, such as 127.0.0.1:8443, [::1]:8443 or :443 for all addresses");
	}
	bool v4 = inet_pton(AF_INET, host, &four.sin_addr) == 1;

	if (!v4 && *host && inet_pton(AF_INET6, host, &six.sin6_addr) != 1)
		return fail(e, ERR_INVALID, "--listen %s: %s is no IP address", c->opt.listen, host);
	four.sin_port = six.sin6_port = htons(port);
	fs->tcp = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fs->tcp < 0 && !*host)	/* a kernel without IPv6 */
		fs->tcp = socket((v4 = true, AF_INET), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	setsockopt(fs->tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (!v4)
		setsockopt(fs->tcp, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
	int no = fs->tcp < 0 ? errno : 0;

	/* The front of a croftd that has just ended may hold the port for some milliseconds more. */
	for (int tries = 0; fs->tcp >= 0 && tries < 100; tries++) {
		no = bind(fs->tcp, v4 ? (void *)&four : (void *)&six, v4 ? sizeof four : sizeof six) < 0 || listen(fs->tcp, SOMAXCONN) < 0 ?
		     errno : 0;
		if (no != EADDRINUSE)
			break;
		usleep(20000);
	}
	if (no) {
		fail_errno(e, no, "listen on %s", c->opt.listen);
		return no == EADDRINUSE ? err_hint(e, "something else listens there; choose another with --listen 127.0.0.1:PORT") : -no;
	}
	getsockname(fs->tcp, (struct sockaddr *)&six, &len);
	fs->port = ntohs(six.sin6_family == AF_INET ? ((struct sockaddr_in *)&six)->sin_port : six.sin6_port);
	return 0;
}

int fronts_new(struct croft *c, struct fronts **ret, struct err *e)
{
	struct fronts *fs = xnew(fronts);
	AUTO_FREE char *program = xasprintf("%s/croft-front", c->opt.libexec);

	fs->c = c;
	fs->tcp = fs->unix_fd = -1;
	list_init(&fs->all);
	*ret = fs;
	/* Opened once: an upgrade of the files beneath us never gives us a front of another build. */
	fs->exec_fd = open(program, O_PATH | O_CLOEXEC);
	if (fs->exec_fd < 0)
		return fail_errno(e, errno, "open %s", program);
	fs->bundle = open(c->opt.web, O_RDONLY | O_CLOEXEC);
	if (fs->bundle < 0)
		log_warn("there is no web client at %s: %m", c->opt.web);
	int r = listen_tcp(fs, e);

	if (r < 0)
		return r;
	r = listen_unix(fs, e);
	if (r < 0 && c->frozen.code) {	/* the run folder is read-only, too: then by HTTPS alone */
		log_error("%s", e->msg);
		*e = (struct err){};
		close_at(&fs->unix_fd);
	} else if (r < 0) {
		return r;
	}
	return start(fs, false, e);
}

void fronts_free(struct fronts *fs)
{
	if (!fs)
		return;
	fs->ending = true;
	timer_disarm(&fs->accept_again);
	sd_event_source_disable_unref(fs->on_unix);
	timer_disarm(&fs->restart);
	while (!list_empty(&fs->all))
		front_free(LIST_ENTRY(fs->all.next, struct front, in_fronts));
	if (fs->unix_fd >= 0)
		unlinkat(socket_dir(fs->c), "croft.sock", 0);
	close_at(&fs->unix_fd);
	close_at(&fs->tcp);
	close_at(&fs->bundle);
	close_at(&fs->exec_fd);
	free(fs);
}

void fronts_certificate(struct fronts *fs)
{
	struct door_certificate m = { .certificate = fs->c->certificate, .key = fs->c->key };

	if (fs->network)
		front_send(fs->network, DOOR_CERTIFICATE, 0, &m, NULL, 0);
}

pid_t fronts_pid(const struct fronts *fs, bool local)
{
	const struct front *f = local ? fs->local : fs->network;

	return f ? child_pid(f->child) : 0;
}

bool fronts_serve(const struct fronts *fs) { return fs->network && fs->network->hello; }
uint16_t fronts_port(const struct fronts *fs) { return fs->port; }

void fronts_withdraw(struct fronts *fs, const char *key)
{
	for (struct front *f = NULL; (f = fronts_next(fs, f)); )
		for (int i = 0; i < BUCKETS; i++)
			LIST_FOR(r, &f->reqs[i], struct req, in_front)
				if ((r->phase == REQ_FOLLOWING || r->phase == REQ_JOINED) &&
				    (strcmp(r->who.key, key) == 0 || strcmp(r->who.user_id, key) == 0))
					req_withdraw(r);
}
