/* rebuild.h: after the database was lost, or a part of it. */
#pragma once
#include "croft.h"

/* What a person has to know: damaged databases that are kept in HOME. Blocks: at start only. */
void rebuild_tell(struct croft *c);
/* When this start has made the database anew: VMs whose folders are on the datastores come back, by way of a restore. They
 * The restore checks what the descriptors say as it checks everybody's documents. Then @then, at once when there is nothing. */
void rebuild_begin(struct croft *c, void (*then)(struct croft *c));
