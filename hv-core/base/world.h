/* world.h: the clocks, this boot's id and what the kernel says of a process. All of Croft reads them here, so that a test
 * can set them; nobody sets the developer's clock. Any thread.
 *
 * Deadlines are of the monotonic clock, which never jumps. The wall clock is for what is shown and for what outlives
 * croftd; it may jump by years (a board without a clock of its own, whose time comes from the network). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

int64_t now_usec(void);					/* CLOCK_REALTIME */
int64_t mono_usec(void);				/* CLOCK_MONOTONIC */
/* The wall clock as it was when this process asked first, and what has gone by since: for ages that are compared with
 * those of an earlier croftd, and that no jump may end. */
int64_t steady_usec(void);
int64_t boot_usec(void);				/* when this boot began, by the wall clock */
void boot_id(char out[37]);				/* of this boot; "" when the kernel does not say */
uint64_t proc_start_time(pid_t pid);			/* field 22 of /proc/PID/stat, or 0 */
int64_t proc_began_usec(uint64_t start_time);		/* that as a time of the wall clock */
bool proc_is_stopped(pid_t pid, uint64_t start_time);	/* by SIGSTOP and the like, not by a debugger */
char *proc_cpus(pid_t pid);				/* those that it may run on, "4-7"; caller owns; NULL: it is gone */

/* What a test makes of the world. A croftd of the tests (-DCROFT_FAULTS) maps the file that CROFT_WORLD names: one of
 * these, which may change while it runs. */
struct world {
	int64_t ahead_usec;		/* of the wall clock */
	char boot_id[40];		/* "": the kernel's */
};
void world_set(const struct world *w);			/* borrowed for good; NULL: as it is. Before any thread is made */
