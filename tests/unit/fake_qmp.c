#include "fake_qmp.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "buf.h"
#include "list.h"
#include "mem.h"

struct expectation {
	struct list in_script;
	char *command, *has, *answer;
};

struct fake_qmp {
	int fd;
	sd_event_source *src;
	struct list script;
	struct buf in, out;
	size_t chunk;
	unsigned fds;
	char wrong[512], last[1024];
};

static void expectation_free(struct expectation *x)
{
	list_remove(&x->in_script);
	free(x->command);
	free(x->has);
	free(x->answer);
	free(x);
}

static void out_push(struct fake_qmp *f)
{
	size_t n = f->chunk && f->chunk < f->out.len ? f->chunk : f->out.len;
	ssize_t sent = n ? send(f->fd, f->out.data, n, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

	if (sent > 0)
		buf_drop(&f->out, sent);
	else if (sent < 0 && errno != EAGAIN)
		buf_reset(&f->out);
	sd_event_source_set_io_events(f->src, f->out.len ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void fake_qmp_send(struct fake_qmp *f, const void *p, size_t n)
{
	buf_add(&f->out, p, n);
	out_push(f);
}

void fake_qmp_says(struct fake_qmp *f, const char *text)
{
	fake_qmp_send(f, text, strlen(text));
}

static void answer(struct fake_qmp *f, const char *text, json_int_t id)
{
	AUTO_BUF struct buf b = BUF_INIT(16 << 20);
	const char *mark;

	for (; (mark = strstr(text, "$id")); text = mark + 3) {
		buf_add(&b, text, mark - text);
		buf_addf(&b, "%lld", (long long)id);
	}
	buf_adds(&b, text);
	fake_qmp_send(f, b.data, b.len);
}

static void on_message(struct fake_qmp *f, const char *line)
{
	json_t *m = json_loads(line, 0, NULL);
	const char *command = json_string_value(json_object_get(m, "execute"));
	struct expectation *x = list_empty(&f->script) ? NULL : LIST_ENTRY(f->script.next, struct expectation, in_script);

	snprintf(f->last, sizeof(f->last), "%s", line);
	if (!command || !x || strcmp(command, x->command) || (x->has && !strstr(line, x->has))) {
		snprintf(f->wrong, sizeof(f->wrong), "got %.200s, expected %s with %s", line, x ? x->command : "nothing",
			 x && x->has ? x->has : "anything");
	} else {
		if (x->answer)
			answer(f, x->answer, json_integer_value(json_object_get(m, "id")));
		expectation_free(x);
	}
	json_decref(m);
}

/* Messages have no newline between them: QMP's own framing on this side is "a whole JSON value". */
static void take_messages(struct fake_qmp *f)
{
	json_error_t je;
	json_t *m;

	while (f->in.len && (m = json_loadb(f->in.data, f->in.len, JSON_DISABLE_EOF_CHECK, &je))) {
		AUTO_FREE char *line = xstrndup(f->in.data, je.position);

		json_decref(m);
		buf_drop(&f->in, je.position);
		on_message(f, line);
	}
}

static int on_io(sd_event_source *src, int fd, uint32_t events, void *arg)
{
	union { char space[CMSG_SPACE(8 * sizeof(int))]; struct cmsghdr align; } control;
	struct fake_qmp *f = arg;
	char got[4096];
	struct iovec iov = { got, sizeof(got) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (events & EPOLLOUT)
		out_push(f);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return sd_event_source_set_enabled(src, SD_EVENT_OFF);
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
		size_t nfds = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fds[8];

		memcpy(fds, CMSG_DATA(h), nfds * sizeof(int));
		for (size_t i = 0; i < nfds; i++, f->fds++)
			close(fds[i]);
	}
	buf_add(&f->in, got, n);
	take_messages(f);
	return 0;
}

struct fake_qmp *fake_qmp_new(sd_event *ev, int *ret_client_fd)
{
	struct fake_qmp *f = xnew(fake_qmp);
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0 ||
	    sd_event_add_io(ev, &f->src, pair[0], EPOLLIN, on_io, f) < 0)
		abort();
	f->fd = pair[0];
	f->in.max = f->out.max = 16 << 20;
	list_init(&f->script);
	*ret_client_fd = pair[1];
	return f;
}

void fake_qmp_free(struct fake_qmp *f)
{
	while (!list_empty(&f->script))
		expectation_free(LIST_ENTRY(f->script.next, struct expectation, in_script));
	sd_event_source_disable_unref(f->src);
	close(f->fd);
	buf_fini(&f->in);
	buf_fini(&f->out);
	free(f);
}

void fake_qmp_expect(struct fake_qmp *f, const char *command, const char *has, const char *text)
{
	struct expectation *x = xnew(expectation);

	x->command = xstrdup(command);
	x->has = has ? xstrdup(has) : NULL;
	x->answer = text ? xstrdup(text) : NULL;
	list_append(&f->script, &x->in_script);
}

void fake_qmp_expect_start(struct fake_qmp *f)
{
	fake_qmp_says(f, "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}},"
		      " \"capabilities\": [\"oob\"]}}\r\n");
	fake_qmp_expect(f, "qmp_capabilities", NULL, "{\"return\": {}, \"id\": $id}\r\n");
}

void fake_qmp_chunk(struct fake_qmp *f, size_t n)
{
	f->chunk = n;
}

const char *fake_qmp_wrong(const struct fake_qmp *f)
{
	return *f->wrong ? f->wrong : NULL;
}

bool fake_qmp_finished(const struct fake_qmp *f)
{
	return list_empty(&f->script) && !f->out.len;
}

unsigned fake_qmp_fds(const struct fake_qmp *f)
{
	return f->fds;
}

const char *fake_qmp_last(const struct fake_qmp *f)
{
	return f->last;
}
