/* crash.h: what follows when a VM has crashed (config.on_crash): QEMU was ended by a signal or failed, or the guest's
 * kernel panicked. It is started again after 1 s, 2 s, 4 s, ... 300 s, from the beginning when it ran for 10 minutes; it
 * stays off; or a panicked one is kept as it is. Nothing is stored but what the row tells anyway: that it ought to run. */
#pragma once
#include "inventory.h"

void crash_changed(struct machine *m);		/* its state is another, which is told next */
void crash_begin(struct croft *c);		/* croftd starts: what crashed while it was away; after tasks_recover */
bool crash_waits(const struct machine *m);	/* it will be started again */
const char *crash_note(const struct machine *m);	/* when, and why; NULL: it does not wait. Borrowed */
void crash_stop(struct machine *m);		/* somebody wants something else */
void crash_free(struct machine *m);
