// LINK: storage
#include <endian.h>
#include <poll.h>
#include "ds.h"
#include "qcow2.h"
#include "volume.h"

#define ID	"11111111-2222-4333-8444-555555555555"
#define ID2	"aaaaaaaa-2222-4333-8444-555555555555"
#define MIB	(1ull << 20)
#define TEMP	".croft-new-" ID

static bool no_qemu_img(void)
{
	if (!access("/usr/bin/qemu-img", X_OK))
		return false;
	t_skip("qemu-img isn't installed");
	return true;
}

static int check(const char *name)
{
	return run((const char *const[]){ "/usr/bin/qemu-img", "check", "-f", "qcow2", in_home(name), NULL });
}

static int same(const char *a, const char *fa, const char *b)
{
	return run((const char *const[]){ "/usr/bin/qemu-img", "compare", "-f", fa, "-F", "qcow2", in_home(a), in_home(b), NULL });
}

static struct image_info info;

static void on_info(void *arg, const struct image_info *i, const struct err *e)
{
	if (i) {
		info = *i;
		info.volume_id = NULL;
	}
	answer(e);
}

static uint64_t size_of(const char *path)
{
	volume_inspect(ds, path, IMAGE_QCOW2, on_info, NULL);
	return await() ? 0 : info.virtual_bytes;
}

static int create(const char *path, const char *id, uint64_t bytes)
{
	volume_create(ds, &(struct volume_new){ path, id, bytes }, on_answer, NULL);
	return await();
}

static unsigned last_permille, told;

static void on_progress(void *arg, unsigned permille)
{
	last_permille = permille;
	told++;
}

static int copy(const char *path, const char *id, uint64_t bytes, const char *from, enum image_format format)
{
	volume_copy(ds, &(struct volume_new){ path, id, bytes }, &(struct volume_source){ ds, from, format }, on_progress,
		    on_answer, NULL);
	return await();
}

TEST(empty_disks_of_many_sizes)
{
	static const uint64_t sizes[] = { 512, MIB, 512 * MIB, 512 * MIB + 512, 10ull << 30, 1ull << 40, 16ull << 40 };
	char name[32];

	if (no_qemu_img() || !ds_start(NULL))
		return;
	for (size_t i = 0; i < COUNT(sizes); i++) {
		struct stat st;

		snprintf(name, sizeof(name), "d%zu", i);
		eq_int(create(name, ID, sizes[i]), 0);
		eq_int(check(name), 0);
		eq_int(size_of(name), sizes[i]);
		ok(!stat(in_home(name), &st) && (st.st_mode & 07777) == 0600 && st.st_size <= (long)MIB);
	}
	eq_int(create("bad", ID, 0), ERR_INVALID);
	eq_int(create("bad", ID, 513), ERR_INVALID);
	eq_int(create("bad", ID, (16ull << 40) + 512), ERR_INVALID);
	ok(!there("bad") && !there(TEMP));
	ds_stop();
}

TEST(a_guest_can_write_all_over_our_image)
{
	if (no_qemu_img() || access("/usr/bin/qemu-io", X_OK) || !ds_start(NULL))
		return;
	eq_int(create("d", ID, 16ull << 40), 0);
	eq_int(run((const char *const[]){ "/usr/bin/qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", "-c", "write -P 8 15T 1M",
					  "-c", "write -P 9 17592184995840 1M", "-c", "read -P 8 15T 1M", in_home("d"), NULL }), 0);
	eq_int(check("d"), 0);
	/* and the mark is still there */
	eq_int(create("d", ID, 16ull << 40), 0);
	ds_stop();
}

