#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include "mem.h"
#include "text.h"
#include "tty.h"

#define SECRET_MAX	1024

/* One line, byte by byte, so that nothing behind it is taken from stdin. */
static char *read_line(int fd)
{
	char line[SECRET_MAX];
	size_t n = 0;
	ssize_t r;
	char *ret;

	while (n < sizeof(line) && (r = read(fd, line + n, 1)) != 0) {
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 || line[n] == '\n')
			break;
		n++;
	}
	ret = n && n < sizeof(line) ? xstrndup(line, n) : NULL;
	explicit_bzero(line, sizeof(line));
	return ret;
}

static char *ask(int tty, const char *prompt)
{
	struct termios old, silent;
	char *ret;

	tcgetattr(tty, &old);
	silent = old;
	silent.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(tty, TCSAFLUSH, &silent);
	dprintf(tty, "%s: ", prompt);		/* only now: who answers fast is neither shown nor lost */
	ret = read_line(tty);
	tcsetattr(tty, TCSAFLUSH, &old);
	dprintf(tty, "\n");
	return ret;
}

char *tty_secret(const char *prompt, bool twice, struct err *e)
{
	AUTO_CLOSE int tty = isatty(STDIN_FILENO) ? open("/dev/tty", O_RDWR | O_CLOEXEC) : -1;
	char *one = tty >= 0 ? ask(tty, prompt) : read_line(STDIN_FILENO), *two;

	if (!one) {
		fail(e, ERR_INVALID, "there was no password");
		err_hint(e, "type it, or give it as the first line of stdin");
		return NULL;
	}
	if (tty < 0 || !twice)
		return one;
	two = ask(tty, "Again");
	if (!two || strcmp(one, two)) {
		fail(e, ERR_INVALID, "the two aren't the same");
		explicit_bzero(one, strlen(one));
		free(TAKE(one));
	}
	if (two)
		explicit_bzero(two, strlen(two));
	free(two);
	return one;
}

static int64_t began, told;

void tty_transfer(const char *what, uint64_t done, uint64_t all)
{
	int64_t now = mono_usec();
	double seconds;
	char speed[24];

	if (!began)
		began = now;
	if (!isatty(STDERR_FILENO) || now - told < 200000)
		return;
	told = now;
	seconds = (double)(now - began) / 1e6 + 0.001;
	text_size_format((uint64_t)((double)done / seconds), speed);
	fprintf(stderr, "\r\033[K%.60s  %3u %%  %s/s", what, all ? (unsigned)(done * 100 / all) : 0, speed);
	if (all && done)
		fprintf(stderr, "  %.0f s left", seconds * (double)(all - done) / (double)done);
	fflush(stderr);
}

void tty_transfer_end(void)
{
	if (told)
		fprintf(stderr, "\r\033[K");
	began = told = 0;
}
