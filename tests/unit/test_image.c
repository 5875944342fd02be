// LINK: storage
#include <endian.h>
#include <sys/mman.h>
#include "ds.h"
#include "image.h"
#include "qcow2.h"

#define ID	"11111111-2222-4333-8444-555555555555"

static uint8_t img[4 * 65536];
static size_t img_len;

/* An image of our own writer, to be damaged. */
static void fresh(void)
{
	int fd = memfd_create("img", MFD_CLOEXEC);

	eq_int(qcow2_write(fd, &(struct qcow2_new){ .bytes = 1 << 20, .id = ID, .content = -1 }, NULL), 0);
	img_len = (size_t)pread(fd, img, sizeof(img), 0);
	close(fd);
}

static int inspect(const void *data, size_t n, enum image_format format, struct image_info *i, struct err *e)
{
	int fd = memfd_create("img", MFD_CLOEXEC), r;

	*i = (struct image_info){ 0 };
	*e = (struct err){ 0 };
	eq_int(file_write_all(fd, data, n), 0);
	r = image_inspect(fd, format, i, e);
	close(fd);
	return r;
}

static void refused(const void *data, size_t n, enum image_format format, const char *says)
{
	struct image_info i;
	struct err e;

	ok(inspect(data, n, format, &i, &e) < 0);
	eq_int(e.code, ERR_INVALID);
	if (!strstr(e.msg, says) && !strstr(e.hint, says))
		t_fail(__FILE__, __LINE__, "\"%s; %s\" doesn't say \"%s\"", e.msg, e.hint, says);
}

TEST(our_own_image)
{
	struct image_info i;
	struct err e;

	fresh();
	eq_int(inspect(img, img_len, IMAGE_QCOW2, &i, &e), 0);
	eq_int(i.virtual_bytes, 1 << 20);
	eq_int(i.cluster_bytes, 65536);
	eq_str(i.volume_id, ID);
	eq_int(image_acceptable(&i, &e), 0);
	fields_fini(&image_info_fields, &i);
}

TEST(a_format_is_never_guessed)
{
	static const struct { size_t n; const char *bytes, *says; } table[] = {
		{ 4, "KDMV", "vmdk" }, { 8, "vhdxfile", "vhdx" }, { 8, "conectix", "vpc" }, { 6, "\xfd" "7zXZ\0", "xz -d" },
		{ 3, "\x1f\x8b\x08", "gzip -d" }, { 4, "\x28\xb5\x2f\xfd", "zstd -d" },
	};
	char block[1024] = { 0 };
	struct image_info i;
	struct err e;

	fresh();
	refused(img, img_len, IMAGE_RAW, "say format qcow2");
	refused(img, 4, IMAGE_RAW, "say format qcow2");
	eq_int(inspect(block, 1000, IMAGE_RAW, &i, &e), 0);
	eq_int(i.virtual_bytes, 1024);
	refused(block, sizeof(block), IMAGE_QCOW2, "isn't a qcow2");
	refused(block, 0, IMAGE_RAW, "empty");
	for (size_t k = 0; k < COUNT(table); k++) {
		memcpy(block, table[k].bytes, 8 < table[k].n ? 8 : table[k].n);
		refused(block, sizeof(block), IMAGE_RAW, table[k].says);
		refused(block, sizeof(block), IMAGE_QCOW2, table[k].says);
		memset(block, 0, sizeof(block));
	}
	memcpy(block + 64, "\x7f\x10\xda\xbe", 4);
	refused(block, sizeof(block), IMAGE_RAW, "VDI");
}

static void put32(size_t at, uint32_t v) { v = htobe32(v); memcpy(img + at, &v, 4); }
static void put64(size_t at, uint64_t v) { v = htobe64(v); memcpy(img + at, &v, 8); }

static void damaged32(size_t at, uint32_t v, const char *says)
{
	fresh();
	put32(at, v);
	refused(img, img_len, IMAGE_QCOW2, says);
}

