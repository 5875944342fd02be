#include <stdbool.h>
#include <string.h>
#include "network.h"

const char *const network_kind_names[] = { [NETWORK_USER] = "user", [NETWORK_NKINDS] = NULL };
const char *const forward_protocol_names[] = { [FORWARD_TCP] = "tcp", [FORWARD_UDP] = "udp", [FORWARD_NPROTOCOLS] = NULL };

const struct fields network_fields = {
	.name = "NetworkConfig", .size = sizeof(struct network_config),
	.help = "A network that NICs of VMs join",
	.rows = (const struct field[]){
		{ "kind", F_ENUM, offsetof(struct network_config, kind), FIELD_CREATE_ONLY, .names = network_kind_names,
		  .def = "\"user\"", .help = "user: a private network behind NAT for each NIC, made by QEMU" },
		{ 0 },
	},
};

static bool means_all(const char *address)
{
	return !address || !*address || !strcmp(address, "0.0.0.0") || !strcmp(address, "::");
}

static bool collide(const struct forward *a, const struct forward *b)
{
	if (a->protocol != b->protocol || a->port != b->port)
		return false;
	return means_all(a->address) || means_all(b->address) || !strcmp(a->address, b->address);
}

static int refuse(const struct forward *f, const struct forward *other, struct err *e)
{
	const char *where = means_all(f->address) ? "this host" : f->address;
	int r = fail(e, ERR_EXISTS, "port %u/%s of %s is forwarded to VM \"%s\" already", f->port,
		     forward_protocol_names[f->protocol], where, other->vm ? other->vm : "?");

	if (e && f->pointer) {
		size_t n = strnlen(f->pointer, sizeof(e->pointer) - 1);

		memcpy(e->pointer, f->pointer, n);
		e->pointer[n] = '\0';
	}
	err_hint(e, "choose another host_port");
	return r;
}

int forwards_conflict(const struct forward *wanted, size_t nwanted, const struct forward *taken, size_t ntaken,
		      struct err *e)
{
	for (size_t i = 0; i < nwanted; i++) {
		for (size_t k = 0; k < ntaken; k++)
			if (collide(&wanted[i], &taken[k]))
				return refuse(&wanted[i], &taken[k], e);
		for (size_t k = 0; k < i; k++)
			if (collide(&wanted[i], &wanted[k]))
				return refuse(&wanted[i], &wanted[k], e);
	}
	return 0;
}
