/* settings.h: small things that a home decides once, in the table settings. Blocks: at start. */
#pragma once
#include "croft.h"
#include "err.h"

/* The range of numeric uids of this home: chosen at first start so that two homes side by side do not share one. */
int settings_uids(struct croft *c, struct err *e);
/* The home's own UUID, drawn at first start. One that cannot be kept now is another one at the next start. */
void settings_home(struct croft *c);
/* Who croft-front and croft-vm become. After settings_uids. */
void settings_accounts(struct croft *c);
/* "" when there is none. */
int settings_get(struct croft *c, const char *key, char out[64], struct err *e);
/* Behind what waits for the database already; does not block. */
void settings_set(struct croft *c, const char *key, const char *value);
/* True once in the life of a home. */
int settings_first_time(struct croft *c, const char *what, bool *ret, struct err *e);
