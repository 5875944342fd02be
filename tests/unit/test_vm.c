// LINK: hv-core
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "engine.h"
#include "file.h"
#include "run.h"
#include "t.h"

TEST(names_round_trip)
{
	int n = 0;

	for (int s = 0; s < VM_NSTATES; s++) {
		ok(vm_state_names[s] && *vm_state_names[s]);
		for (int other = 0; other < s; other++)
			ok(strcmp(vm_state_names[s], vm_state_names[other]));
	}
	ok(!vm_state_names[VM_NSTATES]);
	for (; vm_why_names[n]; n++) {
		ok(*vm_why_help(n));
		for (int other = 0; other < n; other++)
			ok(strcmp(vm_why_names[n], vm_why_names[other]));
	}
	eq_int(n, VM_NWHYS);
	eq_str(vm_state_names[VM_OFF], "off");
	eq_str(vm_state_names[VM_ENDING], "ending");
	eq_str(vm_why_names[VM_WHY_NEVER], "never");
	eq_str(vm_why_names[VM_WHY_UNKNOWN], "unknown");
	for (int ev = 0; ev < VM_NEVENTS; ev++)
		ok(*vm_event_name(ev));
}

/* Rules that every pair must obey, whatever the table says in detail. */
TEST(every_pair)
{
	for (int s = 0; s < VM_NSTATES; s++) {
		for (int ev = 0; ev < VM_NEVENTS; ev++) {
			int n = vm_state_next(s, ev);

			ok(n <= VM_NSTATES);
			if (!vm_event_asked(ev))
				ok(n != VM_NSTATES);		/* a fact can't be refused */
			if (n == VM_OFF)		/* off is: the process is gone, nothing else */
				ok(ev == VM_SAW_END || s == VM_OFF || (s == VM_SUSPENDED && ev == VM_ASK_DISCARD));
			if (s == VM_OFF && ev != VM_ASK_START && ev != VM_ASK_ATTACH && ev != VM_SAW_SAVED)
				ok(n == VM_OFF || n == VM_NSTATES);	/* nothing starts by being seen late */
			if (s == VM_SUSPENDED && ev != VM_ASK_START && ev != VM_ASK_DISCARD)
				ok(n == VM_SUSPENDED || n == VM_NSTATES);	/* what stands on disk is not lost by accident */
			if (s == VM_ENDING)
				ok(n == VM_ENDING || n == VM_OFF || n == VM_NSTATES);	/* no way back */
			if (s == VM_LOST && vm_event_asked(ev))
				eq_int(n, VM_NSTATES);		/* neither started nor killed, whoever asks */
			if (n == VM_STARTING)
				ok(s == VM_STARTING || ev == VM_ASK_START);
			if (n == VM_ATTACHING)
				ok(s == VM_ATTACHING || ev == VM_ASK_ATTACH);
			if (n == VM_DEGRADED)
				ok(s == VM_DEGRADED || ev == VM_SAW_SILENCE);
			if (n == VM_LOST)
				ok(s == VM_LOST || ev == VM_SAW_LOST);
			if (n == VM_STOPPING)
				ok(s == VM_STOPPING || ev == VM_SAW_TOLD);
			if (n == VM_SUSPENDING)
				ok(s == VM_SUSPENDING || ev == VM_SAW_SAVING);
			if (n == VM_SUSPENDED)
				ok(s == VM_SUSPENDED || (s == VM_OFF && ev == VM_SAW_SAVED));
		}
		bool rests = s == VM_OFF || s == VM_SUSPENDED;

		eq_int(vm_state_next(s, VM_SAW_END), s == VM_SUSPENDED ? VM_SUSPENDED : VM_OFF);
		eq_int(vm_state_next(s, VM_ASK_START), rests ? VM_STARTING : VM_NSTATES);	/* never twice */
		eq_int(vm_state_next(s, VM_ASK_POWEROFF), rests || s == VM_LOST ? VM_NSTATES : VM_ENDING);
		eq_int(vm_state_alive(s), !rests);
	}
}

/* Every state can be reached from off, and off from every state. */
TEST(reachable)
{
	bool seen[VM_NSTATES] = { [VM_OFF] = true };

	for (int round = 0; round < VM_NSTATES; round++) {
		for (int s = 0; s < VM_NSTATES; s++) {
			for (int ev = 0; seen[s] && ev < VM_NEVENTS; ev++) {
				int n = vm_state_next(s, ev);

				if (n != VM_NSTATES)
					seen[n] = true;
			}
		}
	}
	for (int s = 0; s < VM_NSTATES; s++)
		ok(seen[s]);
}

