/* text.h: checked parsers and printers for small texts. All return 0 or -EINVAL/-ERANGE and write only on success. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include "world.h"

int text_u64(const char *s, uint64_t *ret);		/* decimal, no sign, no blanks, whole string */
int text_size(const char *s, uint64_t *ret);		/* "4GiB", "1.5 GiB", "10GB", "4096"; K is KiB ... T is TiB */
void text_size_format(uint64_t bytes, char out[24]);	/* "4 GiB", "1.5 GiB" */
bool text_is_utf8(const char *s, size_t n);		/* well formed, no overlong, no surrogates, no NUL */
int text_uuid(const char *s, uint8_t ret[16]);		/* 8-4-4-4-12 lower or upper case hex */
void text_uuid_format(const uint8_t u[16], char out[37]);
void text_uuid_random(char out[37]);			/* version 4, from getrandom */
int text_mac(const char *s, uint8_t ret[6]);		/* aa:bb:cc:dd:ee:ff, unicast only */
void text_mac_format(const uint8_t m[6], char out[18]);
int text_hex(const char *s, uint8_t *ret, size_t n);	/* exactly 2n hex digits */
void text_hex_format(const uint8_t *p, size_t n, char *out);	/* out: 2n + 1 */
/* A name as users give to a VM, disk, user ...: 1..63 of [A-Za-z0-9._-], starting with a letter or digit, and not
 * shaped like a UUID. */
bool text_is_name(const char *s);
/* "10.0.2.15", "::1", "arm1.lan", with a port "[::1]:8443", "127.0.0.1:8443", ":8443" ("" host: all). Without a port 0.
 * An address is checked, a name only by its letters: who needs an address asks inet_pton. */
int text_host_port(const char *s, char host[64], uint16_t *port);
int text_time(const char *s, int64_t *ret_usec);	/* RFC 3339 in UTC ("Z") -> microseconds since the epoch */
void text_time_format(int64_t usec, char out[32]);	/* "2026-11-23T12:00:00.123Z" */
/* Percent-decode one path segment or query value into @out (NUL-terminated). -EINVAL for a bad escape, NUL or bad
 * UTF-8; -ERANGE when it does not fit. @plus: '+' means blank (query). */
int text_unescape(const char *s, size_t n, bool plus, char *out, size_t cap);
/* Walk a list as the kernel writes it, "0-3,8": the next number after *at, or -1 at the end (**at is 0) and at what is
 * none. Start with *at = text, *last = -1. Numbers to 4095, so it ends. */
int text_list_next(const char **at, int *last);
bool text_glob(const char *pattern, const char *s);	/* only '*' is special; linear time */
bool text_const_eq(const void *a, const void *b, size_t n);	/* constant time */
