#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>
#include "child.h"
#include "mem.h"
#include "qemu_img.h"

#define PROGRAM		"/usr/bin/qemu-img"
#define ARGS_MAX	24
#define STDERR_MAX	4096

struct qemu_img {
	struct child *child;
	int out;
	sd_event_source *reader;
	char line[64];			/* what has come of "    (12.34/100%)" */
	size_t len;
	void (*progress)(void *arg, unsigned permille);
	void (*ended)(void *arg, const struct err *e);
	void *arg;
};

/* "(12.34/100%)" -> 123; anything else: nothing */
static void line_came(struct qemu_img *q)
{
	unsigned whole, hundredths;

	q->line[q->len] = '\0';
	q->len = 0;
	if (sscanf(q->line, " (%3u.%2u/100%%)", &whole, &hundredths) == 2 && whole <= 100 && q->progress)
		q->progress(q->arg, whole * 10 + hundredths / 10);
}

static int on_out(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct qemu_img *q = arg;
	char piece[256];
	ssize_t n = read(fd, piece, sizeof(piece));

	if (n <= 0 && !(n < 0 && (errno == EAGAIN || errno == EINTR)))
		sd_event_source_set_enabled(s, SD_EVENT_OFF);
	for (ssize_t i = 0; i < n; i++) {
		if (piece[i] == '\r' || piece[i] == '\n')
			line_came(q);
		else if (q->len < sizeof(q->line) - 1)
			q->line[q->len++] = piece[i];
	}
	return 0;
}

/* The last line that it said, without its name and without bytes that are no text. */
static void last_words(const char *text, char *out, size_t cap)
{
	size_t n = strlen(text);
	const char *start;

	while (n && text[n - 1] == '\n')
		n--;
	start = memrchr(text, '\n', n);
	start = start ? start + 1 : text;
	n -= (size_t)(start - text);
	if (n > 10 && !strncmp(start, "qemu-img: ", 10)) {
		start += 10;
		n -= 10;
	}
	if (n >= cap)
		n = cap - 1;
	for (size_t i = 0; i < n; i++)
		out[i] = start[i] >= 0x20 && start[i] < 0x7f ? start[i] : '?';
	out[n] = '\0';
}

static void on_ended(void *arg, int wstatus, const char *err_text)
{
	struct qemu_img *q = arg;
	struct err err = { 0 };
	char words[200];

	last_words(err_text, words, sizeof(words));
	if (WIFEXITED(wstatus) && !WEXITSTATUS(wstatus)) {
		q->ended(q->arg, NULL);
		return;
	}
	if (strstr(err_text, "\" lock")) {	/* Failed to get "write" lock; the line after that names a descriptor of ours */
		fail(&err, ERR_BUSY, "the disk is in use: another process has it open");
		err_hint(&err, "shut down the VM whose disk it is, or end the program that has it open");
	} else if (strstr(words, "No space left"))
		fail(&err, ERR_NO_SPACE, "no space is left on the datastore");
	else if (WIFEXITED(wstatus))
		fail(&err, ERR_INTERNAL, "qemu-img failed: %s", *words ? words : "without a word");
	else
		fail(&err, ERR_TIMEOUT, "qemu-img was ended by signal %d, most likely at its deadline", WTERMSIG(wstatus));
	q->ended(q->arg, &err);
}

struct qemu_img *qemu_img_start(sd_event *ev, const char *const *args, const int *fds, size_t nfds, uint64_t deadline_usec,
				void (*progress)(void *, unsigned), void (*ended)(void *, const struct err *), void *arg,
				struct err *e)
{
	const char *argv[ARGS_MAX + 2] = { PROGRAM };
	struct qemu_img *q;
	int pipefd[2];

	for (size_t i = 0; i < ARGS_MAX && args[i]; i++)
		argv[i + 1] = args[i];
	if (access(PROGRAM, X_OK) < 0) {
		fail(e, ERR_UNSUPPORTED, "%s isn't installed", PROGRAM);
		err_hint(e, "apt-get install qemu-utils");
		return NULL;
	}
	if (pipe2(pipefd, O_CLOEXEC | O_NONBLOCK) < 0) {
		fail_errno(e, errno, "make a pipe");
		return NULL;
	}
	fcntl(pipefd[1], F_SETFL, 0);
	q = xnew(qemu_img);
	*q = (struct qemu_img){ .out = pipefd[0], .progress = progress, .ended = ended, .arg = arg };
	q->child = child_start(ev, &(struct child_how){
		.argv = argv, .exec_fd = -1, .fds = fds, .nfds = nfds, .in = -1, .out = pipefd[1], .jailed = true,
		.stderr_max = STDERR_MAX, .deadline_usec = deadline_usec,
	}, on_ended, q, e);
	close(pipefd[1]);
	if (!q->child || sd_event_add_io(ev, &q->reader, q->out, EPOLLIN, on_out, q) < 0) {
		qemu_img_free(q);
		return NULL;
	}
	return q;
}

void qemu_img_free(struct qemu_img *q)
{
	if (!q)
		return;
	child_free(q->child);
	sd_event_source_disable_unref(q->reader);
	close_at(&q->out);
	free(q);
}
