/* consoles.h: one-time tickets for serial consoles and screens, and the sockets that they open. */
#pragma once
#include "croft.h"

struct consoles;
struct consoles *consoles_new(struct croft *c);
void consoles_free(struct consoles *cs);
