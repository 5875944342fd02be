/* certificate.h: the host's TLS certificate: HOME/tls/certificate.pem and key.pem; made at first start when there is
 * none, self-signed, ECDSA P-256. Blocks: at start. */
#pragma once
#include "croft.h"
#include "err.h"

int certificate_load(struct croft *c, struct err *e);		/* fills c->certificate, its sha256, and c->key */
