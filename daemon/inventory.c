/* inventory.c: all VMs, loaded from their rows, found by id and by name. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "crash.h"
#include "file.h"
#include "inventory.h"
#include "keeper.h"
#include "log.h"
#include "machine_hot.h"
#include "map.h"
#include "mem.h"
#include "orphans.h"
#include "past.h"
#include "room.h"
#include "run.h"
#include "scope.h"
#include "suspend.h"
#include "task.h"
#include "text.h"
#include "usb.h"
#include "version.h"

enum { TELL_BURST = 20, TELL_USEC = 1000000 };

#define UID_FIRST 16		/* uid_base + 0 is the front's, + 1 croft-vm's, without accounts */

struct inventory {
	struct croft *c;
	struct vms *vms;
	struct keeper_house house;
	char *shim;			/* owned */
	struct map *by_id;
	struct machine **by_name;	/* sorted */
	size_t n, cap;
	uint32_t uid_next;		/* where to look for a free uid */
	struct orphans orphans;
	struct list watchers;
};

size_t inventory_len(const struct inventory *inv) { return inv->n; }
struct machine *inventory_at(const struct inventory *inv, size_t i) { return inv->by_name[i]; }
const struct field_vec *inventory_orphans(struct inventory *inv) { return orphans_now(&inv->orphans, inv->house.run_fd); }
int inventory_run_fd(const struct inventory *inv) { return inv->house.run_fd; }

/* Index of the first name >= @name. */
static size_t lower(const struct inventory *inv, const char *name)
{
	size_t lo = 0, hi = inv->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(inv->by_name[mid]->name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

size_t inventory_after(const struct inventory *inv, const char *name)
{
	size_t i = lower(inv, name);

	return i < inv->n && strcmp(inv->by_name[i]->name, name) == 0 ? i + 1 : i;
}

struct machine *inventory_get(const struct inventory *inv, const char *key)
{
	struct machine *m = map_get(inv->by_id, key);

	if (m)
		return m;
	size_t i = lower(inv, key);

	return i < inv->n && strcmp(inv->by_name[i]->name, key) == 0 ? inv->by_name[i] : NULL;
}

static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][65], *row = rows[0], *last = rows[1], *before = rows[2], n = (unsigned)strnlen(b, 64);

	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 0; a[i] && i < 64; i++) {
		unsigned *free_row = before;

		before = last;
		last = row;
		row = free_row;
		row[0] = i + 1;
		for (unsigned j = 0; j < n; j++) {
			unsigned best = last[j] + (a[i] != b[j]);

			best = best < last[j + 1] + 1 ? best : last[j + 1] + 1;
			best = best < row[j] + 1 ? best : row[j] + 1;
			if (i && j && a[i] == b[j - 1] && a[i - 1] == b[j] && before[j - 1] + 1 < best)
				best = before[j - 1] + 1;	/* two letters that changed places */
			row[j + 1] = best;
		}
	}
	return row[n];
}

struct machine *inventory_find(const struct req *r, struct err *e)
{
	const struct inventory *inv = r->c->inv;
	struct machine *m = inventory_get(inv, r->param[0]), *near = NULL;
	size_t len = strlen(r->param[0]);
	unsigned best = len < 4 ? (unsigned)len / 2 + 1 : 3;	/* short names are all like each other */

	if (m)
		return m;
	fail(e, ERR_NOT_FOUND, "there is no VM \"%.63s\"", r->param[0]);
	for (size_t i = 0; i < inv->n && i < 5000; i++) {
		unsigned d = distance(r->param[0], inv->by_name[i]->name);

		if (d < best) {
			best = d;
			near = inv->by_name[i];
		}
	}
	if (near)
		err_hint(e, "did you mean %s?", near->name);
	else
		err_hint(e, "vmctl ls shows all VMs");
	return NULL;
}

static void insert(struct inventory *inv, struct machine *m)
{
	size_t i = lower(inv, m->name);

	if (inv->n == inv->cap) {
		inv->cap = inv->cap ? inv->cap * 2 : 64;
		inv->by_name = xrealloc(inv->by_name, inv->cap * sizeof *inv->by_name);
	}
	memmove(inv->by_name + i + 1, inv->by_name + i, (inv->n - i) * sizeof *inv->by_name);
	inv->by_name[i] = m;
	inv->n++;
}

