/* host.h: what this machine is and can do, with the reason where it can't. Read once, at start and on demand, in a
 * lane: host_probe blocks. Served as HostFacts. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "err.h"
#include "fields.h"

struct host_cpu_type {
	char *name, *midr, *list;	/* "cortex-a72", "0x410fd083", "0-3,7" */
	uint64_t count, capacity, max_khz;	/* capacity: of 1024, by the kernel; 0: it does not say */
};
struct host_node { uint64_t id, cpus, memory_bytes; char *list; };	/* NUMA node */
struct host_limit { char *what; bool available; char *reason; };	/* "kvm", "cgroup-v2", "iommu", ... */

struct host_kvm {
	bool usable;		/* a vCPU has run */
	char *reason;		/* one sentence, whether usable or not */
	uint64_t gic;		/* 2 or 3, the newest that guests can have; 0: unknown */
	bool gicv2;		/* they can have a GICv2, perhaps beside a GICv3 */
	uint64_t ipa_bits, max_vcpus;
	bool sve, pmu, aarch32, pointer_auth, mte;
	struct field_vec cpu_models;	/* of char *: what QEMU may be told as -cpu */
	char *mode;		/* "vhe", "nvhe", "protected", or NULL: not known, or there is no EL2 */
};
struct host_qemu {
	char *path;		/* NULL: not installed */
	char *version;		/* "7.2.22" */
	char *machine;		/* the newest machine type that it has: "virt-7.2" */
};
struct host_firmware {
	char *code, *vars;	/* AAVMF code and template of the variables (raw, 64 MiB each), or NULL */
	uint64_t code_bytes, vars_bytes;
};

struct host {
	char *arch;		/* "aarch64", "x86_64" */
	char *kernel;		/* "6.1.0-18-arm64" */
	char *board;		/* "Raspberry Pi 4 Model B Rev 1.4", or NULL */
	uint64_t page_bytes, memory_bytes, cpus;
	struct field_vec cpu_types;	/* of struct host_cpu_type */
	char *cpu_features;	/* what all cores have, in the kernel's words: "fp asimd ... sve"; NULL on x86 */
	struct field_vec nodes;		/* of struct host_node */
	bool smmu, systemd;	/* systemd: it is the init */
	bool landlock;
	char *scope_problem;	/* why the last VM that was started has no scope, or NULL */
	char *iommu;		/* the kernel's name for the first one, "smmu3.0x...", or NULL */
	uint64_t iommu_devices;	/* PCI devices behind it */
	uint64_t cgroup;	/* 1, 2; 0: none */
	struct host_kvm kvm;
	char *accel;		/* what "auto" means for new VMs: "kvm" or "tcg" */
	char *accel_reason;
	struct host_qemu qemu;
	struct host_firmware firmware;
	struct field_vec limits;	/* of struct host_limit */
};

extern const struct fields host_fields;

/* Everything. Blocks for at most 14 s (programs and the KVM probe have deadlines). @sysroot "" is this machine; any
 * other folder is a copy of /proc, /sys, ... for tests: then no program is run and KVM stays "not probed". */
int host_probe(const char *sysroot, struct host *ret, struct err *e);
/* Derive accel, accel_reason and limits from the other facts. host_probe has called it already. */
void host_decide(struct host *h);
static inline void host_fini(struct host *h) { fields_fini(&host_fields, h); }
static inline bool host_scopes(const struct host *h) { return h->systemd && h->cgroup == 2; }
static inline bool host_kvm(const struct host *h) { return h->kvm.usable; }
/* Can a guest under KVM have a GIC of this version? True when it isn't known. */
bool host_has_gic(const struct host *h, unsigned version);
/* The largest guest under KVM: its memory begins at 1 GiB of its addresses. 0: not known. */
uint64_t host_most_memory(const struct host *h);
