/* qcow2.h: our own hands on qcow2 files: reading a header, writing an image, and the mark by which a volume is known
 * again: a header extension with its UUID, which QEMU keeps as it keeps every extension that it doesn't know.
 * Source: docs/interop/qcow2.txt of QEMU. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "err.h"

#define QCOW2_HEAD	(64 * 1024)	/* bytes at a file's start that qcow2_read wants, or the whole file */

struct qcow2_head {
	uint64_t virtual_bytes, cluster_bytes, snapshots;
	bool backing_file, data_file, encrypted, corrupt, dirty;
	char mark[37];			/* "" when there is none */
	uint32_t mark_at;		/* where its 36 bytes stand */
	uint32_t ext_end, ext_limit;	/* where the extensions end, and how far they may reach */
};
/* Read the header in the first @n bytes of a file of @file_bytes. Pure. ERR_INVALID with a sentence. */
int qcow2_read(const uint8_t *head, size_t n, uint64_t file_bytes, struct qcow2_head *ret, struct err *e);
/* Write @id (36 characters) into a header that was read as @h. -ENOSPC when it has no room. Blocks. */
int qcow2_mark(int fd, const struct qcow2_head *h, const char *id);
#define QCOW2_CONTENT_MAX	(512ull << 20)
#define QCOW2_FINE		512	/* bytes of a cluster */

struct qcow2_new {
	uint64_t bytes;			/* virtual size */
	const char *id;			/* its mark, or NULL */
	int content;			/* a raw file that it is to hold (at most QCOW2_CONTENT_MAX, and @bytes), or -1 */
	bool fine;			/* clusters of QCOW2_FINE instead of 64 KiB: for a few MiB */
	uint64_t held_bytes;		/* so much of its start has clusters even where it is zero */
};
/* Write an image into the empty file @fd. Not synced. Blocks. */
int qcow2_write(int fd, const struct qcow2_new *n, struct err *e);
