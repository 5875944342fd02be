/* fuzz_agent.c: any bytes from a guest's agent, in pieces of any size, are answers or the end of the connection; each
 * call ends exactly once, and what is shown of the answers is bounded and printable. The first byte says how large the
 * pieces are and whether callbacks free the connection; "$" stands for the number that the sync asks for. */
// LINK: hv-core
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent_facts.h"
#include "agent_wire.h"
#include "mem.h"
#include "text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct { sd_event *ev; struct agent_wire *wire; struct agent_facts facts; unsigned asked, ended, broken; uint8_t how; int peer; } w;

static void (*const readers[])(struct agent_facts *f, json_t *result) = {
	agent_facts_version, agent_facts_os, agent_facts_hostname, agent_facts_addresses, agent_facts_file_systems,
};

static void ask(void);

static void drop(unsigned when)
{
	if (w.how & when)
		agent_wire_free(TAKE(w.wire));
}

static void on_done(void *arg, json_t *result, const struct err *e)
{
	w.ended++;
	for (size_t i = 0; result && i < COUNT(readers); i++)
		readers[i](&w.facts, result);
	drop(0x80);
	if (!e && w.asked < 4)
		ask();
}

static void ask(void)
{
	if (!w.wire)
		return;
	w.asked++;
	agent_wire_call(w.wire, "guest-get-fsinfo", NULL, !(w.how & 0x20), 60000000, on_done, NULL);
}

static void on_broken(void *arg, const struct err *e)
{
	assert(!w.broken++ && *e->msg && e->code);
	drop(0x40);
}

static void turn(void)
{
	while (sd_event_run(w.ev, 0) > 0)
		;
}

/* What the call that is under way waits for. */
static void say(const uint8_t *p, size_t n)
{
	static char number[24] = "0";
	char seen[4096];
	ssize_t got = recv(w.peer, seen, sizeof(seen) - 1, MSG_DONTWAIT);
	char *id;

	if (got > 0) {
		seen[got] = 0;
		if ((id = strstr(seen, "\"id\":")))
			snprintf(number, sizeof(number), "%.*s", (int)strspn(id + 5, "0123456789"), id + 5);
	}
	while (n) {
		const uint8_t *mark = memchr(p, '$', n);
		size_t plain = mark ? (size_t)(mark - p) : n;

		if ((plain && send(w.peer, p, plain, MSG_NOSIGNAL) < 0) || (mark && send(w.peer, number, strlen(number), MSG_NOSIGNAL) < 0))
			return;
		p += plain + !!mark;
		n -= plain + !!mark;
	}
}

static void is_fit_to_be_shown(void)
{
	struct buf b AUTO_BUF = BUF_INIT(256 * 1024);
	struct jw j = JW(&b);

	assert(w.facts.addresses.n <= AGENT_ITEMS_MAX && w.facts.file_systems.n <= AGENT_ITEMS_MAX);
	assert(agent_facts_same(&w.facts, &w.facts));
	fields_encode(&agent_facts_fields, &w.facts, &j, NULL);
	assert(!b.over && text_is_utf8(b.data, b.len) && b.len < 100 * 1024);
	for (size_t i = 0; i < b.len; i++)
		assert((unsigned char)b.data[i] >= 0x20 && b.data[i] != 0x7f);
	assert(!strstr(b.data, "\\u00") && !strstr(b.data, "\\n"));
	agent_facts_fini(&w.facts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct agent_wire_how how = { .broken = on_broken };
	int pair[2];
	size_t piece;

	if (!size || size > 100000)
		return 0;
	w.how = *data;
	w.asked = w.ended = w.broken = 0;
	piece = w.how & 0x1f ? w.how & 0x1f : 4096;
	if (!w.ev)
		assert(sd_event_new(&w.ev) >= 0);
	assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	how.ev = w.ev;
	w.peer = pair[0];
	w.wire = agent_wire_new(&how, pair[1]);
	ask();
	turn();
	for (size_t at = 1; at < size && w.wire; at += piece) {
		say(data + at, size - at < piece ? size - at : piece);
		turn();
	}
	close(pair[0]);
	turn();
	assert(!w.wire || w.broken);
	agent_wire_free(TAKE(w.wire));
	assert(w.asked == w.ended);
	is_fit_to_be_shown();
	return 0;
}
