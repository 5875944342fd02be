/* host_cache.h: the host's facts, read again only when the host may have changed: another boot, another QEMU. */
#pragma once
#include "croft.h"
#include "err.h"

int host_cache_load(struct croft *c, struct err *e);	/* fills c->host. Blocks: at start */
