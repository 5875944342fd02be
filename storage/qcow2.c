#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "image.h"
#include "mem.h"
#include "qcow2.h"
#include "text.h"

#define MAGIC		0x514649fbu	/* "QFI\xfb" */
#define CLUSTER		65536ull	/* bytes, of what we write, unless fine */
#define COPIED		(1ull << 63)	/* of an L1 or L2 entry: refcount is exactly one */

enum { INCOMPAT_DIRTY = 1, INCOMPAT_CORRUPT = 2, INCOMPAT_DATA_FILE = 4, INCOMPAT_COMPRESSION = 8, INCOMPAT_SUBCLUSTERS = 16 };
enum ext { EXT_END = 0, EXT_ENCRYPTION = 0x0537be77, EXT_DATA_FILE = 0x44415441, EXT_MARK = 0x43524f46 };
#define MARK_LEN	36

struct header {				/* on disk, big endian */
	uint32_t magic, version;
	uint64_t backing_at;
	uint32_t backing_len, cluster_bits;
	uint64_t size;
	uint32_t crypt, l1_entries;
	uint64_t l1_at, refcounts_at;
	uint32_t refcount_clusters, snapshots;
	uint64_t snapshots_at;
	uint64_t incompatible, compatible, autoclear;	/* version 3 from here */
	uint32_t refcount_order, header_len;
	uint8_t compression, pad[7];
} __attribute__((packed));
#define HEADER_V2	72
#define HEADER_V3	104
_Static_assert(sizeof(struct header) == 112, "qcow2 header");

static void to_host(struct header *h)
{
	h->magic = be32toh(h->magic);
	h->version = be32toh(h->version);
	h->backing_at = be64toh(h->backing_at);
	h->backing_len = be32toh(h->backing_len);
	h->cluster_bits = be32toh(h->cluster_bits);
	h->size = be64toh(h->size);
	h->crypt = be32toh(h->crypt);
	h->l1_entries = be32toh(h->l1_entries);
	h->l1_at = be64toh(h->l1_at);
	h->refcounts_at = be64toh(h->refcounts_at);
	h->refcount_clusters = be32toh(h->refcount_clusters);
	h->snapshots = be32toh(h->snapshots);
	h->snapshots_at = be64toh(h->snapshots_at);
	h->incompatible = be64toh(h->incompatible);
	h->compatible = be64toh(h->compatible);
	h->autoclear = be64toh(h->autoclear);
	h->refcount_order = be32toh(h->refcount_order);
	h->header_len = be32toh(h->header_len);
}

/* A table of @n bytes at @at: aligned to a cluster, after the header, inside the file. */
static bool lies_inside(uint64_t at, uint64_t n, uint64_t cluster, uint64_t file_bytes)
{
	return at >= cluster && !(at % cluster) && at <= file_bytes && n <= file_bytes - at;
}

