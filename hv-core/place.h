/* place.h: on which CPUs of the host a VM runs. A pure function of its spec and the host's facts.
 *
 * Under KVM a guest sees the CPU that it happens to run on: its identity, caches, errata and counters. Moved to a core of
 * another kind it finds another CPU, and QEMU fails to start its further CPUs (QEMU issue 1595: RK3588). So where cores
 * are of several kinds, each VM gets all cores of one kind, and never leaves them. Its virtual CPUs are not tied to single
 * cores: that is the kernel's scheduler's work. */
#pragma once
#include "host.h"
#include "spec.h"

struct vm_place {
	const char *cpus;	/* a kernel list, "4-7", borrowed from the host's facts; NULL: any */
	char why[256];		/* one sentence; "" for NULL */
};
void vm_place(const struct vm_spec *s, const struct host *h, struct vm_place *ret);
/* The fastest kind of core of which there are @cpus, or else that of which there are most; @name NULL: whatever it is
 * called. NULL: there is none of that name. */
const struct host_cpu_type *vm_place_type(const struct host *h, const char *name, uint64_t cpus);
