/* hot.h: what of a VM can be changed while it runs, and the way from what it is to what is wanted. A pure function over
 * two specs; a table says which part of the config is changed by what. How each is done to QEMU: engine_qemu_hot.h. */
#pragma once
#include "spec.h"

/* In the order in which they are done: what needs no guest, then what goes (the guest takes its time), for which what comes
 * then has room. */
enum hot_what {
	HOT_NONE,		/* not while it runs: at its next start */
	HOT_MEDIUM,		/* the disc in a CD drive */
	HOT_SIZE, HOT_LIMITS, HOT_CABLE, HOT_FORWARDS, HOT_MEMORY,
	HOT_NIC_REMOVE, HOT_DISK_REMOVE, HOT_CDROM_REMOVE,
	HOT_DISK_ADD, HOT_CDROM_ADD, HOT_NIC_ADD,
	HOT_USB,		/* an entry of the config: can it ever be plugged in? */
	HOT_USB_UNPLUG, HOT_USB_PLUG,	/* the device that it means: planned by who knows what is plugged into the host */
	HOT_NWHATS
};
struct hot_step {
	enum hot_what what;
	char name[64];		/* of the disk, drive, NIC, device; or "" */
	char pointer[96];	/* the part of the config that it makes true: "/cdroms/cd0/iso" */
};
enum { HOT_MAX = 64 };
struct hot_plan { struct hot_step steps[HOT_MAX]; size_t n; };

/* The steps from @is, what runs, to @wanted. @fresh: QEMU has just been started or found; what its command line cannot
 * say (limits, cables) is to be done too. Any thread. */
void hot_plan(const struct vm_spec *is, const struct vm_spec *wanted, bool fresh, struct hot_plan *ret);
/* That part was tried before, and nobody knows how far it came: it is to be made so, also where the two don't differ. */
void hot_again(const struct vm_spec *is, const struct vm_spec *wanted, const char *pointer, struct hot_plan *plan);
bool hot_has(const struct vm_spec *s, const char *pointer);	/* the entry of a map that it names, or that is in; other parts are there */
/* The step was done: that part of @is becomes as it is in @wanted. */
void hot_adopt(struct vm_spec *is, const struct vm_spec *wanted, const struct hot_step *s);
/* What the step needs opened: a datastore path, borrowed from @wanted, or NULL. */
const char *hot_file(const struct hot_step *s, const struct vm_spec *wanted, bool *ret_writable);
