/* What follows from the facts: the default accelerator, and what can't be had here, each with its reason. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "buf.h"
#include "cputype.h"
#include "host.h"
#include "mem.h"
#include "text.h"

#define GIB (1024ull * 1024 * 1024)

static bool limit_kvm(const struct host *h, struct buf *why)
{
	buf_adds(why, h->kvm.reason ? h->kvm.reason : "it was not probed");
	return h->kvm.usable;
}

static bool limit_qemu(const struct host *h, struct buf *why)
{
	if (h->qemu.path)
		buf_addf(why, "version %s", h->qemu.version);
	else
		buf_adds(why, "QEMU for ARM guests is not installed (package qemu-system-arm): only simulated VMs run");
	return h->qemu.path;
}

static bool limit_uefi(const struct host *h, struct buf *why)
{
	if (h->firmware.code)
		buf_addf(why, "%s; it takes 4 MiB a VM beyond the guest's memory", h->firmware.code);
	else
		buf_adds(why, "no UEFI for ARM guests is installed (package qemu-efi-aarch64): use firmware kernel");
	return h->firmware.code;
}

bool host_has_gic(const struct host *h, unsigned version)
{
	return !h->kvm.gic || h->kvm.gic == version || (version == 2 && h->kvm.gicv2);
}

uint64_t host_most_memory(const struct host *h)
{
	return h->kvm.ipa_bits > 30 && h->kvm.ipa_bits < 64 ? (1ull << h->kvm.ipa_bits) - GIB : 0;
}

static bool limit_vcpus(const struct host *h, struct buf *why)
{
	if (h->kvm.usable && h->kvm.gic == 2)
		buf_adds(why, "this host has a GICv2, which serves at most 8 virtual CPUs a VM under KVM");
	else if (h->kvm.usable)
		buf_addf(why, "up to %u virtual CPUs a VM under KVM, by a GICv3%s", (unsigned)h->kvm.max_vcpus,
			 h->kvm.gicv2 ? "; VMs that were created with a GICv2 run here too" : "");
	else
		buf_adds(why, "up to 512 virtual CPUs a VM by emulation");
	return !h->kvm.usable || h->kvm.gic != 2;
}

static bool limit_memory(const struct host *h, struct buf *why)
{
	uint64_t most = host_most_memory(h);
	char size[24], have[24];

	text_size_format(h->memory_bytes, have);
	if (!h->kvm.usable || !most) {
		buf_addf(why, "the host has %s", have);
		return true;
	}
	text_size_format(most, size);
	buf_addf(why, "KVM gives guests %u address bits, of which devices take the first GiB: a VM has at most %s, and "
		 "the host has %s", (unsigned)h->kvm.ipa_bits, size, have);
	return most >= h->memory_bytes;
}

static bool limit_cores(const struct host *h, struct buf *why)
{
	const struct host_cpu_type *t = h->cpu_types.items;

	if (h->cpu_types.n < 2) {
		buf_adds(why, "all cores are of one kind");
		return true;
	}
	buf_addf(why, "the cores are of %zu kinds (", h->cpu_types.n);
	for (size_t i = 0; i < h->cpu_types.n; i++)
		buf_addf(why, "%s%u %s: CPUs %s", i ? "; " : "", (unsigned)t[i].count, t[i].name, t[i].list);
	buf_adds(why, "): under KVM each VM stays on cores of one kind, which core_type chooses");
	return false;
}

static bool limit_nodes(const struct host *h, struct buf *why)
{
	const struct host_node *n = h->nodes.items;
	uint64_t cpus = 0, memory = 0;
	char size[24];

	if (h->nodes.n < 2) {
		buf_adds(why, "all memory is equally near to all CPUs");
		return true;
	}
	for (size_t i = 0; i < h->nodes.n; i++) {
		cpus = n[i].cpus > cpus ? n[i].cpus : cpus;
		memory = n[i].memory_bytes > memory ? n[i].memory_bytes : memory;
	}
	text_size_format(memory, size);
	buf_addf(why, "there are %zu NUMA nodes of up to %u CPUs and %s: a larger VM always reaches across them, a smaller "
		 "one is kept together by the kernel as far as it can", h->nodes.n, (unsigned)cpus, size);
	return false;
}

static bool cores_have_vhe(const struct host *h)
{
	const struct host_cpu_type *t = h->cpu_types.items;
	bool have = true;

	for (size_t i = 0; i < h->cpu_types.n; i++)
		have = have && t[i].midr && cputype_has_vhe((uint32_t)strtoul(t[i].midr, NULL, 16));
	return have;
}

static bool limit_vhe(const struct host *h, struct buf *why)
{
	const char *mode = h->kvm.mode ? h->kvm.mode : "";

	if (!strcmp(mode, "vhe")) {
		buf_adds(why, "the kernel runs in EL2 itself (VHE), so that guests are entered and left quickly");
		return true;
	}
	if (!*mode)
		buf_adds(why, h->kvm.usable ? "the kernel does not tell whether it runs in EL2"
					    : "KVM can't be used here, and the kernel does not run in EL2");
	else if (!strcmp(mode, "protected"))
		buf_adds(why, "the kernel's command line says kvm-arm.mode=protected: KVM runs apart from it in EL2");
	else if (cores_have_vhe(h))
		buf_adds(why, "the cores have VHE, but the kernel does not use it (kvm-arm.mode=nvhe on its command line, or it "
			      "was built without): it runs in EL1, and KVM apart from it in EL2");
	else
		buf_adds(why, "the cores have no VHE: the kernel runs in EL1, and KVM apart from it in EL2");
	if (*mode)
		buf_adds(why, ", so that guests are entered and left more slowly");
	return false;
}

static bool limit_models(const struct host *h, struct buf *why)
{
	char *const *models = h->kvm.cpu_models.items;

	if (!h->kvm.usable) {
		buf_addf(why, "by emulation cpu_model is one of: %s", cputype_tcg_list);
		return true;
	}
	buf_adds(why, "KVM shows guests the host's own CPU: cpu_model is ");
	for (size_t i = 0; i < h->kvm.cpu_models.n; i++)
		buf_addf(why, "%s%s", !i ? "" : i + 1 == h->kvm.cpu_models.n ? " or " : ", ", models[i]);
	buf_adds(why, "; other models are emulated");
	return h->kvm.cpu_models.n > 2;	/* more than host and max */
}

