/* child.h: programs that we start and wait for by pidfd: qemu-img, croft-front, croft-vm. Never a shell. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>
#include "err.h"
#include "world.h"

struct child;
struct child_how {
	const char *const *argv;	/* argv[0] is the path, absolute; or exec_fd >= 0 with argv[0] as a name */
	int exec_fd;			/* execveat this descriptor when >= 0 (set -1 otherwise!) */
	const int *fds;			/* fds[i] becomes descriptor 3 + i of the child; everything else is closed */
	size_t nfds;
	int in, out;			/* its stdin and stdout; -1: /dev/null */
	bool jailed;			/* see jail.h: it may use what is in fds, and nothing else */
	bool new_session;		/* setsid */
	size_t stderr_max;		/* keep the last bytes of stderr up to this; 0: stderr is inherited */
	uint64_t deadline_usec;		/* 0: none; else SIGKILL then: child_timed_out(), and err_text says so */
};
/* Start it. Signals, mask, umask (077), nice, folder (/) and environment (PATH and LANG=C.UTF-8 only) are reset.
 * @ended runs in the loop exactly once; @err_text is what stderr said (NUL-terminated, maybe ""); @wstatus as of
 * wait(2). */
struct child *child_start(sd_event *ev, const struct child_how *how,
			  void (*ended)(void *arg, int wstatus, const char *err_text), void *arg, struct err *e);
pid_t child_pid(const struct child *c);
int child_pidfd(const struct child *c);			/* borrowed */
void child_kill(struct child *c, int sig);		/* by pidfd */
bool child_timed_out(const struct child *c);		/* in ended(): it was killed at its deadline */
/* Let it live on without us: ended is never called, the loop reaps it when it ends. */
void child_release(struct child *c);
void child_free(struct child *c);			/* kills with SIGKILL, reaps, never calls ended; NULL is fine */
