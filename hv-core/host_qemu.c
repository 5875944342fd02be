/* The programs and files that running a VM needs: QEMU, and UEFI for ARM guests. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "host_read.h"
#include "mem.h"
#include "text.h"

#define DEADLINE_MS 10000	/* 20 ms is usual; a loaded Pi with a slow card takes its time */
#define FLASH_BYTES (64ull * 1024 * 1024) /* each of the virt machine's two flash banks; QEMU takes no other size */

static const char *const programs[] = { "usr/local/bin/qemu-system-aarch64", "usr/bin/qemu-system-aarch64" };
static const struct { const char *code, *vars; } firmwares[] = {
	/* Debian, Ubuntu; newer Debian; Fedora, openEuler */
	{ "usr/share/AAVMF/AAVMF_CODE.fd", "usr/share/AAVMF/AAVMF_VARS.fd" },
	{ "usr/share/AAVMF/AAVMF_CODE.no-secboot.fd", "usr/share/AAVMF/AAVMF_VARS.fd" },
	{ "usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "usr/share/edk2/aarch64/vars-template-pflash.raw" },
};

static pid_t start_version(const char *path, int out)
{
	char *argv[] = { (char *)path, (char *)"--version", NULL }, *env[] = { (char *)"LANG=C.UTF-8", NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t how;
	sigset_t none;
	pid_t pid = -1;

	sigemptyset(&none);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&how);
	posix_spawnattr_setsigmask(&how, &none);	/* lanes block every signal */
	posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, out, 1);
	posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
	if (posix_spawn(&pid, path, &files, &how, argv, env))
		pid = -1;
	posix_spawnattr_destroy(&how);
	posix_spawn_file_actions_destroy(&files);
	return pid;
}

/* The first bytes that "PATH --version" prints, or NULL. */
static char *run_version(const char *path)
{
	int fds[2], r;
	int64_t end = mono_usec() + DEADLINE_MS * 1000;
	char text[256];
	size_t n = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return NULL;
	pid = start_version(path, fds[1]);
	close(fds[1]);
	while (pid > 0 && n < sizeof(text) - 1) {
		struct pollfd p = { .fd = fds[0], .events = POLLIN };
		int64_t left = (end - mono_usec()) / 1000;

		if (left <= 0 || ((r = poll(&p, 1, (int)left)) < 0 && errno != EINTR))
			break;
		ssize_t got = r > 0 ? read(fds[0], text + n, sizeof(text) - 1 - n) : -1;
		if (got == 0)
			break;
		n += got > 0 ? (size_t)got : 0;
	}
	close(fds[0]);
	if (pid > 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	text[n] = 0;
	return n ? xstrdup(text) : NULL;
}

static void read_qemu(const char *root, struct host_qemu *q)
{
	unsigned major, minor, micro = 0;

	for (size_t i = 0; i < COUNT(programs) && !q->path; i++) {
		AUTO_FREE char *path = xasprintf("/%s", programs[i]);
		AUTO_FREE char *said = NULL;

		if (host_exists(root, programs[i]))	/* a fixture has the program's words in its place */
			said = *root ? host_text(root, "%s", programs[i]) : run_version(path);
		if (!said || sscanf(said, "QEMU emulator version %u.%u.%u", &major, &minor, &micro) < 2)
			continue;
		q->path = TAKE(path);
		q->version = xasprintf("%u.%u.%u", major, minor, micro);
		q->machine = xasprintf("virt-%u.%u", major, minor);
	}
}

void host_read_programs(const char *root, struct host *h)
{
	struct host_firmware *f = &h->firmware;

	read_qemu(root, &h->qemu);
	for (size_t i = 0; i < COUNT(firmwares) && !f->code; i++) {
		if (host_size(root, firmwares[i].code) != FLASH_BYTES ||
		    host_size(root, firmwares[i].vars) != FLASH_BYTES)
			continue;
		f->code = xasprintf("/%s", firmwares[i].code);
		f->vars = xasprintf("/%s", firmwares[i].vars);
		f->code_bytes = f->vars_bytes = FLASH_BYTES;
	}
}
