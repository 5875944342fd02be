/* machine.c: one VM's row: its tables, and its JSON. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "agent.h"
#include "crash.h"
#include "event.h"
#include "inventory.h"
#include "machine_hot.h"
#include "mem.h"
#include "scope.h"
#include "place.h"
#include "room.h"
#include "task.h"
#include "text.h"
#include "usb.h"

struct end_view { int why; int64_t when; char *message, *explanation; uint64_t signal; };
struct choice_view { int choice; char *help; };
struct question_view { uint64_t id; int64_t since; char *device, *text; struct field_vec choices; };
struct memory_view { uint64_t boot_bytes, current_bytes, wanted_bytes; int64_t as_of; };
#define SAVED(f, m, t, ...) { .name = f, .type = t, .off = offsetof(struct machine_memory, m), __VA_ARGS__ }
static const struct field saved_rows[] = {
	SAVED("bytes", bytes, F_U64, .help = "size of the file"),
	SAVED("saved", saved_usec, F_TIME, .help = "when it was saved"),
	SAVED("qemu", qemu, F_STR, .help = "the version of QEMU that saved it, and that alone loads it"),
	SAVED("accel", accel, F_STR, .help = "what ran the guest: kvm or tcg"),
	SAVED("sha256", sha256, F_STR, .help = "of the file"),
	SAVED("boot_bytes", boot_bytes, F_U64, .help = "memory that the VM was started with"),
	SAVED("devices", devices, F_STRS, .max = 1000, .help = "devices of its machine and their buses: disk-data@hp0"),
	SAVED("disks", disks, F_STRS, .max = 1000, .help = "its disks, each with its size and the time of the last write"),
	{}
};
const struct fields machine_memory_fields = { "VmSaved", sizeof(struct machine_memory), saved_rows,
	"the memory of a suspended VM, the file memory.croft in its folder" };

struct status_view {
	int state;
	int64_t since, as_of;
	char *accel, *accel_reason, *host_cpus, *host_cpus_reason, *note, *problem;
	uint64_t pid, task;
	struct question_view question;
	struct memory_view memory;
	struct field_vec usb;		/* of struct usb_status, texts borrowed */
	struct machine_memory saved;
	struct end_view last_end;
	struct agent_facts guest;	/* borrowed */
};
struct machine_view {
	char *id, *name, *folder;
	uint64_t revision;
	int64_t created;
	struct field_vec labels;
	struct vm_spec config;
	struct status_view status;
	struct field_vec pending, reasons;
};

#define END(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct end_view, f), __VA_ARGS__ }
static const struct field end_rows[] = {
	END(why, F_ENUM, .names = vm_why_names, .help = "why the last run ended"),
	END(explanation, F_STR, .help = "the same as a sentence"),
	END(when, F_TIME, .flags = FIELD_NULLABLE, .help = "when"),
	END(signal, F_U64, .help = "the signal that ended the process, or 0"),
	END(message, F_STR, .help = "the last that the process said"),
	{}
};
static const struct fields end_fields = { "VmEnd", sizeof(struct end_view), end_rows, "how the last run of a VM ended" };

static struct end_view end_view(const struct vm_last *last)
{
	return (struct end_view){ .why = (int)last->why, .when = last->when_usec, .message = (char *)last->message,
				  .explanation = (char *)vm_why_help(last->why), .signal = (uint64_t)last->signal };
}

char *machine_end_text(const struct vm_last *last)
{
	struct buf b AUTO_BUF = BUF_INIT(MACHINE_END_MAX);
	struct jw w = JW(&b);
	struct end_view v = end_view(last);

	fields_encode(&end_fields, &v, &w, NULL);
	return buf_take(&b);
}

int machine_end_read(const char *text, struct vm_last *ret)
{
	struct end_view v = {};
	struct err e = {};
	json_t *j = json_parse(text, strlen(text), MACHINE_END_MAX, &e);
	int r = j ? fields_decode(&end_fields, j, FIELDS_STORED, &v, &e) : -EINVAL;

	json_decref(j);
	if (r == 0) {
		*ret = (struct vm_last){ .why = (enum vm_why)v.why, .when_usec = v.when, .exit_code = -1, .signal = (int)v.signal };
		snprintf(ret->message, sizeof ret->message, "%s", v.message ?: "");
	}
	fields_fini(&end_fields, &v);
	return r;
}

const char *const machine_answers[] = { "retry", "poweroff", NULL };
static const struct choice_view choices[] = {
	{ MACHINE_RETRY, (char *)"the guest goes on, and what failed is tried again" },
	{ MACHINE_POWEROFF, (char *)"the VM is powered off; what the guest has not written is lost" },
};
static const struct field choice_rows[] = {
	{ .name = "choice", .type = F_ENUM, .off = offsetof(struct choice_view, choice), .names = machine_answers,
	  .help = "what can be answered" },
	{ .name = "help", .type = F_STR, .off = offsetof(struct choice_view, help), .help = "what that does" },
	{}
};
static const struct fields choice_fields = { "VmChoice", sizeof(struct choice_view), choice_rows, "an answer to a VM's question" };