static void take_out(struct inventory *inv, struct machine *m)
{
	size_t i = lower(inv, m->name);

	memmove(inv->by_name + i, inv->by_name + i + 1, (inv->n - i - 1) * sizeof *inv->by_name);
	inv->n--;
}

void inventory_add(struct inventory *inv, struct machine *m)
{
	bool sim = m->spec.engine == VM_ENGINE_SIM;

	if (!m->vm && !m->invalid) {
		m->vm = vm_new(inv->vms, sim ? &engine_sim : &engine_qemu, m->id, m->name, m);
		if (!sim)	/* what has run in this boot has a run folder, which is looked at next */
			vm_was(m->vm, VM_OFF, m->created_usec > boot_usec() ? m->created_usec : boot_usec());
	}
	map_set(inv->by_id, m->id, m);
	insert(inv, m);
}

void inventory_remove(struct inventory *inv, struct machine *m)
{
	map_del(inv->by_id, m->id);
	take_out(inv, m);
	claim_drop(&m->claim);	/* whoever waits for it learns that it is gone */
	machine_free(m);
}

void inventory_rename(struct inventory *inv, struct machine *m, const char *name)
{
	if (strcmp(m->name, name) == 0)
		return;
	take_out(inv, m);
	free(m->name);
	m->name = xstrdup(name);
	insert(inv, m);
	if (m->vm)
		vm_rename(m->vm, name);
}

/* A uid that no row has, and no guest that runs without a row; uids are handed out in a circle, so that one is used again
 * as late as possible. */
static uint32_t free_uid(const struct inventory *inv)
{
	uint32_t first = inv->c->uid_base + UID_FIRST, count = inv->c->uid_count - UID_FIRST;
	AUTO_FREE uint8_t *taken = xcalloc(1, count / 8 + 1);

	for (size_t i = 0; i < inv->n; i++) {
		uint32_t n = inv->by_name[i]->uid - first;

		if (n < count)
			taken[n / 8] |= (uint8_t)(1 << n % 8);
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t n = (inv->uid_next + i) % count;

		if (!(taken[n / 8] >> n % 8 & 1) && !orphans_have_uid(&inv->orphans, first + n)) {
			((struct inventory *)inv)->uid_next = n + 1;
			return first + n;
		}
	}
	return 0;
}

static bool has_uid(const struct inventory *inv, uint32_t uid)
{
	for (size_t i = 0; i < inv->n; i++)
		if (inv->by_name[i]->uid == uid)
			return true;
	return false;
}

uint32_t inventory_uid_for(const struct inventory *inv, const char *id)
{
	uint32_t uid = orphans_uid(&inv->orphans, id);

	return uid - inv->c->uid_base - UID_FIRST < inv->c->uid_count - UID_FIRST && !has_uid(inv, uid) ? uid : free_uid(inv);
}

void inventory_adopt(struct inventory *inv, struct machine *m)
{
	struct err e = {};

	if (orphans_take(&inv->orphans, m->id) && vm_attach(m->vm, NULL, NULL, &e) < 0)
		log_error("VM %s runs but cannot be attached: %s", m->name, e.msg);
}

/* ---- what happens to VMs */

void inventory_watch(struct inventory *inv, struct watcher *w) { list_append(&inv->watchers, &w->in); }

void inventory_tell(struct machine *m)
{
	if (m->c->inv)
		LIST_FOR(w, &m->c->inv->watchers, struct watcher, in)
			w->changed(w, m);
}

struct ended { char id[37], *end; };

/* The row tells whether it was running when the host, or croftd, went down, and if not, how it had ended. */
static int ended_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	const struct ended *ed = ch->arg;

	return db_exec(tx, e, "UPDATE vms SET started_config = NULL, last_end = ? WHERE id = ? AND memory IS NULL", "ss", ed->end, ed->id);
}
static void ended_apply(struct change *ch)
{
	struct machine *m = inventory_get(ch->c->inv, ((struct ended *)ch->arg)->id);

	if (m)
		m->was_on = false;
}
static void ended_fini(struct change *ch, const struct err *e)
{
	free(((struct ended *)ch->arg)->end);
	free(ch->arg);
}
static struct ended *ended_new(const struct machine *m)
{
	struct ended *ed = xnew(ended);
	struct vm_status st;

