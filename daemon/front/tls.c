#include "tls.h"
#include <errno.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "due.h"
#include "front.h"
#include "http.h"
#include "log.h"
#include "mem.h"
#include "peers.h"

enum {
	RECORD = 16384,
	SCRATCH = 4 * RECORD,
	BUDGET = 4,			/* scratches of one direction in one dispatch */
	ACCEPTS = 16,
	LINGER_USEC = 2000000,
	ACCEPT_PAUSE_USEC = 500000,
};

/* Certificates in use: a renewal replaces the current one, sessions keep theirs. */
struct creds { unsigned refs; gnutls_certificate_credentials_t cred; };

struct stash { char *p; size_t n, off; };	/* what could not be passed on; there only while it is needed */

struct client {
	struct list busy;		/* more can be done at once */
	int tcp, plain;			/* plain: our end of the socketpair */
	sd_event_source *tcp_src, *plain_src;
	gnutls_session_t s;
	struct creds *creds;
	struct peer *peer;
	struct due due;			/* of the handshake, or of lingering */
	struct stash in, out;
	bool tcp_r, tcp_w, plain_r, plain_w;	/* edge-triggered: stays until EAGAIN */
	bool open, half_sent;		/* half_sent: GnuTLS holds a record of out */
	bool more;			/* another record follows at once: few large segments, not one for each */
	bool in_eof, in_shut, in_dead;	/* client -> server: ended; passed on; nobody listens */
	bool out_eof, bye;
	char text[INET6_ADDRSTRLEN];
};

static struct creds *current;
static gnutls_priority_t priority;
static gnutls_datum_t ticket_key;
static unsigned nclients;
static char scratch[SCRATCH];
static struct list busy;
static sd_event_source *busy_src;
static struct dues handshakes, lingers;
static struct { int fd; sd_event_source *src; } listeners[DOOR_FDS];
static unsigned nlisteners;
static struct timer accept_pause;

static void creds_drop(struct creds *c)
{
	if (!c || --c->refs)
		return;
	gnutls_certificate_free_credentials(c->cred);
	free(c);
}

static void client_free(struct client *c)
{
	sd_event_source_disable_unref(c->tcp_src);
	sd_event_source_disable_unref(c->plain_src);
	due_clear(&c->due);
	list_remove(&c->busy);
	gnutls_deinit(c->s);
	close_at(&c->tcp);
	close_at(&c->plain);
	free(c->in.p);
	free(c->out.p);
	creds_drop(c->creds);
	peer_drop(c->peer);
	nclients--;
	free(c);
}

static void stash(struct stash *s, const char *p, size_t n)
{
	s->p = xmemdup(p, n);
	s->n = n;
	s->off = 0;
}

static void unstash(struct stash *s, size_t n)
{
	s->off += n;
	if (s->off < s->n)
		return;
	free(s->p);
	*s = (struct stash){ 0 };
}

/* GnuTLS says "again" for more than one reason; only the socket itself knows whether it has run dry. */
static ssize_t pull(gnutls_transport_ptr_t arg, void *p, size_t n)
{
	struct client *c = arg;
	ssize_t r = recv(c->tcp, p, n, MSG_DONTWAIT);

	if (r < 0 && errno == EAGAIN)
		c->tcp_r = false;
	return r;
}

static ssize_t push(gnutls_transport_ptr_t arg, const giovec_t *v, int n)
{
	struct client *c = arg;
	ssize_t r = sendmsg(c->tcp, &(struct msghdr){ .msg_iov = (struct iovec *)v, .msg_iovlen = n },
			    MSG_NOSIGNAL | MSG_DONTWAIT | (c->more ? MSG_MORE : 0));

	if (r < 0 && errno == EAGAIN)
		c->tcp_w = false;
	return r;
}

/* --- client -> server --- */