static bool limit_scopes(const struct host *h, struct buf *why)
{
	if (h->scope_problem)
		buf_addf(why, "a VM runs without one: %s", h->scope_problem);
	else
		buf_adds(why, h->systemd ? "systemd is the init: each VM runs in a scope of its own"
					 : "systemd is not the init: VMs run in sessions of their own, without scopes");
	return h->systemd && !h->scope_problem;
}

static bool limit_cgroup(const struct host *h, struct buf *why)
{
	if (h->cgroup == 2)
		buf_adds(why, "the control groups are of version 2");
	else if (h->cgroup == 1)
		buf_adds(why, "the control groups are of version 1: VMs run without limits by cgroup");
	else
		buf_adds(why, "there are no control groups: VMs run without limits by cgroup");
	return h->cgroup == 2;
}

static bool limit_landlock(const struct host *h, struct buf *why)
{
	buf_adds(why, h->landlock ? "programs that read disk images open nothing but these (Landlock)"
				  : "the kernel has no Landlock: qemu-img, which reads disk images, could open root's other files");
	return h->landlock;
}

static bool limit_iommu(const struct host *h, struct buf *why)
{
	if (h->iommu_devices)
		buf_addf(why, "%u PCI device%s behind an IOMMU (%s)", (unsigned)h->iommu_devices,
			 h->iommu_devices == 1 ? " is" : "s are", h->iommu ? h->iommu : "of no name");
	else if (h->iommu)
		buf_addf(why, "there is an IOMMU (%s), but no PCI device that has a driver is behind it: none can be given to a VM",
			 h->iommu);
	else
		buf_adds(why, "there is no IOMMU (SMMU): a VM can never be given a device of the host");
	return h->iommu_devices;
}

/* A GICv2's virtual interface has 8 KiB and can't be given to guests alone when pages are larger: KVM then handles each
 * access (vgic_v2_probe of the kernel). */
static bool limit_page(const struct host *h, struct buf *why)
{
	char size[24];

	text_size_format(h->page_bytes, size);
	buf_addf(why, "the kernel's pages have %s", size);
	if (h->page_bytes != 4096)
		buf_adds(why, ": memory of VMs is handed out and taken back in steps of that size");
	if (h->page_bytes > 4096 && h->kvm.gic == 2)
		buf_adds(why, ", and with a GICv2 each interrupt of a guest costs more; a kernel with pages of 4 KiB avoids "
			      "both (on a Raspberry Pi 5: kernel=kernel8.img in config.txt)");
	return h->page_bytes == 4096;
}

