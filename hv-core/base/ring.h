/* ring.h: the last bytes of a serial console, in a file (console.ring of a run folder), so that they survive the
 * process that writes them. A byte's number is its distance from the first byte ever written; readers keep such a
 * number as their cursor. FROZEN like ctl.h: 64 bytes of header (magic, u32 format 1, u32 0, u64 size, u64 total;
 * native byte order), then the ring. One writer. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring { int fd; uint64_t size, total; };	/* size: of the ring; total: bytes ever written */

#define RING_MIN	4096
#define RING_MAX	(16u << 20)

int ring_create(int dirfd, const char *name, uint64_t size, struct ring *ret);	/* replaces what is there. -errno */
int ring_open(int dirfd, const char *name, bool write, struct ring *ret);	/* -EBADMSG for a file that is no ring */
void ring_close(struct ring *r);
int ring_add(struct ring *r, const void *p, size_t n);	/* counts the bytes even when it fails */
uint64_t ring_oldest(const struct ring *r);		/* the number of the oldest byte that is still there */
/* Read up to @cap bytes from *cursor on and advance it; *skipped: how many were overwritten before. 0: at the end. */
size_t ring_get(const struct ring *r, uint64_t *cursor, void *out, size_t cap, uint64_t *skipped);