/* Bytes that MHD's side took; all of them when nobody listens any more. */
static size_t write_plain(struct client *c, const char *p, size_t n)
{
	if (c->in_dead)
		return n;
	ssize_t r = send(c->plain, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (r < 0 && errno != EAGAIN && errno != EINTR)
		c->in_dead = true;
	if (r < (ssize_t)n)
		c->plain_w = false;
	return c->in_dead ? n : r < 0 ? 0 : (size_t)r;
}

/* Fill the scratch from the TLS socket; a negative answer is fatal. */
static ssize_t read_records(struct client *c)
{
	size_t n = 0;

	while (n + RECORD <= SCRATCH) {
		ssize_t r = gnutls_record_recv(c->s, scratch + n, SCRATCH - n);
		if (r > 0) {
			n += r;
		} else if (r == GNUTLS_E_AGAIN && !c->tcp_r) {
			break;
		} else if (r == 0 || r == GNUTLS_E_PREMATURE_TERMINATION) {
			c->in_eof = true;
			break;
		} else if (gnutls_error_is_fatal(r)) {
			return r;
		}
	}
	return n;
}

static int pump_in(struct client *c)
{
	for (int i = 0; i < BUDGET; i++) {
		if (c->in.p) {
			unstash(&c->in, write_plain(c, c->in.p + c->in.off, c->in.n - c->in.off));
			if (c->in.p)
				return 0;
		}
		if (!c->tcp_r || c->in_eof)
			break;
		ssize_t n = read_records(c);
		if (n < 0)
			return n;
		size_t took = n ? write_plain(c, scratch, n) : 0;
		if (took < (size_t)n)
			stash(&c->in, scratch + took, n - took);
	}
	if (c->in_eof && !c->in.p && !c->in_shut) {
		shutdown(c->plain, SHUT_WR);
		c->in_shut = true;
	}
	return 0;
}

/* --- server -> client --- */

/* Bytes that were sent, fewer than n when the socket is full; negative: fatal. */
static ssize_t write_records(struct client *c, const char *p, size_t n)
{
	size_t done = 0;

	while (done < n) {
		c->more = n - done > RECORD;
		ssize_t r = c->half_sent ? gnutls_record_send(c->s, NULL, 0) :
			    gnutls_record_send(c->s, p + done, n - done);
		if (r == GNUTLS_E_INTERRUPTED)
			continue;
		c->half_sent = r == GNUTLS_E_AGAIN;
		if (c->half_sent)
			break;
		if (r < 0)
			return r;
		done += r;
	}
	return done;
}

static int say_bye(struct client *c)
{
	int r = gnutls_bye(c->s, GNUTLS_SHUT_WR);

	if (r == GNUTLS_E_AGAIN)
		return 0;
	shutdown(c->tcp, SHUT_WR);
	c->bye = true;
	due_set(&lingers, &c->due, LINGER_USEC);	/* a reset would take the answer from under the client's eyes */
	return 0;
}

static int pump_out(struct client *c)
{
	for (int i = 0; i < BUDGET; i++) {
		if (c->out.p && c->tcp_w) {
			ssize_t n = write_records(c, c->out.p + c->out.off, c->out.n - c->out.off);
			if (n < 0)
				return n;
			unstash(&c->out, n);
		}
		if (c->out.p || !c->plain_r || c->out_eof)
			break;
		ssize_t n = recv(c->plain, scratch, SCRATCH, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN) {
			c->plain_r = false;
			break;
		}
		if (n <= 0) {
			c->out_eof = true;	/* a client that does not read what is left is not waited for long */
			due_set(&lingers, &c->due, (uint64_t)front.idle_timeout_ms * 1000);
			break;
		}
		ssize_t sent = write_records(c, scratch, n);
		if (sent < 0)
			return sent;
		if (sent < n)
			stash(&c->out, scratch + sent, n - sent);
	}
	return c->out_eof && !c->out.p && !c->bye && c->tcp_w ? say_bye(c) : 0;
}

static void pump(struct client *c)
{
	if (pump_in(c) || pump_out(c) || (c->in_shut && c->bye)) {
		client_free(c);
		return;
	}
	bool in = c->in.p ? c->plain_w : c->tcp_r && !c->in_eof;
	bool out = c->out.p ? c->tcp_w : c->plain_r && !c->out_eof;
	list_remove(&c->busy);
	if (in || out) {
		list_append(&busy, &c->busy);
		sd_event_source_set_enabled(busy_src, SD_EVENT_ONESHOT);
	}
}

static int on_busy(sd_event_source *s, void *arg)
{
	struct list turn;

	loop_what("TLS");
	list_init(&turn);
	while (!list_empty(&busy)) {
		struct list *l = busy.next;
		list_remove(l);
		list_append(&turn, l);
	}
	while (!list_empty(&turn)) {
		struct client *c = LIST_ENTRY(turn.next, struct client, busy);
		list_remove(&c->busy);
		pump(c);
	}
	return 0;
}

/* --- life --- */

static int on_plain(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct client *c = arg;

	loop_what("TLS");
	c->plain_r |= !!(events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR));
	c->plain_w |= !!(events & (EPOLLOUT | EPOLLHUP | EPOLLERR));
	pump(c);
	return 0;
}

