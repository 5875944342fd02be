/* password.h: yescrypt through libcrypt. A hash takes about 25 to 200 ms and 16 MiB: in a lane, or at start. */
#pragma once
#include <stdbool.h>
#include "err.h"

#define PASSWORD_MIN	8
#define PASSWORD_MAX	256		/* bytes */
/* A hash that no password has; it costs as much as a real one. For users who don't exist. */
#define PASSWORD_NOBODY	"$y$j9T$EOn4X/gVKC.UZb1BjH/2M.$xQCB0GLuEvFaAlV87Z4qcfmHDE0V0a8ZhwOwbfHxat7"

int password_hash(const char *password, char **ret, struct err *e);	/* *ret owned by the caller */
/* 1: it is; 0: it isn't; or -errno when it could not be found out. */
int password_matches(const char *password, const char *hash, struct err *e);
void password_random(char out[21]);		/* 20 characters that are not mistaken for each other; ~115 bits */
