/* What follows from the facts: the default accelerator, and what can't be had here, each with its reason. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "buf.h"
#include "host.h"
#include "mem.h"
#include "text.h"

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
		buf_addf(why, "%s; it takes 128 MiB a VM beyond the guest's memory", h->firmware.code);
	else
		buf_adds(why, "no UEFI for ARM guests is installed (package qemu-efi-aarch64): use firmware kernel");
	return h->firmware.code;
}

static bool limit_vcpus(const struct host *h, struct buf *why)
{
	if (h->kvm.usable && h->kvm.gic == 2)
		buf_adds(why, "this host has a GICv2, which serves at most 8 virtual CPUs a VM under KVM");
	else if (h->kvm.usable)
		buf_addf(why, "up to %u virtual CPUs a VM under KVM", (unsigned)h->kvm.max_vcpus);
	else
		buf_adds(why, "up to 512 virtual CPUs a VM by emulation");
	return !h->kvm.usable || h->kvm.gic != 2;
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
		buf_addf(why, "%s%u %s", i ? ", " : "", (unsigned)t[i].count, t[i].name);
	buf_adds(why, "): under KVM all virtual CPUs of a VM must stay on cores of one kind");
	return false;
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

static bool limit_iommu(const struct host *h, struct buf *why)
{
	buf_adds(why, h->smmu ? "there is an IOMMU"
			      : "there is no IOMMU (SMMU): a VM can never be given a device of the host");
	return h->smmu;
}

static bool limit_page(const struct host *h, struct buf *why)
{
	char size[24];

	text_size_format(h->page_bytes, size);
	buf_addf(why, "the kernel's pages have %s%s", size,
		 h->page_bytes == 4096 ? "" : ": memory of VMs is handed out and taken back in steps of that size");
	return h->page_bytes == 4096;
}

static const struct { const char *what; bool (*fn)(const struct host *h, struct buf *why); } limits[] = {
	{ "kvm", limit_kvm },
	{ "qemu", limit_qemu },
	{ "uefi", limit_uefi },
	{ "more-than-8-vcpus", limit_vcpus },
	{ "uniform-cores", limit_cores },
	{ "systemd-scopes", limit_scopes },
	{ "cgroup-v2", limit_cgroup },
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
	for (size_t i = 0; i < COUNT(limits); i++) {
		AUTO_BUF struct buf why = BUF_INIT(1024);
		struct host_limit *l = field_vec_add(&h->limits, sizeof(*l));

		l->available = limits[i].fn(h, &why);
		l->what = xstrdup(limits[i].what);
		l->reason = buf_take(&why);
	}
}