#define QUESTION(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct question_view, f), __VA_ARGS__ }
static const struct field question_rows[] = {
	QUESTION(id, F_U64, .help = "another one for each question; the answer may name it"),
	QUESTION(since, F_TIME, .help = "since when the guest waits for an answer"),
	QUESTION(device, F_STR, .help = "the disk that it is about"),
	QUESTION(text, F_STR, .help = "what has happened, and what can be done about it"),
	QUESTION(choices, F_LIST, .sub = &choice_fields, .help = "what can be answered"),
	{}
};
static const struct fields question_fields = { "VmQuestion", sizeof(struct question_view), question_rows,
	"a guest that stands still until somebody answers" };

#define MEMORY(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct memory_view, f), __VA_ARGS__ }
static const struct field memory_rows[] = {
	MEMORY(boot_bytes, F_U64, .help = "what it was started with, 0 while off"),
	MEMORY(current_bytes, F_U64, .help = "what the guest has now; 0 while that is not known"),
	MEMORY(wanted_bytes, F_U64, .help = "what it shall have: the guest's drivers bring it there, as far as they can"),
	MEMORY(as_of, F_TIME, .flags = FIELD_NULLABLE, .help = "when current_bytes was told"),
	{}
};
static const struct fields memory_fields = { "VmMemory", sizeof(struct memory_view), memory_rows, "the memory of a VM as it is" };

#define STATUS(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct status_view, f), __VA_ARGS__ }
static const struct field status_rows[] = {
	STATUS(state, F_ENUM, .names = vm_state_names, .help = "what the VM does"),
	STATUS(since, F_TIME, .help = "when this state began, as well as that is known: over a restart of croftd, too"),
	STATUS(as_of, F_TIME, .help = "when this was true for sure"),
	STATUS(accel, F_STR, .flags = FIELD_NULLABLE, .help = "kvm, tcg (emulation) or sim, while it runs"),
	STATUS(accel_reason, F_STR, .flags = FIELD_NULLABLE, .help = "why that one"),
	STATUS(host_cpus, F_STR, .flags = FIELD_NULLABLE, .help = "CPUs of the host that it may run on, while it runs"),
	STATUS(host_cpus_reason, F_STR, .flags = FIELD_NULLABLE, .help = "why those, where not all of them"),
	STATUS(pid, F_U64, .help = "process of the guest, 0 while off"),
	STATUS(note, F_STR, .flags = FIELD_NULLABLE,
	       .help = "why it is paused, degraded or lost, or when it is started again after a crash"),
	STATUS(question, F_OBJECT, .flags = FIELD_NULLABLE, .sub = &question_fields,
	       .help = "what somebody has to decide before the guest goes on, or null"),
	STATUS(saved, F_OBJECT, .flags = FIELD_NULLABLE, .sub = &machine_memory_fields, .help = "what a suspended VM has on disk, or null"),
	STATUS(task, F_U64, .help = "the task that holds the VM, or 0; an event tells it when it begins (task.created)"),
	STATUS(problem, F_STR, .flags = FIELD_NULLABLE, .help = "why the VM cannot be used, or null"),
	STATUS(usb, F_LIST, .sub = &usb_status_fields, .help = "its USB devices of the host as they are"),
	STATUS(memory, F_OBJECT, .sub = &memory_fields, .help = "its memory as it is"),
	STATUS(last_end, F_OBJECT, .sub = &end_fields, .help = "how the last run ended"),
	STATUS(guest, F_OBJECT, .sub = &agent_facts_fields, .help = "what the guest tells of itself, by its agent"),
	{}
};
static const struct fields status_fields = { "VmStatus", sizeof(struct status_view), status_rows, "a VM as it is" };

#define NAME_RULE .min = 1, .max = 63, .check = text_is_name, \
	.rule = "a name of 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit, and no UUID"
#define VIEW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct machine_view, f), __VA_ARGS__ }
#define ROW_ROWS \
	VIEW(id, F_STR, .help = "UUID, the same inside the guest"), \
	VIEW(name, F_STR, .help = "unique name"), \
	VIEW(revision, F_U64, .help = "grows with each change; the ETag"), \
	VIEW(created, F_TIME, .help = "when it was created"), \
	VIEW(folder, F_STR, .flags = FIELD_NULLABLE, .help = "its folder on a datastore"), \
	VIEW(labels, F_LABELS, .help = "free labels"), \
	VIEW(config, F_OBJECT, .sub = &vm_spec_fields, .help = "what is wanted"),
