/* memory.h: how a VM's memory grows and shrinks while it runs: pure arithmetic, any thread. What it was started with can be
 * taken back by the balloon; memory above that is plugged in by virtio-mem, in blocks, and what of the last block is too
 * much is taken back too. Both need the guest's drivers: the guest has what it has taken or given so far. */
#pragma once
#include <stdint.h>
#include "err.h"

struct host;
struct vm_spec;

#define MEMORY_DEVICE	"vmem"		/* QEMU's id of what is plugged in */

/* The step in which memory is plugged in on this host: a huge page, so that none is split. */
uint64_t memory_block_bytes(const struct host *h);
/* How much can be plugged into a VM that is started so; 0: none, there is no such device. */
uint64_t memory_hot_bytes(const struct vm_spec *s, const struct host *h);

struct memory {			/* of a VM that runs */
	uint64_t boot_bytes;		/* that it was started with; 0: not known yet */
	uint64_t hot_bytes;		/* what can be plugged in; 0: nothing */
	uint64_t block_bytes;
	uint64_t plugged_bytes;		/* the guest has so much of that now */
	uint64_t wanted_bytes;
	uint64_t current_bytes;		/* the guest has that now; 0: not known */
};
/* Can it become @wanted while it runs? ERR_UNSUPPORTED, with the reason why it waits for the next start. */
int memory_reach(const struct memory *m, uint64_t wanted, struct err *e);
uint64_t memory_to_plug(const struct memory *m);	/* virtio-mem's requested-size for wanted_bytes */
/* What QEMU is to be told as the balloon's target now: of what it was started with, since QEMU's balloon does not count
 * what virtio-mem has plugged in. Told again when that changes. */
uint64_t memory_balloon(const struct memory *m);
