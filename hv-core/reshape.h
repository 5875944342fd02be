/* reshape.h: a command line becomes that of a machine that is there already: what was plugged in while it ran stands where it
 * was put, and what another Croft did not give it, it does not get. Devices are of char *, "ID@BUS", as QEMU told them. */
#pragma once
#include "argv.h"
#include "fields.h"

bool argv_has_device(const struct field_vec *devices, const char *id);	/* NULL: no */
/* Takes out of @a what is not in @devices, and moves the rest to its bus. ERR_STATE names a device that @a does not make, or
 * makes elsewhere; then @a is half-way, and good for argv_fini alone. */
int argv_reshape(struct argv *a, const struct field_vec *devices, struct err *e);
