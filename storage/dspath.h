/* dspath.h: how a file on a datastore is named: "[local] demo/disk0.qcow2". What comes out of here is a relative path
 * that stays beneath its datastore: no empty part, no "." or "..", no control character, well-formed UTF-8, bounded. */
#pragma once
#include <stdbool.h>
#include "err.h"

#define DSPATH_PART	255	/* bytes of a part */
#define DSPATH_MAX	1024	/* bytes of the whole path */
#define DSPATH_TEXT	(DSPATH_MAX + 64 + 4)

struct dspath {
	char datastore[64];
	char path[DSPATH_MAX + 1];	/* "" is the datastore's top folder */
};

/* "[name] a/b", "[name]a/b", or "[name]" for the top folder. Any thread. */
int dspath_parse(const char *text, struct dspath *ret, struct err *e);
void dspath_format(const struct dspath *p, char out[DSPATH_TEXT]);
/* The part after the brackets alone. "" is refused unless @top. Names that begin with ".croft-" are ours: not found. */
int dspath_check(const char *path, bool top, struct err *e);
const char *dspath_name(const char *path);			/* last part, points into @path */
/* The folder of @path ("" for the top) and beside it a file @name in the same folder. -ERANGE when too long. */
void dspath_folder(const char *path, char out[DSPATH_MAX + 1]);
int dspath_beside(const char *path, const char *name, char out[DSPATH_MAX + 1]);
bool dspath_is_hidden(const char *name);			/* one part: begins with ".croft-" */