	vm_status(m->vm, &st);
	memcpy(ed->id, m->id, sizeof ed->id);
	ed->end = machine_end_text(st.last);
	return ed;
}

/* It has come up, or can be changed again. */
static void on_state(struct machine *m)
{
	enum vm_state was = m->state_seen, now = vm_state(m->vm);

	m->state_seen = (uint8_t)now;
	if (now != was && (now == VM_RUNNING || (now == VM_PAUSED && was != VM_RUNNING && was != VM_STOPPING)))
		machine_hot(m, was != VM_PAUSED && was != VM_RUNNING && was != VM_STOPPING);
	else if (now == VM_OFF || now == VM_SUSPENDED)
		machine_hot_forget(m);
}

static bool is_listed(const struct machine *m)
{
	return m->c->inv && !m->c->stopping && inventory_get(m->c->inv, m->id) == m;
}

/* One vm.changed: an event and, where it is off now, its row. */
static void tell(struct machine *m)
{
	struct change *ch = change_new(m->c, NULL);
	size_t n;
	const char *json = machine_json(m, &n);

	m->to_tell = false;
	buf_add(change_event(ch, "vm.changed", m->id), json, n);
	if (vm_state(m->vm) == VM_OFF && !crash_waits(m)) {	/* one that waits shall run: the next croftd sees to it */
		ch->work = ended_work;
		ch->arg = ended_new(m);
		ch->apply = ended_apply;
		ch->fini = ended_fini;
	}
	ch->job.passing = true;
	change_run(ch);
}

static void on_tell(void *arg)
{
	struct machine *m = arg;

	machine_changed(m);
	if (is_listed(m))
		tell(m);
}

/* A guest, or a QEMU that it has taken over, can change its state as often as it likes; each change that is told is a
 * write to the disk. TELL_BURST of them are told at once, then one each TELL_USEC: the last one always. Returns how long
 * to wait. told_usec is when all that was told would have been told at that pace. */
static int64_t may_tell(struct machine *m)
{
	int64_t now = mono_usec(), paced = m->told_usec > now ? m->told_usec : now;
	int64_t wait = paced - now - (TELL_BURST - 1) * TELL_USEC;

	if (wait <= 0)
		m->told_usec = paced + TELL_USEC;
	return wait;
}

void inventory_publish(struct machine *m)
{
	machine_changed(m);
	if (!is_listed(m))
		return;
	bool off = vm_state(m->vm) == VM_OFF;
	int64_t wait = m->to_tell && !off ? 0 : may_tell(m);

	if (off || (wait <= 0 && !m->to_tell)) {
		timer_disarm(&m->tell);
		tell(m);
	} else if (!m->to_tell) {
		m->to_tell = true;
		timer_arm(&m->tell, m->c->ev, (uint64_t)wait, on_tell, m);
	}
}

static void on_change(struct vm *vm, void *owner)
{
	struct machine *m = owner;

	if (vm_state(vm) == VM_OFF && m->memory) {
		vm_saved(vm, m->memory->saved_usec);	/* comes back here */
		return;
	}
	if (vm_state(vm) == VM_OFF && m->started) {
		fields_fini(&vm_spec_fields, m->started);
		free(TAKE(m->started));
	}
	machine_changed(m);
	if (is_listed(m)) {
		crash_changed(m);
		room_changed(m);
	}
	on_state(m);
	usb_vm_changed(m);
	if (m->task && m->task->vm_changed)
		m->task->vm_changed(m->task);
	if (vm_state(vm) != VM_ATTACHING && !m->claim.held)
		claim_drop(&m->claim);	/* who waited for it to be attached */
	inventory_tell(m);
	inventory_publish(m);
}

static void on_newer(struct vm *vm, void *owner) { machine_changed(owner); }

static void on_unplugged(struct vm *vm, void *owner, const char *device) { machine_hot_unplugged(owner, device); }

/* ---- scopes */

static struct scope_limits limits_of(const struct machine *m)
{
	return (struct scope_limits){ m->spec.cpu_weight, m->spec.cpu_limit_percent };
}

