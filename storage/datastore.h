/* datastore.h: a folder that holds files and VMs' disks. All work on it happens in its two lanes, so that a dead file
 * server holds up nothing else; all functions here are called in the loop, none blocks, and each calls its done exactly
 * once, later, from the loop. @e is NULL on success. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "dspath.h"
#include "err.h"
#include "fields.h"
#include "lane.h"

enum datastore_state { DATASTORE_OPENING, DATASTORE_READY, DATASTORE_UNAVAILABLE };

struct datastore_status {		/* what was seen last; table: datastore_status_fields */
	int state;
	char *reason;			/* why it is unavailable */
	char *filesystem;		/* "ext4", "xfs", "nfs", ... */
	uint64_t capacity_bytes, free_bytes;
	bool reflink;			/* copies share their blocks */
	int64_t as_of;
};
extern const struct fields datastore_status_fields;	/* "DatastoreStatus" */

struct datastore_config { int kind; char *path; };	/* kind: 0 folder */
extern const struct fields datastore_config_fields;	/* "DatastoreConfig" */

struct datastore {
	char id[37];			/* from the marker file in the folder; "" until it was opened first */
	char *name;
	char *path;
	int dirfd;			/* -1 until READY */
	struct lane *lane;		/* short operations */
	struct lane *bulk;		/* what takes long: syncs, digests, copies */
	sd_event *ev;
	bool closing;
	struct datastore_status status;
};

typedef void (*storage_done)(void *arg, const struct err *e);

/* @id: what the marker must say, so that an unmounted disk isn't taken for an empty datastore; NULL: a new datastore
 * (the folder and its marker are made when they aren't there; a marker that is there is adopted). Opens nothing yet. */
struct datastore *datastore_new(sd_event *ev, const char *name, const char *path, const char *id);
/* Open it if it isn't open, and renew the status. To be called after datastore_new, and again by whoever wants fresh
 * figures or another try. */
void datastore_refresh(struct datastore *ds, storage_done done, void *arg);
/* Waits for what runs in the lanes and delivers its completions; what these try to start is refused. Copies must have
 * been cancelled or be done. */
void datastore_free(struct datastore *ds);
/* 0 when READY; else ERR_UNAVAILABLE with the reason. */
int datastore_usable(const struct datastore *ds, struct err *e);

enum datastore_kind_of { ENTRY_FILE, ENTRY_FOLDER, ENTRY_OTHER };
struct datastore_entry {		/* table: datastore_entry_fields */
	char *name;
	int kind;
	uint64_t size_bytes;		/* of a file */
	uint64_t used_bytes;		/* blocks on disk */
	int64_t modified;
};
extern const struct fields datastore_entry_fields;	/* "DatastoreEntry" */

#define DATASTORE_PAGE	1000
struct datastore_page {
	struct datastore_entry *entries;	/* sorted by name (bytes) */
	size_t n;
	bool more;				/* ask again with after = the last name */
};
/* Entries of folder @path ("" top) with names after @after (NULL: from the start), at most @limit (1..1000). The page
 * is borrowed by done. Hidden names (".croft-") are not shown. */
void datastore_list(struct datastore *ds, const char *path, const char *after, size_t limit,
		    void (*done)(void *arg, const struct datastore_page *page, const struct err *e), void *arg);
void datastore_stat(struct datastore *ds, const char *path,
		    void (*done)(void *arg, const struct datastore_entry *entry, const struct err *e), void *arg);
/* Open an existing regular file afresh, beneath the datastore: O_RDONLY or O_RDWR. done takes the descriptor with
 * TAKE_FD(*fd), else it is closed. @size is fstat's. */
void datastore_open_file(struct datastore *ds, const char *path, int flags,
			 void (*done)(void *arg, int *fd, uint64_t size, const struct err *e), void *arg);
void datastore_mkdir(struct datastore *ds, const char *path, storage_done done, void *arg);
/* A file or an empty folder. ERR_NOT_FOUND when there is none. */
void datastore_delete(struct datastore *ds, const char *path, storage_done done, void *arg);
