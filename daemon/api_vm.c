/* api_vm.c: VMs: list, create, change, delete, and the asks that drive them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "agent.h"
#include "crash.h"
#include "event.h"
#include "file.h"
#include "machine_check.h"
#include "machine_row.h"
#include "maintenance.h"
#include "mem.h"
#include "routes.h"
#include "tasks_vm.h"
#include "text.h"

#define LIST_DEFAULT	1000
#define LIST_MAX	10000
#define PLUG_USEC	20000000u	/* a power-off waits so long for the end of what it has cancelled */

/* ---- list and get */

struct filter { char name[256], state[256], label[256]; bool by_name, by_state, by_label; };

static bool one_of(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',')
		if (strcspn(p, ",") == n && strncmp(p, word, n) == 0)
			return true;
	return false;
}

static int check_states(const char *list, struct err *e)
{
	char all[200] = "";

	for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',') {
		bool known = strcspn(p, ",") == strlen("invalid") && strncmp(p, "invalid", strlen("invalid")) == 0;

		for (int i = 0; !known && i < VM_NSTATES; i++)
			known = strcspn(p, ",") == strlen(vm_state_names[i]) && strncmp(p, vm_state_names[i], strcspn(p, ",")) == 0;
		if (known)
			continue;
		for (int i = 0; i < VM_NSTATES; i++)
			snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", vm_state_names[i]);
		fail(e, ERR_BAD_REQUEST, "state= takes states of VMs with commas, not \"%.*s\"", (int)strcspn(p, ","), p);
		return err_hint(e, "a VM is %s", all);
	}
	return 0;
}

static bool has_label(const struct machine *m, const char *text)
{
	const struct field_label *l = m->labels.items;
	size_t n = strcspn(text, ":");

	for (size_t i = 0; i < m->labels.n; i++)
		if (strlen(l[i].key) == n && strncmp(l[i].key, text, n) == 0 && (!text[n] || strcmp(l[i].value, text + n + 1) == 0))
			return true;
	return false;
}

static bool passes(const struct filter *f, const struct machine *m)
{
	return (!f->by_name || text_glob(f->name, m->name)) &&
	       (!f->by_state || one_of(f->state, m->vm ? vm_state_names[vm_state(m->vm)] : "invalid")) &&
	       (!f->by_label || has_label(m, f->label));
}

static void api_list(struct req *r)
{
	struct inventory *inv = r->c->inv;
	struct filter f = {};
	struct buf out AUTO_BUF = BUF_INIT(256u << 20);
	struct err e = {};
	uint64_t limit, found = 0;
	char after[256];
	const char *last = NULL;
	size_t i = req_query(r, "after", after) ? inventory_after(inv, after) : 0;

	f.by_name = req_query(r, "name", f.name);
	f.by_state = req_query(r, "state", f.state);
	f.by_label = req_query(r, "label", f.label);
	if (req_query_u64(r, "limit", LIST_DEFAULT, LIST_MAX, &limit, &e) < 0 || (f.by_state && check_states(f.state, &e) < 0)) {
		req_fail(r, &e);
		return;
	}
	buf_adds(&out, "{\"items\":[");
	for (; i < inventory_len(inv) && found < (limit ?: 1); i++) {
		struct machine *m = inventory_at(inv, i);
		size_t n;

		if (!passes(&f, m))
			continue;
		if (found++)
			buf_addc(&out, ',');
		const char *json = machine_json(m, &n);

		buf_add(&out, json, n);
		last = m->name;
	}
	if (i < inventory_len(inv) && last)
		buf_addf(&out, "],\"next\":\"%s\"}", last);
	else
		buf_adds(&out, "],\"next\":null}");
	req_reply_buf(r, 200, NULL, &out);
}

static void api_get(struct req *r)
{
	struct err e = {};
	struct machine *m = inventory_find(r, &e);
	size_t n;

	if (!m) {
		req_fail(r, &e);
		return;
	}
	if (m->vm)
		vm_agent_look(m->vm);
	const char *json = machine_json(m, &n);

	req_object(r, 200, m->revision, json, n);
}

/* ---- create */

static int create_work(struct change *ch, struct db_tx *tx, struct err *e)
{
	struct row_texts *t = ch->arg;
	struct machine *m = t->m;
	int r = db_exec(tx, e, "INSERT INTO vms (id, name, revision, uid, labels, config, folder, created) VALUES"
			" (?, ?, 1, ?, ?, ?, '', ?)", "ssissi", m->id, m->name, (int64_t)m->uid, t->labels, t->config,
			m->created_usec);

	return row_name_taken(e, r, m->name);
}

