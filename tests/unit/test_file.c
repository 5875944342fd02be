// LINK: hv-core/base
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "file.h"
#include "mem.h"
#include "t.h"

static char top[] = "/tmp/test-file-XXXXXX";
static int dir = -1;

static void clean(void)
{
	int tmp = open("/tmp", O_RDONLY | O_DIRECTORY);
	file_remove_tree(tmp, top + 5);
	close(tmp);
}

static void folder(void)
{
	ok(mkdtemp(top));
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	atexit(clean);
}

static void put(const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	ok(fd >= 0 && !file_write_all(fd, text, strlen(text)));
	close(fd);
}

TEST(what_leaves_the_folder_cannot_be_opened)
{
	folder();
	put("a", "x");
	eq_int(mkdirat(dir, "sub", 0755), 0);
	eq_int(symlinkat("a", dir, "link"), 0);
	eq_int(symlinkat("/etc", dir, "out"), 0);
	int fd = file_open_beneath(dir, "sub/../a", O_RDONLY, 0);
	ok(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
	close(fd);
	eq_int(file_open_beneath(dir, "/etc/passwd", O_RDONLY, 0), -EXDEV);
	eq_int(file_open_beneath(dir, "../etc", O_RDONLY, 0), -EXDEV);
	eq_int(file_open_beneath(dir, "link", O_RDONLY, 0), -ELOOP);
	eq_int(file_open_beneath(dir, "out/passwd", O_RDONLY, 0), -ELOOP);
	eq_int(file_open_beneath(dir, "none", O_RDONLY, 0), -ENOENT);
	umask(0);
	fd = file_open_beneath(dir, "new", O_RDWR | O_CREAT | O_EXCL, 0640);
	struct stat st;
	ok(fd >= 0 && !fstat(fd, &st) && (st.st_mode & 07777) == 0640);
	close(fd);
}

TEST(folders_are_made)
{
	char path[64];
	folder();
	snprintf(path, sizeof(path), "%s/x/y/z/", top);
	eq_int(file_mkdirs(path, 0700), 0);
	eq_int(file_mkdirs(path, 0700), 0);
	put("f", "");
	snprintf(path, sizeof(path), "%s/f", top);
	eq_int(file_mkdirs(path, 0700), -ENOTDIR);
	eq_int(file_mkdirs("", 0700), -ENOENT);
	int fd = file_open_dir(dir, "x/y/new", true, 0700);
	ok(fd >= 0);
	close(fd);
	eq_int(file_open_dir(dir, "x/none", false, 0), -ENOENT);
	eq_int(file_open_dir(dir, "f", true, 0700), -ENOTDIR);
	eq_int(file_open_dir(dir, "../new", true, 0700), -EXDEV);
	ok((fd = file_open_dir(AT_FDCWD, top, false, 0)) >= 0);
	close(fd);
}

TEST(a_file_is_read_whole_or_not_at_all)
{
	AUTO_FREE char *text = NULL;
	size_t n = 0;
	char *big = xcalloc(1, 100001);

	folder();
	memset(big, 'x', 100000);
	put("big", big);
	free(big);
	eq_int(file_read_at(dir, "big", 100000, &text, &n), 0);
	ok(n == 100000 && strlen(text) == n);
	free(TAKE(text));
	eq_int(file_read_at(dir, "big", 99999, &text, &n), -EFBIG);
	ok(!text);
	put("empty", "");
	eq_int(file_read_at(dir, "empty", 0, &text, &n), 0);
	eq_str(text, "");
	eq_int(n, 0);
	free(TAKE(text));
	eq_int(file_read_at(AT_FDCWD, "/proc/self/status", 1 << 16, &text, NULL), 0);	/* told as 0 bytes long */
	ok(text && strstr(text, "Name:"));
	free(TAKE(text));
	eq_int(file_read_at(AT_FDCWD, "/proc/self/status", 10, &text, NULL), -EFBIG);
	eq_int(file_read_at(AT_FDCWD, "/dev/zero", 10, &text, NULL), -EINVAL);
	eq_int(mkfifoat(dir, "fifo", 0600), 0);
	eq_int(file_read_at(dir, "fifo", 10, &text, NULL), -EINVAL);	/* and does not wait for a writer */
	eq_int(file_read_at(dir, ".", 10, &text, NULL), -EISDIR);
}

static unsigned entries(void)
{
	char command[64], line[300];
	unsigned n = 0;
	snprintf(command, sizeof(command), "ls -A %s", top);
	FILE *p = popen(command, "r");
	while (fgets(line, sizeof(line), p))
		n++;
	pclose(p);
	return n;
}

TEST(publishing_replaces_whole_and_leaves_nothing_beside)
{
	AUTO_FREE char *text = NULL;
	struct stat st;

	folder();
	umask(077);
	eq_int(file_publish_at(dir, "f", "one", 3, 0644), 0);
	eq_int(file_publish_at(dir, "f", "two!", 4, 0640), 0);
	eq_int(file_read_at(dir, "f", 10, &text, NULL), 0);
	eq_str(text, "two!");
	ok(!fstatat(dir, "f", &st, 0) && (st.st_mode & 07777) == 0640);
	eq_int(mkdirat(dir, "d", 0700), 0);
	eq_int(file_publish_at(dir, "d", "x", 1, 0600), -EISDIR);
	eq_int(file_publish_at(dir, "d/in", "x", 1, 0600), 0);
	eq_int(faccessat(dir, "d/in", R_OK, 0), 0);
	eq_int(file_publish_at(dir, "none/in", "x", 1, 0600), -ENOENT);
	eq_int(file_publish_at(dir, "../out", "x", 1, 0600), -EXDEV);
	eq_int(entries(), 2);
}

TEST(a_rename_replaces_nothing)
{
	AUTO_FREE char *text = NULL;

	folder();
	put("a", "a");
	put("b", "b");
	eq_int(file_rename_new(dir, "a", "b"), -EEXIST);
	eq_int(file_rename_new(dir, "a", "c"), 0);
	eq_int(file_rename_new(dir, "a", "d"), -ENOENT);
	eq_int(file_read_at(dir, "c", 10, &text, NULL), 0);
	eq_str(text, "a");
}

TEST(a_sealed_memfd_cannot_be_changed)
{
	struct stat st;
	char text[8] = "", path[32];
	int fd = file_memfd("x", "hello", 5, 0444);

	ok(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
	ok(!fstat(fd, &st) && st.st_size == 5 && (st.st_mode & 0777) == 0444);
	eq_int(fcntl(fd, F_GET_SEALS) & 15, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	eq_int(write(fd, "y", 1), -1);
	eq_int(ftruncate(fd, 0), -1);
	ok(mmap(NULL, 5, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	eq_int(read(fd, text, 7), 5);
	eq_str(text, "hello");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int again = open(path, O_RDONLY);
	ok(again >= 0);
	close(again);
	/* read by position: the descriptor stands at its end now */
	AUTO_FREE char *all = NULL;
	eq_int(file_read_fd(fd, 100, &all, NULL), 0);
	eq_str(all, "hello");
	int copy = file_memfd_from("y", fd, 5, 0400);
	ok(copy >= 0 && pread(copy, text, 7, 0) == 5);
	eq_int(file_memfd_from("y", fd, 4, 0400), -EFBIG);
	close(fd);
	close(copy);
}

TEST(a_pipe_is_read_to_its_end)
{
	AUTO_FREE char *all = NULL;
	int p[2];

	eq_int(pipe(p), 0);
	eq_int(file_write_all(p[1], "hello", 5), 0);
	close(p[1]);
	eq_int(file_read_fd(p[0], 100, &all, NULL), 0);
	eq_str(all, "hello");
	close(p[0]);
}

TEST(a_tree_is_removed_without_following_links)
{
	folder();
	eq_int(mkdirat(dir, "tree", 0700), 0);
	eq_int(mkdirat(dir, "tree/sub", 0), 0);
	eq_int(mkdirat(dir, "keep", 0700), 0);
	put("keep/file", "x");
	for (int i = 0; i < 300; i++) {
		char name[32];
		snprintf(name, sizeof(name), "tree/file-%d", i);
		put(name, "x");
	}
	eq_int(symlinkat("../keep", dir, "tree/link"), 0);
	eq_int(symlinkat("keep", dir, "link"), 0);
	eq_int(file_remove_tree(dir, "tree"), 0);
	eq_int(faccessat(dir, "tree", F_OK, 0), -1);
	eq_int(file_remove_tree(dir, "tree"), 0);
	eq_int(file_remove_tree(dir, "link"), 0);
	eq_int(faccessat(dir, "keep/file", F_OK, 0), 0);
	eq_int(file_remove_tree(dir, ".."), -EINVAL);
	eq_int(file_remove_tree(dir, "keep/file"), -EINVAL);
	eq_int(file_remove_tree(dir, ""), -EINVAL);
}

TEST(a_tree_that_is_too_deep_is_refused)
{
	char path[300] = "d";

	folder();
	for (int i = 0; i < 40; i++) {
		eq_int(mkdirat(dir, path, 0700), 0);
		strcat(path, "/d");
	}
	eq_int(file_remove_tree(dir, "d"), -ELOOP);
	char from[300] = "d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d";	/* in two parts it goes */
	eq_int(renameat(dir, from, dir, "part"), 0);
	eq_int(file_remove_tree(dir, "part"), 0);
	eq_int(file_remove_tree(dir, "d"), 0);
}

TEST(a_mount_in_a_tree_is_not_crossed)
{
	char path[64];

	folder();
	eq_int(mkdirat(dir, "tree", 0700), 0);
	eq_int(mkdirat(dir, "tree/mnt", 0700), 0);
	eq_int(mkdirat(dir, "data", 0700), 0);
	put("data/file", "x");
	char data[64];
	snprintf(data, sizeof(data), "%s/data", top);
	snprintf(path, sizeof(path), "%s/tree/mnt", top);
	if (mount(data, path, NULL, MS_BIND, NULL))	/* the same device: only the mount differs */
		return t_skip("needs the right to mount");
	eq_int(file_remove_tree(dir, "tree"), -EXDEV);
	eq_int(faccessat(dir, "data/file", F_OK, 0), 0);
	eq_int(umount(path), 0);
	eq_int(file_remove_tree(dir, "tree"), 0);
}

T_MAIN
