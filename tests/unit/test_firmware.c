// LINK: daemon hv-core storage net
/* The firmware's copy in memory: the same bytes, without the zeros, one for all, made anew when the file changes. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>
#include "err.h"
#include "file.h"
#include "firmware.h"
#include "mem.h"
#include "t.h"
#include "text.h"

#define MIB	(1 << 20)

static sd_event *ev;
static struct firmware *f;
static char path[32];

static void on_open(void *arg, int *fd, const struct err *e)
{
	*(int *)arg = e ? -(int)e->code : TAKE_FD(*fd);
}

static int await(const int *fd)
{
	for (int64_t end = mono_usec() + 20 * 1000000ll; *fd == -1 && mono_usec() < end; )
		sd_event_run(ev, 1000000);
	return *fd;
}

static int open_it(const char *file)
{
	int fd = -1;

	firmware_open(f, file, on_open, &fd);
	return await(&fd);
}

/* 64 MiB, the first 2 MiB of them @c. */
static void write_bank(int c)
{
	AUTO_FREE char *data = xmalloc(2 * MIB);
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	memset(data, c, 2 * MIB);
	eq_int(file_write_all(fd, data, 2 * MIB), 0);
	eq_int(ftruncate(fd, 64 * MIB), 0);
}

static bool begin(void)
{
	if (access("/usr/bin/qemu-img", X_OK)) {
		t_skip("qemu-img isn't installed");
		return false;
	}
	strcpy(path, "/tmp/test-firmware-XXXXXX");
	close(mkstemp(path));
	sd_event_new(&ev);
	f = firmware_new(ev);
	write_bank('a');
	return true;
}

static void finish(void)
{
	firmware_free(f);
	sd_event_unref(ev);
	unlink(path);
}

/* Is @fd a qcow2 in order, with the content of the file? */
static void same(int fd)
{
	AUTO_FREE char *command = xasprintf("qemu-img check -q -f qcow2 /proc/%d/fd/%d && "
					    "qemu-img compare -q -f raw -F qcow2 %s /proc/%d/fd/%d",
					    (int)getpid(), fd, path, (int)getpid(), fd);
	int status = system(command);

	ok(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(one_for_all_and_read_only)
{
	struct stat a, b;

	if (!begin())
		return;
	int one = -1, two = -1;
	firmware_open(f, path, on_open, &one);
	firmware_open(f, path, on_open, &two);
	ok(await(&one) >= 0 && await(&two) >= 0);
	same(one);
	ok(!fstat(one, &a) && !fstat(two, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev);
	ok(a.st_blocks * 512 < 3 * MIB);
	/* Each has an open file of its own, for QEMU's locks; nobody can write, whatever he opens. */
	ok(lseek(one, 100, SEEK_SET) == 100 && lseek(two, 0, SEEK_CUR) == 0);
	eq_int(fcntl(one, F_GETFL) & O_ACCMODE, O_RDONLY);
	eq_int(fcntl(one, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	eq_int(a.st_mode & 0777, 0444);
	close(one);
	close(two);
	finish();
}

TEST(follows_the_file)
{
	if (!begin())
		return;
	int before = open_it(path);
	write_bank('b');
	int after = open_it(path);
	same(after);
	char was = 0;
	ok(pread(before, &was, 1, 4 * 65536) == 1 && was == 'a');	/* who has the old one keeps it */
	unlink(path);
	eq_int(open_it(path), -ERR_NOT_FOUND);
	close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	write_bank('c');
	int last = open_it(path);
	same(last);
	close(before);
	close(after);
	close(last);
	finish();
}

T_MAIN
