/* inventory.h: all VMs: their rows in memory, by name and by id. A struct machine is the row; what runs behind it is
 * hv-core's struct vm. The loop's thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "buf.h"
#include "change.h"
#include "croft.h"
#include "fields.h"
#include "loop.h"
#include "spec.h"
#include "vm.h"

struct task;

#define MACHINE_MEMORY_FILE	"memory.croft"

/* The memory of a suspended VM, in that file of its folder. While a row has it, the guest that it was saved
 * from has not run on: it is written after the save, and erased before the guest runs. */
struct machine_memory {
	uint64_t bytes;			/* 0: a simulated one's */
	int64_t saved_usec;
	char *qemu, *accel, *sha256;	/* what alone can load it; of the file */
	uint64_t boot_bytes;		/* of memory that the VM was started with; 0: as its config says */
	struct field_vec devices;	/* of char *: what its machine consisted of (reshape.h); none: as its config says */
	struct field_vec disks;		/* of char *: as they were (saved_disks.h); none: not known */
};
extern const struct fields machine_memory_fields;
enum { MACHINE_MEMORY_MAX = 1 << 18 };		/* bytes of its JSON */

struct machine {
	struct croft *c;
	char id[37];
	char *name;			/* owned */
	uint64_t revision;
	uint32_t uid;
	struct field_vec labels;	/* of struct field_label */
	struct vm_spec spec;		/* what its owner wants */
	struct vm_spec *started;	/* owned: what it was started with, where that is something else; or NULL */
	char *folder;			/* owned: "[local] name" */
	int64_t created_usec;
	struct machine_memory *memory;	/* owned; or NULL */
	struct crash *crash;		/* owned; NULL: it has not crashed. crash.h */
	struct room *room;		/* owned; NULL: its disks were never full. room.h */
	bool was_on;			/* when croftd or the host went down, and its row says so still */
	bool end_known;			/* at the start: its row says how its last run ended */
	char *invalid;			/* owned: why the row cannot be read; then only name and id are good */
	struct vm *vm;			/* owned; never NULL unless invalid */
	struct task *task;		/* that holds it, or NULL */
	char *cancelled_by;		/* owned: who cancelled the last one; NULL: it was not */
	struct machine_hot *hot;	/* owned: what makes a running VM what is wanted; or NULL */
	struct field_vec reasons;	/* of struct hot_reason */
	struct { uint64_t bus, address; } usb_opening;	/* the host's USB device that is being plugged in; zero: none */
	uint8_t usb_seen;		/* how many it had when it was looked at last */
	bool mirroring, mirror_again;	/* its row is being written into its folder; and once more after that */
	uint8_t state_seen;		/* enum vm_state: the last that was told */
	struct scope *scope;		/* owned: systemd was asked for its scope, and has not answered yet; or NULL */
	struct claim claim;
	struct timer tell;		/* until its next vm.changed may be told */
	int64_t told_usec;		/* see inventory.c: may_tell */
	bool to_tell;			/* the timer is armed */
	char *json;			/* owned cache of its JSON, or NULL */
	size_t json_len;
};

struct machine_input { char *name; struct field_vec labels; struct vm_spec config; bool start; };
extern const struct fields machine_input_fields;	/* "VmCreate" */
extern const struct fields machine_patch_fields;	/* "VmPatch": name, labels, config */
/* How a run ended, as the row has it: VmEnd. The caller owns the text. Read: 0, or what is
 * no such text. */
#define MACHINE_END_MAX	8192
struct vm_last;
char *machine_end_text(const struct vm_last *last);
int machine_end_read(const char *text, struct vm_last *ret);
extern const struct fields machine_labels_fields;	/* the labels alone, for the row */
extern const struct fields machine_fields;		/* "Vm": for OpenAPI */

enum machine_answer { MACHINE_RETRY, MACHINE_POWEROFF };
extern const char *const machine_answers[];		/* NULL-terminated, indexed by machine_answer: fits F_ENUM */

int inventory_new(struct croft *c, struct inventory **ret, struct err *e);	/* loads all rows */
void inventory_free(struct inventory *inv);		/* lets go of the VMs; ends none */
const struct vm_spec *machine_built(const struct machine *m);	/* what runs or would run now: as started, or as wanted */
bool machine_stands(const struct machine *m);	/* it runs, or is suspended: what it was started with goes on to be that */
/* The event vm.changed, for all that nobody has asked for: soon, and not more often than a disk bears; when the VM is off, at
 * once, and its row knows it. */
void inventory_publish(struct machine *m);
void machine_forget_memory(struct machine *m);	/* in memory, behind the commit */
struct machine *inventory_get(const struct inventory *inv, const char *id_or_name);
struct machine *inventory_find(const struct req *r, struct err *e);	/* by the request's {vm}; ERR_NOT_FOUND */
size_t inventory_len(const struct inventory *inv);
struct machine *inventory_at(const struct inventory *inv, size_t i);	/* in order of name */
size_t inventory_after(const struct inventory *inv, const char *name);	/* index of the first name > @name */
void inventory_add(struct inventory *inv, struct machine *m);		/* taken */
void inventory_remove(struct inventory *inv, struct machine *m);	/* and frees it */
void inventory_rename(struct inventory *inv, struct machine *m, const char *name);
void inventory_limits(struct machine *m);	/* its CPU weight or limit is another now: while it runs, tell systemd */
/* A uid for the VM @id, which isn't there yet: of its guest, when that runs as an orphan, else a free one. 0: none left. */
uint32_t inventory_uid_for(const struct inventory *inv, const char *id);
void inventory_adopt(struct inventory *inv, struct machine *m);	/* one that is back: attach its guest, if that is an orphan */
const struct field_vec *inventory_orphans(struct inventory *inv);	/* of orphan_fields: they run without a row; borrowed */
/* Told of each change of a VM's state or status, and when a task on it has ended. The callback frees no VM; it may leave. */
struct watcher { struct list in; void (*changed)(struct watcher *w, struct machine *m); };
void inventory_watch(struct inventory *inv, struct watcher *w);		/* list_remove(&w->in) leaves */
void inventory_tell(struct machine *m);
int inventory_run_fd(const struct inventory *inv);			/* the folder <run>/vm; borrowed */

struct machine *machine_new(struct croft *c);
void machine_free(struct machine *m);
/* The JSON of @m as it is; @as (may be NULL): with this row's name, labels, config, revision instead. */
void machine_write(const struct machine *m, const struct machine *as, struct buf *out);
void machine_write_row(const struct machine *m, struct buf *out);	/* only what its row says: the mirror in its folder */
const char *machine_json(struct machine *m, size_t *n);			/* cached */
void machine_changed(struct machine *m);				/* drop the cache */
/* The machine that @r names, claimed for it. NULL: it was refused, or waits for a claim or a task that ends soon. */
struct machine *machine_hold(struct req *r);		/* api_vm.c */
/* Is it free to be changed or driven? ERR_BUSY names the task; ERR_STATE for an invalid row. */
int machine_usable(const struct machine *m, struct err *e);
