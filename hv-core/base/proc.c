/* proc.c: apart from child.c, since croft-vm needs it and has no event loop to link. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "child.h"
#include "file.h"
#include "mem.h"

uint64_t proc_start_time(pid_t pid)
{
	char path[32];
	AUTO_FREE char *text = NULL;
	unsigned long long start;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (file_read_at(AT_FDCWD, path, 4096, &text, NULL))
		return 0;
	char *p = strrchr(text, ')');	/* the name before it may contain anything */
	if (!p || sscanf(p + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
			 &start) != 1)
		return 0;
	return start;
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
