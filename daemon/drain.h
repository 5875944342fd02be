/* drain.h: shutting this home's VMs down: first by asking the guests, then by powering off. */
#pragma once
#include "croft.h"

/* Ask all, power off what is left after @patience_s, end the loop when nothing runs any more. */
void drain_begin(struct croft *c, unsigned patience_s);