static void damaged64(size_t at, uint64_t v, const char *says)
{
	fresh();
	put64(at, v);
	refused(img, img_len, IMAGE_QCOW2, says);
}

TEST(damaged_headers)
{
	damaged32(4, 1, "version 1");
	damaged32(4, 4, "version 4");
	damaged32(20, 8, "cluster size");
	damaged32(20, 22, "cluster size");
	damaged32(20, 0xffffffff, "cluster size");
	damaged64(24, UINT64_MAX, "16 TiB");
	damaged64(24, 1ull << 50, "16 TiB");
	damaged64(24, 1ull << 40, "first table");
	damaged32(36, 0, "first table");
	damaged32(36, 0xffffffff, "first table");
	damaged32(36, 8 * 1024 * 1024, "first table");
	damaged64(40, 1, "first table");
	damaged64(40, 1ull << 40, "first table");
	damaged64(40, UINT64_MAX & ~65535ull, "first table");
	damaged64(48, 0, "reference counts");
	damaged64(48, 1ull << 60, "reference counts");
	damaged32(56, 0, "reference counts");
	damaged32(56, 0xffffffff, "reference counts");
	damaged32(60, 65537, "snapshots");
	damaged64(72, 1 << 5, "unknown");
	damaged64(72, 1ull << 63, "unknown");
	damaged32(96, 7, "length");
	damaged32(100, 0, "length");
	damaged32(100, 105, "length");
	damaged32(100, 0xfffffff8, "length");
	damaged32(116, 0xffffffff, "extension");
	damaged32(116, 65536, "extension");
	fresh();
	refused(img, 71, IMAGE_QCOW2, "isn't a qcow2");
	refused(img, 100, IMAGE_QCOW2, "first table");
	memset(img + 120, 'x', 36);
	refused(img, img_len, IMAGE_QCOW2, "volume's id");
}

static void unacceptable(const char *says)
{
	struct image_info i;
	struct err e;

	eq_int(inspect(img, img_len, IMAGE_QCOW2, &i, &e), 0);
	ok(image_acceptable(&i, &e) < 0);
	ok(strstr(e.msg, says) && *e.hint);
	fields_fini(&image_info_fields, &i);
}

TEST(what_no_disk_is_made_of)
{
	fresh();
	put64(8, 512);
	put32(16, 11);
	unacceptable("backing file");
	fresh();
	put64(72, 4);
	unacceptable("another file");
	fresh();
	put32(112, 0x44415441);		/* the name of a data file, without its bit */
	unacceptable("another file");
	fresh();
	put32(32, 1);
	unacceptable("encrypted");
	fresh();
	put32(112, 0x0537be77);
	unacceptable("encrypted");
	fresh();
	put64(72, 2);
	unacceptable("damaged");
}

TEST(a_mark_is_added_and_changed)
{
	int fd = memfd_create("img", MFD_CLOEXEC);
	struct qcow2_head h;

	fresh();
	memset(img + 112, 0, 56);		/* no extension at all */
	eq_int(file_write_all(fd, img, img_len), 0);
	eq_int(qcow2_read(img, 65536, img_len, &h, NULL), 0);
	eq_str(h.mark, "");
	eq_int(qcow2_mark(fd, &h, ID), 0);
	eq_int(pread(fd, img, sizeof(img), 0), img_len);
	eq_int(qcow2_read(img, 65536, img_len, &h, NULL), 0);
	eq_str(h.mark, ID);
	eq_int(qcow2_mark(fd, &h, "aaaaaaaa-2222-4333-8444-555555555555"), 0);
	eq_int(pread(fd, img, sizeof(img), 0), img_len);
	eq_int(qcow2_read(img, 65536, img_len, &h, NULL), 0);
	eq_str(h.mark, "aaaaaaaa-2222-4333-8444-555555555555");
	h.mark_at = 0;
	h.ext_limit = h.ext_end + 55;
	eq_int(qcow2_mark(fd, &h, ID), -ENOSPC);
	close(fd);
}

T_MAIN
