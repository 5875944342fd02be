/* text.c: see text.h. */
#include "text.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Digits from @s on; where they end goes to *end. */
static int digits(const char *s, const char **end, uint64_t *ret)
{
	uint64_t v = 0;

	if (!is_digit(*s))
		return -EINVAL;
	for (; is_digit(*s); s++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return -ERANGE;
	*end = s;
	*ret = v;
	return 0;
}

int text_u64(const char *s, uint64_t *ret)
{
	const char *end;
	uint64_t v;
	int r = digits(s, &end, &v);

	if (r < 0)
		return r;
	if (*end)
		return -EINVAL;
	*ret = v;
	return 0;
}

static const struct { const char *name; uint64_t bytes; } units[] = {
	{ "", 1 }, { "B", 1 },
	{ "K", 1ull << 10 }, { "KiB", 1ull << 10 }, { "kB", 1000ull },
	{ "M", 1ull << 20 }, { "MiB", 1ull << 20 }, { "MB", 1000000ull },
	{ "G", 1ull << 30 }, { "GiB", 1ull << 30 }, { "GB", 1000000000ull },
	{ "T", 1ull << 40 }, { "TiB", 1ull << 40 }, { "TB", 1000000000000ull },
	{ "PiB", 1ull << 50 }, { "EiB", 1ull << 60 },
};

int text_size(const char *s, uint64_t *ret)
{
	uint64_t whole, unit = 0, tenths = 1, part = 0, more = 0;
	int r = digits(s, &s, &whole);

	if (r < 0)
		return r;
	if (*s == '.') {
		const char *from = s + 1;

		r = digits(from, &s, &part);
		if (r < 0 || s - from > 3)
			return -EINVAL;
		for (ptrdiff_t i = s - from; i > 0; i--)
			tenths *= 10;
	}
	if (*s == ' ' && s[1])
		s++;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && !unit; i++)
		if (!strcasecmp(s, units[i].name))
			unit = units[i].bytes;
	if (!unit || (tenths > 1 && unit == 1))
		return -EINVAL;
	more = unit / tenths * part + unit % tenths * part / tenths;	/* below unit: no overflow */
	if (__builtin_mul_overflow(whole, unit, &whole) || __builtin_add_overflow(whole, more, &whole))
		return -ERANGE;
	*ret = whole;
	return 0;
}

void text_size_format(uint64_t bytes, char out[24])
{
	static const char *const names[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	int u = -1;
	uint64_t unit = 1;

	while (u < 5 && bytes / unit >= 1024) {
		unit <<= 10;
		u++;
	}
	if (u < 0) {
		snprintf(out, 24, "%u B", (unsigned)bytes);
		return;
	}
	unsigned whole = (unsigned)(bytes / unit), tenth = (unsigned)(bytes % unit / (unit / 1024) * 10 / 1024);
	if (tenth)
		snprintf(out, 24, "%u.%u %s", whole, tenth, names[u]);
	else
		snprintf(out, 24, "%u %s", whole, names[u]);
}

bool text_is_utf8(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + n;

	while (p < end) {
		unsigned char c = *p++;
		unsigned more = c < 0x80 ? 0 : c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;

		if (!c || (c >= 0x80 && c < 0xc2) || c > 0xf4 || more > (size_t)(end - p))
			return false;
		if ((c == 0xe0 && *p < 0xa0) || (c == 0xed && *p > 0x9f) || (c == 0xf0 && *p < 0x90) ||
		    (c == 0xf4 && *p > 0x8f))
			return false;
		for (; more; more--)
			if ((*p++ & 0xc0) != 0x80)
				return false;
	}
	return true;
}

static int nibble(char c)
{
	return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int text_hex(const char *s, uint8_t *ret, size_t n)
{
	for (size_t i = 0; i < 2 * n; i++)
		if (nibble(s[i]) < 0)	/* also the NUL of a short one */
			return -EINVAL;
	if (s[2 * n])
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		ret[i] = (uint8_t)(nibble(s[2 * i]) << 4 | nibble(s[2 * i + 1]));
	return 0;
}

void text_hex_format(const uint8_t *p, size_t n, char *out)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*out++ = hex[p[i] >> 4];
		*out++ = hex[p[i] & 15];
	}
	*out = '\0';
}

int text_uuid(const char *s, uint8_t ret[16])
{
	char bare[33];
	size_t n = 0;

	for (int i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (!s[i] || dash != (s[i] == '-'))
			return -EINVAL;
		if (!dash)
			bare[n++] = s[i];
	}
	bare[n] = '\0';
	return s[36] ? -EINVAL : text_hex(bare, ret, 16);
}

void text_uuid_format(const uint8_t u[16], char out[37])
{
	for (int i = 0; i < 16; i++) {
		text_hex_format(u + i, 1, out);
		out += 2;
		if (i == 3 || i == 5 || i == 7 || i == 9)
			*out++ = '-';
	}
	*out = '\0';
}

int text_mac(const char *s, uint8_t ret[6])
{
	char bare[13];
	uint8_t mac[6];

	if (strnlen(s, 18) != 17)
		return -EINVAL;
	for (int i = 0; i < 6; i++) {
		if (i < 5 && s[3 * i + 2] != ':')
			return -EINVAL;
		memcpy(bare + 2 * i, s + 3 * i, 2);
	}
	bare[12] = '\0';
	if (text_hex(bare, mac, 6) < 0 || mac[0] & 1 || !memcmp(mac, (uint8_t[6]){ 0 }, 6))
		return -EINVAL;
	memcpy(ret, mac, 6);
	return 0;
}