static int check_header(const struct header *h, uint64_t file_bytes, struct err *e)
{
	uint64_t cluster, l2_entries, known = INCOMPAT_DIRTY | INCOMPAT_CORRUPT | INCOMPAT_DATA_FILE |
					      INCOMPAT_COMPRESSION | INCOMPAT_SUBCLUSTERS;
	bool sub = h->incompatible & INCOMPAT_SUBCLUSTERS;

	if (h->version != 2 && h->version != 3)
		return fail(e, ERR_INVALID, "the image is qcow2 of version %u, only 2 and 3 are known", h->version);
	if (h->incompatible & ~known)
		return fail(e, ERR_INVALID, "the qcow2 image has features that are unknown here");
	if (h->cluster_bits < (sub ? 14 : 9) || h->cluster_bits > 21)
		return fail(e, ERR_INVALID, "the qcow2 header is damaged: cluster size");
	if (h->size > IMAGE_MAX)
		return fail(e, ERR_INVALID, "the image says that its disk is larger than 16 TiB");
	cluster = 1ull << h->cluster_bits;
	l2_entries = cluster / (sub ? 16 : 8);
	if (h->l1_entries > 8 * 1024 * 1024 || (h->size + cluster * l2_entries - 1) / (cluster * l2_entries) > h->l1_entries)
		return fail(e, ERR_INVALID, "the qcow2 header is damaged: size of its first table");
	if (h->l1_entries && !lies_inside(h->l1_at, h->l1_entries * 8ull, cluster, file_bytes))
		return fail(e, ERR_INVALID, "the qcow2 file is damaged or cut off: its first table lies outside");
	if (h->refcount_clusters > (8u << 20) / cluster + 1 || !h->refcount_clusters ||
	    !lies_inside(h->refcounts_at, 1, cluster, file_bytes))
		return fail(e, ERR_INVALID, "the qcow2 file is damaged or cut off: its reference counts lie outside");
	if (h->version == 3 && (h->header_len < HEADER_V3 || h->header_len % 8 || h->header_len > cluster ||
				h->header_len > 4096 || h->refcount_order > 6))
		return fail(e, ERR_INVALID, "the qcow2 header is damaged: its length");
	if (h->snapshots > 65536)
		return fail(e, ERR_INVALID, "the qcow2 header is damaged: number of snapshots");
	return 0;
}

static int read_extensions(const uint8_t *head, struct qcow2_head *q, struct err *e)
{
	uint32_t at = q->ext_end;

	while (q->ext_limit - at >= 8) {
		uint32_t type, len;

		memcpy(&type, head + at, 4);
		memcpy(&len, head + at + 4, 4);
		type = be32toh(type);
		len = be32toh(len);
		if (type == EXT_END)
			break;
		if (len > q->ext_limit - at - 8 || ((len + 7) & ~7u) > q->ext_limit - at - 8)
			return fail(e, ERR_INVALID, "the qcow2 header is damaged: an extension is too long");
		q->encrypted = q->encrypted || type == EXT_ENCRYPTION;
		q->data_file = q->data_file || type == EXT_DATA_FILE;
		if (type == EXT_MARK && len == MARK_LEN) {
			uint8_t uuid[16];

			memcpy(q->mark, head + at + 8, MARK_LEN);
			q->mark[MARK_LEN] = '\0';
			q->mark_at = at + 8;
			if (text_uuid(q->mark, uuid) < 0)
				return fail(e, ERR_INVALID, "the qcow2 header is damaged: the volume's id");
		}
		at += 8 + ((len + 7) & ~7u);
	}
	q->ext_end = at;
	return 0;
}

int qcow2_read(const uint8_t *head, size_t n, uint64_t file_bytes, struct qcow2_head *ret, struct err *e)
{
	struct header h = { 0 };
	struct qcow2_head q = { 0 };
	uint64_t limit;
	int r;

	memcpy(&h, head, n < sizeof(h) ? n : sizeof(h));
	to_host(&h);
	if (n < HEADER_V2 || h.magic != MAGIC)
		return fail(e, ERR_INVALID, "the file isn't a qcow2 image");
	if (h.version == 2) {
		h.incompatible = 0;
		h.header_len = HEADER_V2;
	}
	r = check_header(&h, file_bytes, e);
	if (r < 0)
		return r;
	limit = 1ull << h.cluster_bits;
	if (h.backing_at && h.backing_at < limit)
		limit = h.backing_at;
	if (limit > n)
		limit = n;
	if (h.header_len > limit)
		return fail(e, ERR_INVALID, "the qcow2 header is damaged or cut off");
	q.virtual_bytes = h.size;
	q.cluster_bytes = 1ull << h.cluster_bits;
	q.snapshots = h.snapshots;
	q.backing_file = h.backing_at != 0;
	q.encrypted = h.crypt != 0;
	q.data_file = h.incompatible & INCOMPAT_DATA_FILE;
	q.corrupt = h.incompatible & INCOMPAT_CORRUPT;
	q.dirty = h.incompatible & INCOMPAT_DIRTY;
	q.ext_end = h.header_len;
	q.ext_limit = (uint32_t)limit;
	r = read_extensions(head, &q, e);
	if (!r)
		*ret = q;
	return r;
}

