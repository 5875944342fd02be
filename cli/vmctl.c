#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "vmctl.h"
#include "mem.h"

const char *const ctl_exit_help[CTL_NEXIT] = {
	[CTL_OK] = "done",
	[CTL_FAILED] = "failed",
	[CTL_USAGE] = "the command or a value in it is wrong",
	[CTL_NOT_FOUND] = "there is no such thing",
	[CTL_DENIED] = "not logged in, or not allowed",
	[CTL_CONFLICT] = "not possible in this state, the name is taken, or the object has changed",
	[CTL_TIMEOUT] = "it took too long, or wasn't waited for",
	[CTL_CONNECT] = "croftd can't be reached",
	[CTL_TASK_FAILED] = "the task failed",
	[CTL_TASK_CANCELLED] = "the task was cancelled",
};
const char *const ctl_output_names[] = {
	[OUT_TABLE] = "table", [OUT_JSON] = "json", [OUT_JSONL] = "jsonl", [OUT_NAME] = "name", [OUT_NFORMATS] = NULL
};

/* Text from elsewhere can hold what a terminal obeys. */
static void put_line(const char *prefix, const char *fmt, va_list args)
{
	char text[2048];

	vsnprintf(text, sizeof(text), fmt, args);
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = *p == '\n' ? '\n' : '?';
	fprintf(stderr, "%s%s\n", prefix, text);
}

void say(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	put_line("vmctl: ", fmt, args);
	va_end(args);
}

void say_hint(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	put_line("  ", fmt, args);
	va_end(args);
}

enum ctl_exit ctl_exit_of(enum err_code code)
{
	switch (code) {
	case ERR_NONE:
		return CTL_OK;
	case ERR_BAD_REQUEST: case ERR_INVALID: case ERR_METHOD: case ERR_MEDIA_TYPE: case ERR_RANGE: case ERR_TOO_LARGE:
		return CTL_USAGE;
	case ERR_NOT_FOUND:
		return CTL_NOT_FOUND;
	case ERR_UNAUTHENTICATED: case ERR_FORBIDDEN: case ERR_TOO_MANY:
		return CTL_DENIED;
	case ERR_EXISTS: case ERR_STATE: case ERR_BUSY: case ERR_STALE: case ERR_NO_REVISION:
		return CTL_CONFLICT;
	case ERR_TIMEOUT:
		return CTL_TIMEOUT;
	case ERR_CANCELLED:
		return CTL_TASK_CANCELLED;
	case ERR_INTERNAL: case ERR_UNSUPPORTED: case ERR_UNAVAILABLE: case ERR_NO_SPACE: case ERR_INTERRUPTED: case ERR_NCODES:
		break;
	}
	return CTL_FAILED;
}

int ctl_fail(const struct err *e)
{
	char field[sizeof(e->pointer)];

	snprintf(field, sizeof(field), "%s", *e->pointer ? e->pointer + 1 : "");
	for (char *p = field; (p = strchr(p, '/')); )
		*p = '.';
	if (*field && !strstr(e->msg, field))
		say("%s: %s", field, e->msg);
	else
		say("%s", e->msg);
	if (*e->hint)
		say_hint("%s", e->hint);
	if (*e->permission && !*e->hint)
		say_hint("it needs the permission %s", e->permission);
	return ctl_exit_of(e->code);
}

int ctl_usage(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	put_line("vmctl: ", fmt, args);
	va_end(args);
	return CTL_USAGE;
}

bool ctl_ask(const char *fmt, ...)
{
	char line[16];
	va_list args;
	FILE *tty = fopen("/dev/tty", "r+e");

	if (!tty)
		return false;
	va_start(args, fmt);
	vfprintf(tty, fmt, args);
	va_end(args);
	fprintf(tty, " [y/N] ");
	fflush(tty);
	if (!fgets(line, sizeof(line), tty))
		line[0] = '\0';
	fclose(tty);
	return line[0] == 'y' || line[0] == 'Y';
}

/* Edits between two short words; swapped neighbours count as one. */
static unsigned distance(const char *a, const char *b)
{
	enum { MAX = 40 };
	unsigned row[3][MAX + 1];
	size_t n = strlen(a), m = strlen(b);

	if (n > MAX || m > MAX)
		return MAX;
	for (size_t k = 0; k <= m; k++)
		row[0][k] = (unsigned)k;
	for (size_t i = 1; i <= n; i++) {
		unsigned *now = row[i % 3], *before = row[(i + 2) % 3], *two = row[(i + 1) % 3];

		now[0] = (unsigned)i;
		for (size_t k = 1; k <= m; k++) {
			unsigned best = before[k - 1] + (a[i - 1] != b[k - 1]);

			best = before[k] + 1 < best ? before[k] + 1 : best;
			best = now[k - 1] + 1 < best ? now[k - 1] + 1 : best;
			if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1] && two[k - 2] + 1 < best)
				best = two[k - 2] + 1;
			now[k] = best;
		}
	}
	return row[n % 3][m];
}

const char *did_you_mean(const char *word, const char *const *names)
{
	const char *best = NULL;
	size_t n = strlen(word);
	unsigned least = n < 6 ? 2 : (unsigned)(n / 3 + 1);

	for (; *names; names++) {
		unsigned d = distance(word, *names);

		if (n >= 3 && !strncmp(word, *names, n) && d > 1)
			d = 1;			/* its beginning */
		if (d < least) {
			least = d;
			best = *names;
		}
	}
	return best;
}
