/* tty.h: the terminal: passwords, and a line of progress. */
#pragma once
#include <stdint.h>
#include "err.h"

/* A secret, typed without echo, twice when @twice; or one line of stdin when that is no terminal. Caller frees and wipes. */
char *tty_secret(const char *prompt, bool twice, struct err *e);
/* "debian.qcow2  43 %  412 MiB/s  9 s left" on stderr, at most five times a second; nothing when that is no terminal. */
void tty_transfer(const char *what, uint64_t done, uint64_t all);
void tty_transfer_end(void);
