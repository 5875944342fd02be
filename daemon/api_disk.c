/* api_disk.c: the disks of a VM: one more, one less, a larger one. */
#include <stdio.h>
#include <string.h>
#include "machine_check.h"
#include "machine_row.h"
#include "mem.h"
#include "routes.h"
#include "tasks_disk.h"
#include "text.h"

struct grow_input { uint64_t size_bytes; };
static const struct field grow_rows[] = {
	{ .name = "size_bytes", .type = F_U64, .off = offsetof(struct grow_input, size_bytes), .flags = FIELD_REQUIRED,
	  .min = 512, .max = 16ull << 40, .multiple = 512, .help = "capacity that the guest will see; never less than now" },
	{}
};
static const struct fields grow_fields = { "VmDiskGrow", sizeof(struct grow_input), grow_rows, "how large a disk becomes" };

static void refuse(struct req *r, struct machine *m, const struct err *e)
{
	req_fail(r, e);
	claim_drop(&m->claim);
}

static json_t *disk_json(const struct vm_disk *d)
{
	struct buf b AUTO_BUF = BUF_INIT(65536);
	struct jw w = JW(&b);

	fields_encode(&vm_disk_fields, d, &w, NULL);
	return json_loads(b.data, 0, NULL);
}

static void begin(struct req *r, struct machine *m, const struct task_kind *kind, json_t *args)
{
	m->claim.held = false;		/* from here on the task holds it */
	task_begin(r->c, r, NULL, kind, m, args);
}

/* The body is the disk: pointers are relative to that. */
static void at_disk(struct err *e, const char *name)
{
	char prefix[96], rest[sizeof e->pointer];
	size_t n = (size_t)snprintf(prefix, sizeof prefix, "/config/disks/%.63s", name);

	if (strncmp(e->pointer, prefix, n) == 0 && (e->pointer[n] == '/' || !e->pointer[n])) {
		snprintf(rest, sizeof rest, "%s", e->pointer + n);
		memcpy(e->pointer, rest, sizeof rest);
	}
}

/* The first that neither its config nor what runs of it has. */
static char *free_name(const struct machine *m)
{
	char *name = NULL;

	for (unsigned i = 0; !name; i++) {
		name = xasprintf("disk%u", i);
		if (field_vec_find(&m->spec.disks, sizeof(struct vm_disk), name) ||
		    field_vec_find(&machine_built(m)->disks, sizeof(struct vm_disk), name))
			free(TAKE(name));
	}
	return name;
}

static void api_add(struct req *r)
{
	struct vm_disk *in = r->in;
	struct err e = {};
	struct machine *m = machine_hold(r), as;
	char id[37];

	if (!m)
		return;
	if (!in->name)
		in->name = free_name(m);
	machine_row_copy(m, &as);
	fields_copy(&vm_disk_fields, in, field_vec_add(&as.spec.disks, sizeof *in));
	if (field_vec_find(&m->spec.disks, sizeof *in, in->name)) {
		fail(&e, ERR_EXISTS, "%s has a disk with the name \"%s\" already", m->name, in->name);
		snprintf(e.pointer, sizeof e.pointer, "/name");
		err_hint(&e, "choose another name");
	} else if (machine_check_more(m, &as, &e) < 0) {
		at_disk(&e, in->name);
	}
	machine_row_drop(&as);
	if (e.code) {
		refuse(r, m, &e);
		return;
	}
	text_uuid_random(id);
	begin(r, m, &task_vm_disk_add, json_pack("{s:s, s:s, s:o}", "name", in->name, "id", id, "disk", disk_json(in)));
}

/* The disk that the request names. NULL: it was refused, or waits. */
static const struct vm_disk *find(struct req *r, struct machine **ret)
{
	struct machine *m = *ret = machine_hold(r);
	const struct vm_disk *d = m ? field_vec_find(&m->spec.disks, sizeof *d, r->param[1]) : NULL;
	struct buf names AUTO_BUF = BUF_INIT(4096);
	struct err e = {};

	if (d && vm_state(m->vm) == VM_SUSPENDED) {
		fail(&e, ERR_STATE, "%s is suspended: its disk %s goes with its memory, and cannot be changed now", m->name, d->name);
		err_hint(&e, "start it first, or throw its memory away: vmctl discard %s", m->name);
		refuse(r, m, &e);
		return NULL;
	}
	if (!m || d)
		return d;
	for (size_t i = 0; i < m->spec.disks.n; i++)
		buf_addf(&names, "%s%s", i ? ", " : "", VM_DISKS(&m->spec)[i].name);
	fail(&e, ERR_NOT_FOUND, "%s has no disk \"%.63s\"", m->name, r->param[1]);
	if (names.len)
		err_hint(&e, "its disks are: %s", names.data);
	refuse(r, m, &e);
	return NULL;
}

static void api_remove(struct req *r)
{
	struct machine *m;
	const struct vm_disk *d = find(r, &m);

	if (d)
		begin(r, m, &task_vm_disk_remove, json_pack("{s:s, s:o}", "name", d->name, "disk", disk_json(d)));
}

static void api_grow(struct req *r)
{
	uint64_t bytes = ((struct grow_input *)r->in)->size_bytes;
	struct machine *m;
	const struct vm_disk *d = find(r, &m);
	struct err e = {};
	char now[24];

	if (!d)
		return;
	text_size_format(d->size_bytes, now);
	if (bytes < d->size_bytes) {
		fail_at(&e, "/size_bytes", "the disk %s has %s already, and never becomes smaller", d->name, now);
		err_hint(&e, "what the guest has at its end would be cut off; make a new disk, and copy inside the guest");
	} else if (d->read_only && vm_state_alive(vm_state(m->vm))) {
		fail(&e, ERR_STATE, "the disk %s is read-only: it cannot grow while %s runs", d->name, m->name);
		err_hint(&e, "shut %s down first", m->name);
	}
	if (e.code)
		refuse(r, m, &e);
	else
		begin(r, m, &task_vm_disk_grow, json_pack("{s:s, s:I, s:I}", "name", d->name, "size_bytes", (json_int_t)bytes,
			"was_bytes", (json_int_t)d->size_bytes));
}

#define DISKS "/api/v1/vms/{vm}/disks"
const struct route routes_disk[] = {
	{ "POST", DISKS, "disk_create", PERM_VM_CONFIGURE, ROUTE_TASK | ROUTE_IF_MATCH, &vm_disk_new_fields, &machine_fields, NULL, api_add,
	  "make a disk and plug it in" },
	{ "DELETE", DISKS "/{disk}", "disk_delete", PERM_VM_CONFIGURE, ROUTE_TASK | ROUTE_IF_MATCH, NULL, &machine_fields, NULL,
	  api_remove, "unplug a disk and delete its file" },
	{ "POST", DISKS "/{disk}/grow", "disk_grow", PERM_VM_CONFIGURE, ROUTE_TASK | ROUTE_IF_MATCH, &grow_fields, &machine_fields,
	  NULL, api_grow, "make a disk larger" },
	{}
};
