/* image.h: what a disk image is. The bytes are hostile: QEMU and qemu-img see an image only after it passed here, and
 * its format is never guessed: somebody said it, and it must be true. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "err.h"
#include "fields.h"

enum image_format { IMAGE_QCOW2, IMAGE_RAW, IMAGE_NFORMATS };
extern const char *const image_format_names[];	/* "qcow2", "raw", NULL */

#define IMAGE_MAX	(16ull << 40)		/* largest virtual size */

struct image_info {			/* table: image_info_fields */
	int format;
	uint64_t virtual_bytes;
	uint64_t file_bytes;
	uint64_t cluster_bytes;		/* qcow2 */
	uint64_t snapshots;		/* internal ones */
	bool backing_file, data_file, encrypted, corrupt, dirty;
	char *volume_id;		/* the mark that volume.h leaves, or NULL */
};
extern const struct fields image_info_fields;	/* "ImageInfo"; fields_fini frees what image_inspect filled */

/* The file that @fd stands for, which was said to be @format. Refused when it isn't, and for raw when it begins like
 * an image of another format or a compressed file. Blocks: for lanes. */
int image_inspect(int fd, enum image_format format, struct image_info *ret, struct err *e);
/* May a disk be made of it: no backing file, no data file, no encryption, not corrupt. (Internal
 * snapshots are left behind by the copy.) */
int image_acceptable(const struct image_info *i, struct err *e);