static int write_at(int fd, const void *p, size_t n, uint64_t at)
{
	for (const char *c = p; n; ) {
		ssize_t k = pwrite(fd, c, n, (off_t)at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -EIO;
		c += k;
		at += (uint64_t)k;
		n -= (size_t)k;
	}
	return 0;
}

static void mark_encode(uint8_t out[56], const char *id)
{
	uint32_t type = htobe32(EXT_MARK), len = htobe32(MARK_LEN);

	memset(out, 0, 56);		/* 36 padded to 40, then the end: type 0, length 0 */
	memcpy(out, &type, 4);
	memcpy(out + 4, &len, 4);
	memcpy(out + 8, id, MARK_LEN);
}

int qcow2_mark(int fd, const struct qcow2_head *h, const char *id)
{
	uint8_t ext[56];

	if (h->mark_at)
		return write_at(fd, id, MARK_LEN, h->mark_at);
	if (h->ext_limit - h->ext_end < sizeof(ext))
		return -ENOSPC;
	mark_encode(ext, id);
	return write_at(fd, ext, sizeof(ext), h->ext_end);
}

/* An image of ours: header, refcount table, L1 table; then the clusters that are held, each L2 table behind its own;
 * then the refcount blocks. */
struct writer {
	int fd;
	const struct qcow2_new *new;
	uint64_t cluster, per_l2;	/* bytes of a cluster, entries of an L2 table */
	uint64_t next;			/* next free cluster */
	uint64_t l2[CLUSTER / 8];
	uint8_t chunk[CLUSTER];		/* of the content; then a refcount block */
	bool l2_used;
};
enum { AT_HEADER, AT_REFCOUNTS, AT_L1 };

/* Write the next cluster and tell the table entry that stands for it. */
static int put(struct writer *w, const void *cluster, uint64_t *ret_entry)
{
	int r = write_at(w->fd, cluster, w->cluster, w->next * w->cluster);

	*ret_entry = htobe64((w->next++ * w->cluster) | COPIED);
	return r;
}

static int end_l2(struct writer *w, uint64_t l1_index)
{
	uint64_t l1;
	int r = put(w, w->l2, &l1);

	memset(w->l2, 0, w->cluster);
	w->l2_used = false;
	return r ?: write_at(w->fd, &l1, sizeof(l1), AT_L1 * w->cluster + l1_index * 8);
}

/* The clusters of the chunk at @at. */
static int write_chunk(struct writer *w, uint64_t at, uint64_t end)
{
	static const uint8_t zero[CLUSTER];
	int r = 0;

	for (const uint8_t *c = w->chunk; c < w->chunk + CLUSTER && at < end && !r; c += w->cluster, at += w->cluster) {
		uint64_t i = at / w->cluster;

		if (at < w->new->held_bytes || memcmp(c, zero, w->cluster)) {
			r = put(w, c, &w->l2[i % w->per_l2]);
			w->l2_used = true;
		}
		if (!r && w->l2_used && (i % w->per_l2 == w->per_l2 - 1 || at + w->cluster >= end))
			r = end_l2(w, i / w->per_l2);
	}
	return r;
}

static int write_content(struct writer *w, uint64_t content_bytes, struct err *e)
{
	uint64_t held = w->new->held_bytes, end = held > content_bytes ? held : content_bytes;
	int r = 0;

	for (uint64_t at = 0; at < end && !r; at += CLUSTER) {
		ssize_t n = at < content_bytes ? pread(w->new->content, w->chunk, CLUSTER, (off_t)at) : 0;

		if (n < 0)
			return fail_errno(e, errno, "read the content of the new disk");
		memset(w->chunk + n, 0, CLUSTER - (size_t)n);
		r = write_chunk(w, at, end);
	}
	return r < 0 ? fail_errno(e, r, "write the new disk") : 0;
}

static int write_refcounts(struct writer *w)
{
	uint64_t per_block = w->cluster / 2, blocks = 0, all, entry;
	uint16_t *count = (uint16_t *)w->chunk;
	int r = 0;

	while (blocks * per_block < w->next + blocks)
		blocks++;
	if (blocks > w->cluster / 8)
		return -EFBIG;		/* one cluster of refcount table is enough for what we write */
	all = w->next + blocks;
	for (uint64_t k = 0; k < blocks && !r; k++) {
		for (uint64_t i = 0; i < per_block; i++)
			count[i] = htobe16(k * per_block + i < all);
		r = write_at(w->fd, count, w->cluster, w->next * w->cluster);
		entry = htobe64(w->next++ * w->cluster);
		if (!r)
			r = write_at(w->fd, &entry, sizeof(entry), AT_REFCOUNTS * w->cluster + k * 8);
	}
	return r;
}

static int write_header(struct writer *w, uint64_t l1_entries)
{
	struct header h = {
		.magic = htobe32(MAGIC), .version = htobe32(3),
		.cluster_bits = htobe32((uint32_t)__builtin_ctzll(w->cluster)), .size = htobe64(w->new->bytes),
		.l1_entries = htobe32((uint32_t)l1_entries), .l1_at = htobe64(AT_L1 * w->cluster),
		.refcounts_at = htobe64(AT_REFCOUNTS * w->cluster), .refcount_clusters = htobe32(1),
		.refcount_order = htobe32(4), .header_len = htobe32(sizeof(h)),
	};
	uint8_t ext[56];
	int r = write_at(w->fd, &h, sizeof(h), 0);

	if (r < 0 || !w->new->id)
		return r;
	mark_encode(ext, w->new->id);
	return write_at(w->fd, ext, sizeof(ext), sizeof(h));
}

static int content_size(const struct qcow2_new *n, uint64_t *ret, struct err *e)
{
	struct stat st = { 0 };

	if (!n->bytes || n->bytes % 512 || n->bytes > IMAGE_MAX)
		return fail(e, ERR_INVALID, "the size of a disk is a multiple of 512 bytes, and at most 16 TiB");
	if (n->content >= 0 && fstat(n->content, &st) < 0)
		return fail_errno(e, errno, "look at the content of the new disk");
	if ((uint64_t)st.st_size > QCOW2_CONTENT_MAX || (uint64_t)st.st_size > n->bytes || n->held_bytes > n->bytes)
		return fail(e, ERR_INVALID, "the content of the new disk is larger than the disk or than 512 MiB");
	*ret = (uint64_t)st.st_size;
	return 0;
}

int qcow2_write(int fd, const struct qcow2_new *n, struct err *e)
{
	AUTO_FREE struct writer *w = xcalloc(1, sizeof(*w));
	uint64_t per_l1_entry, l1_entries, content = 0;
	int r = content_size(n, &content, e);

	if (r < 0)
		return r;
	w->fd = fd;
	w->new = n;
	w->cluster = n->fine ? QCOW2_FINE : CLUSTER;
	w->per_l2 = w->cluster / 8;
	per_l1_entry = w->cluster * w->per_l2;
	l1_entries = (n->bytes + per_l1_entry - 1) / per_l1_entry;
	w->next = AT_L1 + (l1_entries * 8 + w->cluster - 1) / w->cluster;
	r = write_content(w, content, e);
	if (r < 0)
		return r;
	r = write_refcounts(w);
	if (!r)		/* last: until then it is no image */
		r = write_header(w, l1_entries);
	return r < 0 ? fail_errno(e, r, "write the new disk") : 0;
}
