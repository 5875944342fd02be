/* CPUs, their kinds, and NUMA nodes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "buf.h"
#include "cputype.h"
#include "host_read.h"
#include "mem.h"
#include "text.h"

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
static const char *cpuinfo_value(const char *block, const char *key, char *out, size_t cap)
{
	size_t n = strlen(key);

	for (const char *line = block; line && *line && *line != '\n';
	     line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
		const char *value = strncmp(line, key, n) ? NULL : line + n + strspn(line + n, " \t");

		if (!value || *value != ':')
			continue;
		value += 1 + strspn(value + 1, " \t");
		snprintf(out, cap, "%.*s", (int)strcspn(value, "\n"), value);
		return out;
	}
	return NULL;
}

static uint32_t cpuinfo_number(const char *block, const char *key)
{
	char text[128];

	return cpuinfo_value(block, key, text, sizeof(text)) ? (uint32_t)strtoul(text, NULL, 0) : 0;
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
	if (!midr && cpuinfo_value(block, "model name", model, sizeof(model)))
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

static uint64_t read_number(const char *root, unsigned cpu, const char *file)
{
	AUTO_FREE char *text = host_text(root, "sys/devices/system/cpu/cpu%u/%s", cpu, file);

	return text ? strtoull(text, NULL, 10) : 0;
}

static void raise_to(uint64_t *n, uint64_t least)
{
	if (*n < least)
		*n = least;
}

static void count_cpu(const char *root, struct host *h, const char *block, unsigned cpu, uint32_t midr)
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
	raise_to(&t->capacity, read_number(root, cpu, "cpu_capacity"));
	raise_to(&t->max_khz, read_number(root, cpu, "cpufreq/cpuinfo_max_freq"));
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
	while (at && text_list_next(&at, &last) >= 0)
		n->cpus++;
	n->memory_bytes = total ? strtoull(total + 9, NULL, 10) * 1024 : 0;
	n->list = TAKE(cpus);
}

/* Which of its timers the kernel uses says where it runs: in EL2 (VHE) one of the hypervisor's, PPI 10 or 12; in EL1
 * below its own hypervisor the physical one, PPI 14; in EL1 without EL2 (it is a guest itself) the virtual one, PPI 11.
 * PPI n is interrupt n + 16 of the GIC. 0: there is no GIC. (arch_timer_select_ppi of the kernel; the numbers: BSA) */
static unsigned timer_irq(const char *root)
{
	AUTO_FREE char *path = xasprintf("%s/proc/interrupts", root), *line = NULL;
	unsigned irq = 0;
	size_t cap = 0;
	FILE *f = fopen(path, "re");	/* megabytes on a server, and the timer comes first */

	while (f && !irq && getline(&line, &cap, f) > 0) {
		const char *gic = strstr(line, " arch_timer\n") ? strstr(line, "GIC") : NULL;

		if (gic)
			irq = (unsigned)strtoul(gic + strcspn(gic, " "), NULL, 10);
	}
	if (f)
		fclose(f);
	return irq;
}

/* @vhe: the cores have it; then the kernel prefers it, unless its command line says otherwise. */
static void read_mode(const char *root, struct host *h, bool known, bool vhe)
{
	AUTO_FREE char *line = host_text(root, "proc/cmdline");
	const char *said = line ? strstr(line, "kvm-arm.mode=") : NULL;
	unsigned irq = timer_irq(root);

	if (irq == 27 || (!irq && !known))
		return;
	if (irq)
		vhe = irq == 26 || irq == 28;
	if (said && !strncmp(said + 13, "protected", 9))
		h->kvm.mode = xstrdup("protected");
	else if (!irq && said && !strncmp(said + 13, "nvhe", 4))
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
	char features[2048];

	while ((cpu = text_list_next(&at, &last)) >= 0) {
		const char *block = cpuinfo_block(info ? info : "", (unsigned)cpu);
		uint32_t midr = read_midr(root, block, (unsigned)cpu);

		known = known && cputype_name(midr);
		vhe = vhe && cputype_has_vhe(midr);
		count_cpu(root, h, block, (unsigned)cpu, midr);
		if (!h->cpu_features && cpuinfo_value(block, "Features", features, sizeof(features)))
			h->cpu_features = xstrdup(features);	/* all cores are told to have what all have */
	}
	read_mode(root, h, known, vhe);
	at = nodes ? nodes : "";
	last = -1;
	while ((cpu = text_list_next(&at, &last)) >= 0)
		read_node(root, h, (unsigned)cpu);
}
