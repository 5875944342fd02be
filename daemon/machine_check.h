/* machine_check.h: may a VM be so? What goes beyond its own spec: the host, datastores, networks, and other VMs' ports. */
#pragma once
#include "inventory.h"

/* A new VM: generated values are filled in. Pointers are relative to the request ("/config/..."). */
int machine_check_new(struct machine *m, struct err *e);
/* One of another home's backup, which may say anything. @more: others that are about to be added with it. */
int machine_check_stored(struct machine *m, struct machine *const *more, size_t nmore, struct err *e);
/* A changed one: @as is @m as it would be. */
int machine_check_changed(const struct machine *m, struct machine *as, struct err *e);
/* The same, with a disk more: the last one of @as, which is to be made. */
int machine_check_more(const struct machine *m, struct machine *as, struct err *e);
/* @r, as vm_spec_check or argv_build gave it: makes @e's pointer relative to the request. */
int machine_at_config(struct err *e, int r);