static void create_apply(struct change *ch)
{
	struct row_texts *t = ch->arg;

	inventory_add(ch->c->inv, t->m);
}

static void create_fini(struct change *ch, const struct err *e)
{
	struct row_texts *t = ch->arg;

	if (e)
		machine_free(t->m);
	row_texts_free(t);
}

static void api_create(struct req *r)
{
	struct machine_input *in = r->in;
	struct machine *m = machine_new(r->c);
	struct err e = {};

	text_uuid_random(m->id);
	m->name = xstrdup(in->name);
	m->folder = xstrdup("");
	m->created_usec = now_usec();
	m->labels = TAKE_VEC(in->labels);
	m->spec = in->config;
	in->config = (struct vm_spec){};
	if (in->start)
		host_may_start(r->c, &e);
	if (e.code)
		;
	else if (inventory_get(r->c->inv, m->name))
		row_name_taken(&e, fail(&e, ERR_EXISTS, "taken"), m->name);
	else if (machine_check_new(m, &e) == 0 && (m->uid = inventory_uid_for(r->c->inv, m->id)) == 0)
		fail(&e, ERR_NO_SPACE, "the range of uids (%u from %u on) is used up", r->c->uid_count, r->c->uid_base);
	if (e.code) {
		machine_free(m);
		req_fail(r, &e);
		return;
	}
	struct change *ch = change_new(r->c, r);

	ch->arg = row_texts(m, m);
	ch->work = create_work;
	ch->apply = create_apply;
	ch->fini = create_fini;
	machine_write(m, NULL, change_event(ch, "vm.created", m->id));
	task_begin(r->c, r, ch, &task_vm_create, m, task_vm_create_args(m, in->start));
}

/* ---- change */

struct machine *machine_hold(struct req *r)
{
	struct err e = {};
	struct machine *m = inventory_find(r, &e);

	if (m && m->task && task_soon(m->task)) {
		list_append(&m->claim.waiting, &r->in_wait);
		return NULL;
	}
	if (!m || machine_usable(m, &e) < 0 || req_if_match(r, m->revision, false, &e) < 0) {
		req_fail(r, &e);
		return NULL;
	}
	return claim_take(&m->claim, r) ? m : NULL;
}

static void hint_grow(struct err *e)
{
	const char *last = strrchr(e->pointer, '/');

	if (last && !strcmp(last, "/size_bytes") && !strncmp(e->pointer, "/config/disks/", strlen("/config/disks/")))
		err_hint(e, "a disk is made larger by vmctl disk grow, or a POST to its /grow; never smaller");
}

/* The row as it would be. */
static int patched(struct req *r, struct machine *m, struct machine *as, struct err *e)
{
	struct machine_input in = {}, now = { .name = m->name, .labels = m->labels, .config = m->spec };

	fields_copy(&machine_patch_fields, &now, &in);
	int n = fields_decode(&machine_patch_fields, r->json, FIELDS_PATCH, &in, e);

	if (n < 0)
		hint_grow(e);
	*as = *m;
	as->name = in.name;
	as->labels = in.labels;
	as->spec = in.config;
	if (n == 0 && !as->name)
		n = fail_at(e, "/name", "a VM has a name");
	if (n == 0)
		n = machine_check_changed(m, as, e);
	return n;
}

static void patch_done(void *arg, const struct err *e) { claim_drop(&((struct machine *)arg)->claim); }

static void api_patch(struct req *r)
{
	struct err e = {};
	struct machine *m = machine_hold(r), as;

	if (!m)
		return;
	if (patched(r, m, &as, &e) == 0) {
		machine_row_change(m, &as, r, patch_done, m);
		return;
	}
	machine_row_drop(&as);
	req_fail(r, &e);
	patch_done(m, &e);
}

/* ---- asks */

struct shutdown_input { uint64_t timeout_s; };
static const struct field shutdown_rows[] = {
	{ .name = "timeout_s", .type = F_U64, .off = offsetof(struct shutdown_input, timeout_s), .min = 1, .max = 3600, .def = "120",
	  .help = "give up waiting for the guest after so many seconds; it is not powered off then" },
	{}
};
static const struct fields shutdown_fields = { "VmShutdown", sizeof(struct shutdown_input), shutdown_rows, "how to shut down" };

