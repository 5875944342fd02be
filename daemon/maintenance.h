/* maintenance.h: may this host start VMs? Not in maintenance, which is a row of the table settings: it is on disk before
 * the first VM is drained, and outlives croftd and the host. The loop's thread only. */
#pragma once
#include "db.h"
#include "fields.h"
#include "task.h"

struct maintenance_view { bool on; int action; char *by; int64_t since; uint64_t running, task; };
extern const struct fields maintenance_fields;		/* "Maintenance" */

int maintenance_new(struct croft *c, struct err *e);	/* loads c->maintenance */
void maintenance_free(struct maintenance *m);
/* 0, or ERR_STATE with who set it, and when. What starts a guest asks this last, right before it does: start, resume from
 * disk, restart after a crash, the second half of a reboot or of a creation. */
int host_may_start(const struct croft *c, struct err *e);
bool maintenance_on(const struct croft *c);
void maintenance_view(const struct croft *c, struct maintenance_view *ret);	/* texts are borrowed */

extern const struct task_kind task_host_maintenance;
void api_maintenance_status(struct req *r);