static void tell_scope(struct machine *m, const struct err *e)
{
	struct host *h = &m->c->host;

	scope_free(TAKE(m->scope));
	if (e)
		log_warn("VM %s: %s", m->name, e->msg);
	if (!e == !h->scope_problem)
		return;
	free(TAKE(h->scope_problem));
	h->scope_problem = e ? xstrdup(e->msg) : NULL;
	host_decide(h);
}

static void on_scope(void *arg, const struct err *e)
{
	struct machine *m = arg;

	tell_scope(m, e);
	vm_go(m->vm);		/* with a scope or without: a VM that runs is worth more than its limits */
}

static void on_parked(struct vm *vm, void *owner, pid_t shim)
{
	struct machine *m = owner;
	struct scope_limits l = limits_of(m);

	scope_free(TAKE(m->scope));	/* of a start that is no more */
	if (m->c->host.systemd)
		m->scope = scope_make(m->c->ev, m->id, shim, &l, on_scope, m);
	else
		vm_go(vm);
}

static void on_limits(void *arg, const struct err *e) { tell_scope(arg, e); }

void inventory_limits(struct machine *m)
{
	struct scope_limits l = limits_of(m);

	if (!m->scope && host_scopes(&m->c->host) && m->spec.engine == VM_ENGINE_QEMU && vm_state_alive(vm_state(m->vm)))
		m->scope = scope_set(m->c->ev, m->id, &l, on_limits, m);
}

/* ---- loading */

struct loading { struct db_job job; struct inventory *inv; };

static void on_loaded(struct vm *vm, void *owner) { suspend_loaded(owner); }

static void load_memory(struct machine *m, const char *text)
{
	struct err e = {};
	json_t *j = text ? json_parse(text, strlen(text), MACHINE_MEMORY_MAX, &e) : NULL;

	if (!text)
		return;
	m->memory = xnew(machine_memory);
	if ((!j || fields_decode(&machine_memory_fields, j, FIELDS_STORED, m->memory, &e) < 0) && !m->invalid)
		m->invalid = xasprintf("its row in the database does not tell what its saved memory is: %s", e.msg);
	json_decref(j);
}

static void load_row(struct inventory *inv, struct db_rows *q)
{
	struct machine *m = machine_new(inv->c);
	struct machine_input labels = {};
	const char *config = db_text(q, 5), *started = db_text(q, 8);
	struct vm_last last;
	struct err e = {};

	snprintf(m->id, sizeof m->id, "%s", db_text(q, 0));
	m->name = xstrdup(db_text(q, 1));
	m->revision = (uint64_t)db_int(q, 2);
	m->uid = (uint32_t)db_int(q, 3);
	m->folder = xstrdup(db_text(q, 6));
	m->created_usec = db_int(q, 7);
	json_t *j = json_parse(config, strlen(config), 1 << 20, &e);

	if (!j || fields_decode(&vm_spec_fields, j, FIELDS_STORED, &m->spec, &e) < 0)
		m->invalid = xasprintf("its row in the database cannot be read: %s", e.msg);
	json_decref(j);
	if (m->uid < 1000 && !m->invalid)	/* its guest would run as root, or as somebody of this host */
		m->invalid = xasprintf("its row in the database has the uid %u, which is none for a VM", m->uid);
	j = json_parse(db_text(q, 4), strlen(db_text(q, 4)), 1 << 20, &e);
	if (j && fields_decode(&machine_labels_fields, j, FIELDS_STORED, &labels, &e) == 0)
		m->labels = labels.labels;
	json_decref(j);
	if (started && strcmp(started, config) != 0 && (j = json_parse(started, strlen(started), 1 << 20, &e))) {
		m->started = xcalloc(1, sizeof *m->started);
		if (fields_decode(&vm_spec_fields, j, FIELDS_STORED, m->started, &e) < 0)
			free(TAKE(m->started));
		json_decref(j);
	}
	load_memory(m, db_text(q, 9));
	inventory_add(inv, m);
	m->was_on = started != NULL;
	m->end_known = !started && m->vm && db_text(q, 10) && machine_end_read(db_text(q, 10), &last) == 0;
	if (m->end_known)
		vm_set_last(m->vm, &last);
}

