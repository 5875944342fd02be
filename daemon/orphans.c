#include <string.h>
#include "log.h"
#include "mem.h"
#include "orphans.h"

struct orphan { char *id, *name, *why; uint64_t pid, uid; };

#define ROW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct orphan, f), __VA_ARGS__ }
static const struct field rows[] = {
	ROW(id, F_STR, .help = "UUID of the VM that it was"),
	ROW(name, F_STR, .flags = FIELD_NULLABLE, .help = "its name when it was started, where that is known"),
	ROW(pid, F_U64, .help = "process of the guest, 0 when it is not known"),
	ROW(uid, F_U64, .help = "the numeric user that it runs as"),
	ROW(why, F_STR, .help = "why there is no VM for it"),
	{}
};
const struct fields orphan_fields = { "Orphan", sizeof(struct orphan), rows, "a guest that runs without a VM; it is left alone" };

/* "guest=NAME,..." after -name, as we told QEMU once. */
static char *name_of(const struct run_folder *r)
{
	for (char **a = r->argv; a && *a && a[1]; a++)
		if (strcmp(*a, "-name") == 0 && strncmp(a[1], "guest=", 6) == 0)
			return xstrndup(a[1] + 6, strcspn(a[1] + 6, ","));
	return NULL;
}

void orphans_add(struct orphans *o, const struct run_folder *r, const char *why)
{
	struct orphan *at = field_vec_add(&o->all, sizeof *at);

	*at = (struct orphan){ .id = xstrdup(r->uuid), .name = name_of(r), .why = xstrdup(why), .pid = (uint64_t)r->proc.pid,
			       .uid = r->proc.uid };
	log_warn("an orphan: the guest %s (%s) runs as process %d and is left alone: %s", at->name ?: "?", r->uuid,
		 (int)r->proc.pid, why);
}

static void drop(struct orphans *o, size_t i)
{
	struct orphan *v = o->all.items;

	fields_fini(&orphan_fields, &v[i]);
	memmove(v + i, v + i + 1, (o->all.n - i - 1) * sizeof *v);
	o->all.n--;
}

const struct field_vec *orphans_now(struct orphans *o, int run_fd)
{
	for (size_t i = o->all.n; i-- > 0; ) {
		bool alive = true;

		run_alive(run_fd, ((struct orphan *)o->all.items)[i].id, &alive);
		if (!alive)
			drop(o, i);
	}
	return &o->all;
}

bool orphans_have_uid(const struct orphans *o, uint32_t uid)
{
	for (size_t i = 0; i < o->all.n; i++)
		if (((const struct orphan *)o->all.items)[i].uid == uid)
			return true;
	return false;
}

static struct orphan *find(const struct orphans *o, const char *id)
{
	for (size_t i = 0; i < o->all.n; i++)
		if (strcmp(((struct orphan *)o->all.items)[i].id, id) == 0)
			return (struct orphan *)o->all.items + i;
	return NULL;
}

uint32_t orphans_uid(const struct orphans *o, const char *id)
{
	const struct orphan *at = find(o, id);

	return at ? (uint32_t)at->uid : 0;
}

bool orphans_take(struct orphans *o, const char *id)
{
	struct orphan *at = find(o, id);

	if (at)
		drop(o, (size_t)(at - (struct orphan *)o->all.items));
	return at;
}

void orphans_fini(struct orphans *o)
{
	while (o->all.n)
		drop(o, o->all.n - 1);
	free(o->all.items);
}