void text_mac_format(const uint8_t m[6], char out[18])
{
	snprintf(out, 18, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

bool text_is_name(const char *s)
{
	size_t n = strnlen(s, 64);
	uint8_t uuid[16];

	if (!n || n > 63 || !is_alnum(s[0]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!is_alnum(s[i]) && !strchr("._-", s[i]))
			return false;
	return text_uuid(s, uuid) < 0;
}

/* A numeric address, or a name as DNS knows it. What has only digits and dots must be an IPv4 address. */
static bool is_host(const char *s)
{
	char bare[64];
	uint8_t ip[16];
	size_t zone = strcspn(s, "%");

	if (strchr(s, ':')) {
		if (s[zone] && (!s[zone + 1] || strspn(s + zone + 1, "0123456789abcdefghijklmnopqrstuvwxyz"
							"ABCDEFGHIJKLMNOPQRSTUVWXYZ._-") != strlen(s + zone + 1)))
			return false;
		snprintf(bare, sizeof(bare), "%.*s", (int)zone, s);
		return inet_pton(AF_INET6, bare, ip) == 1;
	}
	if (strspn(s, "0123456789.") == strlen(s))
		return inet_pton(AF_INET, s, ip) == 1;
	for (const char *p = s; *p; p++)
		if (!is_alnum(*p) && (p == s || (*p != '-' && *p != '.')))
			return false;
	return true;
}

int text_host_port(const char *s, char host[64], uint16_t *port)
{
	char name[64];
	const char *end, *colon = strrchr(s, ':');
	uint64_t number = 0;

	if (*s == '[') {
		end = strchr(s++, ']');
		if (!end || (end[1] && end[1] != ':') || !memchr(s, ':', (size_t)(end - s)))
			return -EINVAL;
		colon = end[1] ? end + 1 : NULL;
	} else {
		if (colon && memchr(s, ':', (size_t)(colon - s)))
			colon = NULL;		/* a bare IPv6 address */
		end = colon ? colon : s + strlen(s);
	}
	size_t n = (size_t)(end - s);
	if (n >= sizeof(name))
		return -ERANGE;
	memcpy(name, s, n);
	name[n] = '\0';
	if (n ? !is_host(name) : !colon)
		return -EINVAL;
	if (colon && text_u64(colon + 1, &number) < 0)
		return -EINVAL;
	if (number > 65535)
		return -ERANGE;
	memcpy(host, name, n + 1);
	*port = (uint16_t)number;
	return 0;
}

int text_unescape(const char *s, size_t n, bool plus, char *out, size_t cap)
{
	size_t len = 0;

	if (!cap)
		return -ERANGE;
	/* Two passes, so that a failure leaves @out alone. */
	for (int pass = 0; pass < 2; pass++) {
		len = 0;
		for (size_t i = 0; i < n; i++) {
			char c = s[i];

			if (c == '%') {
				if (n - i < 3 || nibble(s[i + 1]) < 0 || nibble(s[i + 2]) < 0)
					return -EINVAL;
				c = (char)(nibble(s[i + 1]) << 4 | nibble(s[i + 2]));
				i += 2;
			} else if (c == '+' && plus) {
				c = ' ';
			}
			if (!c)
				return -EINVAL;
			if (pass)
				out[len] = c;
			len++;
		}
		if (len >= cap)
			return -ERANGE;
	}
	out[len] = '\0';
	if (!text_is_utf8(out, len)) {
		out[0] = '\0';
		return -EINVAL;
	}
	return 0;
}

/* Pieces between stars are found from left to right by memmem(3), which is linear. */
bool text_glob(const char *pattern, const char *s)
{
	const char *star = strchr(pattern, '*'), *last = strrchr(pattern, '*');
	size_t n = strlen(s);

	if (!star)
		return !strcmp(pattern, s);
	size_t head = (size_t)(star - pattern), tail = strlen(last + 1);
	if (n < head + tail || memcmp(s, pattern, head) || memcmp(s + n - tail, last + 1, tail))
		return false;
	const char *at = s + head, *end = s + n - tail;
	while (star != last) {
		const char *piece = star + 1;

		star = strchr(piece, '*');
		size_t len = (size_t)(star - piece);
		const char *hit = memmem(at, (size_t)(end - at), piece, len);
		if (!hit)
			return false;
		at = hit + len;
	}
	return true;
}

bool text_const_eq(const void *a, const void *b, size_t n)
{
	const volatile unsigned char *x = a, *y = b;
	unsigned char differ = 0;

	for (size_t i = 0; i < n; i++)
		differ |= x[i] ^ y[i];
	return !differ;
}

int text_list_next(const char **at, int *last)
{
	char *end;
	long n;

	if (*at[0] == '-' && *last >= 0) {	/* inside a range */
		n = strtol(*at + 1, &end, 10);
		if (*last < n && *last < 4095)
			return ++*last;
		*at = end;
	}
	if (**at == ',')
		++*at;
	n = strtol(*at, &end, 10);
	if (end == *at || n < 0 || n > 4095)
		return -1;
	*at = end;
	return *last = (int)n;
}
