/* qmp.h: a client of QEMU's monitor, in the loop. One command is under way at a time (QEMU queues no more), the rest
 * waits in line; each has its deadline, which runs from qmp_call. What comes from QEMU is hostile: a line longer than
 * QMP_LINE_MAX, bad JSON or an answer to nothing ends the connection with a reason. */
#pragma once
#include <jansson.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "err.h"

#define QMP_LINE_MAX	(4u << 20)

struct qmp;
/* @result is borrowed, NULL on failure; @e is NULL on success. QEMU's refusal is ERR_STATE (ERR_UNSUPPORTED for a
 * command that it does not know, ERR_NOT_FOUND for a device) with its class and text; a missed deadline is ERR_TIMEOUT;
 * a lost connection ERR_UNAVAILABLE; qmp_free ERR_INTERRUPTED. */
typedef void (*qmp_done)(void *arg, json_t *result, const struct err *e);

struct qmp_how {
	sd_event *ev;
	void (*ready)(void *arg);			/* greeting and capabilities are done */
	void (*event)(void *arg, const char *name, json_t *data);	/* @data may be NULL; borrowed */
	void (*late)(void *arg);		/* an answer came after its deadline: it lives again. May be NULL */
	void (*ended)(void *arg, const char *why);	/* once; the caller then frees, there or later */
	void *arg;
};
/* @fd: a connected stream socket, owned from now on. The greeting has no deadline: who waits for ready has. */
struct qmp *qmp_new(const struct qmp_how *how, int fd);
/* Calls that are still open end with ERR_INTERRUPTED before this returns. Fine inside every callback; NULL is fine. */
void qmp_free(struct qmp *q);
/* QEMU is gone: take in what it has said last, at most 1 MiB, before the monitor is let go. */
void qmp_drain(struct qmp *q);
/* Queue @command. @args is taken (may be NULL). @fd is sent along (SCM_RIGHTS) and owned from now on; -1: none.
 * @done may be NULL; it is never called inside qmp_call. A call that is past its deadline before it was sent is never
 * sent; one that was sent may still take effect. May be called before ready. */
void qmp_call(struct qmp *q, const char *command, json_t *args, int fd, uint64_t deadline_usec, qmp_done done,
	      void *arg);
/* A question: while the same one (@command, @args, @done, @arg) waits to be sent, its answer does for this one too. So what QEMU
 * tells, as often as it likes, makes no long line of questions. */
void qmp_ask(struct qmp *q, const char *command, json_t *args, uint64_t deadline_usec, qmp_done done, void *arg);
int64_t qmp_heard_usec(const struct qmp *q);		/* CLOCK_MONOTONIC of the last complete line from QEMU */
