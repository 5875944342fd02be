/* volume.h: VMs' disks: qcow2 files, root's, 0600, which QEMU gets as descriptors.
 *
 * Made for tasks that a crash may cut at any instruction: the caller chooses the volume's id (a UUID) and keeps it in
 * its task. The image is made under a hidden temporary name with that id, bears the id in its header, and gets its name
 * by a rename that replaces nothing. So each of these can be done again (a target that bears the id is a success), and
 * undone without harming anybody else's file. Same calling rules as datastore.h. */
#pragma once
#include "datastore.h"
#include "image.h"

struct volume_new {
	const char *path;		/* the target; its folder exists; borrowed during the call, as are all texts here */
	const char *id;			/* UUID of the volume */
	uint64_t bytes;			/* virtual size, a multiple of 512; for a copy 0: that of the source */
};
/* An empty disk. */
void volume_create(struct datastore *ds, const struct volume_new *v, storage_done done, void *arg);
/* UEFI variables: a disk with the content of a raw file of the host, such as AAVMF_VARS.fd. QEMU writes a flash bank by
 * sectors and never flushes it. So its clusters are sectors, and none is filled up with what QEMU read from elsewhere
 * (see hv-core/argv.c); and those that AAVMF uses are there from the start: a new one would be known to QEMU alone, and
 * lost with it when the VM is powered off. */
void volume_create_vars(struct datastore *ds, const struct volume_new *v, const char *host_file,
			storage_done done, void *arg);
/* A store with other clusters, or with more than a few MiB on disk (after a suspend QEMU writes the whole bank back, zeros
 * and all), is written anew as the one above makes it, under a temporary name with @id, and replaced: it is the old one or
 * the new one, whatever happens. Another one is left as it is, and a success. Nobody may have it open: the caller holds
 * the lock of its folder. */
void volume_trim_vars(struct datastore *ds, const char *path, const char *id, storage_done done, void *arg);

struct volume_copy;
struct volume_source {
	struct datastore *ds;
	const char *path;
	enum image_format format;	/* as it was said */
};
/* A disk with the content of an image, whose size may be larger than the image, never smaller. A reflink or plain copy
 * where that is the same, else qemu-img as a child. @progress (may be NULL) gets 0..1000. volume_copy_cancel: done gets
 * ERR_CANCELLED, or success when it was too late. The handle is gone when done is called. */
struct volume_copy *volume_copy(struct datastore *ds, const struct volume_new *v, const struct volume_source *from,
				void (*progress)(void *arg, unsigned permille), storage_done done, void *arg);
uint64_t volume_copy_total(const struct volume_copy *c);	/* bytes that progress counts; 0: not known yet */
void volume_copy_cancel(struct volume_copy *c);

/* Make it larger, by qemu-img; only while no VM has it open (QEMU's lock tells). Smaller is refused, equal is success. */
void volume_grow(struct datastore *ds, const char *path, uint64_t bytes, storage_done done, void *arg);
/* Undo of the ones above: the temporary file goes, and the target if it bears @id. */
void volume_undo(struct datastore *ds, const char *path, const char *id, storage_done done, void *arg);
/* Delete a disk; none there is success. */
void volume_delete(struct datastore *ds, const char *path, storage_done done, void *arg);
/* What is this file, and may it be used as @format? */
void volume_inspect(struct datastore *ds, const char *path, enum image_format format,
		    void (*done)(void *arg, const struct image_info *info, const struct err *e), void *arg);
