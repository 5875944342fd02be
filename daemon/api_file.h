/* api_file.h: between api_file.c and api_upload.c. */
#pragma once
#include "change.h"
#include "fields.h"
#include "route.h"
#include "stores.h"

/* The datastore of {datastore} and a checked {path...}; @top: "" is fine. */
int file_target(struct req *r, bool top, struct store **ret, struct err *e);
/* ERR_STATE when a VM is made of this file: then it is neither deleted nor replaced beneath it. */
int file_unused(const struct croft *c, const struct store *s, const char *path, struct err *e);
void file_event(struct change *ch, const char *kind, const struct store *s, const char *path);

extern const struct fields upload_fields, upload_result_fields;
extern const struct route_query upload_query[];
void api_upload(struct req *r);
void api_upload_list(struct req *r);
void api_upload_delete(struct req *r);
int file_outside_vms(const struct croft *c, const struct store *s, const char *path, struct err *e);	/* nothing is put there */