static void no_such_ask(struct machine *m, const char *what, struct err *e)
{
	static const struct { enum vm_event ask; const char *verb; } verbs[] = {
		{ VM_ASK_START, "start" }, { VM_ASK_SHUTDOWN, "shutdown" }, { VM_ASK_SHUTDOWN, "reboot" }, { VM_ASK_RESET, "reset" },
		{ VM_ASK_PAUSE, "pause" }, { VM_ASK_RESUME, "resume" }, { VM_ASK_SUSPEND, "suspend" }, { VM_ASK_DISCARD, "discard" },
		{ VM_ASK_POWEROFF, "poweroff" },
	};
	char can[100] = "";

	fail(e, ERR_STATE, "%s is %s: it cannot %s", m->name, vm_state_names[vm_state(m->vm)], what);
	for (size_t i = 0; i < COUNT(verbs); i++)
		if (vm_can(m->vm, verbs[i].ask))
			snprintf(can + strlen(can), sizeof can - strlen(can), "%s%s", *can ? ", " : "", verbs[i].verb);
	if (*can)
		err_hint(e, "what it can do now: %s", can);
	else
		err_hint(e, vm_state(m->vm) == VM_LOST ? "something holds the file alive in its run folder: end that, and it is off"
			 : "wait until it has ended");
}

/* croftd has just started and looks what the VM does: a moment, with a deadline of its own. */
static bool wait_attached(struct req *r, struct machine *m)
{
	if (!m || !m->vm || vm_state(m->vm) != VM_ATTACHING)
		return false;
	list_append(&m->claim.waiting, &r->in_wait);
	return true;
}

static void on_plug_late(void *arg)
{
	struct req *r = arg;
	struct err e = {};
	struct machine *m = inventory_find(r, &e);

	list_remove(&r->in_wait);
	if (m && machine_usable(m, &e) == 0)
		fail(&e, ERR_BUSY, "%s was busy for %u s", m->name, PLUG_USEC / 1000000);
	req_fail(r, &e);
}

/* Whoever pulls the plug does not wait for a guest that was asked nicely, nor for one that does not come up. */
static bool pull(struct req *r, struct machine *m)
{
	struct task *t = m ? m->task : NULL;

	if (!t || !t->kind->cancellable || t->kind == &task_vm_create || (!t->cancel && !task_cancel_for(t, r->who.name)))
		return false;
	if (!r->pulled)
		timer_arm(&r->deadline, r->c->ev, PLUG_USEC, on_plug_late, r);
	r->pulled = true;
	list_append(&m->claim.waiting, &r->in_wait);
	return true;
}

/* @ask: what must be possible in the VM's state now. */
static void begin(struct req *r, const struct task_kind *kind, enum vm_event ask, const char *what)
{
	struct err e = {};
	struct machine *m = inventory_get(r->c->inv, r->param[0]);

	if (kind == &task_vm_poweroff && pull(r, m))
		return;
	if ((ask != VM_ASK_POWEROFF && wait_attached(r, m)) || !(m = machine_hold(r)))
		return;
	m->claim.held = false;		/* from here on the task holds it */
	timer_disarm(&r->deadline);
	if (!vm_can(m->vm, ask) && !(kind == &task_vm_poweroff && (crash_waits(m) || r->pulled)))
		no_such_ask(m, what, &e);
	else if (kind == &task_vm_start || kind == &task_vm_wake || kind == &task_vm_reboot)
		host_may_start(r->c, &e);
	if (e.code) {
		req_fail(r, &e);
		return;
	}
	crash_stop(m);
	json_t *args = json_object();

	if (r->in && r->route->in == &shutdown_fields)
		json_object_set_new(args, "timeout_s", json_integer((json_int_t)((struct shutdown_input *)r->in)->timeout_s));
	if (kind == &task_vm_suspend)
		json_object_set_new(args, "paused", json_boolean(vm_state(m->vm) == VM_PAUSED));
	task_begin(r->c, r, NULL, kind, m, args);
}