/* What guests under KVM have of the CPU. @word: by which the kernel tells that the cores have it. */
static const struct ability {
	const char *what;
	size_t off;		/* of its bool in struct host_kvm */
	const char *name, *word, *yes, *no;
} abilities[] = {
	{ "performance-counters", offsetof(struct host_kvm, pmu), "performance counters", NULL,
	  "guests have performance counters (PMUv3)", "the kernel drives no performance counters (PMUv3) that guests could have" },
	{ "sve", offsetof(struct host_kvm, sve), "SVE", "sve", "guests have SVE", "the cores have no SVE" },
	{ "pointer-authentication", offsetof(struct host_kvm, pointer_auth), "pointer authentication", "paca",
	  "guests have pointer authentication", "the cores have no pointer authentication" },
	{ "memory-tagging", offsetof(struct host_kvm, mte), "memory tagging (MTE)", "mte",
	  "KVM has memory tagging (MTE) for guests; VMs are started without it", "the cores have no memory tagging (MTE)" },
	{ "32-bit-kernels", offsetof(struct host_kvm, aarch32), "32-bit kernels", NULL,
	  "KVM can run 32-bit kernels; VMs are started in 64-bit mode", "the cores run 32-bit code in programs only, or not at all" },
};

static bool limit_ability(const struct ability *a, const struct host *h, struct buf *why)
{
	const char *features = h->cpu_features ? h->cpu_features : "", *at = a->word ? strstr(features, a->word) : NULL;
	size_t n = a->word ? strlen(a->word) : 0;
	bool has = h->kvm.usable && *(const bool *)((const char *)&h->kvm + a->off), cores = false;

	for (; at && !cores; at = strstr(at + 1, a->word))
		cores = (at == features || at[-1] == ' ') && (!at[n] || at[n] == ' ');
	if (!h->kvm.usable)
		buf_adds(why, "KVM can't be used here: emulated guests have what their CPU model has");
	else if (has)
		buf_adds(why, a->yes);
	else if (cores)
		buf_addf(why, "the cores have %s, but KVM%s%s does not give it to guests", a->name,
			 h->kvm.mode ? " in mode " : "", h->kvm.mode ? h->kvm.mode : "");
	else
		buf_adds(why, a->no);
	return has;
}

static const struct { const char *what; bool (*fn)(const struct host *h, struct buf *why); } limits[] = {
	{ "kvm", limit_kvm },
	{ "qemu", limit_qemu },
	{ "uefi", limit_uefi },
	{ "more-than-8-vcpus", limit_vcpus },
	{ "memory-for-one-vm", limit_memory },
	{ "uniform-cores", limit_cores },
	{ "one-numa-node", limit_nodes },
	{ "vhe", limit_vhe },
	{ "named-cpu-models", limit_models },
	{ "systemd-scopes", limit_scopes },
	{ "cgroup-v2", limit_cgroup },
	{ "landlock", limit_landlock },
	{ "iommu", limit_iommu },
	{ "4k-pages", limit_page },
};

static void clear_limits(struct host *h)
{
	struct host_limit *l = h->limits.items;

	for (size_t i = 0; i < h->limits.n; i++) {
		free(l[i].what);
		free(l[i].reason);
	}
	free(l);
	h->limits = (struct field_vec){ 0 };
}

void host_decide(struct host *h)
{
	free(h->accel);
	free(h->accel_reason);
	h->accel = xstrdup(h->kvm.usable ? "kvm" : "tcg");
	h->accel_reason = xasprintf("%s, because %s", h->kvm.usable ? "VMs run on the CPU itself" : "VMs are emulated",
				    h->kvm.reason ? h->kvm.reason : "KVM was not probed");
	clear_limits(h);
	for (size_t i = 0; i < COUNT(limits) + COUNT(abilities); i++) {
		const struct ability *a = i < COUNT(limits) ? NULL : &abilities[i - COUNT(limits)];
		AUTO_BUF struct buf why = BUF_INIT(1024);
		struct host_limit *l = field_vec_add(&h->limits, sizeof(*l));

		l->available = a ? limit_ability(a, h, &why) : limits[i].fn(h, &why);
		l->what = xstrdup(a ? a->what : limits[i].what);
		l->reason = buf_take(&why);
	}
}
