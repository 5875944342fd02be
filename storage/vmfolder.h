/* vmfolder.h: a VM's own folder on a datastore, and in it the descriptor vm.croft.json, a mirror of its row. A hidden
 * file with the VM's UUID says whose folder it is. Can be done again after a crash, and undone. Rules of datastore.h. */
#pragma once
#include <jansson.h>
#include "datastore.h"

#define VMFOLDER_DESCRIPTOR	"vm.croft.json"
#define VMFOLDER_MARK		".croft-vm"	/* holds the UUID */
#define VMFOLDER_DESCRIPTOR_MAX	(1024 * 1024)

/* Make the folder @name, or "@name-xxxxxxxx" (from the UUID) when that is somebody else's; a folder that is this VM's
 * already is a success. done gets the name. */
void vmfolder_create(struct datastore *ds, const char *name, const char *uuid,
		     void (*done)(void *arg, const char *folder, const struct err *e), void *arg);
/* Open its mark and take the write lock on it, which belongs to that open file: whoever it is handed to holds it on. done
 * takes the descriptor with TAKE_FD(*fd), else it is closed. ERR_BUSY: another one holds it, in this host or another. */
void vmfolder_lock(struct datastore *ds, const char *folder, const char *uuid,
		   void (*done)(void *arg, int *fd, const struct err *e), void *arg);
/* Publish the descriptor atomically; only into this VM's folder. */
void vmfolder_describe(struct datastore *ds, const char *folder, const char *uuid, const char *text, size_t n,
		       storage_done done, void *arg);
/* All descriptors on this datastore, each in its VM's own folder: *vms is an array of {"folder": name, "id": UUID, "vm": what the
 * descriptor holds}, with "vm" null where it can't be read. They may come from anywhere: believe nothing in them. Borrowed. */
void vmfolder_gather(struct datastore *ds, void (*done)(void *arg, json_t *vms, const struct err *e), void *arg);
/* Remove descriptor, mark and folder of this VM; the folder stays when other files are in it. None there is success. */
void vmfolder_remove(struct datastore *ds, const char *folder, const char *uuid, storage_done done, void *arg);
