#include "memory.h"
#include "host.h"
#include "spec.h"
#include "text.h"

static uint64_t up(uint64_t n, uint64_t step) { return (n + step - 1) / step * step; }

uint64_t memory_block_bytes(const struct host *h)
{
	uint64_t page = h->page_bytes ? h->page_bytes : 4096;

	return page / 8 * page;		/* as many pages as there are entries of 8 bytes in one: 2, 32, 512 MiB */
}

uint64_t memory_hot_bytes(const struct vm_spec *s, const struct host *h)
{
	return s->memory_max_bytes > s->memory_bytes ? up(s->memory_max_bytes - s->memory_bytes, memory_block_bytes(h)) : 0;
}

int memory_reach(const struct memory *m, uint64_t wanted, struct err *e)
{
	char most[24];

	if (wanted <= m->boot_bytes + m->hot_bytes)
		return 0;
	text_size_format(m->boot_bytes + m->hot_bytes, most);
	return fail(e, ERR_UNSUPPORTED, m->hot_bytes ? "it was started so that it can grow to %s"
		    : "it was started with %s, and without memory_max_bytes to grow to", most);
}

uint64_t memory_to_plug(const struct memory *m)
{
	return m->wanted_bytes > m->boot_bytes && m->block_bytes ? up(m->wanted_bytes - m->boot_bytes, m->block_bytes) : 0;
}

uint64_t memory_balloon(const struct memory *m)
{
	uint64_t plug = memory_to_plug(m), plugged = m->plugged_bytes < plug ? m->plugged_bytes : plug;
	uint64_t have = m->boot_bytes + plugged;	/* once virtio-mem has taken away what is too much */

	return m->boot_bytes - (have > m->wanted_bytes ? have - m->wanted_bytes : 0);
}
