#include "sock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "mem.h"

static int sock_at(int dirfd, const char *name, int type, struct sockaddr_un *at)
{
	*at = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (snprintf(at->sun_path, sizeof(at->sun_path), "/proc/self/fd/%d/%s", dirfd, name) >= (int)sizeof(at->sun_path))
		return -ENAMETOOLONG;
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
}

int sock_listen_at(int dirfd, const char *name, int type)
{
	struct sockaddr_un at;
	AUTO_CLOSE int fd = sock_at(dirfd, name, type, &at);
	if (fd < 0)
		return fd;
	if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 16) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int sock_connect_at(int dirfd, const char *name, int type)
{
	struct sockaddr_un at;
	AUTO_CLOSE int fd = sock_at(dirfd, name, type, &at);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		return -errno;
	return fd < 0 ? fd : TAKE_FD(fd);
}
