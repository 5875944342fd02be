/* sandbox.h: the system calls that croft-front needs once it is set up. */
#pragma once
#include "err.h"
int sandbox_enter(struct err *e);
