/* doctor.c: GET /host/doctor: the examination, and what is seen in memory. */
#include <stdio.h>
#include <string.h>
#include "certificate.h"
#include "doctor.h"
#include "list.h"
#include "maintenance.h"
#include "map.h"
#include "mem.h"
#include "routes.h"
#include "task.h"
#include "text.h"

#define DEADLINE_USEC	(10 * 1000000ull)
#define FINDINGS_MAX	500
#define DAY_USEC	(86400 * 1000000ll)

static const char *const severities[] = {
	[SEVERITY_NOTE] = "note", [SEVERITY_WARNING] = "warning", [SEVERITY_ERROR] = "error", NULL
};
struct finding { int severity; char *what, *object, *text, *hint; };
#define ROW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct finding, f), __VA_ARGS__ }
static const struct field finding_rows[] = {
	ROW(severity, F_ENUM, .names = severities,
	    .help = "error: something does not work, or is in danger; warning: it may soon; note: good to know"),
	ROW(what, F_STR, .help = "a word for it that stays: guest-without-vm, vm-file-missing, ..."),
	ROW(object, F_STR, .flags = FIELD_NULLABLE, .help = "what it is about: a VM, a datastore, a process, ..."),
	ROW(text, F_STR, .help = "a sentence"),
	ROW(hint, F_STR, .flags = FIELD_NULLABLE, .help = "the command that mends it, to be read first"),
	{}
};
#undef ROW
static const struct fields finding_fields = { "Finding", sizeof(struct finding), finding_rows, "something that is not as it should be" };

struct view { int64_t as_of; uint64_t looked_at, errors, warnings, notes; bool complete; struct field_vec findings; };
#define ROW(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct view, f), __VA_ARGS__ }
static const struct field view_rows[] = {
	ROW(as_of, F_TIME, .help = "when the examination began"),
	ROW(complete, F_BOOL, .help = "false: something did not answer in time; a finding says what"),
	ROW(looked_at, F_U64, .help = "rows, files, processes, interfaces, ... that were looked at"),
	ROW(errors, F_U64, .help = "how many findings are errors"),
	ROW(warnings, F_U64, .help = "how many are warnings"),
	ROW(notes, F_U64, .help = "how many are notes"),
	ROW(findings, F_LIST, .sub = &finding_fields, .help = "the worst first"),
	{}
};
#undef ROW
static const struct fields view_fields = { "Examination", sizeof(struct view), view_rows, "an examination of this host" };

struct exam_part { struct list in_exam; struct exam *x; char *what; };
struct exam {
	struct croft *c;
	struct req *r;			/* NULL once it is answered */
	bool deep;
	int64_t began_usec;
	struct list parts;
	struct timer deadline;
	struct map *known;		/* ids of files that belong to somebody */
	struct view view;
	uint64_t untold;		/* findings beyond the most that are told */
};
static struct claim one;		/* examination at a time */

struct croft *exam_croft(const struct exam *x) { return x->c; }
bool exam_deep(const struct exam *x) { return x->deep; }
bool exam_over(const struct exam *x) { return !x->r; }
int64_t exam_began(const struct exam *x) { return x->began_usec; }
void exam_looked(struct exam *x, uint64_t n) { x->view.looked_at += n; }
void exam_know(struct exam *x, const char *id) { map_set(x->known, id, x); }
bool exam_knows(const struct exam *x, const char *id) { return map_get(x->known, id); }
struct exam *exam_of(struct exam_part *p) { return p->x; }

char *shell_quote(const char *text)
{
	struct buf b = BUF_INIT(64 * 1024);

	buf_addc(&b, '\'');
	for (; *text; text++)
		if (*text == '\'')
			buf_adds(&b, "'\\''");
		else
			buf_addc(&b, *text);
	buf_addc(&b, '\'');
	return buf_take(&b);
}

