#include "host.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "host_read.h"
#include "jail.h"
#include "kvm.h"
#include "mem.h"

#define O(member) offsetof(struct host_cpu_type, member)
static const struct field cpu_type_rows[] = {
	{ "name", F_STR, O(name), .help = "Kind of core" },
	{ "midr", F_STR, O(midr), .help = "Its MIDR_EL1 (ARM only)" },
	{ "count", F_U64, O(count), .help = "How many" },
	{ "list", F_STR, O(list), .help = "Which CPUs: \"0-3,7\"" },
	{ "capacity", F_U64, O(capacity), .help = "Speed beside the fastest, which has 1024; 0: the kernel does not say" },
	{ "max_khz", F_U64, O(max_khz), .help = "Highest frequency; 0: the kernel does not say" },
	{}
};
#undef O
static const struct fields cpu_type_fields = { "HostCpuType", sizeof(struct host_cpu_type), cpu_type_rows,
					       "A kind of core" };

#define O(member) offsetof(struct host_node, member)
static const struct field node_rows[] = {
	{ "id", F_U64, O(id), .help = "Number of the node" },
	{ "cpus", F_U64, O(cpus), .help = "CPUs in it" },
	{ "list", F_STR, O(list), .help = "Which CPUs: \"0-31\"" },
	{ "memory_bytes", F_U64, O(memory_bytes), .help = "Memory in it" },
	{}
};
#undef O
static const struct fields node_fields = { "HostNode", sizeof(struct host_node), node_rows, "A NUMA node" };

#define O(member) offsetof(struct host_kvm, member)
static const struct field kvm_rows[] = {
	{ "usable", F_BOOL, O(usable), .help = "A virtual CPU has run in a probe" },
	{ "reason", F_STR, O(reason), .help = "Why it is usable or not" },
	{ "gic", F_U64, O(gic), .help = "Version of the interrupt controller for guests; 0: unknown" },
	{ "gicv2", F_BOOL, O(gicv2), .help = "Guests can have a GICv2, perhaps beside a GICv3" },
	{ "ipa_bits", F_U64, O(ipa_bits), .help = "Address bits of a guest; 0: unknown" },
	{ "max_vcpus", F_U64, O(max_vcpus), .help = "Most virtual CPUs of a VM; 0: unknown" },
	{ "sve", F_BOOL, O(sve), .help = "Guests have SVE" },
	{ "pmu", F_BOOL, O(pmu), .help = "Guests have performance counters" },
	{ "aarch32", F_BOOL, O(aarch32), .help = "KVM can run 32-bit kernels" },
	{ "pointer_auth", F_BOOL, O(pointer_auth), .help = "Guests have pointer authentication" },
	{ "mte", F_BOOL, O(mte), .help = "KVM can give guests memory tagging (MTE)" },
	{ "cpu_models", F_STRS, O(cpu_models), .help = "Values of cpu_model that KVM takes" },
	{ "mode", F_STR, O(mode), .help = "vhe, nvhe or protected; absent where it is not known, and without EL2" },
	{}
};
#undef O
static const struct fields kvm_fields = { "HostKvm", sizeof(struct host_kvm), kvm_rows, "What KVM can do here" };

#define O(member) offsetof(struct host_qemu, member)
static const struct field qemu_rows[] = {
	{ "path", F_STR, O(path), .help = "The program; absent when it isn't installed" },
	{ "version", F_STR, O(version), .help = "Its version" },
	{ "machine", F_STR, O(machine), .help = "Machine type that new VMs get" },
	{}
};
#undef O
static const struct fields qemu_fields = { "HostQemu", sizeof(struct host_qemu), qemu_rows, "QEMU for ARM guests" };

#define O(member) offsetof(struct host_firmware, member)
static const struct field firmware_rows[] = {
	{ "code", F_STR, O(code), .help = "UEFI for ARM guests; absent when it isn't installed" },
	{ "vars", F_STR, O(vars), .help = "Template of its variables" },
	{ "code_bytes", F_U64, O(code_bytes), .help = "Size of the code" },
	{ "vars_bytes", F_U64, O(vars_bytes), .help = "Size of the variables" },
	{}
};
#undef O
static const struct fields firmware_fields = {
	"HostFirmware", sizeof(struct host_firmware), firmware_rows, "Firmware for guests"
};

#define O(member) offsetof(struct host_limit, member)
static const struct field limit_rows[] = {
	{ "what", F_STR, O(what), .help = "What it is about" },
	{ "available", F_BOOL, O(available), .help = "Whether it can be had on this host" },
	{ "reason", F_STR, O(reason), .help = "One sentence" },
	{}
};
#undef O
static const struct fields limit_fields = {
	"HostLimit", sizeof(struct host_limit), limit_rows, "Something that this host can or can't do"
};

