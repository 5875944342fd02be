/* tls.h: the network's clients. Accepts, shakes hands (GnuTLS), and pumps between the TLS socket and one end of a
 * socketpair; libmicrohttpd has the other end and sees plain text. Debian 12's libmicrohttpd carries upgraded TLS
 * connections in records of 4 bytes; so do we also own the certificate, the handshake's deadline and the limits. */
#pragma once
#include "err.h"

int tls_start(const char *certificate, const char *key, struct err *e);	/* before confinement; no socket is touched */
int tls_certificate(const char *certificate, const char *key, struct err *e);	/* for new connections */
int tls_listen(int fd, struct err *e);		/* accept from it; owned from now on */
