/* memfile.h: the file of a VM's saved memory. It is written under a temporary name by a QEMU that was handed its
 * descriptor, then it gets a mark at its end, behind all that QEMU reads of it: which home (a UUID) has saved it; then it
 * is synced and given its own name. Rules of datastore.h; each can be done again after a crash. */
#pragma once
#include "datastore.h"

enum { MEMFILE_SHA256 = 65 };		/* as hex, with its NUL */

/* A new empty temporary file for @path, O_WRONLY; what a save before has left of one goes. done takes the descriptor
 * with TAKE_FD(*fd), else it is closed. */
void memfile_create(struct datastore *ds, const char *path, void (*done)(void *arg, int *fd, const struct err *e), void *arg);
/* Mark the temporary file, sync it, compute its digest, and give it its name. One that bears its name already is fine. */
void memfile_publish(struct datastore *ds, const char *path, const char *home,
		     void (*done)(void *arg, uint64_t bytes, const char *sha256, const struct err *e), void *arg);
/* Open it, O_RDONLY, at its beginning, and see that it is what was published: size and digest. */
void memfile_open(struct datastore *ds, const char *path, uint64_t bytes, const char *sha256,
		  void (*done)(void *arg, int *fd, const struct err *e), void *arg);
/* Both of them. None there is success. ERR_STATE: the file is another home's than @home (NULL: whoever's goes). */
void memfile_remove(struct datastore *ds, const char *path, const char *home, storage_done done, void *arg);
/* Success: there is no file, or one that @home has marked. ERR_STATE: it is another's, or nobody knows whose. */
void memfile_check(struct datastore *ds, const char *path, const char *home, storage_done done, void *arg);
