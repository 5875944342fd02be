#include "peers.h"
#include <arpa/inet.h>
#include <string.h>
#include "map.h"
#include "mem.h"

struct peer { unsigned n; char key[INET6_ADDRSTRLEN]; };

static struct map *peers;

static void name_of(const struct sockaddr_storage *sa, char text[INET6_ADDRSTRLEN], char key[INET6_ADDRSTRLEN])
{
	struct in6_addr a = ((const struct sockaddr_in6 *)sa)->sin6_addr;

	memcpy(text, "unknown", 8);
	if (sa->ss_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)sa)->sin_addr, text, INET6_ADDRSTRLEN);
	else if (sa->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a))
		inet_ntop(AF_INET, a.s6_addr + 12, text, INET6_ADDRSTRLEN);
	else if (sa->ss_family == AF_INET6)
		inet_ntop(AF_INET6, &a, text, INET6_ADDRSTRLEN);
	memcpy(key, text, INET6_ADDRSTRLEN);
	if (strchr(text, ':')) {
		memset(a.s6_addr + 8, 0, 8);
		inet_ntop(AF_INET6, &a, key, INET6_ADDRSTRLEN);
	}
}

struct peer *peer_take(const struct sockaddr_storage *sa, unsigned max, char text[INET6_ADDRSTRLEN])
{
	char key[INET6_ADDRSTRLEN];

	memset(text, 0, INET6_ADDRSTRLEN);
	name_of(sa, text, key);
	if (!peers)
		peers = map_new();
	struct peer *p = map_get(peers, key);
	if (!p) {
		p = xnew(peer);
		memcpy(p->key, key, sizeof(p->key));
		map_set(peers, key, p);
	}
	if (p->n >= max)
		return NULL;
	p->n++;
	return p;
}

void peer_drop(struct peer *p)
{
	if (!p || --p->n)
		return;
	map_del(peers, p->key);
	free(p);
}
