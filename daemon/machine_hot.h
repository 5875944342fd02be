/* machine_hot.h: a running VM becomes what is wanted, as far as that goes without a power cycle. One runner a VM: it looks
 * where machine.started differs from machine.spec, does one step after the other (hot.h), and after each that went well
 * commits what the VM is now; what did not go stays pending, with a reason. Nobody waits for it but who says so: no claim
 * and no task holds it, and it takes up what changed while it was at work. */
#pragma once
#include "inventory.h"

struct machine_hot;
struct hot_reason {			/* why a part is still pending */
	char *pointer;			/* "/cdroms/cd0/iso" */
	char *text;
	enum err_code code;		/* ERR_TIMEOUT: the guest was asked, and may do it yet */
	bool old;			/* it is being tried again: none, unless it fails again */
};
/* Something differs now, or may be tried again. @fresh: the VM has just come up, or was found running. */
void machine_hot(struct machine *m, bool fresh);
/* Answer @r (taken) with the VM as it is when the runner is idle, or after 10 s. */
void machine_hot_answer(struct machine *m, struct req *r);
/* A task that waits for the runner is told by its vm_changed when this has become false. */
bool machine_hot_busy(const struct machine *m);
const struct hot_reason *machine_hot_reason(const struct machine *m, const char *pointer);	/* or NULL */
/* The guest has let go of @device ("disk-data", "nic-lan"), when nobody waited for it any more, or without being asked. */
void machine_hot_unplugged(struct machine *m, const char *device);
void machine_hot_forget(struct machine *m);		/* the reasons: it is off */
void machine_hot_free(struct machine *m);		/* with the machine */
