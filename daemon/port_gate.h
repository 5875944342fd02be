/* port_gate.h: has a guest's TCP port opened? User-mode networking takes a connection on the host before the guest has
 * answered it: so a connection is made by the forward, and QEMU asked whether it stands. Once a second, while somebody
 * waits. The loop's thread only. */
#pragma once
#include <stdbool.h>
#include "inventory.h"

struct port_gate;
/* For the port of @m's startup, which a forward of it leads to. @opened(arg): it is open now. */
struct port_gate *port_gate_new(struct machine *m, void (*opened)(void *arg), void *arg);
void port_gate_free(struct port_gate *g);	/* NULL is fine */
uint64_t port_gate_port(const struct port_gate *g);	/* that it was made for */
bool port_gate_is_open(const struct port_gate *g);
