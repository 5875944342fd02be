/* usb.h: the host's USB devices, and which VM gets which. A VM's entry means a device by what it is, or by its port; the first VM
 * that runs and means it has it, until it ends, or its entry is taken away. A device that is plugged in again comes back.
 * What is plugged into a VM is known to its QEMU (vm_status); what is plugged into the host is looked up when the kernel
 * says that something came or went, and when somebody asks. Nothing is polled. */
#pragma once
#include "hot.h"
#include "inventory.h"

extern const struct fields usb_status_fields;	/* "VmUsbStatus" */
struct usb_status { char *name, *port, *vm, *problem; uint64_t bus, address; int64_t as_of; int state; };

struct usb *usb_new(struct croft *c);
void usb_free(struct usb *u);
/* Steps to what @m's entries mean now: pulled out what has gone or is no longer meant, plugged in what is there and
 * free. Appended to @plan. */
void usb_plan(const struct machine *m, struct hot_plan *plan);
bool usb_differs(const struct machine *m);	/* would that be any? */
/* Opens the device that the entry @name of @m means. @opened comes later; it takes *fd. While m->usb_opening says so, no
 * other VM gets it. */
void usb_open(struct machine *m, const char *name, void (*opened)(void *arg, int *fd, const struct err *e), void *arg);
void usb_vm_changed(struct machine *m);		/* what it does not have any more others may get */
/* One usb_status an entry, texts borrowed; the caller frees items alone. */
void usb_view(const struct machine *m, struct field_vec *out);
