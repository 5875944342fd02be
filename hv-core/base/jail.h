/* jail.h: for a program that is fed with bytes of strangers (qemu-img and an image): it reads programs and libraries and
 * uses the descriptors that it was given, by /proc/self/fd too; it opens nothing else but /dev/null, has no network, no
 * System V IPC, and no capability but CAP_DAC_OVERRIDE (for the very files that it was given). By Landlock, landlock(7);
 * where the kernel lacks it, the rest still holds. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

bool jail_has_landlock(void);			/* does this kernel have it? Any thread */
/* A ruleset for a child that is given @fds, to be closed by the caller. -EOPNOTSUPP: no Landlock here. */
int jail_new(const int *fds, size_t n);
/* Between vfork and exec: only system calls. @ruleset < 0: without Landlock. -errno. */
int jail_enter(int ruleset);
