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
	bool adds;				/* between hot_plug_begin and hot_plug */
	/* What it says, NULL where it was refused. May look at and change the calls after it (hot_after), or end the
	 * step with *e filled. May be NULL. */
	void (*then)(struct hot_run *h, json_t *result, struct err *e);
};
/* Queues the calls of @s; 0, or refuses with @e. @fd is what hot_file() names, or -1: hot_add_fd takes it, else it is
 * closed. What is needed later of @is and @wanted is copied into the calls. */
typedef int (*hot_builder)(struct hot_run *h, const struct hot_step *s, const struct vm_spec *is,
			   const struct vm_spec *wanted, int *fd, struct err *e);
extern const hot_builder hot_builders[HOT_NWHATS];	/* engine_qemu_hot.c; NULL: not while it runs */

/* @args taken, may be NULL. The answer is valid until the next one is queued. */
struct hot_call *hot_call(struct hot_run *h, const char *command, json_t *args);
struct hot_call *hot_after(struct hot_run *h, unsigned n);	/* in then: the nth call after this one */
struct guest *hot_guest(const struct hot_run *h);
/* Called only when QEMU refuses one of the others, whatever it says. Queued last. */
void hot_undo(struct hot_run *h, const char *command, json_t *args);

/* add-fd of *fd, and blockdev-add of @node (taken: JSON from argv.h), whose file is opened from that set. */
void hot_add_node(struct hot_run *h, char *node, int *fd);
/* blockdev-del of the node @node and its set of descriptors; fine when there is none. */
void hot_drop_node(struct hot_run *h, const char *node, const char *file);

/* A device that may be there already: what is queued from hot_plug_begin to hot_plug is passed over then. @on_a_port: a free root
 * port is looked for, and becomes the device's bus. */
void hot_plug_begin(struct hot_run *h, bool on_a_port);
void hot_plug(struct hot_run *h, char *device);			/* device_add; @device taken: JSON from argv.h */
/* device_del, and wait for 8 s until the guest has let go of it. Gone already is success. A guest that takes longer fails
 * the step with ERR_TIMEOUT; when it has let go at last (on_unplugged), the step done again succeeds. Refused with @e
 * while the guest is paused. */
void hot_unplug(struct hot_run *h, const char *device, struct err *e);

/* The builders: engine_qemu_disk.c and engine_qemu_nic.c. */
#define HOT_BUILDER(name) int name(struct hot_run *h, const struct hot_step *s, const struct vm_spec *is, \
				   const struct vm_spec *wanted, int *fd, struct err *e)
HOT_BUILDER(hot_medium);
HOT_BUILDER(hot_size);
HOT_BUILDER(hot_limits);
HOT_BUILDER(hot_disk_add);
HOT_BUILDER(hot_disk_remove);
HOT_BUILDER(hot_cdrom_add);
HOT_BUILDER(hot_cdrom_remove);
HOT_BUILDER(hot_cable);
HOT_BUILDER(hot_forwards);
HOT_BUILDER(hot_nic_add);
HOT_BUILDER(hot_nic_remove);
HOT_BUILDER(hot_memory);	/* engine_qemu_memory.c */
HOT_BUILDER(hot_usb);		/* engine_qemu_usb.c */
HOT_BUILDER(hot_usb_plug);
HOT_BUILDER(hot_usb_unplug);
