/* tasks_vm.h: the kinds of tasks on VMs. */
#pragma once
#include "task.h"

struct vm_launch;

extern const struct task_kind task_vm_create, task_vm_delete;		/* tasks_disks.c: what makes and removes files */
extern const struct task_kind task_vm_start, task_vm_shutdown, task_vm_reboot, task_vm_poweroff, task_vm_reset,
	task_vm_pause, task_vm_resume, task_vm_freeze, task_vm_thaw, task_vm_set_time;
extern const struct task_kind task_vm_suspend, task_vm_wake, task_vm_discard;	/* suspend.c */
const struct task_kind *task_start_kind(const struct machine *m);	/* a suspended VM is woken (NULL: none is there) */
/* The rest of a step that starts a guest, which its cancel ends: the VM is off, or suspended, again. @l is taken; NULL: simulated. */
void task_launch(struct task *t, struct vm_launch *l);
/* The args of vm.create: an id for each volume that is to be made, so that every step can be done again. */
json_t *task_vm_create_args(const struct machine *m, bool start);
