/* host_read.h: how host facts are read: files beneath a root folder, and one program. All of it blocks. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "host.h"

/* A file's text without the white space and NULs at its end, at most 1 MiB, caller owns; NULL when it can't be read. */
char *host_text(const char *root, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool host_exists(const char *root, const char *path);
uint64_t host_size(const char *root, const char *path);		/* of a regular file; 0 when it can't be found */

void host_read_cpus(const char *root, struct host *h);		/* host_cpu.c: cpus, cpu_types, nodes, kvm.mode */
void host_read_programs(const char *root, struct host *h);	/* host_qemu.c: qemu, firmware */
