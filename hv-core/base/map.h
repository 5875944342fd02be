/* map.h: text key -> borrowed pointer, iterated in order of insertion. Keys are copied. One thread. */
#pragma once
#include <stddef.h>

struct map;
struct map *map_new(void);
void map_free(struct map *m);				/* frees keys, never values; NULL is fine */
void *map_get(const struct map *m, const char *key);
void *map_set(struct map *m, const char *key, void *value);	/* returns what was there before, or NULL */
void *map_del(struct map *m, const char *key);		/* returns what was there, or NULL */
size_t map_len(const struct map *m);
/* for (size_t i = 0; (v = map_next(m, &i, &key)); ) ...; deleting the current entry is allowed. @key may be NULL. */
void *map_next(const struct map *m, size_t *i, const char **key);
