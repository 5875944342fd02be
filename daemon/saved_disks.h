/* saved_disks.h: what a suspended VM's disks were when its memory was saved: the memory goes with just these. */
#pragma once
#include "inventory.h"

/* done gets a text of each disk that the guest writes to, of char *: "[local] web/data.qcow2 SIZE USEC", its length and when
 * it was written to last; taken with TAKE_VEC, else freed. Once, later, in the loop; the VM must stay until then. */
void saved_disks_look(struct machine *m, void (*done)(void *arg, struct field_vec *disks, const struct err *e), void *arg);
/* Are they as they were? */
int saved_disks_same(const struct machine *m, const struct field_vec *now, struct err *e);
