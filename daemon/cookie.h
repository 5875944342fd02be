/* cookie.h: the session's cookie. Its name makes browsers refuse it from anywhere but this very host over TLS. */
#pragma once

#define COOKIE_NAME	"__Host-croft"
#define COOKIE_SECRET	43		/* characters: 256 bits as base64url */

/* Read the header Cookie (or NULL). 1: there is a secret; 0: there is none; -1: two, or one that cannot be ours. */
int cookie_secret(const char *cookie, char out[COOKIE_SECRET + 1]);
