/* agent_facts.h: what a guest's agent tells of the guest, and how its answers are read. The answers come from the guest:
 * everything is bounded, and what is shown is printable UTF-8. Pure; any thread. */
#pragma once
#include <jansson.h>
#include "fields.h"

enum { AGENT_ITEMS_MAX = 64 };		/* addresses, file systems */

/* id, name in the API */
#define AGENT_STATES(X) \
	X(OFF,     "off")	/* its owner wants none */ \
	X(ABSENT,  "absent")	/* none runs in the guest */ \
	X(ANSWERS, "answers") \
	X(SILENT,  "silent")	/* one runs and does not answer, or not as it should */

enum agent_state {
#define X(id, name) AGENT_##id,
	AGENT_STATES(X)
#undef X
	AGENT_NSTATES
};
extern const char *const agent_state_names[];	/* NULL-terminated */

struct agent_address { char *interface, *mac, *address; uint64_t prefix; };
struct agent_file_system { char *mountpoint, *type; uint64_t total_bytes, used_bytes; };
struct agent_facts {
	int agent;			/* enum agent_state */
	int64_t as_of;			/* when the guest told it; 0: never */
	bool frozen;			/* its file systems are, or may be */
	char *version, *hostname, *os, *kernel;
	char *address;			/* the one of addresses to reach it by; NULL: none leads beyond its link */
	struct field_vec addresses;	/* of struct agent_address, without the loopback's */
	struct field_vec file_systems;	/* of struct agent_file_system */
};
extern const struct fields agent_facts_fields;	/* "VmGuest" */

void agent_facts_fini(struct agent_facts *f);
/* Is there a difference that a person would be told? The time and what is used are none. */
bool agent_facts_same(const struct agent_facts *a, const struct agent_facts *b);

/* Read what a command returned into @f, in the place of what stood there. What does not fit is left out. */
void agent_facts_version(struct agent_facts *f, json_t *result);	/* guest-info */
void agent_facts_os(struct agent_facts *f, json_t *result);		/* guest-get-osinfo */
void agent_facts_hostname(struct agent_facts *f, json_t *result);	/* guest-get-host-name */
void agent_facts_addresses(struct agent_facts *f, json_t *result);	/* guest-network-get-interfaces */
void agent_facts_file_systems(struct agent_facts *f, json_t *result);	/* guest-get-fsinfo */
