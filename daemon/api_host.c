/* api_host.c: what this host is, and the API's own document. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "fronts.h"
#include "inventory.h"
#include "maintenance.h"
#include "mem.h"
#include "openapi.h"
#include "orphans.h"
#include "routes.h"
#include "task.h"
#include "version.h"

struct agent_view {
	char *version, *hostname, *home, *certificate_sha256;
	int64_t started;
	uint64_t pid, front_pid, uid_base, uid_count, vms, vms_running, tasks_open, loop_lag_max_us, db_waiting;
	struct field_vec orphans, problems;
	struct maintenance_view maintenance;
};
struct host_view { struct host facts; struct agent_view agent; };

#define AGENT(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct agent_view, f), __VA_ARGS__ }
static const struct field agent_rows[] = {
	AGENT(version, F_STR, .help = "of Croft"),
	AGENT(hostname, F_STR, .help = "name of this host"),
	AGENT(home, F_STR, .help = "the folder of all state"),
	AGENT(certificate_sha256, F_STR, .help = "SHA-256 of the TLS certificate, to be compared when it is to be trusted"),
	AGENT(started, F_TIME, .help = "when croftd started"),
	AGENT(pid, F_U64, .help = "of croftd"),
	AGENT(front_pid, F_U64, .help = "of croft-front for the network, 0 while it is being restarted"),
	AGENT(uid_base, F_U64, .help = "first of the numeric uids of this home"),
	AGENT(uid_count, F_U64, .help = "how many"),
	AGENT(vms, F_U64, .help = "VMs that are defined"),
	AGENT(vms_running, F_U64, .help = "VMs that are not off"),
	AGENT(problems, F_STRS, .help = "what a person has to know about this host's state, and to do; most often nothing"),
	AGENT(orphans, F_LIST, .sub = &orphan_fields, .help = "guests that run and have no VM; they are left alone"),
	AGENT(maintenance, F_OBJECT, .sub = &maintenance_fields, .help = "whether VMs may be started here"),
	AGENT(tasks_open, F_U64, .help = "tasks under way"),
	AGENT(loop_lag_max_us, F_U64, .help = "longest callback of the loop since this was asked last"),
	AGENT(db_waiting, F_U64, .help = "jobs that wait for the database"),
	{}
};
static const struct fields agent_fields = { "Agent", sizeof(struct agent_view), agent_rows, "the host agent itself" };
#define HOST(f, ...) { .name = #f, .type = F_OBJECT, .off = offsetof(struct host_view, f), __VA_ARGS__ }
static const struct field host_rows[] = {
	HOST(facts, .sub = &host_fields, .help = "what this machine is and can do"),
	HOST(agent, .sub = &agent_fields, .help = "the host agent itself"),
	{}
};
static const struct fields host_view_fields = { "Host", sizeof(struct host_view), host_rows, "this host" };

static void api_host(struct req *r)
{
	struct croft *c = r->c;
	struct buf b AUTO_BUF = BUF_INIT(1 << 20);
	struct jw w = JW(&b);
	char name[256] = "";
	struct host_view v = { .facts = c->host };

	gethostname(name, sizeof name - 1);
	v.agent = (struct agent_view){
		.version = (char *)CROFT_VERSION, .hostname = name, .home = c->home,
		.certificate_sha256 = c->certificate_sha256, .started = c->started_usec,
		.pid = (uint64_t)getpid(), .front_pid = (uint64_t)fronts_pid(c->fronts, false), .uid_base = c->uid_base,
		.uid_count = c->uid_count, .vms = inventory_len(c->inv), .orphans = *inventory_orphans(c->inv),
		.problems = c->problems, .tasks_open = tasks_open(c),
		.loop_lag_max_us = loop_lag_max_usec(), .db_waiting = db_waiting(c->db),
	};
	maintenance_view(c, &v.agent.maintenance);
	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		const struct machine *m = inventory_at(c->inv, i);

		v.agent.vms_running += m->vm && vm_state_alive(vm_state(m->vm));
	}
	fields_encode(&host_view_fields, &v, &w, NULL);
	req_reply_buf(r, 200, NULL, &b);
}

static void api_document(struct req *r)
{
	size_t n;
	const char *text = openapi_text(&n);

	req_reply(r, 200, "Content-Type: application/json\r\nCache-Control: no-cache\r\n", text, n);
}

const struct route routes_host[] = {
	{ "GET", "/api/v1/host", "host_get", PERM_HOST_VIEW, 0, NULL, &host_view_fields, NULL, api_host,
	  "show what this host is and can do, with reasons" },
	{ "GET", "/api/v1/openapi.json", "openapi", PERM_ANYBODY, 0, NULL, NULL, NULL, api_document,
	  "this document" },
	{}
};
