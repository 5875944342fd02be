/* text_time.c: the part of text.h that is about time, or needs the kernel's random numbers. */
#include "text.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define USEC 1000000

void text_uuid_random(char out[37])
{
	uint8_t u[16];

	if (getrandom(u, sizeof(u), 0) != sizeof(u))
		abort();
	u[6] = (u[6] & 0x0f) | 0x40;
	u[8] = (u[8] & 0x3f) | 0x80;
	text_uuid_format(u, out);
}

static int number(const char *s, int n)
{
	int v = 0;

	for (int i = 0; i < n; i++)
		v = v * 10 + s[i] - '0';
	return v;
}

int text_time(const char *s, int64_t *ret_usec)
{
	static const char shape[] = "dddd-dd-ddTdd:dd:dd";
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	size_t n = sizeof(shape) - 1;
	int64_t usec = 0;

	for (size_t i = 0; i < n; i++)
		if (shape[i] == 'd' ? s[i] < '0' || s[i] > '9' : s[i] != shape[i])
			return -EINVAL;
	struct tm t = { .tm_year = number(s, 4) - 1900, .tm_mon = number(s + 5, 2) - 1, .tm_mday = number(s + 8, 2),
			.tm_hour = number(s + 11, 2), .tm_min = number(s + 14, 2), .tm_sec = number(s + 17, 2) };
	int year = t.tm_year + 1900;
	bool leap = (year % 4 == 0 && year % 100) || year % 400 == 0;
	if (t.tm_mon < 0 || t.tm_mon > 11 || t.tm_mday < 1 || t.tm_hour > 23 || t.tm_min > 59 || t.tm_sec > 59 ||
	    t.tm_mday > days[t.tm_mon] + (t.tm_mon == 1 && leap))
		return -EINVAL;
	if (year < 1970)
		return -ERANGE;
	s += n;
	if (*s == '.') {
		int64_t unit = USEC / 10;
		int places = 0;

		for (s++; *s >= '0' && *s <= '9' && places < 9; s++, places++, unit /= 10)
			usec += (*s - '0') * unit;
		if (!places)
			return -EINVAL;
	}
	if (strcmp(s, "Z"))
		return -EINVAL;
	*ret_usec = (int64_t)timegm(&t) * USEC + usec;
	return 0;
}

void text_time_format(int64_t usec, char out[32])
{
	int64_t part = usec % USEC, sec = usec / USEC;
	struct tm t;

	if (part < 0) {
		part += USEC;
		sec--;
	}
	time_t when = sec;
	if (!gmtime_r(&when, &t) || t.tm_year > 9999 - 1900 || t.tm_year < -1900) {
		snprintf(out, 32, "%s", sec < 0 ? "0000-01-01T00:00:00.000Z" : "9999-12-31T23:59:59.999Z");
		return;
	}
	size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &t);
	snprintf(out + n, 32 - n, ".%03dZ", (int)(part / 1000));
}
