#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "file.h"
#include "mem.h"
#include "port_gate.h"
#include "usernet.h"

#define AGAIN_USEC 1000000

struct port_gate {
	struct croft *c;
	char vm[37];
	struct sockaddr_in forward;
	uint16_t host_port, guest_port;
	uint64_t port;		/* wanted; guest_port is 0 where no forward leads there */
	int fd;			/* the connection that QEMU is asked about; -1 */
	struct timer again;
	bool asked, freed;	/* QEMU has not answered yet; then the answer frees what is not wanted any more */
	bool open;
	void (*opened)(void *arg);
	void *arg;
};

static void try(void *arg);

static void on_usernet(void *arg, const char *text, const struct err *e)
{
	struct port_gate *g = arg;

	g->asked = false;
	if (g->freed) {
		free(g);
		return;
	}
	close_at(&g->fd);
	g->open = text && usernet_open(text, g->host_port, g->guest_port);
	if (g->open)
		g->opened(g->arg);
	else
		try(g);
}

static void check(void *arg)
{
	struct port_gate *g = arg;
	struct machine *m = inventory_get(g->c->inv, g->vm);
	struct err e = {};

	timer_arm(&g->again, g->c->ev, AGAIN_USEC, check, g);
	if (!m || !m->vm || g->asked)
		return;
	g->asked = vm_usernet(m->vm, on_usernet, g, &e) == 0;
}

/* A new connection each time: in one that began before the guest had its address, libslirp is slow to try again. */
static void try(void *arg)
{
	struct port_gate *g = arg;

	g->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (g->fd >= 0 && connect(g->fd, (struct sockaddr *)&g->forward, sizeof g->forward) < 0 && errno != EINPROGRESS)
		close_at(&g->fd);
	timer_arm(&g->again, g->c->ev, AGAIN_USEC, check, g);
}

static const struct vm_forward *forward_of(const struct machine *m)
{
	const struct vm_spec *s = m->started ?: &m->spec;

	for (size_t i = 0; i < s->nics.n; i++)
		for (size_t k = 0; k < VM_NICS(s)[i].forwards.n; k++) {
			const struct vm_forward *f = &VM_FORWARDS(&VM_NICS(s)[i])[k];

			if (f->protocol == VM_TCP && f->guest_port == m->spec.startup.port)
				return f;
		}
	return NULL;
}

struct port_gate *port_gate_new(struct machine *m, void (*opened)(void *arg), void *arg)
{
	const struct vm_forward *f = forward_of(m);
	struct port_gate *g = xnew(port_gate);

	g->c = m->c;
	memcpy(g->vm, m->id, sizeof g->vm);
	g->fd = -1;
	g->opened = opened;
	g->arg = arg;
	g->port = m->spec.startup.port;
	if (!f)		/* it came with a change, after the start: the patience decides */
		return g;
	g->host_port = (uint16_t)f->host_port;
	g->guest_port = (uint16_t)f->guest_port;
	g->forward = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(g->host_port) };
	inet_pton(AF_INET, strcmp(f->host_address, "0.0.0.0") == 0 ? "127.0.0.1" : f->host_address, &g->forward.sin_addr);
	try(g);
	return g;
}

void port_gate_free(struct port_gate *g)
{
	if (!g)
		return;
	timer_disarm(&g->again);
	close_at(&g->fd);
	g->freed = true;
	if (!g->asked)
		free(g);
}

uint64_t port_gate_port(const struct port_gate *g) { return g->port; }
bool port_gate_is_open(const struct port_gate *g) { return g->open; }
