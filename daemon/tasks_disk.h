/* tasks_disk.h: disks that a VM gets, loses, or that grow; also while it runs. */
#pragma once
#include "stores.h"
#include "task.h"
#include "volume.h"

extern const struct task_kind task_vm_disk_add, task_vm_disk_remove, task_vm_disk_grow;

/* Make the volume @v on @ds: empty, or a copy of @source ("[local] image.qcow2"). *ret_copy (NULL: nothing to cancel) is good
 * until @done. -errno: @e says why not, and @done is not called. */
int disk_make(struct croft *c, struct datastore *ds, const struct volume_new *v, const char *source,
	      void (*progress)(void *arg, unsigned permille), storage_done done, void *arg, struct volume_copy **ret_copy,
	      struct err *e);
