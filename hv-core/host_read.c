#include "host_read.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "file.h"
#include "mem.h"

#define TEXT_MAX (1024 * 1024)

char *host_text(const char *root, const char *fmt, ...)
{
	char path[512], *text;
	va_list ap;
	size_t n;
	int at = snprintf(path, sizeof(path), "%s/", root);

	if (at < 0 || at >= (int)sizeof(path))
		return NULL;
	va_start(ap, fmt);
	vsnprintf(path + at, sizeof(path) - (size_t)at, fmt, ap);
	va_end(ap);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || file_read_fd(fd, TEXT_MAX, &text, &n) < 0)
		return NULL;
	while (n && (!text[n - 1] || strchr(" \t\n", text[n - 1])))
		text[--n] = 0;
	return text;
}

static int stat_beneath(const char *root, const char *path, struct stat *st)
{
	AUTO_FREE char *full = xasprintf("%s/%s", root, path);

	return stat(full, st);
}

bool host_exists(const char *root, const char *path)
{
	struct stat st;

	return stat_beneath(root, path, &st) == 0;
}

uint64_t host_size(const char *root, const char *path)
{
	struct stat st;

	return stat_beneath(root, path, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
}
