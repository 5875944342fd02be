/* lockout.h: failed logins, counted by user and address and by address alone. Pure: in memory, the time is passed in.
 * Both tables are bounded; the entry that was touched longest ago goes first. */
#pragma once
#include <stdint.h>

#define LOCKOUT_PAIR		5	/* failures of one user from one address within the window lock that pair */
#define LOCKOUT_ADDRESS		50	/* failures from one address lock it */
#define LOCKOUT_WINDOW_S	900
#define LOCKOUT_S		900	/* how long it is locked */
#define LOCKOUT_ENTRIES		4096	/* of each table */

struct lockout;
struct lockout *lockout_new(void);
void lockout_free(struct lockout *l);
/* Seconds until @user may be tried from @peer again; 0: now. @now_usec of one clock that never jumps. */
unsigned lockout_left(const struct lockout *l, const char *user, const char *peer, int64_t now_usec);
/* A try failed. Returns the seconds for which the pair or the address is locked by it, or 0. */
unsigned lockout_failed(struct lockout *l, const char *user, const char *peer, int64_t now_usec);
void lockout_passed(struct lockout *l, const char *user, const char *peer);	/* forgets the pair's failures */
/* What counts as one address: IPv4 whole, also when mapped into IPv6; of IPv6 the /64; any other text as it is. */
void lockout_address(const char *peer, char out[64]);
