/* past.h: what the events tell of a croftd before: since when a VM that it left running is what it is. */
#pragma once
#include "err.h"

struct db;
struct inventory;

/* Of the VMs that are being attached: vm_was(). Blocks: at start only. A VM whose events are pruned is not told anything. */
int past_read(struct db *db, struct inventory *inv, struct err *e);
