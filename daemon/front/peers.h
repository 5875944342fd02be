/* peers.h: how many connections each address has. An IPv6 client counts by its /64, which is what one customer gets. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>

struct peer;
/* Count one more, or NULL when @max are there already. @text: the address, without scope; v4-mapped as v4. */
struct peer *peer_take(const struct sockaddr_storage *sa, unsigned max, char text[INET6_ADDRSTRLEN]);
void peer_drop(struct peer *p);		/* NULL is fine */
