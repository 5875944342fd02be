/* agent_wire.h: a connection to qemu-guest-agent, in the loop: one call at a time, each with its deadline. Before each a
 * guest-sync-delimited with a number that nobody can guess says where its answer begins, so that an old answer, half a
 * line or junk is told from it. What comes is hostile: while no call is under way nothing is read (the guest stops itself
 * when the socket is full), and a call takes AGENT_ANSWER_MAX bytes at most, junk and all.
 * Source: QEMU's qga/qapi-schema.json and docs/interop/qemu-ga-ref. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "err.h"

#define AGENT_ANSWER_MAX	65536u

struct agent_wire;
/* @result is borrowed, NULL on failure; @e NULL on success. The agent's refusal is ERR_STATE (ERR_UNSUPPORTED for a
 * command that it lacks or was told to refuse); then the connection goes on. Of all else it is the end: see broken. */
typedef void (*agent_wire_done)(void *arg, json_t *result, const struct err *e);

struct agent_wire_how {
	sd_event *ev;
	/* Once, after the calls that were open have ended with the same @e: ERR_TIMEOUT; ERR_TOO_LARGE: an answer that is
	 * none of ours to read; ERR_BAD_REQUEST: junk; ERR_UNAVAILABLE: QEMU closed it. The owner frees, there or later. */
	void (*broken)(void *arg, const struct err *e);
	void *arg;
};
struct agent_wire *agent_wire_new(const struct agent_wire_how *how, int fd);	/* @fd: a stream socket, owned */
/* Calls that are open end with ERR_INTERRUPTED before this returns. Fine in every callback; NULL is fine. */
void agent_wire_free(struct agent_wire *w);
bool agent_wire_busy(const struct agent_wire *w);	/* a call is under way */
/* Queue @command; @args is taken (may be NULL). The deadline runs from when the calls before it have ended. @answered
 * false: success has no answer; it is one that the agent heard us. @done is never called inside this; not NULL. */
void agent_wire_call(struct agent_wire *w, const char *command, json_t *args, bool answered, uint64_t deadline_usec,
		     agent_wire_done done, void *arg);
/* The last word, on the way out: @command is sent if the socket takes it now; nobody waits for an answer. */
void agent_wire_last_word(struct agent_wire *w, const char *command);
