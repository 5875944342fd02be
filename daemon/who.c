#include <string.h>
#include "who.h"

const char *const perm_names[PERM_COUNT + 1] = {
#define X(name, json, help) [PERM_##name] = json,
	PERM_TABLE(X)
#undef X
};
const char *const role_names[ROLE_COUNT + 1] = {
#define X(name, json) [ROLE_##name] = json,
	ROLE_TABLE(X)
#undef X
};

#define BIT(p) (1ULL << PERM_##p)
#define VIEWER		(BIT(VM_VIEW) | BIT(STORAGE_VIEW) | BIT(HOST_VIEW))
#define OPERATOR	(VIEWER | BIT(VM_CONSOLE) | BIT(VM_POWER))
#define VM_ADMIN	(OPERATOR | BIT(VM_CONFIGURE) | BIT(VM_CREATE) | BIT(VM_DELETE) | BIT(STORAGE_WRITE))

uint64_t role_perms(enum role role)
{
	static const uint64_t perms[ROLE_COUNT] = {
		[ROLE_VIEWER] = VIEWER,
		[ROLE_OPERATOR] = OPERATOR,
		[ROLE_VM_ADMIN] = VM_ADMIN,
		[ROLE_ADMIN] = (1ULL << PERM_COUNT) - 1,
	};

	return perms[role];
}

int role_from_name(const char *s)
{
	for (int i = 0; i < ROLE_COUNT; i++)
		if (s && strcmp(role_names[i], s) == 0)
			return i;
	return -1;
}