static int join_http(struct client *c)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv))
		return -errno;
	c->plain = sv[0];
	int r = sd_event_add_io(front.ev, &c->plain_src, c->plain, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, on_plain, c);
	if (r < 0) {
		close(sv[1]);
		return r;
	}
	http_add(sv[1], c->text, NULL);
	due_clear(&c->due);
	c->open = true;
	return 0;
}

/* Somebody speaks HTTP to an HTTPS port: tell, instead of a mute end. */
static bool is_plain_http(struct client *c)
{
	static const char answer[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
		"Content-Length: 42\r\n\r\nThis port speaks HTTPS: use https://HOST/\r\n";
	char first;

	if (recv(c->tcp, &first, 1, MSG_PEEK | MSG_DONTWAIT) != 1 || first < 'A' || first > 'Z')
		return false;
	return send(c->tcp, answer, sizeof(answer) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
}

static void shake(struct client *c)
{
	int r;

	do
		r = gnutls_handshake(c->s);
	while (r < 0 && !gnutls_error_is_fatal(r) && (gnutls_record_get_direction(c->s) ? c->tcp_w : c->tcp_r));
	if (r == GNUTLS_E_SUCCESS) {
		if (join_http(c) < 0)
			client_free(c);
		else
			pump(c);
	} else if (gnutls_error_is_fatal(r)) {
		if (!is_plain_http(c))
			gnutls_alert_send_appropriate(c->s, r);
		client_free(c);
	}
}

static int on_tcp(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct client *c = arg;

	loop_what("TLS");
	if (events & (EPOLLERR | EPOLLHUP)) {
		client_free(c);		/* MHD's end sees a hang-up, and croftd hears GONE */
		return 0;
	}
	c->tcp_r |= !!(events & (EPOLLIN | EPOLLRDHUP));
	c->tcp_w |= !!(events & EPOLLOUT);
	if (c->open)
		pump(c);
	else if (is_plain_http(c))
		client_free(c);
	else
		shake(c);
	return 0;
}

static void on_late(struct due *d)
{
	client_free(CONTAINER(d, struct client, due));
}

static int open_session(struct client *c)
{
	static const gnutls_datum_t alpn = { (unsigned char *)"http/1.1", 8 };

	if (gnutls_init(&c->s, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL))
		return -ENOMEM;
	c->creds = current;
	c->creds->refs++;
	if (gnutls_priority_set(c->s, priority) ||
	    gnutls_credentials_set(c->s, GNUTLS_CRD_CERTIFICATE, c->creds->cred) ||
	    gnutls_alpn_set_protocols(c->s, &alpn, 1, 0) || gnutls_session_ticket_enable_server(c->s, &ticket_key))
		return -EINVAL;
	gnutls_handshake_set_timeout(c->s, GNUTLS_INDEFINITE_TIMEOUT);	/* the deadline is ours */
	gnutls_transport_set_ptr(c->s, c);
	gnutls_transport_set_pull_function(c->s, pull);
	gnutls_transport_set_vec_push_function(c->s, push);
	return sd_event_add_io(front.ev, &c->tcp_src, c->tcp, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, on_tcp, c);
}

static void tune(int fd)
{
	int on = 1, idle_s = 60, every_s = 15, times = 4;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));	/* finds dead peers of idle consoles and events */
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof(times));
}