#define O(member) offsetof(struct host, member)
static const struct field host_rows[] = {
	{ "arch", F_STR, O(arch), .help = "Architecture of the host" },
	{ "kernel", F_STR, O(kernel), .help = "Release of its kernel" },
	{ "board", F_STR, O(board), .help = "Model, from the device tree or SMBIOS" },
	{ "page_bytes", F_U64, O(page_bytes), .help = "Page size of the kernel" },
	{ "memory_bytes", F_U64, O(memory_bytes), .help = "Memory of the host" },
	{ "cpus", F_U64, O(cpus), .help = "CPUs that are online" },
	{ "cpu_types", F_LIST, O(cpu_types), .sub = &cpu_type_fields, .help = "Kinds of cores" },
	{ "cpu_features", F_STR, O(cpu_features), .help = "What all cores have, in the kernel's words (ARM only)" },
	{ "nodes", F_LIST, O(nodes), .sub = &node_fields, .help = "NUMA nodes" },
	{ "smmu", F_BOOL, O(smmu), .help = "There is an IOMMU (ARM: SMMU)" },
	{ "iommu", F_STR, O(iommu), .help = "The kernel's name for it" },
	{ "iommu_devices", F_U64, O(iommu_devices), .help = "PCI devices behind it: what can be given to a VM" },
	{ "landlock", F_BOOL, O(landlock), .help = "The kernel has Landlock" },
	{ "systemd", F_BOOL, O(systemd), .help = "systemd is the init" },
	{ "scope_problem", F_STR, O(scope_problem), FIELD_NULLABLE,
	  .help = "Why the last VM that was started has no systemd scope, or null" },
	{ "cgroup", F_U64, O(cgroup), .help = "Version of the control groups; 0: none" },
	{ "kvm", F_OBJECT, O(kvm), .sub = &kvm_fields, .help = "What KVM can do here" },
	{ "accel", F_STR, O(accel), .help = "What accel auto means for new VMs: kvm or tcg" },
	{ "accel_reason", F_STR, O(accel_reason), .help = "Why" },
	{ "qemu", F_OBJECT, O(qemu), .sub = &qemu_fields, .help = "QEMU for ARM guests" },
	{ "firmware", F_OBJECT, O(firmware), .sub = &firmware_fields, .help = "Firmware for guests" },
	{ "limits", F_LIST, O(limits), .sub = &limit_fields,
	  .help = "What can be had here and what can't, with the reason" },
	{}
};
#undef O
const struct fields host_fields = { "HostFacts", sizeof(struct host), host_rows, "What this host is and can do" };

/* Fixtures tell by files what the real host tells by system calls. */
static void read_kernel(const char *root, struct host *h)
{
	AUTO_FREE char *smaps = *root ? host_text(root, "proc/self/smaps") : NULL;
	const char *page = smaps ? strstr(smaps, "KernelPageSize:") : NULL;
	struct utsname u;

	h->kernel = host_text(root, "proc/sys/kernel/osrelease");
	if (*root) {
		h->arch = host_text(root, "proc/sys/kernel/arch");
		h->page_bytes = page ? strtoull(page + 15, NULL, 10) * 1024 : 0;
		return;
	}
	h->arch = xstrdup(uname(&u) ? "unknown" : u.machine);
	h->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
}

static void read_board(const char *root, struct host *h)
{
	AUTO_FREE char *vendor = host_text(root, "sys/class/dmi/id/sys_vendor");
	AUTO_FREE char *product = host_text(root, "sys/class/dmi/id/product_name");

	h->board = host_text(root, "proc/device-tree/model");
	if (!h->board && product && *product)
		h->board = xasprintf("%s%s%s", vendor ? vendor : "", vendor && *vendor ? " " : "", product);
}

static void read_memory(const char *root, struct host *h)
{
	AUTO_FREE char *info = host_text(root, "proc/meminfo");
	const char *total = info ? strstr(info, "MemTotal:") : NULL;

	h->memory_bytes = total ? strtoull(total + 9, NULL, 10) * 1024 : 0;
}

/* Bridges (class 06) are never given away. With a device tree the kernel puts a device behind its IOMMU when it gets a
 * driver. */
static bool behind_iommu(const char *root, const char *device)
{
	AUTO_FREE char *group = xasprintf("sys/bus/pci/devices/%s/iommu_group", device);
	AUTO_FREE char *class = host_text(root, "sys/bus/pci/devices/%s/class", device);

	return *device != '.' && host_exists(root, group) && (!class || strncmp(class, "0x06", 4));
}

/* Boards have IOMMUs for their video decoders only: what counts is the PCI devices that are behind one. */
static void read_iommu(const char *root, struct host *h)
{
	AUTO_FREE char *units = xasprintf("%s/sys/class/iommu", root), *devices = xasprintf("%s/sys/bus/pci/devices", root);
	DIR *d = opendir(units);

	for (struct dirent *de; d && (de = readdir(d));)
		if (de->d_name[0] != '.' && (!h->iommu || strcmp(de->d_name, h->iommu) < 0)) {
			free(h->iommu);
			h->iommu = xstrdup(de->d_name);
		}
	if (d)
		closedir(d);
	d = opendir(devices);
	for (struct dirent *de; d && (de = readdir(d));)
		h->iommu_devices += behind_iommu(root, de->d_name);
	if (d)
		closedir(d);
	h->smmu = h->iommu;
}

/* A hybrid hierarchy counts as version 1: the controllers are there. */
static uint64_t read_cgroup(const char *root)
{
	AUTO_FREE char *mounts = host_text(root, "proc/self/mounts");

	if (mounts && strstr(mounts, " /sys/fs/cgroup cgroup2 "))
		return 2;
	return mounts && strstr(mounts, " cgroup ") ? 1 : 0;
}

int host_probe(const char *sysroot, struct host *ret, struct err *e)
{
	struct host h = { 0 };

	read_kernel(sysroot, &h);
	if (!h.arch || !h.kernel)
		return fail(e, ERR_INTERNAL, "%s/proc can't be read", sysroot);
	read_board(sysroot, &h);
	read_memory(sysroot, &h);
	host_read_cpus(sysroot, &h);
	host_read_programs(sysroot, &h);
	read_iommu(sysroot, &h);
	h.landlock = !*sysroot && jail_has_landlock();
	h.systemd = host_exists(sysroot, "run/systemd/system");
	h.cgroup = read_cgroup(sysroot);
	if (*sysroot)
		h.kvm.reason = xstrdup("not probed");
	else
		kvm_probe(&h.kvm);
	host_decide(&h);
	*ret = h;
	return 0;
}
