/* dsjob.h: for storage/ itself: a job in one of a datastore's lanes about one path. Embedded first in the job of each
 * operation. work() opens everything afresh beneath dirfd, which stays open as long as the lanes live. */
#pragma once
#include "datastore.h"

struct dsjob {
	struct job job;
	int dirfd;
	char path[DSPATH_MAX + 1];
	void *arg;
	storage_done done;		/* of operations that bring nothing but their success; see dsjob_done */
};

enum { DSJOB_BULK = 1, DSJOB_TOP = 2 };	/* long: in the other lane; the top folder "" is a path, too */

/* Start @j (a zeroed allocation) on @path: its done runs in the loop, later, also when the datastore isn't usable or
 * the path is bad. */
void dsjob_run(struct datastore *ds, struct dsjob *j, const char *path, unsigned flags,
	       int (*work)(struct job *, struct err *), void (*done)(struct job *, const struct err *));
/* Same for an operation with a storage_done: @j is freed after it. */
void dsjob_simple(struct datastore *ds, struct dsjob *j, const char *path, unsigned flags,
		  int (*work)(struct job *, struct err *), storage_done done, void *arg);

/* For work(): the folder of j->path, opened; @name (may be NULL) gets the last part. -errno. */
int dsjob_folder(const struct dsjob *j, const char **name, struct err *e);
int dsjob_open_folder(int dirfd, const char *folder, struct err *e);	/* "" is the top */
/* Open the regular file j->path afresh. A pipe or a device is refused, and never waited for. */
int dsjob_open(const struct dsjob *j, int flags, struct err *e);
/* A sentence for errno @no of a call about @path. */
int dsjob_fail(struct err *e, int no, const char *doing, const char *path);