TEST(create_can_be_done_again_and_harms_nobody)
{
	if (!ds_start(NULL))
		return;
	put("theirs", "precious", 8);
	eq_int(create("theirs", ID, MIB), ERR_EXISTS);
	put(TEMP, "a torn one of the crash before", 30);
	eq_int(create("d", ID, MIB), 0);
	ok(!there(TEMP));
	eq_int(create("d", ID, MIB), 0);
	eq_int(create("d", ID2, MIB), ERR_EXISTS);
	mkdir(in_home("folder"), 0700);
	eq_int(create("folder", ID, MIB), ERR_EXISTS);
	eq_int(create("no/where", ID, MIB), ERR_NOT_FOUND);
	ok(!symlink("/etc", in_home("etc")));
	eq_int(create("etc/croft", ID, MIB), ERR_FORBIDDEN);

	volume_undo(ds, "theirs", ID, on_answer, NULL);
	eq_int(await(), 0);
	volume_undo(ds, "d", ID2, on_answer, NULL);
	eq_int(await(), 0);
	ok(there("theirs") && there("d"));
	put(TEMP, "x", 1);
	volume_undo(ds, "d", ID, on_answer, NULL);
	eq_int(await(), 0);
	ok(!there("d") && !there(TEMP));
	volume_undo(ds, "d", ID, on_answer, NULL);
	eq_int(await(), 0);
	volume_undo(ds, "no/where", ID, on_answer, NULL);
	eq_int(await(), 0);
	volume_delete(ds, "theirs", on_answer, NULL);
	eq_int(await(), 0);
	volume_delete(ds, "theirs", on_answer, NULL);
	eq_int(await(), 0);
	ok(!there("theirs"));
	ds_stop();
}

