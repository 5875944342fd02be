/* CPUs, their kinds, and NUMA nodes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "buf.h"
#include "cputype.h"
#include "host_read.h"
#include "mem.h"

/* The lines of /proc/cpuinfo that describe processor @cpu, or "". */
static const char *cpuinfo_block(const char *info, unsigned cpu)
{
	for (const char *line = info; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
		const char *colon = !strncmp(line, "processor", 9) ? strchr(line, ':') : NULL;

		if (colon && strtoul(colon + 1, NULL, 10) == cpu)
			return line;
	}
	return "";
}

/* The value of "key : value" in a block, cut at the line's end. */
static const char *cpuinfo_value(const char *block, const char *key, char out[128])
{
	size_t n = strlen(key);

	for (const char *line = block; line && *line && *line != '\n';
	     line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
		const char *value = strncmp(line, key, n) ? NULL : line + n + strspn(line + n, " \t");

		if (!value || *value != ':')
			continue;
		value += 1 + strspn(value + 1, " \t");
		snprintf(out, 128, "%.*s", (int)strcspn(value, "\n"), value);
		return out;
	}
	return NULL;
}

static uint32_t cpuinfo_number(const char *block, const char *key)
{
	char text[128];

	return cpuinfo_value(block, key, text) ? (uint32_t)strtoul(text, NULL, 0) : 0;
}

/* 0 when it can't be known, as on x86. */
static uint32_t read_midr(const char *root, const char *block, unsigned cpu)
{
	AUTO_FREE char *text = host_text(root, "sys/devices/system/cpu/cpu%u/regs/identification/midr_el1", cpu);
	uint32_t implementer = cpuinfo_number(block, "CPU implementer");

	if (text)
		return (uint32_t)strtoull(text, NULL, 16);
	if (!implementer)
		return 0;
	return implementer << 24 | (cpuinfo_number(block, "CPU variant") & 15) << 20 | 15u << 16 |
	       (cpuinfo_number(block, "CPU part") & 0xfff) << 4 | (cpuinfo_number(block, "CPU revision") & 15);
}

static char *type_name(const char *block, uint32_t midr)
{
	char model[128];

	if (cputype_name(midr))
		return xstrdup(cputype_name(midr));
	if (!midr && cpuinfo_value(block, "model name", model))
		return xstrdup(model);
	return xstrdup("unknown");
}

/* "0-3" + 4 -> "0-4"; "0-4" + 6 -> "0-4,6" */
static void extend_list(struct host_cpu_type *t, unsigned cpu)
{
	char *comma = t->list ? strrchr(t->list, ',') : NULL, *tail = comma ? comma + 1 : t->list;
	char *dash = tail ? strchr(tail, '-') : NULL;
	char *old = t->list;

	if (!old)
		t->list = xasprintf("%u", cpu);
	else if (strtoul(dash ? dash + 1 : tail, NULL, 10) + 1 != cpu)
		t->list = xasprintf("%s,%u", old, cpu);
	else
		t->list = xasprintf("%.*s-%u", (int)(dash ? dash - old : (long)strlen(old)), old, cpu);
	free(old);
}

static void count_cpu(struct host *h, const char *block, unsigned cpu, uint32_t midr)
{
	AUTO_FREE char *name = type_name(block, midr);
	AUTO_FREE char *id = midr ? xasprintf("0x%08x", midr) : NULL;
	struct host_cpu_type *t = h->cpu_types.items;

	h->cpus++;
	for (size_t i = 0; i < h->cpu_types.n; i++, t++)
		if (!strcmp(t->name, name) && (id ? t->midr && !strcmp(t->midr, id) : !t->midr))
			goto found;
	t = field_vec_add(&h->cpu_types, sizeof(*t));
	t->name = TAKE(name);
	t->midr = TAKE(id);
found:
	t->count++;
	extend_list(t, cpu);
}

static void read_node(const char *root, struct host *h, unsigned id)
{
	AUTO_FREE char *cpus = host_text(root, "sys/devices/system/node/node%u/cpulist", id);
	AUTO_FREE char *memory = host_text(root, "sys/devices/system/node/node%u/meminfo", id);
	struct host_node *n = field_vec_add(&h->nodes, sizeof(*n));
	const char *at = cpus, *total = memory ? strstr(memory, "MemTotal:") : NULL;
	int last = -1;

	n->id = id;
	while (at && host_list_next(&at, &last) >= 0)
		n->cpus++;
	n->memory_bytes = total ? strtoull(total + 9, NULL, 10) * 1024 : 0;
}

/* The kernel prefers VHE where the cores have it; the command line may say otherwise. */
static void guess_mode(const char *root, struct host *h, bool vhe)
{
	AUTO_FREE char *line = host_text(root, "proc/cmdline");
	const char *said = line ? strstr(line, "kvm-arm.mode=") : NULL;

	if (said && !strncmp(said + 13, "protected", 9))
		h->kvm.mode = xstrdup("protected");
	else if (said && !strncmp(said + 13, "nvhe", 4))
		h->kvm.mode = xstrdup("nvhe");
	else
		h->kvm.mode = xstrdup(vhe ? "vhe" : "nvhe");
}

void host_read_cpus(const char *root, struct host *h)
{
	AUTO_FREE char *info = host_text(root, "proc/cpuinfo");
	AUTO_FREE char *online = host_text(root, "sys/devices/system/cpu/online");
	AUTO_FREE char *nodes = host_text(root, "sys/devices/system/node/online");
	const char *at = online ? online : "0";
	int last = -1, cpu;
	bool known = true, vhe = true;

	while ((cpu = host_list_next(&at, &last)) >= 0) {
		const char *block = cpuinfo_block(info ? info : "", (unsigned)cpu);

		uint32_t midr = read_midr(root, block, (unsigned)cpu);

		known = known && cputype_name(midr);
		vhe = vhe && cputype_has_vhe(midr);
		count_cpu(h, block, (unsigned)cpu, midr);
	}
	if (known)
		guess_mode(root, h, vhe);
	at = nodes ? nodes : "";
	last = -1;
	while ((cpu = host_list_next(&at, &last)) >= 0)
		read_node(root, h, (unsigned)cpu);
}
