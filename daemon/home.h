/* home.h: the folder of all state, and the lock that makes one croftd its only user. */
#pragma once
#include "croft.h"
#include "err.h"

int home_open(struct croft *c, struct err *e);		/* makes HOME and the run folder; fills home, home_fd, run, run_fd */
/* Lock it; waits up to 5 s for a lock that whoever wrote it does not hold any more. -EBUSY with the pid of who has it in @pid.
 * One on a read-only file system is locked, too, and c->frozen says so. */
int home_lock(struct croft *c, int *pid, struct err *e);
/* When it was read-only, and the kernel tells that a mount has changed, and it can be written now: croftd ends, and systemd starts
 * it again. */
void home_watch(struct croft *c);
/* End the croftd that serves this home, if there is one, and wait until it is gone; one that hangs is killed. */
int home_end_other(struct croft *c, struct err *e);
