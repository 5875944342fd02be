/* spec.h: what a VM is, as its owner wrote it down ("config" in the API). Plain data; from its table come decoding,
 * validation, patch and the schema VmConfig. The name, labels and the UUID of a VM live outside.
 *
 * The life of a spec: fields_decode(&vm_spec_fields, FIELDS_CREATE) -> vm_spec_freeze -> vm_spec_check -> stored.
 * After a patch: vm_spec_freeze again (it fills only what is missing: a new disk's slot, a new NIC's MAC), then
 * vm_spec_check. Before a start: vm_spec_check once more, since the host may have changed. Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "err.h"
#include "fields.h"

struct host;

enum vm_engine { VM_ENGINE_QEMU, VM_ENGINE_SIM };
enum vm_accel { VM_ACCEL_AUTO, VM_ACCEL_KVM, VM_ACCEL_TCG };
enum vm_gic { VM_GIC_AUTO, VM_GIC_2, VM_GIC_3 };
enum vm_firmware { VM_FIRMWARE_UEFI, VM_FIRMWARE_KERNEL };
enum vm_display { VM_DISPLAY_NONE, VM_DISPLAY_VIRTIO };
enum vm_bus { VM_BUS_VIRTIO, VM_BUS_NVME, VM_BUS_SCSI };
enum vm_format { VM_FORMAT_QCOW2, VM_FORMAT_RAW };
enum vm_nic_model { VM_NIC_VIRTIO, VM_NIC_E1000E };
enum vm_protocol { VM_TCP, VM_UDP };
enum vm_crash { VM_CRASH_RESTART, VM_CRASH_OFF, VM_CRASH_KEEP };
enum vm_gate { VM_GATE_NONE, VM_GATE_AGENT, VM_GATE_PORT, VM_GATE_TIME };
enum vm_stop { VM_STOP_SHUTDOWN, VM_STOP_SUSPEND, VM_STOP_POWEROFF };

enum { VM_MAX_DISKS = 16, VM_MAX_CDROMS = 4, VM_MAX_NICS = 8, VM_MAX_FORWARDS = 32, VM_MAX_USB = 8 };

/* slot: virtio and NVMe disks and NICs: device number on pcie.0, VM_SLOT_FIRST..31; SCSI disks and CD drives: SCSI
 * target 1..31. 0: not given yet. It never changes, so that addresses inside the guest stay when a neighbour goes. */
enum { VM_SLOT_FIRST = 8, VM_SLOT_END = 32 };

struct vm_limits {		/* of one disk; 0: no limit */
	uint64_t read_bytes_per_s, write_bytes_per_s, read_iops, write_iops;
};
struct vm_disk {
	char *name;
	char *path;		/* "[store] folder/file.qcow2"; the daemon chooses one when the user did not */
	char *source;		/* copied from there at creation, or NULL */
	uint64_t size_bytes;	/* 0: as large as the source */
	uint64_t boot_order;	/* 0: not booted from; 1 first */
	uint64_t slot;
	int format;		/* enum vm_format */
	int bus;		/* enum vm_bus */
	struct vm_limits limits;
	bool read_only;
};
struct vm_cdrom {
	char *name;
	char *iso;		/* datastore path; NULL: the drive is empty */
	uint64_t boot_order, slot;
};
struct vm_forward {
	char *host_address;	/* IPv4 literal */
	uint64_t host_port, guest_port;
	int protocol;		/* enum vm_protocol */
};
struct vm_nic {
	char *name;
	char *network;		/* name of a network; "nat" is the user-mode one */
	char *mac;
	struct field_vec forwards;	/* of struct vm_forward */
	uint64_t boot_order, slot;
	int model;		/* enum vm_nic_model */
	bool connected;		/* its cable is plugged in */
};
struct vm_usb {			/* a USB device of the host: by what it is, or by where it is plugged in */
	char *name;
	char *vendor, *product;	/* four hex digits each */
	char *serial;		/* NULL: any */
	char *port;		/* "1-1.2", as in /sys/bus/usb/devices; NULL: any */
};
struct vm_kernel { char *image, *initrd, *command_line; };	/* datastore paths; for VM_FIRMWARE_KERNEL */

struct vm_startup {		/* with the host, when autostart is on */
	uint64_t order;		/* lower ones first; those of one order together */
	uint64_t delay_s;	/* waits so long before it begins, from when its order's turn has come */
	uint64_t port;		/* of the guest, for VM_GATE_PORT */
	uint64_t patience_s;	/* VM_GATE_TIME: how long; else after this it is called up all the same */
	int gate;		/* enum vm_gate: when it is up, so that the next order begins */
};
struct vm_shutdown_policy {	/* when the host shuts down, or is drained */
	uint64_t timeout_s;	/* the guest's time; then it is powered off */
	int action;		/* enum vm_stop */
};

struct vm_spec {
	char *description;
	char *machine;		/* "virt-7.2"; frozen */
	char *cpu_model;	/* "host", "max", "cortex-a72", ...; frozen */
	char *core_type;	/* kind of core to run on, "cortex-a55"; NULL: see place.h */
	uint64_t cpus, memory_bytes, memory_max_bytes;	/* memory_max_bytes: it can grow to that while it runs; 0: not at all */
	uint64_t cpu_weight, cpu_limit_percent;	/* of its control group */
	struct vm_kernel kernel;
	struct field_vec disks;		/* of struct vm_disk */
	struct field_vec cdroms;	/* of struct vm_cdrom */
	struct field_vec nics;		/* of struct vm_nic */
	struct field_vec usb;		/* of struct vm_usb */
	struct vm_startup startup;
	struct vm_shutdown_policy shutdown;
	bool autostart, guest_agent;
	int engine, accel, gic, firmware, display, on_crash;	/* the enums above; gic is frozen */
};

extern const struct fields vm_spec_fields, vm_disk_fields, vm_disk_new_fields;

#define VM_DISKS(s)	((struct vm_disk *)(s)->disks.items)
#define VM_CDROMS(s)	((struct vm_cdrom *)(s)->cdroms.items)
#define VM_NICS(s)	((struct vm_nic *)(s)->nics.items)
#define VM_USB(s)	((struct vm_usb *)(s)->usb.items)
#define VM_FORWARDS(n)	((struct vm_forward *)(n)->forwards.items)

/* Fill in what is generated and then stays: machine, CPU model, GIC, MAC addresses (derived from @uuid and the NIC's
 * name), slots. What is there already is left alone. */
void vm_spec_freeze(struct vm_spec *s, const struct host *h, const char *uuid);
/* The rules that go across rows or need the host: 0, or ERR_INVALID with a pointer relative to the config object
 * ("/disks/system/bus"). @h NULL: only those that need no host. Simulated VMs (engine sim) need nothing of the host. */
int vm_spec_check(const struct vm_spec *s, const struct host *h, struct err *e);
/* What "auto" comes to on this host: VM_ACCEL_KVM or VM_ACCEL_TCG. */
enum vm_accel vm_spec_accel(const struct vm_spec *s, const struct host *h);
