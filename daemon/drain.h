/* drain.h: VMs are brought to an end: the host shuts down, or goes into maintenance. Orders of start descending, all of one
 * order together; each by its own policy, and powered off when its time is over. It stands on what VMs are, not on what
 * was asked before: one that was broken off is simply begun again. The loop's thread only. */
#pragma once
#include "croft.h"
#include "err.h"

enum drain_action { DRAIN_POLICY, DRAIN_SHUTDOWN, DRAIN_SUSPEND, DRAIN_POWEROFF, DRAIN_WAIT };

struct drain;
struct drain_how {
	int action;			/* enum drain_action; DRAIN_POLICY: each VM's own */
	uint64_t timeout_s;		/* of each VM; 0: its own */
	uint64_t bound_s;		/* of all of it; the VMs' times are shortened in proportion. 0: none */
	bool host_ends;			/* what is suspended goes on at the next boot */
	void (*tell)(void *arg, const char *vm, const char *text);	/* each thing that is done */
	void (*left)(void *arg, size_t left, size_t of, const char *names);	/* after each change */
	void (*over)(void *arg, const struct err *e);	/* @e: what is not gone. It frees the drain, there or later */
	void *arg;
};
struct drain *drain_new(struct croft *c, const struct drain_how *how);	/* tells nothing before it returns */
void drain_free(struct drain *d);

/* croftd --stop: within @bound_s; then the loop ends, with an error when the kernel holds one. */
void drain_host(struct croft *c, uint64_t bound_s);
