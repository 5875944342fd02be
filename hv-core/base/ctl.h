/* ctl.h: what croftd and croft-vm say to each other. FROZEN: a croft-vm lives as long as its VM, so a new croftd must
 * speak with every croft-vm that was ever released. Numbers and rows never change their meaning; rows are only added
 * at the end of a message. What an older peer does not send reads as zero, what a newer one adds is skipped, and a
 * type that is not known is answered UNSUPPORTED.
 *
 * SOCK_SEQPACKET. A message: u32 version, u32 type, u32 id (of the request; its answer bears the same; 0: nobody
 * asked), u32 length of the body, body. Numbers are little-endian, texts and lists length-prefixed (pack.h). */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "err.h"

#define CTL_VERSION	1
#define CTL_MAX		(160 * 1024)	/* bytes of a message */
#define CTL_FDS		250		/* descriptors with it; the kernel allows 253 */

struct ctl_texts { char **v; size_t n; };	/* NULL-terminated */
struct ctl_numbers { uint32_t *v; size_t n; };

/* Both ways, first on every connection. */
struct ctl_hello { char *build; };

/* croftd -> croft-vm, only on the channel that it was started with. LAUNCH: fd i becomes fd numbers.v[i] of QEMU;
 * answered by STATE (parked). ADOPT: fd 0 is a pidfd of QEMU; answered by STATE (running). */
struct ctl_launch {
	char *uuid, *boot_id, *version, *qemu_version;
	struct ctl_texts argv;			/* argv[0]: absolute path */
	struct ctl_numbers numbers;
	uint32_t qmp, serial;			/* numbers of the listening sockets made by croft-vm; 0: none */
	uint32_t uid, gid;			/* of the VM */
	uint32_t shim_uid, shim_gid;		/* what croft-vm becomes */
	uint64_t console_bytes;
	uint32_t private_root;
	struct ctl_texts devices, binds;
	uint64_t memlock_bytes;
	uint32_t pid;				/* ADOPT: QEMU */
	uint64_t start_time;
	char *confinement;			/* ADOPT: what the first croft-vm had told */
	char *cpus;				/* of the host, that QEMU may run on: "4-7"; none: any */
	uint32_t agent;				/* like qmp: the socket of the guest agent's port */
};

enum { CTL_PARKED = 1, CTL_RUNNING = 2, CTL_ENDED = 3 };	/* phase */
enum { CTL_END_UNKNOWN, CTL_END_EXITED, CTL_END_KILLED };	/* how */

/* croft-vm -> croftd: to STATUS, LAUNCH, ADOPT and GO, and unasked (id 0) when QEMU ends. */
struct ctl_state {
	uint32_t phase, pid;
	uint64_t start_time;
	uint32_t shim_pid;
	uint64_t shim_start_time;
	uint32_t uid, adopted;
	char *confinement;
	uint32_t how, code;			/* of CTL_ENDED */
	uint64_t at_usec;
	char *said;				/* the end of QEMU's stderr */
	uint64_t console_total;			/* bytes that the guest has sent so far */
};
struct ctl_failed { uint32_t error; char *what; };	/* the request failed: errno, and one sentence */
struct ctl_unsupported { uint32_t type; };		/* of the request that was not known */
struct ctl_empty { uint32_t unused; };

#define CTL_TABLE(X) /* name, number, struct */ \
	X(HELLO, 1, hello) X(LAUNCH, 2, launch) X(ADOPT, 3, launch) X(GO, 4, empty) X(STATUS, 5, empty) \
	X(VIEWER, 6, empty)	/* fd 0: a stream socket */ \
	X(STATE, 64, state) X(DONE, 65, empty) X(FAILED, 66, failed) X(UNSUPPORTED, 67, unsupported)

enum ctl_type {
	CTL_NONE,
#define X(name, number, s) CTL_##name = number,
	CTL_TABLE(X)
#undef X
};

union ctl_any {
	struct ctl_hello hello;
	struct ctl_launch launch;
	struct ctl_state state;
	struct ctl_failed failed;
	struct ctl_unsupported unsupported;
	struct ctl_empty empty;
};

/* A message that has come; what it owns goes by ctl_fini. */
struct ctl_message {
	uint32_t version, type, id;		/* a type that is not in the table has an empty body */
	union ctl_any body;
	int fds[CTL_FDS];			/* CLOEXEC; take one by setting it to -1 */
	size_t nfds;
};

void ctl_encode(enum ctl_type type, uint32_t id, const void *body, struct buf *out);
int ctl_decode(const void *p, size_t n, struct ctl_message *m);	/* without fds. -EBADMSG; then there is nothing to free */
void ctl_fini(struct ctl_message *m);
/* Never blocks: -EAGAIN when the peer does not read. */
int ctl_send(int sock, enum ctl_type type, uint32_t id, const void *body, const int *fds, size_t nfds);
/* 1: a message; 0: the peer has gone; -EAGAIN: nothing yet; -EBADMSG and others: close the connection. */
int ctl_recv(int sock, struct ctl_message *m);
