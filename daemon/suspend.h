/* suspend.h: a VM's memory to its folder and back: the tasks vm.suspend, vm.wake and vm.discard. What decides is the row:
 * while it has a memory, the guest has not run since that was saved. So it is written before QEMU ends, and erased before
 * a guest that has loaded it runs. */
#pragma once
#include "inventory.h"

void suspend_loaded(struct machine *m);		/* the engine has loaded its memory: erase it from the row, then it runs */
/* The row has no memory any more, nor has @m. done comes later; with an error nothing is known, and the guest must not run. */
void suspend_forget(struct machine *m, void (*done)(void *arg, const struct err *e), void *arg);
/* Before a start, under the lock of its folder: a memory there that the row does not have must be a rest of this home's own. */
void suspend_check(struct machine *m, void (*done)(void *arg, const struct err *e), void *arg);
/* The file, if there is one, and it is not another home's (@anyones: whoever's). */
void suspend_remove(struct machine *m, bool anyones, void (*done)(void *arg, const struct err *e), void *arg);
