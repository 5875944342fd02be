/* rebuild.h: after the database was lost, or a part of it. */
#pragma once
#include "croft.h"

/* What a person has to know: damaged databases that are kept in HOME. Blocks: at start only. */
void rebuild_tell(struct croft *c);
/* When the database was made anew, and this was not done since: VMs whose folders are on the datastores come back, by way of
 * a restore, which checks what their descriptors say as it checks everybody's documents. Then @then. */
void rebuild_begin(struct croft *c, void (*then)(struct croft *c));
