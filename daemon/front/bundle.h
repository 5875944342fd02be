/* bundle.h: the web client as one file, made by web/bundle.c, mapped read-only: an index sorted by path, then texts and
 * content. One machine builds and reads it: numbers as they lie in memory. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "err.h"

#define BUNDLE_MAGIC "croftweb"

struct bundle_piece { uint32_t off, n; };	/* off from the beginning of the file */
struct bundle_entry {
	struct bundle_piece path;	/* "/index.html"; texts are followed by a NUL */
	struct bundle_piece headers;	/* all but ETag and what depends on the encoding */
	struct bundle_piece hash;	/* hex, of the raw content */
	struct bundle_piece raw, gzip;	/* gzip: n is 0 when it would not be smaller */
};
struct bundle_head { char magic[8]; uint32_t entries, size; };

struct xchg;
int bundle_open(int fd, struct err *e);		/* owned; before confinement or after */
void bundle_serve(struct xchg *x);		/* answers a request for anything but /api */
