#include "jail.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "file.h"
#include "mem.h"

/* Of kernels that are newer than the header may be (ABI 3 and 5). */
#define FS_TRUNCATE	(1ull << 14)
#define FS_IOCTL_DEV	(1ull << 15)
#define READ		(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

/* /dev/null: there QEMU tries whether it can lock files; where it can't, it locks none. */
static const char *const programs[] = { "/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null" };

static int abi(void)
{
	return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

bool jail_has_landlock(void) { return abi() > 0; }

/* All that this kernel can forbid. */
static uint64_t handled(int version)
{
	uint64_t bits = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;

	if (version >= 2)
		bits |= LANDLOCK_ACCESS_FS_REFER;
	if (version >= 3)
		bits |= FS_TRUNCATE;
	if (version >= 5)
		bits |= FS_IOCTL_DEV;
	return bits;
}

static int allow(int ruleset, int fd, uint64_t access)
{
	struct landlock_path_beneath_attr a = { .allowed_access = access, .parent_fd = fd };

	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &a, 0) < 0 ? -errno : 0;
}

static int allow_programs(int ruleset)
{
	struct stat st;

	for (size_t i = 0; i < COUNT(programs); i++) {
		AUTO_CLOSE int fd = open(programs[i], O_PATH | O_CLOEXEC);
		int r = 0;

		if (fd >= 0 && fstat(fd, &st) == 0)
			r = allow(ruleset, fd, S_ISDIR(st.st_mode) ? READ | LANDLOCK_ACCESS_FS_EXECUTE : S_ISCHR(st.st_mode) ?
				  LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE : LANDLOCK_ACCESS_FS_READ_FILE);
		if (r < 0)
			return r;
	}
	return 0;
}

int jail_new(const int *fds, size_t n)
{
	int version = abi(), r;

	if (version <= 0)
		return -EOPNOTSUPP;
	struct landlock_ruleset_attr attr = { .handled_access_fs = handled(version) };
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr.handled_access_fs, 0);
	uint64_t use = (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE) & attr.handled_access_fs;

	if (ruleset < 0)
		return -errno;
	r = allow_programs(ruleset);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = allow(ruleset, fds[i], use);
	if (r == 0)
		return ruleset;
	close(ruleset);
	return r;
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { .effective = 1u << CAP_DAC_OVERRIDE, .permitted = 1u << CAP_DAC_OVERRIDE } };

	for (int cap = 0; cap <= 63; cap++)
		if (cap != CAP_DAC_OVERRIDE && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
			return -errno;
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

int jail_enter(int ruleset)
{
	int r;

	if (geteuid() != 0)
		return 0;		/* a user's tests: there is nothing to give up */
	if (unshare(CLONE_NEWNET | CLONE_NEWIPC) < 0 && errno != EPERM && errno != ENOSPC)	/* a container may lack them */
		return -errno;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	if ((r = drop_capabilities()) < 0)
		return r;
	return ruleset >= 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : 0;
}
