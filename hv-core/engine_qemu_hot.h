/* engine_qemu_hot.h: how a step of hot.h is done to QEMU: for each kind a builder, which queues a short sequence of
 * calls. They are sent one after the other, each with the monitor's deadline; one that fails ends the step, unless it is
 * marked. A sequence finds out by itself what of it was done before, or can be done again: croftd may have died after any
 * of its calls. Descriptors come by add-fd into a set that the next calls use (a set that nothing uses ends with the
 * monitor's connection). The loop's thread only. */
#pragma once
#include "engine_qemu.h"
#include "hot.h"

struct hot_run;
struct hot_call {
	const char *command;
	json_t *args;				/* owned, or NULL */
	int fd;					/* owned: sent along; -1 */
	bool may_fail;				/* QEMU may refuse it: most often because that is so already */
	bool skip;				/* set by a call before it */
	bool unplugs;				/* hot_unplug's */
	/* What it says, NULL where it was refused. May look at and change the calls after it (hot_after), or end the
	 * step with *e filled. May be NULL. */
	void (*then)(struct hot_run *h, json_t *result, struct err *e);
};
enum { HOT_CALLS = 16 };

/* Queues the calls of @s; 0, or refuses with @e. @fd is what hot_file() names, or -1: hot_add_fd takes it, else it is
 * closed. What is needed later of @is and @wanted is copied into the calls. */
typedef int (*hot_builder)(struct hot_run *h, const struct hot_step *s, const struct vm_spec *is,
			   const struct vm_spec *wanted, int *fd, struct err *e);
extern const hot_builder hot_builders[HOT_NWHATS];	/* engine_qemu_hot.c; NULL: not while it runs */

struct hot_call *hot_call(struct hot_run *h, const char *command, json_t *args);	/* args taken, may be NULL */
struct hot_call *hot_after(struct hot_run *h, unsigned n);	/* in then: the nth call after this one */
void hot_done(struct hot_run *h);				/* in then: it is so already; the rest is not sent */
/* add-fd of *fd, and with its set the call @command of the JSON object @node, whose "file" is a node on that set. */
void hot_add_node(struct hot_run *h, char *node, int *fd);
/* blockdev-del of the node @node and its set of descriptors; fine when there is none. */
void hot_drop_node(struct hot_run *h, const char *node, const char *file);
/* device_del, and wait until the guest has let go of it: asked twice, 15 s each. Gone already is success. */
void hot_unplug(struct hot_run *h, const char *device);

/* The builders. */
int hot_medium(struct hot_run *h, const struct hot_step *s, const struct vm_spec *is, const struct vm_spec *wanted, int *fd,
	       struct err *e);		/* engine_qemu_disk.c */
