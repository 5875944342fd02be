/* machine_plan.h: from a VM's row to what its start needs: the command line, and every file of it opened and checked in
 * its datastore's lane. */
#pragma once
#include "inventory.h"
#include "launch.h"

/* Is what was opened for @d a disk of that format that may be used? In a lane. */
int machine_check_disk(int fd, const struct vm_disk *d, struct err *e);
/* Would a machine of just these @devices (reshape.h), started with so much memory, be built again as it is? */
int machine_fits(const struct machine *m, const struct field_vec *devices, uint64_t boot_bytes, struct err *e);
/* done gets the launch (taken) or the error; once, later, in the loop. The VM must stay until then. */
void machine_plan(struct machine *m, void (*done)(void *arg, struct vm_launch *l, const struct err *e), void *arg);
