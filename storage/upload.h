/* upload.h: resumable uploads. The bytes go into a hidden file beside the target, written by croft-front through a
 * descriptor of its own; what it says is not believed: sizes are fstat's, the digest is computed here. The caller keeps
 * a row (id, target, bytes, durable_bytes, ...). Every call can be done again after a crash. Rules of datastore.h. */
#pragma once
#include "datastore.h"

struct upload_plan {
	const char *id;			/* UUID */
	const char *path;		/* target; its folder exists */
	uint64_t bytes;			/* size announced, or UINT64_MAX when unknown */
	bool replace;			/* a file of that name may be replaced */
};
/* Start, or resume: @durable_bytes is what upload_sync reported last (0 at first); what lies beyond it is cut off. done
 * takes a descriptor (O_WRONLY) with TAKE_FD(*fd); the next byte belongs at @durable_bytes. ERR_EXISTS, ERR_NO_SPACE. */
void upload_begin(struct datastore *ds, const struct upload_plan *u, uint64_t durable_bytes,
		  void (*done)(void *arg, int *fd, const struct err *e), void *arg);
/* Make what was written durable; done gets the size of the file then. To be called every 64 MiB or 5 s. */
void upload_sync(struct datastore *ds, const struct upload_plan *u,
		 void (*done)(void *arg, uint64_t durable_bytes, const struct err *e), void *arg);
/* All is there: sync, check the size (when announced) and, when @sha256 isn't NULL, the digest; then give it its name.
 * Everybody's descriptor for writing must be closed by then: ERR_BUSY when one is still open after 2 s. done gets size and digest
 * (@sha256 is NULL when none was asked for). */
void upload_finish(struct datastore *ds, const struct upload_plan *u, const uint8_t *sha256,
		   void (*done)(void *arg, uint64_t size, const struct err *e), void *arg);
void upload_abort(struct datastore *ds, const struct upload_plan *u, storage_done done, void *arg);
