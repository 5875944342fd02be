/* scope.h: the systemd scope of one VM: croft-vm is moved into it before it starts QEMU, so that the guest is outside
 * croftd's service, has its own control group, and is ended last when the host shuts down. By systemd's private socket
 * (org.freedesktop.systemd1.Manager: StartTransientUnit, SetUnitProperties), as root; needs no bus daemon.
 * The loop's thread; nothing blocks. */
#pragma once
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>
#include "err.h"

struct scope_limits {			/* control group v2; systemd.resource-control(5) */
	uint64_t cpu_weight;		/* 1..10000; 100 is ordinary */
	uint64_t cpu_limit_percent;	/* 100: one CPU; 0: no limit */
};

struct scope;				/* one request to systemd */
typedef void (*scope_done)(void *arg, const struct err *e);

/* Make croft-vm-UUID.scope with process @pid in it. done comes once, later, at most 5 s; not after scope_free, which is
 * the caller's in any case (done may call it). */
struct scope *scope_make(sd_event *ev, const char *uuid, pid_t pid, const struct scope_limits *l, scope_done done, void *arg);
/* Change the limits of the one that is there. */
struct scope *scope_set(sd_event *ev, const char *uuid, const struct scope_limits *l, scope_done done, void *arg);
void scope_free(struct scope *s);	/* NULL is fine; a scope that was made stays */