TEST(a_life)
{
	static const struct { enum vm_event ev; enum vm_state then; } life[] = {
		{ VM_ASK_START, VM_STARTING }, { VM_SAW_RUNNING, VM_RUNNING }, { VM_ASK_PAUSE, VM_RUNNING },
		{ VM_SAW_PAUSED, VM_PAUSED }, { VM_SAW_SILENCE, VM_DEGRADED }, { VM_SAW_PAUSED, VM_PAUSED },
		{ VM_ASK_SHUTDOWN, VM_NSTATES }, { VM_ASK_RESUME, VM_PAUSED }, { VM_SAW_RUNNING, VM_RUNNING },
		{ VM_ASK_SHUTDOWN, VM_RUNNING }, { VM_SAW_TOLD, VM_STOPPING }, { VM_SAW_RUNNING, VM_STOPPING },
		{ VM_SAW_IGNORED, VM_RUNNING }, { VM_SAW_TOLD, VM_STOPPING }, { VM_SAW_RESET, VM_RUNNING },
		{ VM_SAW_TOLD, VM_STOPPING }, { VM_SAW_GUEST_END, VM_ENDING }, { VM_SAW_RUNNING, VM_ENDING },
		{ VM_SAW_END, VM_OFF }, { VM_SAW_END, VM_OFF },
	};
	enum vm_state s = VM_OFF;

	for (size_t i = 0; i < sizeof(life) / sizeof(life[0]); i++) {
		enum vm_state n = vm_state_next(s, life[i].ev);

		eq_int(n, life[i].then);
		s = n == VM_NSTATES ? s : n;
	}
}

TEST(the_table_for_the_docs)
{
	AUTO_BUF struct buf b = BUF_INIT(65536);

	vm_states_markdown(&b);
	ok(!b.over);
	ok(strstr(b.data, "| state | start |"));
	ok(strstr(b.data, "| **off** | starting | attaching | refused |"));
	ok(strstr(b.data, "| **lost** | refused | refused |"));
	ok(strstr(b.data, "* **degraded**: "));
	char *text = NULL;
	size_t n;

	/* ARCHITECTURE.md shows this table; the tests run at the top of the tree. */
	eq_int(file_read_at(AT_FDCWD, "ARCHITECTURE.md", 1 << 20, &text, &n), 0);
	const char *at = text ? strstr(text, "| state | start |") : NULL, *after = at ? strstr(at, "\n## ") : NULL;

	ok(after);
	if (after && getenv("GOLDEN_ACCEPT")) {
		AUTO_BUF struct buf doc = BUF_INIT(1 << 20);

		buf_add(&doc, text, (size_t)(at - text));
		buf_adds(&doc, b.data);
		buf_adds(&doc, after);
		eq_int(file_publish_at(AT_FDCWD, "ARCHITECTURE.md", doc.data, doc.len, 0644), 0);
	} else {
		ok(text && strstr(text, b.data));
	}
	free(text);
}

static struct vm_last ended(const char *said)
{
	struct vm_end end = { .how = VM_END_EXITED, .code = 1, .at_usec = 7 };
	struct vm_last last;

	snprintf(end.said, sizeof(end.said), "%s", said);
	vm_last_from_end(&end, &last);
	return last;
}

TEST(what_stderr_said)
{
	char text[2048];

	eq_str(ended("").message, "");
	eq_str(ended("qemu: no\n\n").message, "qemu: no");
	eq_str(ended("qemu: info: QEMU waiting for x\nqemu: bad\nqemu: info: more\n").message, "qemu: bad");
	eq_str(ended("qemu: info: QEMU waiting for x").message, "");
	eq_str(ended("\xff\xfe").message, "(not readable: no UTF-8)");
	for (size_t i = 0; i < 2046; i += 2)
		memcpy(text + i, "\xc3\xa4", 3);		/* longer than what is kept: the end, whole characters */
	for (size_t skip = 0; skip < 2; skip++) {
		struct vm_last last = ended(text + 2 * skip);
		size_t n = strlen(last.message);

		eq_int(n, 510);
		ok(!memcmp(last.message, text, n));
	}
	text[0] = 'x';
	text[1] = 'y';
	eq_int(strlen(ended(text).message), 510);
}

TEST(how_it_ended)
{
	static const struct { int how, code; enum vm_why why; int exit_code, signal; } ends[] = {
		{ VM_END_EXITED, 0, VM_WHY_UNKNOWN, 0, 0 }, { VM_END_EXITED, 1, VM_WHY_CRASHED, 1, 0 },
		{ VM_END_KILLED, 9, VM_WHY_KILLED, -1, 9 }, { VM_END_KILLED, 15, VM_WHY_KILLED, -1, 15 },
		{ VM_END_KILLED, 11, VM_WHY_CRASHED, -1, 11 }, { VM_END_KILLED, 31, VM_WHY_CRASHED, -1, 31 },
		{ VM_END_UNKNOWN, 0, VM_WHY_UNKNOWN, -1, 0 },
	};
	struct run_folder r = { .state = RUN_HISTORY };
	struct vm_last last;

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct vm_end end = { .how = ends[i].how, .code = ends[i].code, .at_usec = 42 };

		vm_last_from_end(&end, &last);
		eq_int(last.why, ends[i].why);
		eq_int(last.exit_code, ends[i].exit_code);
		eq_int(last.signal, ends[i].signal);
		eq_int(last.when_usec, 42);
	}
	vm_last_from_run(&r, &last);			/* of another boot, and nobody saw it end */
	eq_int(last.why, VM_WHY_HOST_RESTARTED);
	eq_int(vm_why_from_qemu("guest-reset"), VM_WHY_GUEST_RESET);
	eq_int(vm_why_from_qemu("something new"), VM_WHY_UNKNOWN);
	eq_int(vm_why_from_qemu(NULL), VM_WHY_UNKNOWN);
}

T_MAIN
