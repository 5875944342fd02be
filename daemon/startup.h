/* startup.h: VMs are started in their orders, ascending: all of one order together, each after its delay, and the next
 * order when each is up by its gate, has lost its patience, or could not be started. The tasks host.autostart (with the
 * host) and host.restore (after maintenance). What was started already is told by the tasks that were begun since: so a
 * croftd that was killed goes on where it was, and what ended meanwhile is not started twice. The loop's thread only. */
#pragma once
#include "task.h"

extern const struct task_kind task_host_autostart, task_host_restore;

/* Once in each boot of the host: what is off and has autostart, and what the host's end had suspended. After
 * tasks_recover. In maintenance: with its end. */
void startup_begin(struct croft *c);
/* The arguments of such a task. @ids: of VMs (taken; may be NULL); @autostart: and all that have it. */
json_t *startup_args(json_t *ids, bool autostart);
/* The host was restarted in maintenance, and nothing was started yet: the ids of what its end had suspended; else NULL. */
const json_t *startup_missed(void);
/* In the lane: this boot's start is taken care of by the transaction. */
int startup_boot_work(struct db_tx *tx, struct err *e);
