#include "log.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A pipe that is ready for writing takes PIPE_BUF (4096) bytes at once. */
enum { LINE_BYTES = 2048 };

static const char *program = "croft";
static enum log_level max_level = LOG_INFO;
static void (*sink)(enum log_level, const char *line);
static bool on_tty;
static atomic_uint lost;

static const char *const names[] = {
	[LOG_ERROR] = "error: ", [LOG_WARN] = "warning: ", [LOG_NOTE] = "", [LOG_INFO] = "", [LOG_DEBUG] = "debug: ",
};

void log_open(const char *name, enum log_level max, void (*to)(enum log_level, const char *line))
{
	program = name;
	max_level = max;
	sink = to;
	on_tty = isatty(STDERR_FILENO);
}

/* Journald's socket can be asked not to block; anything else is polled first. */
static bool put(const char *p, size_t n)
{
	ssize_t r = send(STDERR_FILENO, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (r < 0 && errno == ENOTSOCK) {
		struct pollfd pfd = { .fd = STDERR_FILENO, .events = POLLOUT };
		if (poll(&pfd, 1, 0) != 1 || !(pfd.revents & POLLOUT))
			return false;
		r = write(STDERR_FILENO, p, n);
	}
	return r == (ssize_t)n;
}

static bool emit(enum log_level level, const char *line)
{
	char out[LINE_BYTES + 64];
	int n = on_tty ? snprintf(out, sizeof(out), "%s: %s%s\n", program, names[level], line)
		       : snprintf(out, sizeof(out), "<%d>%s\n", level, line);

	if ((size_t)n >= sizeof(out))
		n = sizeof(out) - 1;
	out[n - 1] = '\n';
	return put(out, n);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char line[LINE_BYTES];
	int saved = errno;
	va_list ap;

	if (level > max_level)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	for (char *p = line; *p; p++)		/* one line stays one line, whatever a stranger put into it */
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	if (sink) {
		sink(level, line);
	} else {
		unsigned n = atomic_exchange(&lost, 0);
		char text[64];
		snprintf(text, sizeof(text), "%u lines of the log were lost", n);
		if (n && !emit(LOG_WARN, text))
			atomic_fetch_add(&lost, n + 1);
		else if (!emit(level, line))
			atomic_fetch_add(&lost, 1);
	}
	errno = saved;
}
