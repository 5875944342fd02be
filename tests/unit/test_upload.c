// LINK: storage
#include "digest.h"
#include "ds.h"
#include "upload.h"

#define ID	"11111111-2222-4333-8444-555555555555"
#define TEMP	".croft-upload-" ID
/* SHA-256 of "hello world" */
static const uint8_t hello[32] = {
	0xb9, 0x4d, 0x27, 0xb9, 0x93, 0x4d, 0x3e, 0x08, 0xa5, 0x2e, 0x52, 0xd7, 0xda, 0x7d, 0xab, 0xfa,
	0xc4, 0x84, 0xef, 0xe3, 0x7a, 0x53, 0x80, 0xee, 0x90, 0x88, 0xf7, 0xac, 0xe2, 0xef, 0xcd, 0xe9,
};
static struct upload_plan plan;
static int front = -1;			/* the descriptor that croft-front would have */
static uint64_t measured;

static void on_begun(void *arg, int *fd, const struct err *e)
{
	front = e ? -1 : TAKE_FD(*fd);
	answer(e);
}

static int begin(const char *path, uint64_t bytes, uint64_t durable)
{
	plan = (struct upload_plan){ ID, path, bytes, plan.replace };
	upload_begin(ds, &plan, durable, on_begun, NULL);
	return await();
}

static void on_measured(void *arg, uint64_t bytes, const struct err *e)
{
	measured = bytes;
	answer(e);
}

static int sync_it(void)
{
	upload_sync(ds, &plan, on_measured, NULL);
	return await();
}

static int finish(const uint8_t *sha256)
{
	upload_finish(ds, &plan, sha256, on_measured, NULL);
	return await();
}

static void write_front(const char *s, off_t at)
{
	eq_int(pwrite(front, s, strlen(s), at), strlen(s));
}

static void is_hello(const char *name)
{
	char *text = NULL;
	size_t n;

	eq_int(file_read_at(AT_FDCWD, in_home(name), 100, &text, &n), 0);
	eq_str(text, "hello world");
	free(text);
}

TEST(an_upload)
{
	if (!ds_start(NULL))
		return;
	eq_int(begin("f.iso", 11, 0), 0);
	ok((fcntl(front, F_GETFL) & O_ACCMODE) == O_WRONLY && (fcntl(front, F_GETFD) & FD_CLOEXEC));
	write_front("hello", 0);
	eq_int(sync_it(), 0);
	eq_int(measured, 5);
	ok(!there("f.iso"));
	close(front);
	eq_int(finish(NULL), ERR_STATE);
	ok(strstr(last.msg, "5 of 11"));
	eq_int(begin("f.iso", 11, 5), 0);	/* resumed */
	write_front(" world", 5);
	eq_int(finish(hello), ERR_BUSY);	/* the front still has it */
	close(front);
	eq_int(finish(hello), 0);
	eq_int(measured, 11);
	is_hello("f.iso");
	ok(!there(TEMP));
	eq_int(finish(hello), 0);		/* again, after a crash */
	eq_int(finish(NULL), 0);
	plan.bytes = 12;
	eq_int(finish(NULL), ERR_STATE);
	ds_stop();
}

TEST(what_was_not_durable_is_cut_off)
{
	if (!ds_start(NULL))
		return;
	eq_int(begin("f", UINT64_MAX, 0), 0);
	write_front("hello?????", 0);
	close(front);
	eq_int(begin("f", UINT64_MAX, 5), 0);
	write_front(" world", 5);
	close(front);
	eq_int(finish(hello), 0);
	is_hello("f");
	eq_int(begin("g", UINT64_MAX, 0), 0);
	close(front);
	eq_int(begin("g", UINT64_MAX, 5), ERR_STATE);	/* less than was durable */
	ok(strstr(last.hint, "again"));
	ds_stop();
}

TEST(a_wrong_digest)
{
	uint8_t wrong[32];

	if (!ds_start(NULL))
		return;
	eq_int(begin("f", 11, 0), 0);
	write_front("hello World", 0);
	close(front);
	memcpy(wrong, hello, 32);
	eq_int(finish(wrong), ERR_INVALID);
	ok(strstr(last.msg, "SHA-256"));
	ok(!there("f"));
	upload_abort(ds, &plan, on_answer, NULL);
	eq_int(await(), 0);
	ok(!there(TEMP));
	upload_abort(ds, &plan, on_answer, NULL);
	eq_int(await(), 0);
	eq_int(finish(hello), ERR_STATE);
	ok(strstr(last.msg, "gone"));
	ds_stop();
}

TEST(nothing_is_replaced_unasked)
{
	if (!ds_start(NULL))
		return;
	put("f", "old", 3);
	mkdir(in_home("d"), 0700);
	eq_int(begin("f", 11, 0), ERR_EXISTS);
	ok(*last.hint && !there(TEMP));
	eq_int(begin("g", 11, 0), 0);
	write_front("hello world", 0);
	close(front);
	put("g", "quicker", 7);
	eq_int(finish(NULL), ERR_EXISTS);
	plan.replace = true;
	eq_int(finish(hello), 0);
	is_hello("g");
	eq_int(begin("f", 11, 0), 0);
	write_front("hello world", 0);
	close(front);
	eq_int(finish(hello), 0);
	is_hello("f");
	eq_int(begin("d", 11, 0), ERR_EXISTS);
	plan.replace = false;
	ds_stop();
}

TEST(odd_targets)
{
	if (!ds_start(NULL))
		return;
	eq_int(begin("../f", 1, 0), ERR_INVALID);
	eq_int(begin("/etc/f", 1, 0), ERR_INVALID);
	eq_int(begin("", 1, 0), ERR_INVALID);
	eq_int(begin(".croft-datastore.json", 1, 0), ERR_NOT_FOUND);
	eq_int(begin("no/where", 1, 0), ERR_NOT_FOUND);
	ok(!symlink("/tmp", in_home("tmp")) && !symlink("/etc/passwd", in_home(TEMP)));
	eq_int(begin("tmp/f", 1, 0), ERR_FORBIDDEN);
	eq_int(begin("f", 1, 0), ERR_FORBIDDEN);		/* the temporary name is a link */
	eq_int(begin("f", (uint64_t)INT64_MAX + 1, 0), ERR_INVALID);
	eq_int(begin("f", 5, 6), ERR_INVALID);
	ds_stop();
}

TEST(a_full_datastore)
{
	if (!ds_start("size=1m"))
		return;
	eq_int(begin("big", 1ull << 40, 0), ERR_NO_SPACE);
	ok(strstr(last.msg, "1 TiB"));
	ok(!there(TEMP));
	eq_int(begin("fits", 512 * 1024, 0), 0);
	close(front);
	upload_abort(ds, &plan, on_answer, NULL);
	eq_int(await(), 0);
	ds_stop();
}

T_MAIN
