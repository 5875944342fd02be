/* vmctl.h: what every command of vmctl works with, and how it ends. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "err.h"
#include "client.h"

enum ctl_exit {			/* documented in vmctl(1) and `vmctl help exit-codes` */
	CTL_OK, CTL_FAILED, CTL_USAGE, CTL_NOT_FOUND, CTL_DENIED, CTL_CONFLICT, CTL_TIMEOUT, CTL_CONNECT, CTL_TASK_FAILED,
	CTL_TASK_CANCELLED, CTL_NEXIT
};
extern const char *const ctl_exit_help[CTL_NEXIT];

enum ctl_output { OUT_TABLE, OUT_JSON, OUT_JSONL, OUT_NAME, OUT_NFORMATS };
extern const char *const ctl_output_names[];

struct ctl {
	const char *socket, *host, *fingerprint, *columns;	/* as given, or NULL */
	enum ctl_output output;
	bool no_headers, no_wait, yes, bytes;
	unsigned timeout_s;		/* of a wait; 0: none given */
	struct http http;
	char *where;			/* owned: the socket or host, for messages */
};

/* "vmctl: ..." to stderr; a way out is indented beneath it. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void say_hint(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int ctl_fail(const struct err *e);		/* says it; returns the exit code that fits */
enum ctl_exit ctl_exit_of(enum err_code code);
int ctl_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));	/* says it; CTL_USAGE */
/* A question to a person at the terminal; false without one. */
bool ctl_ask(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Of all @names (NULL-terminated) the one that @word was most likely meant to be, or NULL. */
const char *did_you_mean(const char *word, const char *const *names);
