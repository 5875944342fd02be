/* target.h: which croftd is meant, and what is remembered of remote ones: ~/.config/croft/hosts.json, 0600. */
#pragma once
#include "vmctl.h"

/* Settle socket or host from options, environment and what is there; sets up c->http, connects at its first use.
 * CTL_OK, or an exit code with the reason said. */
int target_find(struct ctl *c);
bool target_is_remote(const struct ctl *c);
/* Remember (or, with NULL, forget) the token for this host, and the id by which it can be deleted (may be NULL). */
int target_keep_token(struct ctl *c, const char *token, const char *id);
char *target_token_id(void);		/* of the one that is remembered, or NULL; caller frees */
void target_fini(struct ctl *c);
