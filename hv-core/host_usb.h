/* host_usb.h: the USB devices that are plugged into this host, as the kernel lists them in /sys, and its notices of those
 * that come and go. A device says of itself what it likes: its texts are bounded and made printable. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "fields.h"

struct vm_usb;

struct usb_device {
	char *port;			/* "1-1.2": where it is plugged in, as in /sys/bus/usb/devices */
	uint64_t bus, address;		/* a new address each time that it is plugged in */
	char *vendor, *product;		/* four hex digits */
	char *serial, *manufacturer, *model;	/* or NULL */
	char *kind;			/* "storage", "audio", or a class in hex */
	uint64_t speed_kbit;		/* 1500, 12000, 480000, 5000000; 0: not known */
	char *vm;			/* owned: name of the VM that has it, or NULL; the daemon's */
};
enum { USB_DEVICES_MAX = 512 };
extern const struct fields usb_device_fields;	/* "HostUsb" */

/* Fills *ret with the devices beneath @root ("" is this machine), in order of their ports; hubs are left out. A host
 * without USB has none. Blocks, as the kernel may be talking to a device: in a lane. */
void usb_scan(const char *root, struct field_vec *ret);
void usb_devices_free(struct field_vec *v);
/* Is @d what @want means? */
bool usb_matches(const struct vm_usb *want, const struct usb_device *d);
/* Opens its node for a guest. -errno; -ENODEV when another device has its address by now. Blocks. */
int usb_open_node(const struct usb_device *d);
/* Bus and address of an opened node. False: it is none. */
bool usb_node_address(int fd, uint64_t *ret_bus, uint64_t *ret_address);

/* The kernel's notices (kobject_uevent): a socket that hears them, nonblocking; -errno. */
int usb_notices_open(void);
/* Reads all that has come. True when a USB device has come or gone, or when notices were lost. What others than the
 * kernel send is ignored. */
bool usb_notices_read(int fd);
/* Does this notice (NUL-separated texts) tell that a USB device has come or gone? */
bool usb_notice_matters(const char *p, size_t n);