static void api_start(struct req *r)
{
	begin(r, task_start_kind(inventory_get(r->c->inv, r->param[0])), VM_ASK_START, "be started");
}
static void api_suspend(struct req *r) { begin(r, &task_vm_suspend, VM_ASK_SUSPEND, "be suspended"); }
static void api_discard(struct req *r) { begin(r, &task_vm_discard, VM_ASK_DISCARD, "lose a saved memory"); }
static void api_shutdown(struct req *r) { begin(r, &task_vm_shutdown, VM_ASK_SHUTDOWN, "be shut down"); }
static void api_reboot(struct req *r) { begin(r, &task_vm_reboot, VM_ASK_SHUTDOWN, "be rebooted"); }
static void api_reset(struct req *r) { begin(r, &task_vm_reset, VM_ASK_RESET, "be reset"); }
static void api_poweroff(struct req *r) { begin(r, &task_vm_poweroff, VM_ASK_POWEROFF, "be powered off"); }
static void api_pause(struct req *r) { begin(r, &task_vm_pause, VM_ASK_PAUSE, "be paused"); }
static void api_resume(struct req *r) { begin(r, &task_vm_resume, VM_ASK_RESUME, "be resumed"); }

struct answer_input { int choice; uint64_t id; };
static const struct field answer_rows[] = {
	{ .name = "choice", .type = F_ENUM, .off = offsetof(struct answer_input, choice), .flags = FIELD_REQUIRED, .names = machine_answers,
	  .help = "what is to be done" },
	{ .name = "id", .type = F_U64, .off = offsetof(struct answer_input, id),
	  .help = "of the question that is answered; 0: of the one that there is" },
	{}
};
static const struct fields answer_fields = { "VmAnswer", sizeof(struct answer_input), answer_rows, "an answer to a VM's question" };

/* What the answer asks for is a task like any other. */
static void api_answer(struct req *r)
{
	const struct answer_input *in = r->in;
	struct machine *m = inventory_get(r->c->inv, r->param[0]);
	struct vm_status st = {};
	struct err e = {};

	if (wait_attached(r, m))
		return;
	if (m && m->vm)
		vm_status(m->vm, &st);
	if (m && !st.question) {
		fail(&e, ERR_STATE, "%s asks nothing", m->name);
		err_hint(&e, "status.question of a VM that waits for an answer says what it asks; vmctl events shows who answered");
	} else if (m && in->id && in->id != st.question->id) {
		fail(&e, ERR_STATE, "%s asks something else by now: %s", m->name, st.question->text);
		err_hint(&e, "answer with the id of that question, %llu", (unsigned long long)st.question->id);
	}
	if (e.code)
		req_fail(r, &e);
	else if (in->choice == MACHINE_RETRY)
		begin(r, &task_vm_resume, VM_ASK_RESUME, "be resumed");
	else
		begin(r, &task_vm_poweroff, VM_ASK_POWEROFF, "be powered off");
}

/* ---- what its agent is asked */

struct freeze_input { uint64_t timeout_s; };
static const struct field freeze_rows[] = {
	{ .name = "timeout_s", .type = F_U64, .off = offsetof(struct freeze_input, timeout_s), .min = 1, .max = AGENT_FREEZE_MAX_S,
	  .def = "60", .help = "thaw them by ourselves after so many seconds, whatever happens" },
	{}
};
static const struct fields freeze_fields = { "VmFreeze", sizeof(struct freeze_input), freeze_rows, "how long to freeze" };

static void begin_guest(struct req *r, const struct task_kind *kind)
{
	struct err e = {};
	struct machine *m = inventory_get(r->c->inv, r->param[0]);

	if (wait_attached(r, m) || !(m = machine_hold(r)))
		return;
	m->claim.held = false;
	if (vm_agent_usable(m->vm, &e) < 0) {
		req_fail(r, &e);
		return;
	}
	json_t *args = json_object();

	if (kind == &task_vm_freeze)
		json_object_set_new(args, "timeout_s", json_integer((json_int_t)((struct freeze_input *)r->in)->timeout_s));
	task_begin(r->c, r, NULL, kind, m, args);
}

static void api_freeze(struct req *r) { begin_guest(r, &task_vm_freeze); }
static void api_thaw(struct req *r) { begin_guest(r, &task_vm_thaw); }
static void api_set_time(struct req *r) { begin_guest(r, &task_vm_set_time); }

