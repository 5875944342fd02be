/* certificate.h: the host's TLS certificate: HOME/tls/certificate.pem and key.pem; made at first start when there is
 * none, self-signed, ECDSA P-256. Blocks: at start. */
#pragma once
#include "croft.h"
#include "err.h"

int certificate_load(struct croft *c, struct err *e);		/* fills c->certificate, its sha256, and c->key */
int64_t certificate_expires(const struct croft *c);		/* microseconds since the epoch; 0: not known */
