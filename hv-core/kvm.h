/* kvm.h: whether KVM runs a guest here, found by running one. */
#pragma once
#include "host.h"

/* Fill a zeroed @ret; its texts are then owned by the host facts. On aarch64 a child creates a VM with one vCPU that
 * executes four instructions; it is killed when it does not end in time. Blocks for at most 4 s. */
void kvm_probe(struct host_kvm *ret);
