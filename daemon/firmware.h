/* firmware.h: UEFI's code as VMs get it. The host has it as a flash bank of 64 MiB, 62 of them zeros, which QEMU would
 * read into memory for every VM. VMs get a qcow2 without the zeros, in sealed memory (2 MiB, one for all of them), made
 * when the first one asks, and anew when the host's file has become another. */
#pragma once
#include <systemd/sd-event.h>
#include "err.h"

struct firmware;
struct firmware *firmware_new(sd_event *ev);
void firmware_free(struct firmware *f);
/* Open it afresh and read-only, made of the raw file @path. done, once, later, takes the descriptor with TAKE_FD(*fd),
 * else it is closed. */
void firmware_open(struct firmware *f, const char *path, void (*done)(void *arg, int *fd, const struct err *e), void *arg);
