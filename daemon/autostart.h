/* autostart.h: what is to run again after a restart of the host. */
#pragma once
#include "croft.h"

/* Once in each boot of the host: a start task for each VM that is off and has autostart. After tasks_recover. */
void autostart_begin(struct croft *c);
