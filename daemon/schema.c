/* schema.c: intent, tasks, events, users. Power state is no column: it is derived from the running processes. */
#include <stddef.h>
#include "schema.h"

const char *const schema_migrations[] = {
	/* 1 */
	"CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"

	"CREATE TABLE datastores (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL,"
	" path TEXT NOT NULL UNIQUE, created INTEGER NOT NULL) STRICT;"

	"CREATE TABLE networks (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL,"
	" config TEXT NOT NULL, created INTEGER NOT NULL) STRICT;"

	"CREATE TABLE vms (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL,"
	" uid INTEGER NOT NULL UNIQUE, labels TEXT NOT NULL, config TEXT NOT NULL, folder TEXT NOT NULL,"
	" created INTEGER NOT NULL, started_config TEXT) STRICT;"

	"CREATE TABLE tasks (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, target_kind TEXT NOT NULL,"
	" target TEXT NOT NULL, target_name TEXT NOT NULL, user TEXT NOT NULL, args TEXT NOT NULL, data TEXT NOT NULL,"
	" state TEXT NOT NULL, step INTEGER NOT NULL, error TEXT, created INTEGER NOT NULL, finished INTEGER) STRICT;"
	"CREATE INDEX tasks_open ON tasks (id) WHERE finished IS NULL;"

	"CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, kind TEXT NOT NULL,"
	" target TEXT NOT NULL, user TEXT NOT NULL, data TEXT NOT NULL) STRICT;"

	"CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL,"
	" role TEXT NOT NULL, password TEXT, created INTEGER NOT NULL) STRICT;"
	"CREATE TABLE tokens (id TEXT PRIMARY KEY, name TEXT NOT NULL, user TEXT NOT NULL REFERENCES users(id)"
	" ON DELETE CASCADE, role TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, created INTEGER NOT NULL, expires INTEGER)"
	" STRICT;"
	"CREATE TABLE sessions (hash TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,"
	" peer TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT;"

	/* An Idempotency-Key with the answer that it got, in the same transaction as the change. */
	"CREATE TABLE idempotency (user TEXT NOT NULL, key TEXT NOT NULL, request TEXT NOT NULL, status INTEGER NOT NULL,"
	" headers TEXT, body TEXT, task INTEGER, created INTEGER NOT NULL, PRIMARY KEY (user, key)) STRICT;"
	"CREATE INDEX idempotency_age ON idempotency (created);"

	"CREATE TABLE uploads (id TEXT PRIMARY KEY, user TEXT NOT NULL, target TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,"
	" digest TEXT, durable INTEGER NOT NULL, created INTEGER NOT NULL) STRICT;",

	/* 2: of a suspended VM: what its saved memory is (machine_memory_fields) */
	"ALTER TABLE vms ADD COLUMN memory TEXT;",

	/* 3: of a VM that is off: how its last run ended (machine_end_fields) */
	"ALTER TABLE vms ADD COLUMN last_end TEXT;",
	NULL
};
