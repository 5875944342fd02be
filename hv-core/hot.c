#include "hot.h"
#include <stdio.h>
#include <string.h>
#include "mem.h"

/* Parts of the config, as JSON pointers. One that ends with a star is an entry of a map: it can be added and removed; what
 * differs inside it is looked for in the other rows. Another one is changed, with all below it. */
static const struct { const char *pattern; enum hot_what added, removed, changed; } parts[] = {
	{ "/cdroms/*/iso", .changed = HOT_MEDIUM },
	{ "/cdroms/*", .added = HOT_CDROM_ADD, .removed = HOT_CDROM_REMOVE },
	{ "/disks/*/limits", .changed = HOT_LIMITS },
	{ "/disks/*/size_bytes", .changed = HOT_SIZE },
	{ "/disks/*", .added = HOT_DISK_ADD, .removed = HOT_DISK_REMOVE },
	{ "/nics/*/connected", .changed = HOT_CABLE },
	{ "/nics/*/forwards", .changed = HOT_FORWARDS },
	{ "/nics/*", .added = HOT_NIC_ADD, .removed = HOT_NIC_REMOVE },
	{ "/memory_bytes", .changed = HOT_MEMORY },
	{ "/usb/*", .added = HOT_USB, .removed = HOT_USB, .changed = HOT_USB },
};

/* Does @pointer begin with @pattern? Its length in @pointer, or 0; @name gets what the star stands for. */
static size_t match(const char *pattern, const char *pointer, char name[64])
{
	const char *p = pointer;

	*name = '\0';
	for (; *pattern; pattern++) {
		if (*pattern == '*') {
			size_t n = strcspn(p, "/");

			snprintf(name, 64, "%.*s", (int)n, p);
			p += n;
		} else if (*p++ != *pattern) {
			return 0;
		}
	}
	return *p == '\0' || *p == '/' ? (size_t)(p - pointer) : 0;
}

struct planning { const struct vm_spec *wanted; struct hot_plan *plan; };

static void add(struct hot_plan *plan, enum hot_what what, const char *name, const char *pointer, size_t n)
{
	struct hot_step s = { .what = what };

	snprintf(s.name, sizeof(s.name), "%s", name);
	snprintf(s.pointer, sizeof(s.pointer), "%.*s", (int)n, pointer);
	for (size_t i = 0; i < plan->n; i++)
		if (!strcmp(plan->steps[i].pointer, s.pointer))
			return;
	if (plan->n < HOT_MAX)
		plan->steps[plan->n++] = s;
}

static const struct field *row_of(const struct fields *f, const char *name, size_t n)
{
	const struct field *row = f->rows;

	while (row->name && (strncmp(row->name, name, n) || row->name[n]))
		row++;
	return row->name ? row : NULL;
}

/* Has @s the entry @name of the map that @pointer is in? */
static bool has_entry(const struct vm_spec *s, const char *pointer, const char *name)
{
	const struct field *row = row_of(&vm_spec_fields, pointer + 1, strcspn(pointer + 1, "/"));

	return row && row->type == F_MAP &&
	       field_vec_find((const struct field_vec *)((const char *)s + row->off), row->sub->size, name);
}

static void add_part(struct hot_plan *plan, const struct vm_spec *wanted, const char *pointer)
{
	char name[64];

	for (size_t i = 0; i < COUNT(parts); i++) {
		size_t n = match(parts[i].pattern, pointer, name);
		bool entry = parts[i].pattern[strlen(parts[i].pattern) - 1] == '*';
		enum hot_what what = parts[i].changed;

		if (n && entry && !pointer[n])
			what = has_entry(wanted, pointer, name) ? parts[i].added : parts[i].removed;
		if (n && what)
			add(plan, what, name, pointer, n);
		if (n && what)
			return;
	}
}

static void on_differs(void *arg, const char *pointer, const struct field *row)
{
	struct planning *p = arg;

	if (!(row->flags & FIELD_HOT))		/* else it takes effect by itself */
		add_part(p->plan, p->wanted, pointer);
}

static void add_named(struct hot_plan *plan, enum hot_what what, const char *map, const char *name, const char *row)
{
	char pointer[96];
	int n = snprintf(pointer, sizeof(pointer), "/%s/%s/%s", map, name, row);

	add(plan, what, name, pointer, (size_t)n);
}

/* For what stays: what comes is plugged in with its limits and its cable. */
static void add_untold(const struct vm_spec *is, const struct vm_spec *wanted, struct hot_plan *plan)
{
	static const struct vm_limits none;

	/* QEMU follows what a croftd before has told it; this one must know what that was. */
	add(plan, HOT_MEMORY, "", "/memory_bytes", strlen("/memory_bytes"));
	for (size_t i = 0; i < wanted->disks.n; i++) {
		const struct vm_disk *d = &VM_DISKS(wanted)[i];

		if (memcmp(&d->limits, &none, sizeof(none)) && field_vec_find(&is->disks, sizeof(*d), d->name))
			add_named(plan, HOT_LIMITS, "disks", d->name, "limits");
	}
	for (size_t i = 0; i < wanted->nics.n; i++) {
		const struct vm_nic *n = &VM_NICS(wanted)[i];

		if (!n->connected && field_vec_find(&is->nics, sizeof(*n), n->name))
			add_named(plan, HOT_CABLE, "nics", n->name, "connected");
	}
}

static void sort(struct hot_plan *plan)		/* few, and nearly sorted */
{
	for (size_t i = 1; i < plan->n; i++)
		for (size_t k = i; k > 0 && plan->steps[k].what < plan->steps[k - 1].what; k--) {
			struct hot_step s = plan->steps[k];

			plan->steps[k] = plan->steps[k - 1];
			plan->steps[k - 1] = s;
		}
}

void hot_plan(const struct vm_spec *is, const struct vm_spec *wanted, bool fresh, struct hot_plan *ret)
{
	struct planning p = { .wanted = wanted, .plan = ret };

	ret->n = 0;
	fields_diff(&vm_spec_fields, is, wanted, on_differs, &p);
	if (fresh)
		add_untold(is, wanted, ret);
	sort(ret);
}

bool hot_has(const struct vm_spec *s, const char *pointer)
{
	const char *name = strchr(pointer + 1, '/');
	char entry[64];

	if (!name)
		return true;
	snprintf(entry, sizeof(entry), "%.*s", (int)strcspn(name + 1, "/"), name + 1);
	return has_entry(s, pointer, entry);
}

void hot_again(const struct vm_spec *is, const struct vm_spec *wanted, const char *pointer, struct hot_plan *plan)
{
	if (!hot_has(is, pointer) || !hot_has(wanted, pointer))
		return;			/* it differs, or is no more */
	add_part(plan, wanted, pointer);
	sort(plan);
}

void hot_adopt(struct vm_spec *is, const struct vm_spec *wanted, const struct hot_step *s)
{
	fields_adopt(&vm_spec_fields, is, wanted, s->pointer);
}

const char *hot_file(const struct hot_step *s, const struct vm_spec *wanted, bool *ret_writable)
{
	const struct vm_cdrom *c = field_vec_find(&wanted->cdroms, sizeof(*c), s->name);
	const struct vm_disk *d = field_vec_find(&wanted->disks, sizeof(*d), s->name);

	*ret_writable = false;
	if (s->what == HOT_MEDIUM || s->what == HOT_CDROM_ADD)
		return c ? c->iso : NULL;
	if (s->what != HOT_DISK_ADD || !d)
		return NULL;
	*ret_writable = !d->read_only;
	return d->path;
}
