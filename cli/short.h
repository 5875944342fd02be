/* short.h: short keys for what is wanted most: disk=20GiB, image=FILE, cdrom=FILE, nic=NETWORK, forward=2222:22,
 * kernel=FILE, initrd=FILE, cmdline=TEXT. */
#pragma once
#include "api.h"
#include "err.h"
#include <jansson.h>

struct short_key { const char *name, *value, *help; bool create; };	/* create: of a new VM alone */
extern const struct short_key short_keys[];		/* ends with a NULL name */
/* Does it make sense where @op asks? */
static inline bool short_fits(const struct short_key *k, const struct api_op *op)
{
	return api_field(op->in, "config", 6) && !(k->create && op->flags & API_PATCH);
}
/* 1: it was a short key of a VM, and is in @body; 0: it is none; < 0: ERR_INVALID. */
int short_set(json_t *body, const struct api_schema *s, const char *assignment, struct err *e);
/* What a new VM gets that was told of no NIC: one on the default network. nic=none was told by an empty map. */
void short_defaults(json_t *body, const struct api_schema *s);
