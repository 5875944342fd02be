/* vm_last.c: how a run ended: from what QEMU said, from its exit status, from a run folder. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "engine.h"
#include "run.h"
#include "text.h"

const char *const vm_why_names[] = {
#define X(id, name, help) name,
	VM_WHYS(X)
#undef X
	NULL
};

static const char *const helps[VM_NWHYS] = {
#define X(id, name, help) [VM_WHY_##id] = help,
	VM_WHYS(X)
#undef X
};

const char *vm_why_help(enum vm_why why)
{
	return helps[why];
}

/* The reason in QEMU's SHUTDOWN event (ShutdownCause in its QAPI schema). */
static const struct { const char *reason; enum vm_why why; } causes[] = {
	{ "guest-shutdown", VM_WHY_GUEST_SHUTDOWN },
	{ "guest-reset", VM_WHY_GUEST_RESET },
	{ "guest-panic", VM_WHY_GUEST_PANIC },
	{ "host-qmp-quit", VM_WHY_QUIT },
	{ "host-qmp-system-reset", VM_WHY_QUIT },
	{ "host-ui", VM_WHY_QUIT },
	{ "host-signal", VM_WHY_KILLED },
	{ "host-error", VM_WHY_CRASHED },
};

enum vm_why vm_why_from_qemu(const char *reason)
{
	for (size_t i = 0; reason && i < COUNT(causes); i++) {
		if (!strcmp(reason, causes[i].reason))
			return causes[i].why;
	}
	return VM_WHY_UNKNOWN;
}

/* A signal that a program brings on itself. */
static bool is_crash(int sig)
{
	static const int crashes[] = { SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGTRAP };

	for (size_t i = 0; i < COUNT(crashes); i++) {
		if (sig == crashes[i])
			return true;
	}
	return false;
}

/* The end of what stderr said, without QEMU's remarks ("...: info: QEMU waiting for connection ..."). */
static void keep_tail(char *to, size_t cap, const char *said)
{
	AUTO_BUF struct buf b = BUF_INIT(sizeof(((struct vm_end *)0)->said));
	const char *tail;
	size_t n;

	for (; *said; said += n) {
		n = strcspn(said, "\n");
		if (!memmem(said, n, ": info: ", 8))
			buf_add(&b, said, n + (said[n] == '\n'));
		n += said[n] == '\n';
	}
	while (b.len && strchr("\r\n ", b.data[b.len - 1]))
		b.len--;
	tail = b.len < cap ? b.data : b.data + b.len - cap + 1;
	n = b.len < cap ? b.len : cap - 1;
	for (; n && ((unsigned char)*tail & 0xc0) == 0x80; n--)	/* not in the middle of a character */
		tail++;
	if (!text_is_utf8(n ? tail : "", n)) {
		tail = "(not readable: no UTF-8)";
		n = strlen(tail);
	}
	memcpy(to, n ? tail : "", n);
	to[n] = '\0';
}

const char *vm_last_words(const char *message)
{
	const char *at;

	while ((at = strstr(message, "}: ")))	/* -blockdev {...}: what is wrong */
		message = at + 3;
	at = strstr(message, "qemu-system-aarch64: ");
	return at ? at + strlen("qemu-system-aarch64: ") : message;
}

void vm_last_from_end(const struct vm_end *end, struct vm_last *ret)
{
	*ret = (struct vm_last){ .when_usec = end->at_usec ? end->at_usec : now_usec(), .exit_code = -1 };
	switch (end->how) {
	case VM_END_EXITED:		/* 0: QEMU meant to end, and nobody heard it say why */
		ret->exit_code = end->code;
		ret->why = end->code ? VM_WHY_CRASHED : VM_WHY_UNKNOWN;
		break;
	case VM_END_KILLED:
		ret->signal = end->code;
		ret->why = is_crash(end->code) ? VM_WHY_CRASHED : VM_WHY_KILLED;
		break;
	case VM_END_UNKNOWN:
		ret->why = VM_WHY_UNKNOWN;
		break;
	}
	keep_tail(ret->message, sizeof(ret->message), end->said);
}

void vm_last_from_run(const struct run_folder *r, struct vm_last *ret)
{
	struct vm_end unseen = { .how = VM_END_UNKNOWN };

	vm_last_from_end(r->has_end ? &r->end : &unseen, ret);
	if (r->state == RUN_HISTORY && !r->has_end) {
		ret->why = VM_WHY_HOST_RESTARTED;
		ret->when_usec = boot_usec();		/* or somewhat before that */
	}
}
