/* schema.h: the database's tables, as migrations that only run forward. */
#pragma once
/* migrations[i] brings version i to i + 1; NULL-terminated. */
extern const char *const schema_migrations[];
