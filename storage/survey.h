/* survey.h: what is on a datastore that only Croft would look for: VMs' folders by their marks, files of ours that
 * were left behind, what of a VM is there. For the doctor. All in the datastore's lane, a folder at a time, so that
 * nobody waits for it; bounded; rules of datastore.h. Marks and descriptors are read as untrusted input. */
#pragma once
#include <jansson.h>
#include "datastore.h"

struct survey_mark { char *folder; char uuid[37]; };
struct survey_rest {			/* a temporary file or folder: of an upload, of a volume, of a new VM */
	char *path;
	char id[37];
	bool upload, is_folder;
	uint64_t used_bytes;
	int64_t modified;		/* the file server's clock */
};
struct survey {
	struct field_vec marks;		/* of struct survey_mark; "" when its mark cannot be read */
	struct field_vec rests;		/* of struct survey_rest */
	uint64_t looked;		/* entries */
	bool cut;			/* there is more than was looked at */
};
/* The whole datastore: no links followed, no other mount entered. done borrows. */
void datastore_survey(struct datastore *ds, void (*done)(void *arg, const struct survey *s, const struct err *e), void *arg);
/* Remove what a survey has found, unless it was written to since: then nothing happens. */
void survey_remove(struct datastore *ds, const struct survey_rest *rest, storage_done done, void *arg);

enum descriptor_state { DESCRIPTOR_SAME, DESCRIPTOR_MISSING, DESCRIPTOR_BROKEN, DESCRIPTOR_OLDER, DESCRIPTOR_OTHER };
struct survey_vm {			/* of one VM, on one datastore */
	char *folder;			/* or NULL: it is on another one */
	char uuid[37];
	struct field_vec files;		/* of char *, the paths that its row names */
	uint64_t revision;		/* of the row */
	/* found: */
	bool folder_there, marked;	/* marked: with its own UUID */
	struct field_vec missing;	/* of char *: paths that are none, or no regular file */
	enum descriptor_state descriptor;
	json_t *config;			/* of the descriptor; NULL: unreadable */
};
/* @vm is taken; done borrows it, and may take its members. */
void datastore_survey_vm(struct datastore *ds, struct survey_vm *vm,
			 void (*done)(void *arg, struct survey_vm *vm, const struct err *e), void *arg);
