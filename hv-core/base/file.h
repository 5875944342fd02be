/* file.h: files by descriptor, beneath a folder. Everything is O_CLOEXEC. These calls block: small files of our own
 * folders in the loop at start only, all else in lanes. With AT_FDCWD as @dirfd the path is one of our own
 * configuration: it may be absolute and pass through links; with any other it stays beneath that folder. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "err.h"

/* openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS. @path is relative. -errno. */
int file_open_beneath(int dirfd, const char *path, int flags, mode_t mode);
int file_open_dir(int dirfd, const char *path, bool create, mode_t mode);	/* a folder, for reading */
int file_mkdirs(const char *path, mode_t mode);			/* mkdir -p; 0 when it is there */
/* Read a whole file of at most @max bytes; *ret is NUL-terminated, owned by the caller. -EFBIG when larger. */
int file_read_at(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len);
int file_read_fd(int fd, size_t max, char **ret, size_t *ret_len);
/* Write, fsync, give the name @path, fsync the folder. What had the name is replaced, by way of FILE_TEMP and the name: the
 * only thing that a power loss can leave behind. */
#define FILE_TEMP	".tmp-"
int file_publish_at(int dirfd, const char *path, const void *data, size_t n, mode_t mode);
/* Could a file be made in the folder @path? 0, or -errno: EROFS also where ext4 has stopped after an error, which it tells
 * nobody but who tries. Nothing is left of it. */
int file_try(const char *path);
int file_write_all(int fd, const void *p, size_t n);		/* retries short writes and EINTR */
int file_sync_dir(int dirfd);
/* Rename @from to @to without replacing: renameat2(RENAME_NOREPLACE), link+unlink where the file system lacks it. */
int file_rename_new(int dirfd, const char *from, const char *to);
/* Seal a memfd (shrink, grow, write, seal), and rewind it. -errno. */
int file_seal(int fd, mode_t mode);
/* A sealed memfd of @mode with this content. -errno. */
int file_memfd(const char *name, const void *data, size_t n, mode_t mode);
int file_memfd_from(const char *name, int fd, size_t max, mode_t mode);	/* content of @fd, at most @max */
int fd_nonblock(int fd);
int fd_cloexec(int fd, bool on);
/* rm -r of the entry @name of @dirfd: never across mounts, never through links; 0 when it is not there. */
int file_remove_tree(int dirfd, const char *name);
