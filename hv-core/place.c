#include "place.h"
#include <stdio.h>
#include <string.h>
#include "cputype.h"

/* The kernel's capacity counts what a core does and its frequency. Frequencies alone say little: there are boards whose
 * little cores have the higher one. */
static bool faster(const struct host_cpu_type *a, const struct host_cpu_type *b)
{
	bool small = cputype_is_small(a->name), other = cputype_is_small(b->name);

	if (a->capacity && b->capacity && a->capacity != b->capacity)
		return a->capacity > b->capacity;
	return small == other ? a->max_khz > b->max_khz : other;
}

/* Enough cores first, then their speed; where none has enough, the most. */
static bool better(const struct host_cpu_type *a, const struct host_cpu_type *b, uint64_t cpus)
{
	bool enough = a->count >= cpus, other = b->count >= cpus;

	if (enough != other)
		return enough;
	return !enough && a->count != b->count ? a->count > b->count : faster(a, b);
}

const struct host_cpu_type *vm_place_type(const struct host *h, const char *name, uint64_t cpus)
{
	const struct host_cpu_type *all = h->cpu_types.items, *best = NULL;

	for (size_t i = 0; i < h->cpu_types.n; i++)
		if ((!name || !strcmp(all[i].name, name)) && (!best || better(&all[i], best, cpus)))
			best = &all[i];
	return best;
}

void vm_place(const struct vm_spec *s, const struct host *h, struct vm_place *ret)
{
	bool kvm = vm_spec_accel(s, h) == VM_ACCEL_KVM;
	const char *name = s->core_type;
	size_t n;

	*ret = (struct vm_place){ 0 };
	if (h->cpu_types.n < 2 || (!kvm && !name))
		return;
	if (!name && s->cpu_model && vm_place_type(h, s->cpu_model, 0))
		name = s->cpu_model;	/* a model that KVM takes is that of the cores which bear its name */
	const struct host_cpu_type *t = vm_place_type(h, name, s->cpus);
	if (!t)
		return;
	ret->cpus = t->list;
	n = (size_t)snprintf(ret->why, sizeof(ret->why), "the %u core%s of the kind %.64s, ", (unsigned)t->count,
			     t->count == 1 ? "" : "s", t->name);
	if (name)
		n += (size_t)snprintf(ret->why + n, sizeof(ret->why) - n, "as %s says", s->core_type ? "core_type" : "cpu_model");
	else
		n += (size_t)snprintf(ret->why + n, sizeof(ret->why) - n, "%s; under KVM a VM stays on one kind",
				      t->count < s->cpus ? "since no kind has enough" : "the fastest of which there are enough");
	if (t->count < s->cpus)
		snprintf(ret->why + n, sizeof(ret->why) - n, "; its %u virtual CPUs share them", (unsigned)s->cpus);
}
