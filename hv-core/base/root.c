#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "confine.h"
#include "mem.h"

/* The new root is the current folder while it is built: targets are relative, sources are the host's. */
static int parents(char *path)
{
	for (char *s = path; (s = strchr(s, '/')); *s++ = '/') {
		*s = 0;
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/* /lib -> usr/lib and its like are links on a merged /usr, and stay links. */
static int top_level_link(const char *source)
{
	char to[PATH_MAX];
	ssize_t n = strchr(source + 1, '/') ? -1 : readlink(source, to, sizeof(to) - 1);
	if (n < 0)
		return 0;
	to[n] = 0;
	return symlink(to, source + 1) < 0 ? -errno : 1;
}

static int bind(const char *source, unsigned long flags)
{
	struct stat st;
	char path[PATH_MAX];
	int r = top_level_link(source);
	if (r != 0)
		return r < 0 ? r : 0;
	if (stat(source, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (snprintf(path, sizeof(path), "%s", source + 1) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	if ((r = parents(path)) < 0)
		return r;
	if (S_ISDIR(st.st_mode)) {
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
	} else {
		AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		if (fd < 0)
			return -errno;
	}
	if (mount(source, path, NULL, MS_BIND, NULL) < 0 ||
	    mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | flags, NULL) < 0)
		return -errno;
	return 0;
}

/* A node of our own where that is allowed, so that it can belong to the VM's uid; else the host's. */
static int node(const char *source, mode_t mode, uid_t uid, gid_t gid)
{
	struct stat st;
	char path[PATH_MAX];
	if (stat(source, &st) < 0)
		return -errno;
	if (!S_ISCHR(st.st_mode) || strncmp(source, "/dev/", 5))
		return -EINVAL;
	if (snprintf(path, sizeof(path), "%s", source + 1) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	int r = parents(path);
	if (r < 0)
		return r;
	if (mknod(path, S_IFCHR | mode, st.st_rdev) < 0)
		return errno == EPERM ? bind(source, MS_NOEXEC) : -errno;
	return chown(path, uid, gid) < 0 || chmod(path, mode) < 0 ? -errno : 0;
}

static int devices(const struct root_plan *p, struct err *e)
{
	static const char *const common[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom" };
	int r;
	if (mkdir("dev", 0755) < 0 || mount("croft-root", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k") < 0)
		return fail_errno(e, errno, "mount a tmpfs on /dev");
	for (size_t i = 0; i < COUNT(common); i++)
		if ((r = node(common[i], 0666, 0, 0)) < 0)
			return fail_errno(e, r, "make %s", common[i]);
	for (char *const *d = p->devices; d && *d; d++)
		if ((r = node(*d, 0600, p->uid, p->gid)) < 0)
			return fail_errno(e, r, "make %s", *d);
	if (mount(NULL, "dev", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL) < 0)
		return fail_errno(e, errno, "make /dev read-only");
	return 0;
}

/* QEMU opens /proc/self/fd/N. The kernel's own filter hides everybody else; where it refuses a fresh proc (containers
 * with a masked one), the host's must do. */
static int proc(const char **got, struct err *e)
{
	static const char *const ways[] = { "hidepid=ptraceable,subset=pid", "hidepid=2" };
	unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	if (mkdir("proc", 0555) < 0)
		return fail_errno(e, errno, "make /proc");
	*got = "own";
	for (size_t i = 0; i < COUNT(ways); i++)
		if (mount("proc", "proc", "proc", flags, ways[i]) == 0)
			return 0;
	*got = "host";
	if (mount("/proc", "proc", NULL, MS_BIND | MS_REC, NULL) < 0)
		return fail_errno(e, errno, "mount /proc");
	return 0;
}

static int build(const char *on, const struct root_plan *p, const char **got_proc, struct err *e)
{
	unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	int r = confine_mounts(e);
	if (r < 0)
		return r;
	if (mount("croft-root", on, "tmpfs", flags, "mode=755,size=64k") < 0 || chdir(on) < 0)
		return fail_errno(e, errno, "mount a tmpfs on %s", on);
	for (char *const *b = p->binds; b && *b; b++) {
		r = **b == '/' ? bind(*b, MS_RDONLY | MS_NODEV) : -EINVAL;
		if (r < 0)
			return fail_errno(e, r, "bind %s", *b);
	}
	r = devices(p, e);
	if (r == 0)
		r = proc(got_proc, e);
	if (r < 0)
		return r;
	if (mount(NULL, on, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) < 0)
		return fail_errno(e, errno, "make the root read-only");
	/* The old root ends up on top of the new one at the same place, and goes. */
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return fail_errno(e, errno, "change to the private root");
	return 0;
}

int root_private(const char *on, const struct root_plan *p, const char **got_proc, struct err *e)
{
	mode_t mask = umask(022);		/* the folders are for another uid */
	int r = build(on, p, got_proc, e);
	umask(mask);
	return r;
}