static const struct field row_rows[] = { ROW_ROWS {} };
static const struct field view_rows[] = {
	ROW_ROWS
	VIEW(status, F_OBJECT, .sub = &status_fields, .help = "what is"),
	VIEW(pending, F_STRS, .help = "JSON pointers of what takes effect at the next start"),
	{ .name = "pending_reasons", .type = F_LABELS, .off = offsetof(struct machine_view, reasons),
	  .help = "why not while it runs, where that was tried, by pointer" },
	{}
};
const struct fields machine_fields = { "Vm", sizeof(struct machine_view), view_rows, "a virtual machine" };

#define INPUT(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct machine_input, f), __VA_ARGS__ }
static const struct field input_rows[] = {
	INPUT(name, F_STR, .flags = FIELD_REQUIRED, NAME_RULE, .help = "unique name"),
	INPUT(labels, F_LABELS, .help = "free labels"),
	INPUT(config, F_OBJECT, .sub = &vm_spec_fields, .help = "what is wanted"),
	INPUT(start, F_BOOL, .help = "start it when it is created"),
	{}
};
const struct fields machine_input_fields = { "VmCreate", sizeof(struct machine_input), input_rows, "a VM to be created" };
static const struct field patch_rows[] = {
	INPUT(name, F_STR, .flags = FIELD_HOT, NAME_RULE, .help = "unique name"),
	INPUT(labels, F_LABELS, .flags = FIELD_HOT, .help = "free labels"),
	INPUT(config, F_OBJECT, .sub = &vm_spec_fields, .help = "what is wanted"),
	{}
};
const struct fields machine_patch_fields = { "VmPatch", sizeof(struct machine_input), patch_rows, "a change of a VM" };

static const struct field labels_rows[] = { INPUT(labels, F_LABELS, .help = "free labels"), {} };
const struct fields machine_labels_fields = { "Labels", sizeof(struct machine_input), labels_rows, "free labels" };

struct machine *machine_new(struct croft *c)
{
	struct machine *m = xnew(machine);

	m->c = c;
	m->revision = 1;
	list_init(&m->claim.waiting);
	return m;
}

void machine_free(struct machine *m)
{
	if (!m)
		return;
	scope_free(m->scope);
	timer_disarm(&m->tell);
	vm_free(m->vm);
	machine_hot_free(m);
	if (m->task)
		m->task->vm = NULL;
	if (m->started) {
		fields_fini(&vm_spec_fields, m->started);
		free(m->started);
	}
	machine_forget_memory(m);
	crash_free(m);
	room_free(m);
	fields_fini(&vm_spec_fields, &m->spec);
	struct machine_input labels = { .labels = m->labels };

	fields_fini(&machine_labels_fields, &labels);
	free(m->name);
	free(m->folder);
	free(m->invalid);
	free(m->cancelled_by);
	free(m->json);
	free(m);
}

void machine_forget_memory(struct machine *m)
{
	if (!m->memory)
		return;
	fields_fini(&machine_memory_fields, m->memory);
	free(TAKE(m->memory));
}

bool machine_stands(const struct machine *m)
{
	return m->vm && vm_state(m->vm) != VM_OFF;
}

const struct vm_spec *machine_built(const struct machine *m)
{
	return m->started && machine_stands(m) ? m->started : &m->spec;
}

static void add_pending(void *arg, const char *pointer, const struct field *row)
{
	struct field_vec *v = arg;

	if (!(row->flags & (FIELD_HOT | FIELD_READ_ONLY)))
		*(char **)field_vec_add(v, sizeof(char *)) = xasprintf("/config%s", pointer);
}

/* What could not be done while it runs. A part that differs nowhere is pending all the same: it was never told to QEMU. */
static void add_reasons(const struct machine *m, struct machine_view *v)
{
	for (size_t i = 0; i < m->reasons.n; i++) {
		const struct hot_reason *r = &((struct hot_reason *)m->reasons.items)[i];

		if (r->old)
			continue;
		char *key = xasprintf("/config%s", r->pointer);
		bool listed = false;

		for (size_t k = 0; k < v->pending.n; k++)
			listed |= strncmp(((char **)v->pending.items)[k], key, strlen(key)) == 0;
		if (!listed)
			*(char **)field_vec_add(&v->pending, sizeof(char *)) = xstrdup(key);
		*(struct field_label *)field_vec_add(&v->reasons, sizeof(struct field_label)) = (struct field_label){ key, r->text };
	}
}

static void free_reasons(struct machine_view *v)
{
	for (size_t i = 0; i < v->reasons.n; i++)
		free(((struct field_label *)v->reasons.items)[i].key);
	free(v->reasons.items);
}

