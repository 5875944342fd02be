/* volfile.h: for storage/ itself: the file of a volume on its way from temporary to published. All block: for lanes. */
#pragma once
#include <stdbool.h>
#include "dsjob.h"
#include "qcow2.h"

#define VOLFILE_VARS_BYTES	(3 * 256 * 1024ull)	/* AAVMF's: variables, log of writes, spare: a block of flash each */

/* Does the image at j->path bear @id? 1, 0 (there is none), or an error: EXISTS, it is another file. */
int volfile_mine(const struct dsjob *j, const char *id, struct err *e);
/* A new empty temporary file for it, open for reading and writing. */
int volfile_temp(const struct dsjob *j, const char *id, struct err *e);
/* Sync it and give it its name. */
int volfile_publish(const struct dsjob *j, const char *id, int fd, struct err *e);
/* The same, over the file that has the name. */
int volfile_replace(const struct dsjob *j, const char *id, int fd, struct err *e);
/* Remove the temporary file. None there is success. */
int volfile_discard(const struct dsjob *j, const char *id, struct err *e);
/* Is any descriptor open for writing on the file that @fd (O_RDONLY) stands for, in any process? 1 or 0; -errno where
 * the file system can't tell. Source: fcntl(2), F_SETLEASE. */
int volfile_written(int fd);
/* Read the header of @fd, if it is a qcow2 image. */
int volfile_head(int fd, struct qcow2_head *ret, struct err *e);
