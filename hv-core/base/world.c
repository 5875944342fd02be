#include "world.h"
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "file.h"
#include "mem.h"

static const struct world as_it_is, *world = &as_it_is;

void world_set(const struct world *w)
{
	world = w ? w : &as_it_is;
}

#ifdef CROFT_FAULTS
#include <sys/mman.h>
__attribute__((constructor)) static void map_world(void)
{
	AUTO_CLOSE int fd = getenv("CROFT_WORLD") ? open(getenv("CROFT_WORLD"), O_RDONLY | O_CLOEXEC) : -1;
	void *at = fd >= 0 ? mmap(NULL, sizeof(struct world), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (at != MAP_FAILED)
		world_set(at);
}
#endif

static int64_t clock_usec(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t now_usec(void)
{
	return clock_usec(CLOCK_REALTIME) + world->ahead_usec;
}

int64_t mono_usec(void)
{
	return clock_usec(CLOCK_MONOTONIC);
}

int64_t steady_usec(void)
{
	static _Atomic int64_t base;
	int64_t none = 0, mono = mono_usec();

	atomic_compare_exchange_strong(&base, &none, now_usec() - mono);
	return base + mono;
}

/* What the clocks differ by is the same until somebody sets one; whole seconds, so that two readings are, too. */
int64_t boot_usec(void)
{
	int64_t usec = now_usec() - clock_usec(CLOCK_BOOTTIME);

	return usec - usec % 1000000;
}

int64_t proc_began_usec(uint64_t start_time)
{
	return now_usec() - clock_usec(CLOCK_BOOTTIME) + (int64_t)(start_time * 1000000 / (uint64_t)sysconf(_SC_CLK_TCK));
}

void boot_id(char out[37])
{
	AUTO_FREE char *text = NULL;
	const char *id = world->boot_id;
	size_t n = 0;

	if (!*id && file_read_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, &n) == 0 && n >= 36)
		id = text;
	snprintf(out, 37, "%.36s", id);
}

static bool proc_stat(pid_t pid, char *state, unsigned long long *start)
{
	char path[32];
	AUTO_FREE char *text = NULL;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (file_read_at(AT_FDCWD, path, 4096, &text, NULL))
		return false;
	char *p = strrchr(text, ')');	/* the name before it may contain anything */
	return p && sscanf(p + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
			   state, start) == 2;
}

uint64_t proc_start_time(pid_t pid)
{
	unsigned long long start;
	char state;

	return proc_stat(pid, &state, &start) ? start : 0;
}

bool proc_is_stopped(pid_t pid, uint64_t start_time)
{
	unsigned long long start;
	char state;

	return pid > 0 && proc_stat(pid, &state, &start) && start == start_time && state == 'T';
}

char *proc_cpus(pid_t pid)
{
	static const char key[] = "\nCpus_allowed_list:\t";
	char path[32];
	AUTO_FREE char *text = NULL;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	char *at = file_read_at(AT_FDCWD, path, 65536, &text, NULL) ? NULL : strstr(text, key);
	if (!at)
		return NULL;
	at += strlen(key);
	return xstrndup(at, strcspn(at, "\n"));
}
