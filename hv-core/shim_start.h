/* shim_start.h: executing a croft-vm and telling it what to do. Used by keeper.c. */
#pragma once
#include "child.h"
#include "keeper.h"

/* Run croft-vm with the run folder @dir; *ret_ctl is our end of its channel. NULL on failure. */
struct child *shim_start(const struct keeper_house *h, int dir, const char *uuid, bool adopt,
			 void (*ended)(void *arg, int wstatus, const char *err_text), void *arg, int *ret_ctl,
			 struct err *e);
int shim_send_launch(const struct keeper_house *h, int ctl, const struct keeper_launch *l, struct err *e);
int shim_send_adopt(const struct keeper_house *h, int ctl, const struct run_folder *r, int pidfd, struct err *e);
/* Make the run folder ready for a start: remove what the last run has left. Never touches `alive`. */
int shim_folder(int run_fd, const char *uuid, struct err *e);