/* 64 KiB a cluster or a sector a cluster, zeros in it, held or not: qemu-img finds it in order, and the same bytes. */
TEST(an_image_with_content)
{
	static char data[3 * 1024 * 1024 + 100];
	const uint64_t held[] = { 0, 512, 768 * 1024, 3 * MIB };

	if (no_qemu_img() || !ds_start(NULL))
		return;
	memset(data, 'a', 1000);
	memset(data + 2 * 1024 * 1024, 'b', 1024 * 1024);
	data[sizeof(data) - 1] = 'z';
	put("raw", data, sizeof(data));
	for (size_t i = 0; i < 2 * COUNT(held); i++) {
		int raw = open(in_home("raw"), O_RDONLY | O_CLOEXEC);
		int fd = open(in_home("made"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		struct qcow2_new n = {
			.bytes = 64 * MIB, .content = raw, .fine = i & 1, .held_bytes = held[i / 2], .id = i & 2 ? ID : NULL,
		};
		struct stat st;

		eq_int(qcow2_write(fd, &n, NULL), 0);
		eq_int(check("made"), 0);
		eq_int(same("raw", "raw", "made"), 0);
		eq_int(size_of("made"), 64 * MIB);
		eq_int(info.cluster_bytes, n.fine ? 512 : 65536);
		ok(!fstat(fd, &st) && st.st_size < 4 * (off_t)MIB);
		n.bytes = MIB;
		eq_int(qcow2_write(fd, &n, NULL), -EINVAL);
		close(fd);
		close(raw);
	}
	ds_stop();
}

/* What QEMU writes there needs no new cluster: it is kept though QEMU is killed before it wrote its tables back. */
TEST(uefi_variables)
{
	if (no_qemu_img() || access("/usr/bin/qemu-io", X_OK) || !ds_start(NULL))
		return;
	put("vars.fd", "", 0);
	eq_int(truncate(in_home("vars.fd"), 64 * MIB), 0);
	volume_create_vars(ds, &(struct volume_new){ "vars", ID, 64 * MIB }, in_home("vars.fd"), on_answer, NULL);
	eq_int(await(), 0);
	eq_int(size_of("vars"), 64 * MIB);
	eq_int(info.cluster_bytes, 512);
	for (const char *const *w = (const char *const[]){ "write -P 7 0 512", "write -P 7 767k 1k", NULL }; *w; w++)
		ok(run((const char *const[]){ "/usr/bin/qemu-io", "-t", "writeback", "-f", "qcow2", "-c", *w, "-c", "sigraise 9",
					      in_home("vars"), NULL }) != 0);
	eq_int(check("vars"), 0);
	eq_int(run((const char *const[]){ "/usr/bin/qemu-io", "-f", "qcow2", "-c", "read -P 7 0 512", "-c", "read -P 7 767k 1k",
					  "-c", "read -P 0 512 766k", "-c", "read -P 0 768k 63m", in_home("vars"), NULL }), 0);
	volume_create_vars(ds, &(struct volume_new){ "small", ID, MIB }, in_home("vars.fd"), on_answer, NULL);
	eq_int(await(), ERR_INVALID);
	volume_create_vars(ds, &(struct volume_new){ "v2", ID, MIB }, "/nowhere", on_answer, NULL);
	eq_int(await(), ERR_NOT_FOUND);
	ok(!there("small") && !there("v2") && !there(TEMP));
	ds_stop();
}

static int trim(const char *path)
{
	volume_trim_vars(ds, path, ID, on_answer, NULL);
	return await();
}

static struct stat seen(const char *name)
{
	struct stat st = {};

	eq_int(stat(in_home(name), &st), 0);
	return st;
}

/* A store with variables, as it was made; and a copy of it by qemu-img, "large", in which zeros are written. */
static void large_store(const char *clusters)
{
	char *data = xcalloc(1, 64 * MIB);

	memset(data, 'v', 100 * 1024);
	memset(data + 700 * 1024, 'w', 1000);
	put("vars.fd", data, 64 * MIB);
	free(data);
	volume_create_vars(ds, &(struct volume_new){ "vars", ID2, 64 * MIB }, in_home("vars.fd"), on_answer, NULL);
	eq_int(await(), 0);
	unlink(in_home("vars.fd"));
	eq_int(run((const char *const[]){ "/usr/bin/qemu-img", "convert", "-S", "0", "-O", "qcow2", "-o", clusters, in_home("vars"),
					  in_home("large"), NULL }), 0);
	ok(seen("large").st_blocks * 512 > 60 * (long)MIB);
}

TEST(a_store_that_has_become_large_is_made_small)
{
	if (no_qemu_img() || access("/usr/bin/qemu-io", X_OK) || !ds_start(NULL))
		return;
	for (const char *const *clusters = (const char *const[]){ "cluster_size=512", "cluster_size=64k", NULL }; *clusters; clusters++) {
		large_store(*clusters);
		put(TEMP, "of one that was cut short", 20);
		eq_int(trim("large"), 0);
		ok(seen("large").st_blocks * 512 < 2 * (long)MIB && (seen("large").st_mode & 07777) == 0600);
		eq_int(check("large"), 0);
		eq_int(same("vars", "qcow2", "large"), 0);
		eq_int(size_of("large"), 64 * MIB);
		eq_int(info.cluster_bytes, 512);
		ok(!there(TEMP));
		/* As in one that was made anew, no write needs a new cluster. */
		ok(run((const char *const[]){ "/usr/bin/qemu-io", "-t", "writeback", "-f", "qcow2", "-c", "write -P 7 600k 1k", "-c",
					      "sigraise 9", in_home("large"), NULL }) != 0);
		eq_int(run((const char *const[]){ "/usr/bin/qemu-io", "-f", "qcow2", "-c", "read -P 7 600k 1k", in_home("large"), NULL }),
		       0);

		struct stat small = seen("large");		/* and then it is left alone */

		eq_int(trim("large"), 0);
		eq_int(seen("large").st_ino, small.st_ino);
		unlink(in_home("large"));
		unlink(in_home("vars"));
	}
	ds_stop();
}

TEST(a_store_that_is_not_made_small_stays_as_it_is)
{
	struct stat was;

	if (no_qemu_img() || !ds_start("size=70m"))
		return;
	eq_int(trim("none"), ERR_NOT_FOUND);
	put("raw", "x", 1);
	eq_int(trim("raw"), ERR_INVALID);
	large_store("cluster_size=64k");
	int fd = open(in_home("fill"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	char page[4096] = { 1 };

	while (write(fd, page, sizeof(page)) > 0)
		;
	was = seen("large");
	for (int left = 0; left < 3; left++) {			/* no page for a new file, and one that is too small */
		eq_int(trim("large"), ERR_NO_SPACE);
		ok(seen("large").st_ino == was.st_ino && !there(TEMP));
		ok(!ftruncate(fd, lseek(fd, 0, SEEK_END) - 300000));
	}
	close(fd);
	unlink(in_home("fill"));
	eq_int(same("vars", "qcow2", "large"), 0);
	eq_int(run((const char *const[]){ "/usr/bin/qemu-img", "snapshot", "-c", "kept", in_home("large"), NULL }), 0);
	was = seen("large");
	eq_int(trim("large"), 0);				/* it would be lost */
	ok(seen("large").st_ino == was.st_ino);
	ds_stop();
}

/* The header is in order, the table behind it leads to where none can be: qemu-img fails. */
TEST(a_damaged_store_stays_for_whoever_can_mend_it)
{
	const uint64_t nowhere = htobe64(1ull << 63 | 0x10200);
	uint64_t l1_at;

	if (no_qemu_img() || !ds_start(NULL))
		return;
	large_store("cluster_size=64k");
	int fd = open(in_home("large"), O_RDWR | O_CLOEXEC);

	ok(pread(fd, &l1_at, 8, 40) == 8 && pwrite(fd, &nowhere, 8, (off_t)be64toh(l1_at)) == 8);
	close(fd);
	struct stat was = seen("large");

	eq_int(trim("large"), ERR_INTERNAL);
	ok(seen("large").st_ino == was.st_ino && !there(TEMP));
	ds_stop();
}

static void make_source(void)
{
	char *data = xcalloc(1, 5 * MIB);

	memset(data + MIB, 'q', MIB);
	data[5 * MIB - 1] = 'e';
	put("src.raw", data, 5 * MIB);
	free(data);
	eq_int(run((const char *const[]){ "/usr/bin/qemu-img", "convert", "-f", "raw", "-O", "qcow2", in_home("src.raw"),
					  in_home("src.qcow2"), NULL }), 0);
}

TEST(copies)
{
	if (no_qemu_img() || !ds_start(NULL))
		return;
	make_source();
	eq_int(copy("a", ID, 0, "src.raw", IMAGE_RAW), 0);		/* convert */
	ok(told && last_permille == 1000);
	eq_int(copy("b", ID, 8 * MIB, "src.raw", IMAGE_RAW), 0);
	eq_int(copy("c", ID, 0, "src.qcow2", IMAGE_QCOW2), 0);		/* plain copy */
	eq_int(copy("d", ID, 9 * MIB, "src.qcow2", IMAGE_QCOW2), 0);
	eq_int(copy("e", ID2, 0, "c", IMAGE_QCOW2), 0);		/* of one of ours: the mark changes */
	for (const char *const *p = (const char *const[]){ "a", "b", "c", "d", "e", NULL }; *p; p++) {
		eq_int(check(*p), 0);
		eq_int(same("src.raw", "raw", *p), 0);
	}
	eq_int(size_of("a"), 5 * MIB);
	eq_int(size_of("b"), 8 * MIB);
	eq_int(size_of("c"), 5 * MIB);
	eq_int(size_of("d"), 9 * MIB);
	eq_int(copy("a", ID, 0, "src.raw", IMAGE_RAW), 0);		/* again, after a crash */
	eq_int(copy("e", ID2, 0, "c", IMAGE_QCOW2), 0);
	eq_int(copy("e", ID, 0, "c", IMAGE_QCOW2), ERR_EXISTS);
	eq_int(copy("f", ID, MIB, "src.raw", IMAGE_RAW), ERR_INVALID);
	eq_int(copy("f", ID, 0, "src.qcow2", IMAGE_RAW), ERR_INVALID);
	eq_int(copy("f", ID, 0, "src.raw", IMAGE_QCOW2), ERR_INVALID);
	eq_int(copy("f", ID, 0, "none", IMAGE_RAW), ERR_NOT_FOUND);
	eq_int(copy("../f", ID, 0, "src.raw", IMAGE_RAW), ERR_INVALID);
	ok(!there("f") && !there(TEMP));
	ds_stop();
}

TEST(hostile_images_do_not_leak_files)
{
	if (no_qemu_img() || !ds_start(NULL))
		return;
	eq_int(run((const char *const[]){ "/usr/bin/qemu-img", "create", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw",
					  in_home("backed"), NULL }), 0);
	eq_int(run((const char *const[]){ "/usr/bin/qemu-img", "create", "-f", "qcow2", "-o", "data_file=/tmp/croft-nothing,"
					  "data_file_raw=on", in_home("external"), "1M", NULL }), 0);
	unlink("/tmp/croft-nothing");
	eq_int(copy("x", ID, 0, "backed", IMAGE_QCOW2), ERR_INVALID);
	ok(strstr(last.msg, "backing file"));
	eq_int(copy("x", ID, MIB, "external", IMAGE_QCOW2), ERR_INVALID);
	ok(strstr(last.msg, "another file"));
	ok(!there("x") && !there(TEMP));
	ds_stop();
}

TEST(a_source_that_is_being_written_is_refused)
{
	int fd;

	if (no_qemu_img() || !ds_start("size=64m"))
		return;
	make_source();
	fd = open(in_home("src.raw"), O_WRONLY | O_CLOEXEC);
	eq_int(copy("x", ID, 0, "src.raw", IMAGE_RAW), ERR_BUSY);
	close(fd);
	eq_int(copy("x", ID, 0, "src.raw", IMAGE_RAW), 0);
	ds_stop();
}

TEST(a_full_datastore)
{
	char *data = xmalloc(3 * MIB);

	memset(data, 'x', 3 * MIB);
	if (no_qemu_img() || !ds_start("size=5m"))
		return;
	put("src.raw", data, 3 * MIB);
	eq_int(copy("x", ID, 0, "src.raw", IMAGE_RAW), ERR_NO_SPACE);
	ok(!there("x") && !there(TEMP));
	int fd = open(in_home("fill"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	while (write(fd, data, 4096) > 0)
		;
	close(fd);
	eq_int(create("y", ID, MIB), ERR_NO_SPACE);
	ok(!there("y") && !there(TEMP));
	unlink(in_home("fill"));
	/* The kernel lets go of a file that was in a jail a moment after its last process. */
	for (int i = 0; i < 200 && create("y", ID, MIB) == ERR_NO_SPACE; i++)
		poll(NULL, 0, 10);
	ok(there("y"));
	free(data);
	ds_stop();
}

TEST(a_copy_is_cancelled)
{
	struct volume_copy *c;
	int stopped = 0;

	if (no_qemu_img() || !ds_start(NULL))
		return;
	make_source();
	ok(!truncate(in_home("src.raw"), 200ll << 30));
	/* before it has begun; while qemu-img runs; twice */
	for (int turns = 0; turns < 30; turns += 3) {
		c = volume_copy(ds, &(struct volume_new){ "x", ID, 0 }, &(struct volume_source){ ds, "src.raw", IMAGE_RAW },
				on_progress, on_answer, NULL);
		for (int i = 0; i < turns && !answered; i++)
			sd_event_run(ev, 1000);
		if (!answered) {
			volume_copy_cancel(c);
			volume_copy_cancel(c);
			int code = await();	/* success when it was too late */

			ok(code == ERR_CANCELLED ? !there("x") : !code && there("x"));
			stopped += code == ERR_CANCELLED;
		}
		answered = false;
		unlink(in_home("x"));
		ok(!there(TEMP));
	}
	ok(stopped > 1);
	ds_stop();
}

TEST(a_disk_grows)
{
	if (no_qemu_img() || !ds_start(NULL))
		return;
	eq_int(create("d", ID, MIB), 0);
	volume_grow(ds, "d", 3 * MIB, on_answer, NULL);
	eq_int(await(), 0);
	eq_int(size_of("d"), 3 * MIB);
	eq_int(check("d"), 0);
	volume_grow(ds, "d", 3 * MIB, on_answer, NULL);
	eq_int(await(), 0);
	volume_grow(ds, "d", MIB, on_answer, NULL);
	eq_int(await(), ERR_INVALID);
	volume_grow(ds, "none", MIB, on_answer, NULL);
	eq_int(await(), ERR_NOT_FOUND);
	put("raw", "x", 1);
	volume_grow(ds, "raw", MIB, on_answer, NULL);
	eq_int(await(), ERR_INVALID);

	/* QEMU's own lock, as a VM has it: bytes of the file that stand for what it does and what it lets others do */
	int fd = open(in_home("d"), O_RDWR | O_CLOEXEC);
	struct flock all = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 200 };

	eq_int(fcntl(fd, F_OFD_SETLK, &all), 0);
	volume_grow(ds, "d", 4 * MIB, on_answer, NULL);
	eq_int(await(), ERR_BUSY);
	ok(strstr(last.msg, "in use"));
	close(fd);
	ds_stop();
}

T_MAIN