static void client_new(int fd, const struct sockaddr_storage *sa)
{
	char text[INET6_ADDRSTRLEN];
	struct peer *peer = nclients < front.connections_max ? peer_take(sa, front.connections_per_address, text) : NULL;

	if (!peer || !current) {
		peer_drop(peer);
		close(fd);
		return;
	}
	struct client *c = xnew(client);
	memcpy(c->text, text, sizeof(text));
	c->tcp = fd;
	c->plain = -1;
	c->peer = peer;
	nclients++;
	tune(fd);
	due_set(&handshakes, &c->due, (uint64_t)front.head_timeout_ms * 1000);
	if (open_session(c) < 0)
		client_free(c);
}

static void listen_again(void *arg)
{
	for (unsigned i = 0; i < nlisteners; i++)
		sd_event_source_set_enabled(listeners[i].src, SD_EVENT_ON);
}

static int on_accept(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct sockaddr_storage sa;

	loop_what("accept");
	for (int i = 0; i < ACCEPTS; i++) {
		socklen_t n = sizeof(sa);
		int client = accept4(fd, (struct sockaddr *)&sa, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client >= 0) {
			client_new(client, &sa);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			for (unsigned k = 0; k < nlisteners; k++)
				sd_event_source_set_enabled(listeners[k].src, SD_EVENT_OFF);
			timer_arm(&accept_pause, front.ev, ACCEPT_PAUSE_USEC, listen_again, NULL);
			break;
		} else if (errno == EAGAIN) {
			break;
		}
	}
	return 0;
}

int tls_listen(int fd, struct err *e)
{
	sd_event_source *src;

	int r = sd_event_add_io(front.ev, &src, fd, EPOLLIN, on_accept, NULL);
	if (r < 0)
		return fail_errno(e, r, "sd-event");
	listeners[nlisteners].fd = fd;
	listeners[nlisteners++].src = src;
	return 0;
}

int tls_certificate(const char *certificate, const char *key, struct err *e)
{
	gnutls_datum_t cert = { (unsigned char *)certificate, strlen(certificate) };
	gnutls_datum_t priv = { (unsigned char *)key, strlen(key) };
	struct creds *c = xnew(creds);

	c->refs = 1;
	if (gnutls_certificate_allocate_credentials(&c->cred))
		abort();
	int r = gnutls_certificate_set_x509_key_mem(c->cred, &cert, &priv, GNUTLS_X509_FMT_PEM);
	if (r < 0) {
		creds_drop(c);
		return fail(e, ERR_INVALID, "the TLS certificate and its key cannot be used: %s", gnutls_strerror(r));
	}
	creds_drop(current);
	current = c;
	return 0;
}

int tls_start(const char *certificate, const char *key, struct err *e)
{
	list_init(&busy);
	dues_init(&handshakes, front.ev, on_late);
	dues_init(&lingers, front.ev, on_late);
	if (gnutls_priority_init(&priority, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", NULL) ||
	    gnutls_session_ticket_key_generate(&ticket_key))
		return fail(e, ERR_INTERNAL, "GnuTLS cannot start");
	int r = sd_event_add_defer(front.ev, &busy_src, on_busy, NULL);
	if (r >= 0)
		r = sd_event_source_set_enabled(busy_src, SD_EVENT_OFF);
	return r < 0 ? fail_errno(e, r, "sd-event") : tls_certificate(certificate, key, e);
}
