#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "conn.h"
#include "mem.h"
#include "text.h"

struct conn {
	int fd;
	gnutls_session_t tls;			/* NULL on a unix socket */
	gnutls_certificate_credentials_t credentials;
};

/* 0 when @fd is ready, -ETIMEDOUT */
static int wait_for(int fd, short events, int64_t end_usec)
{
	for (;;) {
		int64_t left = end_usec - mono_usec();
		int r = poll(&(struct pollfd){ .fd = fd, .events = events }, 1, left <= 0 ? 0 : (int)((left + 999) / 1000));

		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
		if (!r && left <= 0)
			return -ETIMEDOUT;
	}
}

static int64_t end_of(uint64_t timeout_usec)
{
	return mono_usec() + (int64_t)timeout_usec;
}

/* Connect without blocking for longer than allowed. */
static int connect_by(int fd, const struct sockaddr *to, socklen_t len, int64_t end)
{
	int error = 0, r;
	socklen_t n = sizeof(error);

	if (!connect(fd, to, len))
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	r = wait_for(fd, POLLOUT, end);
	if (r < 0)
		return r;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
		return -errno;
	return -error;
}

static struct conn *conn_new(int fd)
{
	struct conn *c = xnew(conn);

	c->fd = fd;
	return c;
}

int conn_unix(const char *path, uint64_t timeout_usec, struct conn **ret, struct err *e)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0)
		return fail_errno(e, errno, "make a socket");
	if ((size_t)snprintf(to.sun_path, sizeof(to.sun_path), "%s", path) >= sizeof(to.sun_path))
		return fail(e, ERR_INVALID, "the path of the socket is too long: %s", path);
	r = connect_by(fd, (struct sockaddr *)&to, sizeof(to), end_of(timeout_usec));
	if (r < 0)
		return fail_errno(e, r, "connect to %s", path);
	*ret = conn_new(TAKE_FD(fd));
	return 0;
}

static int connect_tcp(const char *host, uint16_t port, int64_t end, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV }, *all;
	char service[8];
	int r, fd = -1;

	snprintf(service, sizeof(service), "%u", port);
	r = getaddrinfo(host, service, &hints, &all);
	if (r)
		return fail(e, ERR_UNAVAILABLE, "the address of %s can't be found: %s", host, gai_strerror(r));
	for (struct addrinfo *a = all; a; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		r = fd < 0 ? -errno : connect_by(fd, a->ai_addr, a->ai_addrlen, end);
		if (!r)
			break;
		close_at(&fd);
		fd = -1;
	}
	freeaddrinfo(all);
	return r < 0 ? fail_errno(e, r, "connect to %s, port %u", host, port) : fd;
}

static int check_pin(struct conn *c, const char *pin, char fingerprint[65], struct err *e)
{
	unsigned n = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(c->tls, &n);
	uint8_t sum[32];
	size_t len = sizeof(sum);

	if (!chain || !n || gnutls_fingerprint(GNUTLS_DIG_SHA256, &chain[0], sum, &len) < 0)
		return fail(e, ERR_UNAVAILABLE, "the host has shown no certificate");
	text_hex_format(sum, sizeof(sum), fingerprint);
	if (pin && strcasecmp(pin, fingerprint))
		return fail(e, ERR_FORBIDDEN, "the host's certificate is another than the one that was trusted");
	return 0;
}

static int handshake(struct conn *c, int64_t end)
{
	for (;;) {
		int r = gnutls_handshake(c->tls);

		if (r == GNUTLS_E_SUCCESS)
			return 0;
		if (gnutls_error_is_fatal(r))
			return r;
		if (wait_for(c->fd, gnutls_record_get_direction(c->tls) ? POLLOUT : POLLIN, end) < 0)
			return GNUTLS_E_TIMEDOUT;
	}
}

int conn_tls(const char *host, uint16_t port, const char *pin, char fingerprint[65], uint64_t timeout_usec,
	     struct conn **ret, struct err *e)
{
	int64_t end = end_of(timeout_usec);
	int fd = connect_tcp(host, port, end, e), r;
	struct conn *c;

	if (fd < 0)
		return fd;
	c = conn_new(fd);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));	/* keys are small, and wanted at once */
	gnutls_init(&c->tls, GNUTLS_CLIENT);
	gnutls_certificate_allocate_credentials(&c->credentials);
	gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, c->credentials);
	gnutls_set_default_priority(c->tls);
	gnutls_server_name_set(c->tls, GNUTLS_NAME_DNS, host, strlen(host));
	gnutls_transport_set_int(c->tls, fd);
	r = handshake(c, end);
	if (r)
		r = fail(e, ERR_UNAVAILABLE, "no TLS connection to %s, port %u: %s", host, port, gnutls_strerror(r));
	else
		r = check_pin(c, pin, fingerprint, e);
	if (r < 0) {
		conn_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

void conn_close(struct conn *c)
{
	if (!c)
		return;
	if (c->tls) {
		gnutls_bye(c->tls, GNUTLS_SHUT_WR);	/* non-blocking: as well as it can */
		gnutls_deinit(c->tls);
		gnutls_certificate_free_credentials(c->credentials);
	}
	close(c->fd);
	free(c);
}

static ssize_t read_now(struct conn *c, void *p, size_t n, short *wait)
{
	ssize_t r;

	*wait = POLLIN;
	if (!c->tls) {
		r = read(c->fd, p, n);
		return r < 0 ? (errno == EINTR ? -EAGAIN : -errno) : r;
	}
	r = gnutls_record_recv(c->tls, p, n);
	if (r >= 0)
		return r;
	if (r == GNUTLS_E_PREMATURE_TERMINATION)
		return 0;			/* lengths tell whether all has come */
	if (r == GNUTLS_E_REHANDSHAKE || !gnutls_error_is_fatal((int)r)) {
		/* Room to write never is all that a reader waits for: another thread may be what has filled the socket. */
		*wait = POLLIN | (gnutls_record_get_direction(c->tls) ? POLLOUT : 0);
		return -EAGAIN;
	}
	return -EIO;
}

ssize_t conn_read(struct conn *c, void *p, size_t n, uint64_t timeout_usec)
{
	int64_t end = end_of(timeout_usec);

	for (;;) {
		short wait;
		ssize_t r = read_now(c, p, n, &wait);

		if (r != -EAGAIN)
			return r;
		r = wait_for(c->fd, wait, end);
		if (r < 0)
			return r;
	}
}

static ssize_t write_now(struct conn *c, const void *p, size_t n)
{
	ssize_t r;

	if (!c->tls) {
		r = send(c->fd, p, n, MSG_NOSIGNAL);
		return r < 0 ? (errno == EINTR ? -EAGAIN : -errno) : r;
	}
	r = gnutls_record_send(c->tls, p, n);
	return r >= 0 ? r : gnutls_error_is_fatal((int)r) ? -EPIPE : -EAGAIN;
}

int conn_write(struct conn *c, const void *p, size_t n, uint64_t timeout_usec)
{
	int64_t end = end_of(timeout_usec);

	while (n) {
		ssize_t r = write_now(c, p, n);

		if (r == -EAGAIN) {
			r = wait_for(c->fd, POLLOUT, end);
			if (r < 0)
				return (int)r;
			continue;
		}
		if (r < 0)
			return (int)r;
		p = (const char *)p + r;
		n -= (size_t)r;
		end = end_of(timeout_usec);	/* it goes on */
	}
	return 0;
}

int conn_fd(const struct conn *c)
{
	return c->fd;
}

size_t conn_pending(const struct conn *c)
{
	return c->tls ? gnutls_record_check_pending(c->tls) : 0;
}