static void api_delete(struct req *r)
{
	struct err e = {};
	struct machine *m = inventory_get(r->c->inv, r->param[0]);

	if (m && m->invalid && !m->task)
		goto go;	/* a row that cannot be read can still be deleted; its files stay */
	if (!(m = machine_hold(r)))
		return;
	m->claim.held = false;
	if (vm_state_alive(vm_state(m->vm))) {
		fail(&e, ERR_STATE, "%s is %s: only a VM that is off can be deleted", m->name, vm_state_names[vm_state(m->vm)]);
		err_hint(&e, "vmctl shutdown %s, or vmctl poweroff %s", m->name, m->name);
		req_fail(r, &e);
		return;
	}
	crash_stop(m);
go:
	task_begin(r->c, r, NULL, &task_vm_delete, m, json_object());
}

static const struct route_query list_query[] = {
	{ "limit", "integer", "at most so many; default 1000" },
	{ "after", "string", "the cursor next of the page before" },
	{ "name", "string", "only names that match; * stands for anything" },
	{ "state", "string", "only VMs in one of these states, with commas" },
	{ "label", "string", "only VMs with this label, key or key:value" },
	{}
};
#define VM "/api/v1/vms/{vm}"
#define ASK(verb, fn, help) \
	{ "POST", VM "/" verb, "vm_" verb, PERM_VM_POWER, ROUTE_TASK | ROUTE_IF_MATCH, NULL, &machine_fields, NULL, fn, help }
#define GUEST(verb, id, fn, help) \
	{ "POST", VM "/guest/" verb, "vm_" id, PERM_VM_POWER, ROUTE_TASK | ROUTE_IF_MATCH, NULL, &machine_fields, NULL, fn, help }
const struct route routes_vm[] = {
	{ "GET", "/api/v1/vms", "vm_list", PERM_VM_VIEW, ROUTE_LIST, NULL, &machine_fields, list_query, api_list, "list VMs by name" },
	{ "POST", "/api/v1/vms", "vm_create", PERM_VM_CREATE, ROUTE_TASK | ROUTE_CREATED, &machine_input_fields, &machine_fields, NULL,
	  api_create, "create a VM" },
	{ "GET", VM, "vm_get", PERM_VM_VIEW, 0, NULL, &machine_fields, NULL, api_get, "show a VM" },
	{ "PATCH", VM, "vm_set", PERM_VM_CONFIGURE, ROUTE_PATCH | ROUTE_IF_MATCH, &machine_patch_fields, &machine_fields, NULL, api_patch,
	  "change a VM" },
	{ "DELETE", VM, "vm_delete", PERM_VM_DELETE, ROUTE_TASK | ROUTE_IF_MATCH | ROUTE_NO_CONTENT, NULL, NULL, NULL, api_delete,
	  "delete a VM that is off, with its disks" },
	ASK("start", api_start, "power on; a suspended VM goes on where it was"),
	{ "POST", VM "/shutdown", "vm_shutdown", PERM_VM_POWER, ROUTE_TASK | ROUTE_IF_MATCH | ROUTE_OPTIONAL, &shutdown_fields,
	  &machine_fields, NULL, api_shutdown, "ask the guest to shut down, and wait until it has" },
	{ "POST", VM "/reboot", "vm_reboot", PERM_VM_POWER, ROUTE_TASK | ROUTE_IF_MATCH | ROUTE_OPTIONAL, &shutdown_fields,
	  &machine_fields, NULL, api_reboot, "ask the guest to shut down, and start it again" },
	ASK("reset", api_reset, "reset the machine at once"),
	ASK("poweroff", api_poweroff, "power off at once"),
	ASK("pause", api_pause, "stop the guest's CPUs"),
	ASK("resume", api_resume, "let a paused guest go on"),
	ASK("suspend", api_suspend, "save the guest's memory to the VM's folder and end its process; start goes on from there"),
	ASK("discard", api_discard, "throw the saved memory of a suspended VM away: it is off then, as after a power cut"),
	{ "POST", VM "/answer", "vm_answer", PERM_VM_POWER, ROUTE_TASK | ROUTE_IF_MATCH, &answer_fields, &machine_fields, NULL, api_answer,
	  "answer the question of a VM whose disk is full or failing" },
	{ "POST", VM "/guest/freeze", "vm_freeze", PERM_VM_POWER, ROUTE_TASK | ROUTE_IF_MATCH | ROUTE_OPTIONAL, &freeze_fields,
	  &machine_fields, NULL, api_freeze, "freeze the guest's file systems for a moment, by its agent" },
	GUEST("thaw", "thaw", api_thaw, "thaw the guest's file systems"),
	GUEST("set-time", "set_time", api_set_time, "set the guest's clock to the host's, by its agent"),
	{}
};
