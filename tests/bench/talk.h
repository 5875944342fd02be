/* talk.h: what the programs of `make bench` have in common: HTTP and WebSocket to croftd, over its unix socket or TLS.
 * Whatever goes wrong ends the program with a message. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "conn.h"

#define SECOND		1000000ull
#define TALK_DEADLINE	(60 * SECOND)

void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* @target: a socket's path, or the port of https://127.0.0.1. @token: "-" for none. */
void talk_to(const char *target, const char *token);
struct conn *talk_dial(void);
/* A request; @more: further header lines, "" for none; @length: of the body, of which what is not in @body follows. */
void talk_send(struct conn *c, const char *method, const char *path, const char *more, const char *body, size_t length);
/* Read one whole answer: its status. What fits of the body is left in @buf, NUL-terminated. */
int talk_answer(struct conn *c, char *buf, size_t cap);
/* Send a request, with a JSON body unless that is "", and read its answer, which must have the status @want. The answer
 * stands until the next call. */
const char *talk(struct conn *c, const char *method, const char *path, const char *body, int want);
/* A console of @vm through a WebSocket of its own. */
struct conn *talk_console(const char *vm);

/* How much payload is in these bytes of a stream of unmasked frames? One stream a program. */
uint64_t talk_payload(const uint8_t *p, size_t n, uint8_t *ret_last);

double median(double *v, size_t n);		/* sorts @v */
double percentile(double *v, size_t n, unsigned percent);
