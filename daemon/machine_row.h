/* machine_row.h: a VM's row on disk, and its mirror in the VM's folder. The loop's thread only. */
#pragma once
#include "inventory.h"

struct row_texts { struct machine *m; char *labels, *config; };	/* for the lane */
struct row_texts *row_texts(struct machine *m, const struct machine *as);
void row_texts_free(struct row_texts *t);
int row_name_taken(struct err *e, int r, const char *name);	/* @r of the SQL: tells -EEXIST */

/* @m gets the name, labels and config of @as (taken). Commit, then memory, then what of it a running VM can have at once
 * (machine_hot), then the mirror, which nobody waits for. @r (taken; may be NULL) is answered with the VM. @then comes last,
 * always; it owns the claim or the task under which this happens. */
void machine_row_change(struct machine *m, struct machine *as, struct req *r, void (*then)(void *arg, const struct err *e),
			void *arg);
/* A copy of the row, to be changed and handed to machine_row_change; or ended with machine_row_drop. */
void machine_row_copy(const struct machine *m, struct machine *as);
void machine_row_drop(struct machine *as);

/* Renew the mirror vm.croft.json, if it says something else. What it could not write is written with the next change, or by
 * the next croftd, which asks for all (machine_mirror_all). */
void machine_mirror(struct machine *m);
void machine_mirror_all(struct croft *c);
