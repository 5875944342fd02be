/* network.h: the networks that VMs' NICs join. So far one kind: QEMU's user-mode network, where each NIC has a private
 * network behind NAT, and ports of the host can be forwarded to it. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "err.h"
#include "fields.h"

enum network_kind { NETWORK_USER, NETWORK_NKINDS };
extern const char *const network_kind_names[];		/* "user", NULL */

struct network_config { int kind; };
extern const struct fields network_fields;		/* "NetworkConfig" */

enum forward_protocol { FORWARD_TCP, FORWARD_UDP, FORWARD_NPROTOCOLS };
extern const char *const forward_protocol_names[];	/* "tcp", "udp", NULL */

struct forward {			/* one port of the host that leads to a guest; texts are borrowed */
	const char *vm;			/* whose, for the message */
	const char *pointer;		/* JSON pointer of it in the request, or NULL */
	int protocol;
	const char *address;		/* of the host; "" or NULL: all addresses; 0.0.0.0 and :: likewise */
	uint16_t port;
};
/* Do any of @wanted collide with one of @taken or with one another? 0 or ERR_EXISTS with pointer, sentence, hint.
 * Two collide when protocol and port are equal, and the addresses are, or one of them stands for all. Pure. */
int forwards_conflict(const struct forward *wanted, size_t nwanted, const struct forward *taken, size_t ntaken,
		      struct err *e);
