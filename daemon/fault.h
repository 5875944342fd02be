/* fault.h: what a croftd of the tests (built with -DCROFT_FAULTS) does on purpose at the beginning and the end of each
 * step of a task. In any other build it does nothing. By the environment, a point being KIND:STEP:WHERE
 * ("vm.create:1:begin"; begin, end, undo, undone, finished):
 *	CROFT_FAULT_LOG=FILE	first the table of all steps, then every point that is passed
 *	CROFT_FAIL_AT=POINT	the step fails
 *	CROFT_CANCEL_AT=POINT	the task is cancelled
 *	CROFT_DIE_AT=POINT	croftd is killed
 *	CROFT_KILL_ORDER=FILE	when the file says "front POINT" or "croft-vm POINT": it is removed, and the local front or
 *				the VM's croft-vm is killed; croftd goes on */
#pragma once
#include <stdbool.h>

struct task;
#ifdef CROFT_FAULTS
void fault_table(void);
bool fault_at(const struct task *t, const char *where);	/* true: fail */
#else
static inline void fault_table(void) {}
static inline bool fault_at(const struct task *t, const char *where) { return false; }
#endif
