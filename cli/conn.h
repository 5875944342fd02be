/* conn.h: a connection to croftd: its unix socket, or TLS to a host whose certificate is pinned. Everything has a
 * deadline; nothing here asks a person. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "err.h"

struct conn;
int conn_unix(const char *path, uint64_t timeout_usec, struct conn **ret, struct err *e);
/* @pin: SHA-256 of the certificate as 64 hex digits; NULL: whatever comes, so that it can be shown and asked about:
 * nothing may be sent on such a connection. @fingerprint gets what came, also when the pin doesn't match (ERR_FORBIDDEN). */
int conn_tls(const char *host, uint16_t port, const char *pin, char fingerprint[65], uint64_t timeout_usec,
	     struct conn **ret, struct err *e);
void conn_close(struct conn *c);				/* NULL is fine */
/* Some bytes, at least one; 0 at the end; -errno, -ETIMEDOUT. */
ssize_t conn_read(struct conn *c, void *p, size_t n, uint64_t timeout_usec);
int conn_write(struct conn *c, const void *p, size_t n, uint64_t timeout_usec);	/* all */
int conn_fd(const struct conn *c);				/* for poll */
size_t conn_pending(const struct conn *c);			/* bytes that were read already, which poll won't tell */
