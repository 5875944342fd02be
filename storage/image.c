#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "image.h"
#include "mem.h"
#include "qcow2.h"

const char *const image_format_names[] = { [IMAGE_QCOW2] = "qcow2", [IMAGE_RAW] = "raw", [IMAGE_NFORMATS] = NULL };

const struct fields image_info_fields = {
	.name = "ImageInfo", .size = sizeof(struct image_info), .help = "What stands in the header of a disk image",
	.rows = (const struct field[]){
		{ "format", F_ENUM, offsetof(struct image_info, format), FIELD_READ_ONLY, .names = image_format_names,
		  .help = "as it was said; raw is never guessed" },
		{ "virtual_bytes", F_U64, offsetof(struct image_info, virtual_bytes), FIELD_READ_ONLY,
		  .help = "size of the disk that a guest sees" },
		{ "file_bytes", F_U64, offsetof(struct image_info, file_bytes), FIELD_READ_ONLY, .help = "length of the file" },
		{ "cluster_bytes", F_U64, offsetof(struct image_info, cluster_bytes), FIELD_READ_ONLY,
		  .help = "unit of a qcow2 image" },
		{ "snapshots", F_U64, offsetof(struct image_info, snapshots), FIELD_READ_ONLY,
		  .help = "snapshots inside of the image" },
		{ "backing_file", F_BOOL, offsetof(struct image_info, backing_file), FIELD_READ_ONLY,
		  .help = "it is only the difference to another file" },
		{ "data_file", F_BOOL, offsetof(struct image_info, data_file), FIELD_READ_ONLY,
		  .help = "its data stand in another file" },
		{ "encrypted", F_BOOL, offsetof(struct image_info, encrypted), FIELD_READ_ONLY, .help = "it is encrypted" },
		{ "corrupt", F_BOOL, offsetof(struct image_info, corrupt), FIELD_READ_ONLY, .help = "it is marked as damaged" },
		{ "dirty", F_BOOL, offsetof(struct image_info, dirty), FIELD_READ_ONLY, .help = "it wasn't closed properly" },
		{ "volume_id", F_STR, offsetof(struct image_info, volume_id), FIELD_READ_ONLY | FIELD_NULLABLE,
		  .help = "the volume that Croft made it for" },
		{ 0 },
	},
};

/* What a file may begin with that was said to be a raw disk and isn't. (A LUKS header is a raw disk's own matter.) */
static const struct magic {
	size_t at, n;
	const char *bytes, *what, *hint;
} magics[] = {
#define CONVERT	"convert it first: qemu-img convert -O qcow2"
	{ 0, 4, "QFI\xfb", "a qcow2 image", "say format qcow2" },
	{ 0, 4, "KDMV", "a VMDK image", CONVERT " -f vmdk" },
	{ 0, 21, "# Disk DescriptorFile", "a VMDK descriptor", CONVERT " -f vmdk" },
	{ 0, 8, "vhdxfile", "a VHDX image", CONVERT " -f vhdx" },
	{ 0, 8, "conectix", "a VHD image", CONVERT " -f vpc" },
	{ 0, 4, "QED\0", "a QED image", CONVERT " -f qed" },
	{ 64, 4, "\x7f\x10\xda\xbe", "a VDI image", CONVERT " -f vdi" },
	{ 0, 6, "\xfd" "7zXZ\0", "compressed by xz", "unpack it first: xz -d" },
	{ 0, 3, "\x1f\x8b\x08", "compressed by gzip", "unpack it first: gzip -d" },
	{ 0, 4, "\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it first: zstd -d" },
	{ 0, 3, "BZh", "compressed by bzip2", "unpack it first: bzip2 -d" },
	{ 0, 4, "PK\x03\x04", "a zip archive", "unpack it first: unzip" },
};

static const struct magic *find_magic(const uint8_t *head, size_t n)
{
	for (size_t i = 0; i < COUNT(magics); i++)
		if (magics[i].at + magics[i].n <= n && !memcmp(head + magics[i].at, magics[i].bytes, magics[i].n))
			return &magics[i];
	return NULL;
}

static int refuse(const struct magic *m, enum image_format said, struct err *e)
{
	if (!m)
		return fail(e, ERR_INVALID, "the file isn't a qcow2 image");
	fail(e, ERR_INVALID, "the file isn't a %s image, it is %s", image_format_names[said], m->what);
	return err_hint(e, "%s", m->hint);
}

static ssize_t read_head(int fd, uint8_t *head, size_t cap)
{
	size_t n = 0;

	while (n < cap) {
		ssize_t k = pread(fd, head + n, cap - n, (off_t)n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		if (!k)
			break;
		n += (size_t)k;
	}
	return (ssize_t)n;
}

static int inspect_qcow2(const uint8_t *head, size_t n, struct image_info *i, struct err *e)
{
	struct qcow2_head q;
	int r = qcow2_read(head, n, i->file_bytes, &q, e);

	if (r < 0)
		return r;
	i->virtual_bytes = q.virtual_bytes;
	i->cluster_bytes = q.cluster_bytes;
	i->snapshots = q.snapshots;
	i->backing_file = q.backing_file;
	i->data_file = q.data_file;
	i->encrypted = q.encrypted;
	i->corrupt = q.corrupt;
	i->dirty = q.dirty;
	i->volume_id = *q.mark ? xstrdup(q.mark) : NULL;
	return 0;
}

int image_inspect(int fd, enum image_format format, struct image_info *ret, struct err *e)
{
	AUTO_FREE uint8_t *head = xmalloc(QCOW2_HEAD);
	struct image_info i = { .format = (int)format };
	const struct magic *m;
	struct stat st;
	ssize_t n;
	int r = 0;

	if (fstat(fd, &st) < 0)
		return fail_errno(e, errno, "look at the image");
	n = read_head(fd, head, QCOW2_HEAD);
	if (n < 0)
		return fail_errno(e, (int)n, "read the image");
	if (!n)
		return fail(e, ERR_INVALID, "the file is empty");
	i.file_bytes = (uint64_t)st.st_size;
	m = find_magic(head, (size_t)n);
	if ((format == IMAGE_RAW) == (m != NULL) || (m && m != &magics[0]))
		return refuse(m, format, e);
	if (format == IMAGE_QCOW2)
		r = inspect_qcow2(head, (size_t)n, &i, e);
	else
		i.virtual_bytes = (i.file_bytes + 511) & ~511ull;
	if (!r && i.virtual_bytes > IMAGE_MAX)
		r = fail(e, ERR_INVALID, "the image is larger than 16 TiB");
	if (!r && !i.virtual_bytes)
		r = fail(e, ERR_INVALID, "the image is a disk of no size");
	if (!r)
		*ret = i;
	return r;
}

int image_acceptable(const struct image_info *i, struct err *e)
{
	if (i->backing_file) {
		fail(e, ERR_INVALID, "the image is only the difference to a backing file");
		return err_hint(e, "flatten it first: qemu-img convert -O qcow2");
	}
	if (i->data_file) {
		fail(e, ERR_INVALID, "the image keeps its data in another file");
		return err_hint(e, "convert it first: qemu-img convert -O qcow2");
	}
	if (i->encrypted) {
		fail(e, ERR_INVALID, "the image is encrypted");
		return err_hint(e, "decrypt it first: qemu-img convert with its secret");
	}
	if (i->corrupt) {
		fail(e, ERR_INVALID, "the image is marked as damaged");
		return err_hint(e, "repair it first: qemu-img check -r all");
	}
	return 0;
}
