/* agent.h: qemu-guest-agent in a VM: what the guest tells of itself, and what can be asked of it. All of it in the loop;
 * nothing here blocks. The guest is hostile: what it says is bounded, checked and made printable before it is shown, and
 * an agent that floods, lies or hangs costs only itself: it is silent until it answers again, looked at once a round.
 *
 * The asks are like those in vm.h: 0, and done (may be NULL) comes later, once; or -errno with @e filled. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "agent_facts.h"
#include "vm.h"

enum { AGENT_FREEZE_MAX_S = 60 };

bool vm_agent_answers(const struct vm *vm);	/* on_change tells when that is another now */
/* What is known, from memory; borrowed until the next turn of the loop, never NULL. */
const struct agent_facts *vm_agent_facts(const struct vm *vm);
/* Somebody looks at the facts: when they are older than a round (2 s while the guest is
 * young), the agent is asked anew. What is new then is a change. */
void vm_agent_look(struct vm *vm);

/* Could it be asked right now? 0, or -errno with @e saying why not. */
int vm_agent_usable(const struct vm *vm, struct err *e);
/* Bring the guest's file systems to rest: what is written waits. They are thawed again by vm_agent_thaw, after @seconds
 * (1 to AGENT_FREEZE_MAX_S) whatever happens, when the freeze fails half-way, and by the next croftd. ERR_STATE when
 * the agent is not there or they are frozen already. */
int vm_agent_freeze(struct vm *vm, unsigned seconds, vm_done done, void *arg, struct err *e);
int vm_agent_thaw(struct vm *vm, vm_done done, void *arg, struct err *e);	/* fine when they are not frozen */
/* Set the guest's clock to the host's. A guest that was paused for a while gets that by itself. */
int vm_agent_set_time(struct vm *vm, vm_done done, void *arg, struct err *e);
/* done: the agent was told to shut the guest down. Its end is a change of state. */
int vm_agent_shutdown(struct vm *vm, vm_done done, void *arg, struct err *e);
