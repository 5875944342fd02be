/* launch.h: all that one start of a VM needs, resolved and opened by the daemon in the datastores' lanes. */
#pragma once
#include <sys/types.h>
#include "argv.h"
#include "mem.h"

struct vm_launch {
	struct argv argv;	/* owned */
	int *fds;		/* owned: argv.nfds, each opened afresh; -1 for what croft-vm makes (QMP, serial) */
	uid_t uid;		/* what QEMU runs as */
	gid_t gid;
	const char *qemu_version;	/* borrowed, or NULL */
	const char *cpus;	/* of the host, that QEMU may run on; NULL: any. Borrowed from the host's facts */
	int memory;		/* owned, with resumes: the guest's saved memory, from its beginning */
	uint64_t memory_bytes;	/* of it: the start may take so much longer */
	bool resumes;		/* the argv waits for a memory (-incoming defer), and for a "cont" behind it */
	bool kvm;		/* the argv says KVM: the start fails when QEMU says otherwise */
};

static inline void vm_launch_free(struct vm_launch *l)
{
	if (!l)
		return;
	for (size_t i = 0; l->fds && i < l->argv.nfds; i++)
		close_at(&l->fds[i]);
	if (l->resumes)
		close_at(&l->memory);
	argv_fini(&l->argv);
	free(l->fds);
	free(l);
}
DEFINE_AUTO(vm_launch)
