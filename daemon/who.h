/* who.h: permissions, roles as sets of them, and the identity that stands behind a request. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define PERM_TABLE(X) /* name, JSON name, what it allows */ \
	X(VM_VIEW,       "vm.view",       "see VMs, tasks and events") \
	X(VM_CONSOLE,    "vm.console",    "use serial consoles and screens") \
	X(VM_POWER,      "vm.power",      "start, stop, pause and reset VMs") \
	X(VM_CONFIGURE,  "vm.configure",  "change VMs") \
	X(VM_CREATE,     "vm.create",     "create VMs") \
	X(VM_DELETE,     "vm.delete",     "delete VMs") \
	X(STORAGE_VIEW,  "storage.view",  "see datastores and their files, download") \
	X(STORAGE_WRITE, "storage.write", "upload, create and delete files") \
	X(HOST_VIEW,     "host.view",     "see the host and its networks") \
	X(HOST_MANAGE,   "host.manage",   "change the host, back up and restore its configuration") \
	X(ACCESS_MANAGE, "access.manage", "manage users and everybody's tokens")

enum perm {
#define X(name, json, help) PERM_##name,
	PERM_TABLE(X)
#undef X
	PERM_COUNT,
	PERM_ANYBODY,		/* no login */
	PERM_LOGIN,		/* any identity */
};

#define ROLE_TABLE(X) \
	X(VIEWER, "viewer") X(OPERATOR, "operator") X(VM_ADMIN, "vm-admin") X(ADMIN, "admin")
enum role {
#define X(name, json) ROLE_##name,
	ROLE_TABLE(X)
#undef X
	ROLE_COUNT
};

extern const char *const perm_names[PERM_COUNT + 1];
extern const char *const role_names[ROLE_COUNT + 1];		/* NULL-terminated, for F_ENUM */
uint64_t role_perms(enum role role);				/* bit 1 << PERM_... */
int role_from_name(const char *s);				/* -1 when unknown */

enum who_via { WHO_NOBODY, WHO_UNIX, WHO_SESSION, WHO_TOKEN, WHO_CROFT };
struct who {
	enum who_via via;
	enum role role;
	uint64_t perms;
	char name[64];		/* of the Croft user; "root" for uid 0; "croft" for what croftd does itself */
	char user_id[37];	/* "" for root without a Croft user */
	char key[65];		/* hash of the session or token, or "" */
	char why[160];		/* for a local user without access: the sentence that a 403 tells */
};
static inline bool who_can(const struct who *w, enum perm p)
{
	return p == PERM_ANYBODY || (w->via != WHO_NOBODY && (p == PERM_LOGIN || (w->perms >> p & 1)));
}
