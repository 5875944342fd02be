/* qemu_img.h: the program qemu-img as a child. Files are descriptors: the first is /proc/self/fd/3 of its arguments. */
#pragma once
#include <stdint.h>
#include <systemd/sd-event.h>
#include "err.h"

#define QEMU_IMG_FD(n)	"/proc/self/fd/" #n	/* n: 3, 4, ... */

struct qemu_img;
/* @args: what follows the program's name, ends with NULL. @progress gets 0..1000 when -p is among them; may be NULL.
 * @ended is called once, from the loop, after which the handle is the caller's to free (also from inside). NULL when it
 * can't be started. */
struct qemu_img *qemu_img_start(sd_event *ev, const char *const *args, const int *fds, size_t nfds, uint64_t deadline_usec,
				void (*progress)(void *arg, unsigned permille),
				void (*ended)(void *arg, const struct err *e), void *arg, struct err *e);
void qemu_img_free(struct qemu_img *q);		/* kills it if it runs; ended isn't called then; NULL is fine */
