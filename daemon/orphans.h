/* orphans.h: guests that run and that no row of the database stands for: their row was lost, or cannot be read. They are
 * shown and left alone. The loop's thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "fields.h"
#include "run.h"

extern const struct fields orphan_fields;		/* "Orphan" */

struct orphans { struct field_vec all; };
/* @r: a folder that was found running; @why: there is no VM for it. */
void orphans_add(struct orphans *o, const struct run_folder *r, const char *why);
/* Those that run still; borrowed until the next call. */
const struct field_vec *orphans_now(struct orphans *o, int run_fd);
bool orphans_have_uid(const struct orphans *o, uint32_t uid);	/* it is not given to a VM as long as we run */
uint32_t orphans_uid(const struct orphans *o, const char *id);	/* what the guest of that VM runs as; 0: there is none */
bool orphans_take(struct orphans *o, const char *id);	/* it is none any more: its VM is back */
void orphans_fini(struct orphans *o);