/* @place: room for the sentence. */
static void view_place(const struct machine *m, const char *cpus, struct vm_place *place, struct status_view *s)
{
	const struct vm_spec *spec = machine_built(m);

	s->host_cpus = (char *)cpus;
	if (!cpus || spec->engine != VM_ENGINE_QEMU)
		return;
	vm_place(spec, &m->c->host, place);
	if (place->cpus && strcmp(place->cpus, cpus) == 0)
		s->host_cpus_reason = place->why;
}

static struct memory_view view_memory(const struct machine *m, const struct vm_status *st)
{
	struct memory_view v = { .boot_bytes = st->memory_boot_bytes, .current_bytes = st->memory_bytes,
				 .wanted_bytes = m->spec.memory_bytes, .as_of = st->memory_as_of_usec };

	if (m->spec.engine == VM_ENGINE_SIM && vm_state_alive(st->state)) {
		v.boot_bytes = v.current_bytes = (m->started ?: &m->spec)->memory_bytes;
		v.as_of = st->as_of_usec;
	}
	return v;
}

static void view_status(const struct machine *m, struct vm_place *place, struct status_view *s)
{
	struct vm_status st = {};

	s->task = m->task && !task_ending(m->task) ? m->task->id : 0;
	s->problem = m->invalid;
	if (m->memory)
		s->saved = *m->memory;
	if (!m->vm)
		return;
	s->guest = *vm_agent_facts(m->vm);
	if (!(m->started ?: &m->spec)->guest_agent)
		s->guest.agent = AGENT_OFF;
	vm_status(m->vm, &st);
	s->state = (int)st.state;
	s->since = st.since_usec;
	s->as_of = st.as_of_usec ?: st.since_usec;
	s->accel = (char *)st.accel;
	if (st.accel && strcmp(st.accel, "tcg") == 0)
		s->accel_reason = m->spec.accel == VM_ACCEL_TCG ? (char *)"emulation was asked for" : m->c->host.accel_reason;
	view_place(m, st.host_cpus, place, s);
	s->pid = (uint64_t)st.pid;
	s->memory = view_memory(m, &st);
	usb_view(m, &s->usb);
	s->note = (char *)(crash_note(m) ?: st.note);
	if (st.question)
		s->question = (struct question_view){ .id = st.question->id, .since = st.question->since_usec,
			.device = (char *)st.question->device, .text = (char *)st.question->text,
			.choices = { (void *)choices, COUNT(choices) } };
	s->last_end = end_view(st.last);
}

void machine_write(const struct machine *m, const struct machine *as, struct buf *out)
{
	struct jw w = JW(out);
	struct machine_view v = {};
	struct vm_place place;

	if (!as)
		as = m;
	v = (struct machine_view){ .id = (char *)as->id, .name = as->name, .folder = as->folder, .revision = as->revision,
				   .created = as->created_usec, .labels = as->labels, .config = as->spec };
	view_status(m, &place, &v.status);
	if (m->started && machine_stands(m))
		fields_diff(&vm_spec_fields, m->started, &as->spec, add_pending, &v.pending);
	add_reasons(m, &v);
	fields_encode(&machine_fields, &v, &w, NULL);
	free_reasons(&v);
	free(v.status.usb.items);
	for (size_t i = 0; i < v.pending.n; i++)
		free(((char **)v.pending.items)[i]);
	free(v.pending.items);
}

void machine_write_row(const struct machine *m, struct buf *out)
{
	static const struct fields row_fields = { "VmRow", sizeof(struct machine_view), row_rows, "a VM as it is wanted" };
	struct machine_view v = { .id = (char *)m->id, .name = m->name, .folder = m->folder, .revision = m->revision,
				  .created = m->created_usec, .labels = m->labels, .config = m->spec };
	struct jw w = JW(out);

	fields_encode(&row_fields, &v, &w, NULL);
}

const char *machine_json(struct machine *m, size_t *n)
{
	if (!m->json) {
		struct buf b = BUF_INIT(EVENT_DATA_MAX);

		machine_write(m, NULL, &b);
		m->json_len = b.len;
		m->json = xrealloc(buf_take(&b), m->json_len + 1);	/* thousands of them: no slack */
	}
	*n = m->json_len;
	return m->json;
}

void machine_changed(struct machine *m)
{
	free(TAKE(m->json));
}

int machine_usable(const struct machine *m, struct err *e)
{
	if (m->invalid) {
		fail(e, ERR_STATE, "%s cannot be used: %s", m->name, m->invalid);
		return err_hint(e, "delete it, or restore its configuration from a backup");
	}
	if (!m->task)
		return 0;
	e->task = m->task->id;
	fail(e, ERR_BUSY, "%s is held by the task %llu (%s)", m->name, (unsigned long long)m->task->id, m->task->kind->name);
	e->task = m->task->id;
	return err_hint(e, "wait for the task, or cancel it");
}
