/* shim.h: the parts of croft-vm. One process, one thread, one poll(2) loop.
 *
 *	main.c     parked -> running -> ended, and what croftd asks
 *	start.c    the fork that becomes QEMU
 *	console.c  the serial line, its history, its viewers
 *	record.c   launch.json, end.json, qemu.log
 */
#pragma once
#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>
#include "ctl.h"
#include "ring.h"

enum { VIEWERS = 16, CLIENTS = 8, NUMBER_MAX = 512 /* of a descriptor in QEMU */ };

struct polls { struct pollfd p[VIEWERS + CLIENTS + 4]; unsigned n; };
static inline int polls_add(struct polls *ps, int fd, short events)	/* its slot; -1 for no fd */
{
	if (fd < 0)
		return -1;
	ps->p[ps->n] = (struct pollfd){ .fd = fd, .events = events };
	return ps->n++;
}
static inline short polls_got(const struct polls *ps, int slot)
{
	return slot < 0 ? 0 : ps->p[slot].revents;
}

struct viewer { int fd, slot; bool said_all; uint64_t at; };	/* said_all: it sends no more input */
struct console {
	struct ring ring;
	int serial, slot;		/* connection to QEMU's serial socket, or -1 */
	struct viewer viewers[VIEWERS];
	unsigned nviewers;
	char input[4096];		/* from viewers, to the guest */
	size_t ninput;
};
int console_open(struct console *c, int dir, bool adopt, uint64_t bytes);
bool console_view(struct console *c, int fd);	/* takes @fd; false when there are too many */
void console_watch(struct console *c, struct polls *ps);
void console_work(struct console *c, struct polls *ps);
void console_drain(struct console *c);		/* QEMU has ended: take what is left in the socket */
bool console_behind(const struct console *c);	/* a viewer hasn't got all */

struct record {
	int end, log;			/* end.json, empty until the end; qemu.log */
	int said, slot;			/* read end of QEMU's stdout and stderr; -1: adopted */
};
int record_open(struct record *r, int dir, bool adopt);
int record_launch(int dir, const struct ctl_launch *l, const struct ctl_state *s);
void record_said(struct record *r);		/* take what QEMU has said into the log */
void record_end(struct record *r, const struct ctl_launch *l, struct ctl_state *s, char *said, size_t cap);

struct start {
	pid_t pid;
	int pidfd, channel;
	char confinement[256];
};
int start_fork(struct start *s, struct ctl_message *launch, int log, struct err *e);
int start_release(struct start *s, struct err *e);	/* execute QEMU; returns when that has happened */