void exam_find(struct exam *x, enum severity s, const char *what, const char *object, const char *hint, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	x->view.errors += s == SEVERITY_ERROR;
	x->view.warnings += s == SEVERITY_WARNING;
	x->view.notes += s == SEVERITY_NOTE;
	if (x->view.findings.n >= FINDINGS_MAX) {
		x->untold++;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	struct finding *f = field_vec_add(&x->view.findings, sizeof *f);

	*f = (struct finding){ .severity = s, .what = xstrdup(what), .object = object ? xstrdup(object) : NULL,
			       .text = xstrdup(text), .hint = hint ? xstrdup(hint) : NULL };
}

/* ---- what is seen in memory */

static void check_vm(struct exam *x, const struct machine *m)
{
	AUTO_FREE char *info = xasprintf("vmctl info %s", m->name), *off = xasprintf("vmctl poweroff %s", m->name);
	AUTO_FREE char *start = xasprintf("vmctl start %s", m->name), *go_on = xasprintf("vmctl resume %s", m->name);
	AUTO_FREE char *rm = xasprintf("vmctl rm %s", m->name), *retry = xasprintf("vmctl answer %s retry", m->name);
	AUTO_FREE char *alive = xasprintf("%s/vm/%s/alive", m->c->run, m->id), *quoted = shell_quote(alive);
	AUTO_FREE char *who = xasprintf("fuser -v %s", quoted);
	struct vm_status st;

	if (m->invalid || !m->vm) {
		exam_find(x, SEVERITY_ERROR, "vm-invalid", m->name, rm, "%s cannot be used: %s", m->name, m->invalid);
		return;
	}
	vm_status(m->vm, &st);
	const struct vm_last *last = st.last;

	if (st.state == VM_DEGRADED)
		exam_find(x, SEVERITY_ERROR, "vm-degraded", m->name, off, "%s runs, but its monitor does not answer%s%s", m->name,
			  st.note ? ": " : "", st.note ?: "");
	else if (st.state == VM_LOST)
		exam_find(x, SEVERITY_ERROR, "vm-lost", m->name, who, "%s is neither started nor killed: %s", m->name,
			  st.note ?: "something holds its lock, and it is not known what");
	else if (st.question)
		exam_find(x, SEVERITY_ERROR, "vm-asks", m->name, retry, "%s stands still until somebody answers: %s", m->name,
			  st.question->text);
	else if (st.state == VM_PAUSED && st.note)
		exam_find(x, SEVERITY_WARNING, "vm-waits", m->name, go_on, "%s is paused: %s", m->name, st.note);
	else if (st.state == VM_OFF && last->why == VM_WHY_GUEST_PANIC)
		exam_find(x, SEVERITY_ERROR, "vm-panicked", m->name, start, "%s ended: %s", m->name, vm_why_help(last->why));
	else if (st.state == VM_OFF && (last->why == VM_WHY_CRASHED || last->why == VM_WHY_KILLED || last->why == VM_WHY_START_FAILED))
		exam_find(x, SEVERITY_WARNING, "vm-failed", m->name, start, "%s ended: %s%s%.300s", m->name, vm_why_help(last->why),
			  *last->message ? ": " : "", last->message);
	else if (st.state == VM_OFF && last->why == VM_WHY_UNKNOWN)
		exam_find(x, SEVERITY_WARNING, "vm-ended-unseen", m->name, start, "%s: %s", m->name, vm_why_help(last->why));
	if (m->task && m->task->stuck)
		exam_find(x, SEVERITY_ERROR, "task-stuck", m->name, info, "the task %llu (%s) of %s cannot be saved, and is tried again: "
			  "is the disk of %s full?", (unsigned long long)m->task->id, m->task->kind->name, m->name, x->c->home);
}

static void check_vms(struct exam *x)
{
	for (size_t i = 0; i < inventory_len(x->c->inv); i++)
		check_vm(x, inventory_at(x->c->inv, i));
	exam_looked(x, inventory_len(x->c->inv));
}

static void check_memory(struct exam *x)
{
	uint64_t sum = 0, have = x->c->host.memory_bytes;
	char want[24], got[24];

	for (size_t i = 0; i < inventory_len(x->c->inv); i++) {
		const struct machine *m = inventory_at(x->c->inv, i);

		if (m->vm && m->spec.engine != VM_ENGINE_SIM && vm_state_alive(vm_state(m->vm)))
			sum += (m->started ?: &m->spec)->memory_bytes;
	}
	exam_looked(x, 1);
	if (sum <= have)
		return;
	text_size_format(sum, want);
	text_size_format(have, got);
	exam_find(x, SEVERITY_WARNING, "memory-overcommitted", NULL, "vmctl ls --columns name,config.memory_bytes,status.state",
		  "the VMs that run have %s of memory together, and the host has %s", want, got);
}

static void check_host(struct exam *x)
{
	const struct host *h = &x->c->host;

	exam_looked(x, 3);
	if (!host_kvm(h))
		exam_find(x, SEVERITY_NOTE, "no-kvm", NULL, NULL, "guests are emulated, which is slow: %s",
			  h->kvm.reason ?: h->accel_reason);
	if (!h->qemu.path)
		exam_find(x, SEVERITY_ERROR, "no-qemu", NULL, "apt-get install qemu-system-arm", "there is no QEMU: no VM can be started");
	if (h->scope_problem)
		exam_find(x, SEVERITY_WARNING, "no-scope", NULL, "systemctl status init.scope",
			  "the last VM that was started has no systemd scope, and so no limits of its own: %s", h->scope_problem);
	else if (!host_scopes(h))
		exam_find(x, SEVERITY_NOTE, "no-scopes", NULL, NULL, "%s: VMs have no CPU weight and no limits",
			  h->systemd ? "control groups v2 are not to be had" : "systemd is not the init of this host");
}

/* What croftd found when it started says itself what a person has to do. */
static void check_start(struct exam *x)
{
	exam_looked(x, 1);
	for (size_t i = 0; i < x->c->problems.n; i++)
		exam_find(x, SEVERITY_WARNING, "found-at-start", NULL, NULL, "%s", ((char **)x->c->problems.items)[i]);
}

static void check_maintenance(struct exam *x)
{
	exam_looked(x, 1);
	if (maintenance_on(x->c))
		exam_find(x, SEVERITY_NOTE, "maintenance", NULL, "vmctl maintenance off", "this host is in maintenance: no VM is started");
}

static void check_certificate(struct exam *x)
{
	int64_t ends = certificate_expires(x->c), left = ends - x->began_usec;
	AUTO_FREE char *tls = xasprintf("%s/tls", x->c->home), *quoted = shell_quote(tls);
	AUTO_FREE char *hint = xasprintf("rm %s/certificate.pem %s/key.pem && systemctl restart croftd  # makes a new one", quoted, quoted);
	char when[32];

	exam_looked(x, 1);
	text_time_format(ends, when);
	if (ends && left < 30 * DAY_USEC)
		exam_find(x, left < 0 ? SEVERITY_ERROR : SEVERITY_WARNING, "certificate-expires", "tls/certificate.pem", hint,
			  "the TLS certificate %s %.10s", left < 0 ? "has expired on" : "expires on", when);
}

/* The table of checks. Some begin parts. */
static void (*const checks[])(struct exam *x) = {
	check_vms, check_memory, check_host, check_start, check_maintenance, check_certificate, doctor_host
};

/* ---- the examination */

static int by_severity(const void *a, const void *b)
{
	const struct finding *f = a, *g = b;
	int d = g->severity - f->severity;

	d = d ?: strcmp(f->what, g->what);
	return d ?: strcmp(f->object ?: "", g->object ?: "");
}

static void free_exam(struct exam *x)
{
	struct finding *f = x->view.findings.items;

	for (size_t i = 0; i < x->view.findings.n; i++)
		fields_fini(&finding_fields, &f[i]);
	free(f);
	timer_disarm(&x->deadline);
	map_free(x->known);
	free(x);
}

static void answer(struct exam *x)
{
	struct req *r = TAKE(x->r);
	struct buf b AUTO_BUF = BUF_INIT(4 << 20);
	struct jw w = JW(&b);

	timer_disarm(&x->deadline);
	x->view.complete = list_empty(&x->parts);
	LIST_FOR(p, &x->parts, struct exam_part, in_exam)
		exam_find(x, SEVERITY_ERROR, "no-answer", p->what, NULL, "%s has not answered within %d s, and is not examined", p->what,
			  (int)(DEADLINE_USEC / 1000000));
	if (x->view.findings.n)
		qsort(x->view.findings.items, x->view.findings.n, sizeof(struct finding), by_severity);
	if (x->untold) {
		struct finding *f = field_vec_add(&x->view.findings, sizeof *f);

		*f = (struct finding){ .severity = SEVERITY_NOTE, .what = xstrdup("more"),
				       .text = xasprintf("%llu more things were found, which are not listed",
							 (unsigned long long)x->untold) };
		x->view.notes++;
	}
	fields_encode(&view_fields, &x->view, &w, NULL);
	req_reply_buf(r, 200, NULL, &b);
	claim_drop(&one);
}

static void on_deadline(void *arg) { answer(arg); }

struct exam_part *exam_part(struct exam *x, char *what)
{
	struct exam_part *p = xnew(exam_part);

	p->x = x;
	p->what = what;
	list_append(&x->parts, &p->in_exam);
	return p;
}

void exam_part_end(struct exam_part *p)
{
	struct exam *x = p->x;

	list_remove(&p->in_exam);
	free(p->what);
	free(p);
	if (!list_empty(&x->parts))
		return;
	if (x->r)
		answer(x);
	free_exam(x);
}

static struct exam *exam_new(struct croft *c, struct req *r)
{
	struct exam *x = xnew(exam);

	x->c = c;
	x->r = r;
	x->began_usec = x->view.as_of = now_usec();
	x->known = map_new();
	list_init(&x->parts);
	return x;
}

void doctor_sweep(struct croft *c) { doctor_db(exam_new(c, NULL), doctor_sweep_stores); }

static void api_doctor(struct req *r)
{
	char text[256];

	if (!claim_take(&one, r))
		return;
	if (r->c->stopping) {		/* the lanes are going */
		req_failf(r, ERR_UNAVAILABLE, "croftd is ending");
		claim_drop(&one);
		return;
	}
	struct exam *x = exam_new(r->c, r);

	x->deep = req_query(r, "deep", text) && strcmp(text, "true") == 0;
	timer_arm(&x->deadline, x->c->ev, DEADLINE_USEC, on_deadline, x);
	struct exam_part *all = exam_part(x, xstrdup("the host"));

	doctor_db(x, doctor_stores);	/* what belongs to whom, then the files */
	for (size_t i = 0; i < COUNT(checks); i++)
		checks[i](x);
	exam_part_end(all);
}

static const struct route_query query[] = { { "deep", "boolean", "true: the whole database is read, too, which holds up writers" }, {} };
const struct route routes_doctor[] = {
	{ "GET", "/api/v1/host/doctor", "host_doctor", PERM_HOST_VIEW, 0, NULL, &view_fields, query, api_doctor,
	  "examine this host: what is not as it should be, and the command that mends it" },
	{}
};
