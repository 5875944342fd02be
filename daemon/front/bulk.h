/* bulk.h: bytes between a client and a descriptor of croftd's. Each lane key (a datastore) has its lane; read, write
 * and close of such descriptors happen only there, so that a dead NFS server stops nobody else. */
#pragma once
#include <stdint.h>
#include "due.h"
#include "lane.h"

struct xchg;
enum { BULK_BLOCK = 1 << 20 };

struct transfer;
struct block {
	struct job job;
	struct transfer *t;
	char *p;
	size_t cap, n, off;		/* off: bytes already given to the client */
	uint64_t at;			/* place in the file */
	enum { BLOCK_IDLE, BLOCK_BUSY, BLOCK_READY } state;
	int error;			/* errno of the job */
};
struct transfer {
	struct xchg *x;			/* NULL: the exchange has gone, the lane still works */
	void *of;			/* the owner's own; freed with the transfer */
	void (*ready)(struct transfer *t, struct block *b);	/* in the loop, only while there is an exchange; see error */
	struct block block[2];
	int fd, error;			/* error: the first errno; nothing is started after it */
	struct lane_ref *lane;
	uint64_t deadline_usec;
	struct due due;
	struct job close_job;
};

/* @fd and @of are owned from now on. NULL @lane is a lane without name. */
struct transfer *transfer_new(struct xchg *x, int fd, const char *lane, uint64_t deadline_usec,
			      void (*ready)(struct transfer *t, struct block *b), void *of);
void transfer_write(struct transfer *t, struct block *b);	/* block's n bytes to its place */
void transfer_read(struct transfer *t, struct block *b);	/* cap bytes from its place; n: how many there were */
void transfer_leave(struct transfer *t);			/* the exchange ends; the rest is done in the lane */

/* Verdicts. */
void bulk_store(struct xchg *x, const void *msg, int *fds, unsigned nfds);
void bulk_send(struct xchg *x, const void *msg, int *fds, unsigned nfds);
