/* reset.h: a process that forgets what its parent was given by systemd or a shell. */
#pragma once
#include <stdint.h>

void reset_signals(void);			/* all handlers and the mask */
/* Resource limits; where a container's hard limit is lower, that stays. @memlock_bytes: UINT64_MAX is no limit. */
void reset_limits(uint64_t memlock_bytes);
void reset_scores(void);			/* nice 0, oom_score_adj 0, umask 077 */
