/* value.h: KEY=VALUE on the command line -> JSON, by the API's own field table: `memory=2GiB`, `disks.data.size=10GiB`,
 * `cdroms.cd0.iso=null`. Keys are JSON names with dots; "_bytes" may be left out; fields of "config" are found without
 * naming it. */
#pragma once
#include <jansson.h>
#include "api.h"
#include "err.h"

/* Put one assignment into @into. @creating: fields that can't be set later are allowed. ERR_INVALID with a sentence. */
int value_set(json_t *into, const struct api_schema *s, const char *assignment, bool creating, struct err *e);
/* The same for an expanded key and a JSON value (taken). */
int value_put(json_t *into, const struct api_schema *s, const char *key, json_t *value, struct err *e);
/* All keys that can be assigned, one a line: "config.cpus", ..., through @fn. */
void value_keys(const struct api_schema *s, bool creating, void (*fn)(void *arg, const char *key, const struct api_field *f),
		void *arg);
void value_key_short(const char *name, char out[40]);		/* "memory_bytes" -> "memory" */
