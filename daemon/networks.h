/* networks.h: the networks of this host, as rows. */
#pragma once
#include "croft.h"

struct networks;
int networks_new(struct croft *c, struct networks **ret, struct err *e);	/* loads; makes "nat" at first */
void networks_free(struct networks *n);
bool networks_has(const struct croft *c, const char *name);
