/* argv.h: a VM's spec and the host's facts -> the command line of QEMU. A pure function: opens nothing, asks nothing.
 *
 * QEMU gets everything by descriptor. argv_build numbers them from ARGV_FD_FIRST in order of use; who starts QEMU opens
 * each afresh (never a dup of another open file: QEMU's locks belong to the open file) and puts it at that number.
 * Names inside QEMU, for QMP: block node of a disk "disk<slot>", its file "diskfile<slot>" (for bus scsi:
 * "sdisk<slot>"/"sdiskfile<slot>"), a CD's "cd<slot>"/"cdfile<slot>", UEFI's "code" and "vars"; devices "disk-<name>",
 * "cd-<name>", "nic-<name>" with netdev "net-<name>". An fdset bears the number of its descriptor. Root ports "hp0" to
 * "hp7" are empty: what is plugged in while the guest runs goes there, and to a place of its own at the next start. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "err.h"
#include "host.h"
#include "spec.h"

struct buf;

enum { ARGV_FD_FIRST = 10, ARGV_PORTS = 8 };
#define ARGV_PORT "hp"		/* and a digit */

enum argv_what {
	ARGV_FD_QMP,		/* listening unix socket */
	ARGV_FD_SERIAL,		/* listening unix socket; QEMU waits for its first client: connect beforehand */
	ARGV_FD_AGENT,		/* listening unix socket: the guest agent's port */
	ARGV_FD_FW_CODE,	/* a qcow2 with the content of host.firmware.code, its zeros not allocated; read-only */
	ARGV_FD_FW_VARS,	/* the VM's own qcow2, O_RDWR */
	ARGV_FD_KERNEL,		/* sealed memfd, mode 0444 */
	ARGV_FD_INITRD,		/* sealed memfd, mode 0444 */
	ARGV_FD_DISK,		/* .name: the disk; O_RDWR unless !writable */
	ARGV_FD_CDROM,		/* .name: the drive; read-only */
	ARGV_FD_FOLDER,		/* with a lock on it that is QEMU's from then on: no other home or host runs this VM; no argument */
};
/* A socket, which croft-vm makes: there is no file to be opened. */
static inline bool argv_fd_is_socket(enum argv_what w)
{
	return w == ARGV_FD_QMP || w == ARGV_FD_SERIAL || w == ARGV_FD_AGENT;
}
struct argv_fd {
	enum argv_what what;
	const char *name;	/* of the disk or drive, owned by the argv; else NULL */
	int fd;			/* the number it must have in QEMU */
	bool writable;
};
/* What the daemon resolved beyond the spec. */
struct vm_plan {
	const char *uuid, *name;
	uint64_t vars_cluster_bytes;	/* of ARGV_FD_FW_VARS; 0: not known, then they cost 64 MiB of memory on QEMU 7 */
	bool resumes;			/* it waits for a saved memory, by QMP */
	bool has_folder;		/* it gets ARGV_FD_FOLDER */
	/* Of char *, "disk-data@hp0": a machine of just these devices, each on that bus, as the saved memory knows it. NULL:
	 * those of the spec, at places of their own. */
	const struct field_vec *devices;
};

struct argv {
	char **v;		/* n arguments and a NULL; v[0] is the path of QEMU */
	size_t n;
	struct argv_fd *fds;
	size_t nfds;
};

/* Calls vm_spec_check first and fails as it does. @ret is overwritten on success only; end it with argv_fini. */
int argv_build(const struct vm_spec *s, const struct host *h, const struct vm_plan *p, struct argv *ret, struct err *e);
void argv_fini(struct argv *a);

/* The parts, for a guest that runs: JSON for blockdev-add and device_add, to be freed. @port: the root port that a device is
 * plugged into; NULL: its own place. */
char *argv_disk_node(const struct vm_disk *d, int fdset);
char *argv_disk_device(const struct vm_disk *d, uint64_t boot_order, const char *port);
char *argv_cdrom_node(const struct vm_cdrom *c, int fdset);
char *argv_cdrom_device(const struct vm_cdrom *c, uint64_t boot_order);
char *argv_nic_device(const struct vm_nic *n, const char *port);
void argv_forward(const struct vm_forward *f, struct buf *out);	/* "tcp:127.0.0.1:8080-:80" */
