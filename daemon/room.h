/* room.h: a VM that stands still since its disk's datastore is full goes on by itself when there is room again: looked at each
 * 30 s, while such a question is open. Once: one that asks again within a minute is left to whoever answers. */
#pragma once
#include "inventory.h"

void room_changed(struct machine *m);		/* its state or status is another */
void room_free(struct machine *m);