static int load_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct inventory *inv = ((struct loading *)j)->inv;
	struct db_rows *q;
	int r = db_query(tx, &q, e, "SELECT id, name, revision, uid, labels, config, folder, created, started_config, memory,"
			 " last_end FROM vms ORDER BY name", NULL);

	while (r >= 0 && (r = db_next(q, e)) > 0)
		load_row(inv, q);
	return r < 0 ? r : 0;
}

/* A folder of <run>/vm: what was running when croftd ended, runs still, or ended meanwhile. */
static void found(void *arg, const struct run_folder *r)
{
	struct inventory *inv = arg;
	struct machine *m = map_get(inv->by_id, r->uuid);
	struct vm_last last = {};
	struct err e = {};

	if (!m || !m->vm) {
		if (r->state == RUN_RUNNING)
			orphans_add(&inv->orphans, r, m ? m->invalid : "there is no VM with its UUID in the database");
		return;
	}
	if (r->state == RUN_UNKNOWN)
		log_error("VM %s: its run folder cannot be read: %s", m->name, r->why.msg);
	if (r->state == RUN_RUNNING) {
		if (vm_attach(m->vm, NULL, NULL, &e) < 0)
			log_error("VM %s runs but cannot be attached: %s", m->name, e.msg);
	} else {
		m->was_on &= r->state == RUN_ENDED;	/* it ended with the host: that is the policy of the host's start */
		if (m->end_known)		/* by the croftd that saw it, better than by the process alone */
			return;
		vm_last_from_run(r, &last);
		vm_set_last(m->vm, &last);
	}
}

/* It ran, and left no run folder: its engine went with croftd, or the run folders with the host. */
static void tell_lost(const struct inventory *inv)
{
	for (size_t i = 0; i < inv->n; i++) {
		struct machine *m = inv->by_name[i];
		bool sim = m->spec.engine == VM_ENGINE_SIM;
		struct vm_last last = { .when_usec = sim ? now_usec() : boot_usec(), .exit_code = -1,
					.why = sim ? VM_WHY_CROFTD_RESTARTED : VM_WHY_HOST_RESTARTED };
		struct vm_status st;

		if (m->memory && m->vm && vm_state(m->vm) == VM_OFF)
			vm_saved(m->vm, m->memory->saved_usec);
		if (!m->was_on || !m->vm || m->memory || vm_state_alive(vm_state(m->vm)))
			continue;
		vm_status(m->vm, &st);
		if (st.last->why == VM_WHY_NEVER)
			vm_set_last(m->vm, &last);
	}
}

int inventory_new(struct croft *c, struct inventory **ret, struct err *e)
{
	struct inventory *inv = xnew(inventory);
	struct loading l = { .inv = inv };
	int fd = file_open_dir(c->run_fd, "vm", true, 0700);

	if (fd < 0)
		return fail_errno(e, fd, "open the folder vm in %s", c->run);
	inv->c = c;
	inv->by_id = map_new();
	list_init(&inv->watchers);
	inv->shim = xasprintf("%s/croft-vm", c->opt.libexec);
	inv->house = (struct keeper_house){ .ev = c->ev, .run_fd = fd, .shim = inv->shim, .version = CROFT_VERSION,
					    .shim_uid = c->shim_uid, .shim_gid = c->shim_gid };
	struct vms_how how = { .ev = c->ev, .house = &inv->house, .on_change = on_change, .on_newer = on_newer,
			       .on_unplugged = on_unplugged, .on_parked = on_parked, .on_loaded = on_loaded };

	inv->vms = vms_new(&how);
	int r = db_now(c->db, &l.job, load_work, e);

	*ret = inv;
	if (r == 0)
		r = run_scan(fd, found, inv, e);
	tell_lost(inv);
	if (r == 0)
		r = past_read(c->db, inv, e);
	return r;
}

void inventory_free(struct inventory *inv)
{
	if (!inv)
		return;
	for (size_t i = 0; i < inv->n; i++)
		machine_free(inv->by_name[i]);
	vms_free(inv->vms);
	map_free(inv->by_id);
	close(inv->house.run_fd);
	orphans_fini(&inv->orphans);
	free(inv->by_name);
	free(inv->shim);
	free(inv);
}
