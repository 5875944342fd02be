#include "spec.h"
#include <stdio.h>
#include <string.h>
#include "host.h"
#include "mem.h"
#include "text.h"

#define MIB (1024ull * 1024)
#define TIB (MIB * MIB)

static const char *const engine_names[] = { "qemu", "sim", NULL };
static const char *const accel_names[] = { "auto", "kvm", "tcg", NULL };
static const char *const gic_names[] = { "auto", "2", "3", NULL };
static const char *const firmware_names[] = { "uefi", "kernel", NULL };
static const char *const display_names[] = { "none", "virtio", NULL };
static const char *const bus_names[] = { "virtio", "nvme", "scsi", NULL };
static const char *const format_names[] = { "qcow2", "raw", NULL };
static const char *const model_names[] = { "virtio", "e1000e", NULL };
static const char *const protocol_names[] = { "tcp", "udp", NULL };
static const char *const crash_names[] = { "restart", "off", "keep", NULL };
static const char *const gate_names[] = { "none", "agent", "port", "time", NULL };
static const char *const stop_names[] = { "shutdown", "suspend", "poweroff", NULL };

/* Only the shape; the storage people say whether it exists. */
static bool is_store_path(const char *s)
{
	const char *end = strchr(s, ']');

	if (*s != '[' || !end || end == s + 1 || end[1] != ' ' || !end[2])
		return false;
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

static bool is_machine(const char *s)
{
	unsigned major, minor;
	char tail;

	return strlen(s) <= 12 && sscanf(s, "virt-%2u.%2u%c", &major, &minor, &tail) == 2;
}

static bool is_cpu_model(const char *s)
{
	return s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-")] == 0;
}

static bool is_mac(const char *s)
{
	uint8_t mac[6];

	return text_mac(s, mac) == 0;
}

static bool is_hex4(const char *s)
{
	return strlen(s) == 4 && s[strspn(s, "0123456789abcdef")] == 0;
}

/* "1-1.2": bus, then the port of each hub on the way (Documentation/driver-api/usb). */
static bool is_usb_port(const char *s)
{
	return *s >= '1' && *s <= '9' && s[strspn(s, "0123456789")] == '-' && s[strspn(s, "0123456789-.")] == 0;
}

static bool is_ipv4(const char *s)
{
	unsigned a, b, c, d;
	char tail, again[16];

	if (strlen(s) > 15 || sscanf(s, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &tail) != 4)
		return false;
	if (a > 255 || b > 255 || c > 255 || d > 255)
		return false;
	snprintf(again, sizeof(again), "%u.%u.%u.%u", a, b, c, d);
	return strcmp(s, again) == 0;
}

#define NAME_RULE	.max = 63, .check = text_is_name, .rule = "a name of 1 to 63 letters, digits, . _ -"
#define STORE_RULE .max = 1024, .check = is_store_path, .rule = "a datastore path such as \"[local] iso/debian.iso\""
#define BOOT_ORDER(type) \
	{ "boot_order", F_U64, offsetof(struct type, boot_order), .max = 99, \
	  .help = "1 is booted first; 0: not booted from. When no device has one, disks come first, then CDs" }
#define SLOT(type) \
	{ "slot", F_U64, offsetof(struct type, slot), FIELD_READ_ONLY, .max = VM_SLOT_END - 1, \
	  .help = "Address inside the guest (PCI device, or SCSI target); given once, then kept" }

#define O(member) offsetof(struct vm_limits, member)
#define LIMIT(member, what) \
	{ #member, F_U64, O(member), .max = TIB, .help = "At most so many " what " a second; 0: no limit" }
static const struct field limits_rows[] = {
	LIMIT(read_bytes_per_s, "bytes read"), LIMIT(write_bytes_per_s, "bytes written"),
	LIMIT(read_iops, "reads"), LIMIT(write_iops, "writes"), {}
};
#undef LIMIT
#undef O
static const struct fields limits_fields = { "VmLimits", sizeof(struct vm_limits), limits_rows, "What a disk may do a second" };

#define O(member) offsetof(struct vm_disk, member)
#define DISK_ROWS \
	{ "path", F_STR, O(path), FIELD_CREATE_ONLY, STORE_RULE, \
	  .help = "Image file; one is made in the VM's folder when it is left out" }, \
	{ "source", F_STR, O(source), FIELD_CREATE_ONLY, STORE_RULE, .help = "Image that is copied at creation" }, \
	{ "size_bytes", F_U64, O(size_bytes), FIELD_CREATE_ONLY, .max = 16 * TIB, .multiple = 512, \
	  .help = "Capacity that the guest sees; 0: as large as its source" }, \
	{ "format", F_ENUM, O(format), FIELD_CREATE_ONLY, .names = format_names, .def = "\"qcow2\"", \
	  .help = "Format of the image file; never guessed" }, \
	{ "bus", F_ENUM, O(bus), .names = bus_names, .def = "\"virtio\"", .help = "How the guest sees the disk" }, \
	{ "read_only", F_BOOL, O(read_only), .help = "The guest can't write" }, \
	{ "limits", F_OBJECT, O(limits), .sub = &limits_fields, .help = "What it may do a second" }, \
	BOOT_ORDER(vm_disk), SLOT(vm_disk)
static const struct field disk_rows[] = {
	{ "name", F_STR, O(name), FIELD_REQUIRED, NAME_RULE, .help = "Name of the disk within its VM" },
	DISK_ROWS, {}
};
static const struct field disk_new_rows[] = {
	{ "name", F_STR, O(name), 0, NAME_RULE, .help = "Name of the disk within its VM; disk0, disk1, ... when it is left out" },
	DISK_ROWS, {}
};
#undef DISK_ROWS
#undef O
const struct fields vm_disk_fields = { "VmDisk", sizeof(struct vm_disk), disk_rows, "A disk of a VM" };
/* The same by itself, where no map has its name. */
const struct fields vm_disk_new_fields = { "VmDiskCreate", sizeof(struct vm_disk), disk_new_rows, "A disk that a VM gets" };

#define O(member) offsetof(struct vm_cdrom, member)
static const struct field cdrom_rows[] = {
	{ "name", F_STR, O(name), FIELD_REQUIRED, NAME_RULE, .help = "Name of the drive within its VM" },
	{ "iso", F_STR, O(iso), FIELD_NULLABLE, STORE_RULE,
	  .help = "The disc: an ISO file, or null for an empty drive" },
	BOOT_ORDER(vm_cdrom), SLOT(vm_cdrom), {}
};
#undef O
static const struct fields cdrom_fields = { "VmCdrom", sizeof(struct vm_cdrom), cdrom_rows, "A CD drive of a VM" };

#define O(member) offsetof(struct vm_forward, member)
static const struct field forward_rows[] = {
	{ "protocol", F_ENUM, O(protocol), .names = protocol_names, .def = "\"tcp\"", .help = "tcp or udp" },
	{ "host_address", F_STR, O(host_address), .min = 7, .max = 15, .check = is_ipv4,
	  .rule = "an IPv4 address such as 127.0.0.1", .def = "\"127.0.0.1\"",
	  .help = "Address of the host that listens; 0.0.0.0: all" },
	{ "host_port", F_U64, O(host_port), FIELD_REQUIRED, .min = 1, .max = 65535, .help = "Port of the host" },
	{ "guest_port", F_U64, O(guest_port), FIELD_REQUIRED, .min = 1, .max = 65535, .help = "Port of the guest" },
	{}
};
#undef O
static const struct fields forward_fields = {
	"VmForward", sizeof(struct vm_forward), forward_rows, "A port of the host that leads into the guest"
};

#define O(member) offsetof(struct vm_nic, member)
static const struct field nic_rows[] = {
	{ "name", F_STR, O(name), FIELD_REQUIRED, NAME_RULE, .help = "Name of the NIC within its VM" },
	{ "network", F_STR, O(network), .min = 1, NAME_RULE, .def = "\"nat\"",
	  .help = "Network that it is plugged into" },
	{ "mac", F_STR, O(mac), FIELD_CREATE_ONLY, .min = 17, .max = 17, .check = is_mac,
	  .rule = "a unicast MAC address such as 52:54:00:12:34:56",
	  .help = "Generated when it is left out, then kept" },
	{ "model", F_ENUM, O(model), .names = model_names, .def = "\"virtio\"",
	  .help = "The card that the guest sees" },
	{ "connected", F_BOOL, O(connected), .def = "true", .help = "Whether its cable is plugged in" },
	{ "forwards", F_LIST, O(forwards), .max = VM_MAX_FORWARDS, .sub = &forward_fields,
	  .help = "Ports of the host that lead to this NIC; only on the network nat" },
	BOOT_ORDER(vm_nic), SLOT(vm_nic), {}
};
#undef O
static const struct fields nic_fields = { "VmNic", sizeof(struct vm_nic), nic_rows, "A network card of a VM" };

#define O(member) offsetof(struct vm_usb, member)
#define HEX4	.min = 4, .max = 4, .check = is_hex4, .rule = "four digits of 0-9a-f, as lsusb shows them"
static const struct field usb_rows[] = {
	{ "name", F_STR, O(name), FIELD_REQUIRED, NAME_RULE, .help = "Name of the device within its VM" },
	{ "vendor", F_STR, O(vendor), HEX4, .help = "Its vendor id: \"10c4\"" },
	{ "product", F_STR, O(product), HEX4, .help = "Its product id: \"ea60\"" },
	{ "serial", F_STR, O(serial), .max = 126, .help = "Its serial number; left out: any" },
	{ "port", F_STR, O(port), .max = 31, .check = is_usb_port, .rule = "a port such as \"1-1.2\"",
	  .help = "The host's port that it is plugged into; left out: any" },
	{}
};
#undef HEX4
#undef O
static const struct fields usb_fields = { "VmUsb", sizeof(struct vm_usb), usb_rows, "A USB device of the host that a VM gets" };

#define O(member) offsetof(struct vm_startup, member)
static const struct field startup_rows[] = {
	{ "order", F_U64, O(order), FIELD_HOT, .max = 1000, .def = "100",
	  .help = "Lower ones start first and are shut down last; those of one order together" },
	{ "delay_s", F_U64, O(delay_s), FIELD_HOT, .max = 3600, .help = "Seconds to wait before it is started, when its turn has come" },
	{ "gate", F_ENUM, O(gate), FIELD_HOT, .names = gate_names, .def = "\"none\"",
	  .help = "When it is up, and the next order begins: at once, when its guest agent answers, when its port opens, or after a time" },
	{ "port", F_U64, O(port), FIELD_HOT, .max = 65535, .help = "The guest's TCP port that gate port waits for" },
	{ "patience_s", F_U64, O(patience_s), FIELD_HOT, .min = 1, .max = 3600, .def = "120",
	  .help = "Gate time: how long it takes; the others: after so many seconds the next order begins all the same" },
	{}
};
#undef O
static const struct fields startup_fields = { "VmStartup", sizeof(struct vm_startup), startup_rows, "How a VM starts with the host" };

#define O(member) offsetof(struct vm_shutdown_policy, member)
static const struct field shutdown_rows[] = {
	{ "action", F_ENUM, O(action), FIELD_HOT, .names = stop_names, .def = "\"shutdown\"",
	  .help = "Ask the guest to shut down, suspend it to disk, or power it off" },
	{ "timeout_s", F_U64, O(timeout_s), FIELD_HOT, .min = 1, .max = 3600, .def = "120",
	  .help = "Seconds that the guest gets; then it is powered off" },
	{}
};
#undef O
static const struct fields shutdown_fields = {
	"VmShutdownPolicy", sizeof(struct vm_shutdown_policy), shutdown_rows, "What becomes of a VM when the host shuts down"
};

#define O(member) offsetof(struct vm_kernel, member)
static const struct field kernel_rows[] = {
	{ "image", F_STR, O(image), STORE_RULE, .help = "An arm64 kernel (Image, or gzip of it)" },
	{ "initrd", F_STR, O(initrd), STORE_RULE, .help = "Its initial RAM disk" },
	{ "command_line", F_STR, O(command_line), .max = 2047,
	  .help = "What the kernel is told: \"console=ttyAMA0 quiet\"" },
	{}
};
#undef O
static const struct fields kernel_fields = {
	"VmKernel", sizeof(struct vm_kernel), kernel_rows, "What firmware \"kernel\" boots"
};

#define O(member) offsetof(struct vm_spec, member)
static const struct field spec_rows[] = {
	{ "description", F_STR, O(description), FIELD_HOT, .max = 1024, .help = "A note for people" },
	{ "engine", F_ENUM, O(engine), FIELD_CREATE_ONLY, .names = engine_names, .def = "\"qemu\"",
	  .help = "What runs it; sim only pretends, for tests and client developers" },
	{ "cpus", F_U64, O(cpus), .min = 1, .max = 512, .def = "1", .help = "Virtual CPUs" },
	{ "cpu_weight", F_U64, O(cpu_weight), FIELD_HOT, .min = 1, .max = 10000, .def = "100",
	  .help = "Its share when the host's CPUs are short; 100 is ordinary" },
	{ "cpu_limit_percent", F_U64, O(cpu_limit_percent), FIELD_HOT, .max = 51200, .def = "0",
	  .help = "At most so much CPU time: 100 is one CPU of the host; 0: no limit" },
	{ "memory_bytes", F_U64, O(memory_bytes), .min = 32 * MIB, .max = 16 * TIB, .multiple = MIB, .def = "536870912",
	  .help = "Memory, in steps of 1 MiB" },
	{ "memory_max_bytes", F_U64, O(memory_max_bytes), .max = 16 * TIB, .multiple = MIB,
	  .help = "Memory can grow to this while it runs; 0: it cannot grow" },
	{ "accel", F_ENUM, O(accel), .names = accel_names, .def = "\"auto\"",
	  .help = "kvm, tcg (emulation), or auto: KVM where it works" },
	{ "machine", F_STR, O(machine), FIELD_CREATE_ONLY, .max = 32, .check = is_machine,
	  .rule = "a versioned machine type such as \"virt-7.2\"",
	  .help = "Machine type; chosen at creation, then kept" },
	{ "cpu_model", F_STR, O(cpu_model), FIELD_CREATE_ONLY, .max = 32, .check = is_cpu_model,
	  .rule = "\"host\", \"max\", or a model such as \"cortex-a72\"",
	  .help = "CPU; chosen at creation, then kept" },
	{ "core_type", F_STR, O(core_type), .max = 32, .check = is_cpu_model,
	  .rule = "a kind of core such as \"cortex-a76\"",
	  .help = "Kind of the host's cores that it runs on; left out: the fastest with enough of them" },
	{ "gic", F_ENUM, O(gic), FIELD_CREATE_ONLY, .names = gic_names, .def = "\"auto\"",
	  .help = "Version of the interrupt controller; chosen at creation, then kept" },
	{ "firmware", F_ENUM, O(firmware), FIELD_CREATE_ONLY, .names = firmware_names, .def = "\"uefi\"",
	  .help = "uefi, or kernel: boot a kernel file directly" },
	{ "kernel", F_OBJECT, O(kernel), .sub = &kernel_fields, .help = "What firmware \"kernel\" boots" },
	{ "display", F_ENUM, O(display), .names = display_names, .def = "\"virtio\"",
	  .help = "virtio: a screen, a keyboard and a tablet; none: only the serial console" },
	{ "disks", F_MAP, O(disks), .max = VM_MAX_DISKS, .sub = &vm_disk_fields, .help = "Disks by name" },
	{ "cdroms", F_MAP, O(cdroms), .max = VM_MAX_CDROMS, .sub = &cdrom_fields, .help = "CD drives by name" },
	{ "nics", F_MAP, O(nics), .max = VM_MAX_NICS, .sub = &nic_fields, .help = "Network cards by name" },
	{ "usb", F_MAP, O(usb), .max = VM_MAX_USB, .sub = &usb_fields, .help = "USB devices of the host by name" },
	{ "guest_agent", F_BOOL, O(guest_agent), .def = "true", .help = "Talk to the agent in the guest (qemu-guest-agent)" },
	{ "on_crash", F_ENUM, O(on_crash), FIELD_HOT, .names = crash_names, .def = "\"restart\"",
	  .help = "When the guest's kernel panics or its process fails: start it again, leave it off, or keep it as it is"
		  " to be looked at" },
	{ "autostart", F_BOOL, O(autostart), FIELD_HOT, .help = "Start it with the host" },
	{ "startup", F_OBJECT, O(startup), .sub = &startup_fields, .help = "How it starts with the host" },
	{ "shutdown", F_OBJECT, O(shutdown), .sub = &shutdown_fields, .help = "What becomes of it when the host shuts down" },
	{}
};
#undef O
const struct fields vm_spec_fields = { "VmConfig", sizeof(struct vm_spec), spec_rows, "What a VM is made of" };
