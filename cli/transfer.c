/* transfer.c: vmctl file upload, file download, and whatever else of the API carries bytes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "call.h"
#include "command.h"
#include "fields.h"
#include "file.h"
#include "mem.h"
#include "out.h"
#include "text.h"
#include "tty.h"

#define TRIES	5

struct transfer {
	const char *label;
	uint64_t done, all, from;
	int fd;
	int error;
};

static void on_sent(void *arg, uint64_t bytes)
{
	struct transfer *t = arg;

	tty_transfer(t->label, t->from + bytes, t->all);
}

/* "[store] path" or "path" -> the two; the path defaults to the name of the local file. */
static int split(const char *word, const char *local, char **store, char **path)
{
	const char *close = word && *word == '[' ? strchr(word, ']') : NULL;
	const char *base = local && strrchr(local, '/') ? strrchr(local, '/') + 1 : local;

	*store = close ? xstrndup(word + 1, (size_t)(close - word - 1)) : xstrdup("local");
	word = close ? close + 1 + (close[1] == ' ') : word;
	if (!word || !*word)
		*path = base ? xstrdup(base) : NULL;
	else if (word[strlen(word) - 1] == '/')
		*path = xasprintf("%s%s", word, base ? base : "");
	else
		*path = xstrdup(word);
	return *path ? CTL_OK : ctl_usage("which file? Write it as '[local] iso/debian.iso'");
}

/* How much of an upload that was cut off is safe with croftd. */
static uint64_t durable(struct ctl *c, const char *store, const char *path)
{
	struct call k = { .op = "upload_list", .quiet = true };
	AUTO_FREE char *target = xasprintf("[%s] %s", store, path);
	uint64_t bytes = 0;
	json_t *items, *item;
	size_t i;

	if (call_list(c, &k, &items))
		return 0;
	json_array_foreach(items, i, item)
		if (json_is_string(json_object_get(item, "target")) &&
		    !strcmp(json_string_value(json_object_get(item, "target")), target))
			bytes = (uint64_t)json_integer_value(json_object_get(item, "durable_bytes"));
	json_decref(items);
	return bytes;
}

static int send_once(struct ctl *c, const char *url, struct transfer *t, json_t **ret, struct err *e)
{
	AUTO_FREE char *headers = t->from ? xasprintf("Upload-Offset: %llu\r\nContent-Type: application/octet-stream\r\n",
						      (unsigned long long)t->from) : xstrdup("Content-Type: application/octet-stream\r\n");
	struct http_request q = HTTP_REQUEST("PUT", url);
	struct http_answer a;
	int r;

	q.headers = headers;
	q.body_fd = t->fd;
	q.offset = t->from;
	q.length = t->all - t->from;
	q.sent = on_sent;
	q.arg = t;
	q.timeout_usec = 600 * 1000000ull;	/* the end of an upload is synced and its digest made */
	r = http_do(&c->http, &q, &a, e);
	if (!r && a.reply.status >= 400) {
		call_problem(&a, e);
		r = 1;
	} else if (!r) {
		*ret = json_parse(a.body.data ? a.body.data : "", a.body.len, HTTP_BODY_MAX, NULL);
	}
	http_answer_fini(&a);
	return r;
}

/* Cut off by the network or a restart of croftd: go on where it is safe. */
static int send_all(struct ctl *c, const struct api_op *op, const char *const *params, const char *query, struct transfer *t)
{
	AUTO_FREE char *url = call_path(op, params, query);
	json_t *ret = NULL;
	struct err e = { 0 };
	int r = -1;

	t->from = durable(c, params[0], params[1]);
	if (t->from > t->all)
		t->from = 0;
	for (int tries = 0; tries < TRIES; tries++) {
		e = (struct err){ 0 };
		r = send_once(c, url, t, &ret, &e);
		if (r >= 0)
			break;
		usleep(1000000);
		t->from = durable(c, params[0], params[1]);
	}
	tty_transfer_end();
	if (r) {
		json_decref(ret);
		if (e.code == ERR_EXISTS)
			err_hint(&e, "--replace takes its place, or give it another name: vmctl file upload FILE '[%s] NAME'", params[0]);
		ctl_fail(&e);
		return r < 0 ? CTL_CONNECT : ctl_exit_of(e.code);
	}
	r = ret ? out_object(c, ret, op->out) : CTL_OK;
	json_decref(ret);
	return r;
}

static int upload(struct ctl *c, const struct api_op *op, struct args *a)
{
	int code = 0;
	AUTO_FREE char *query = command_query(op, a, &code), *store = NULL, *path = NULL;
	struct stat st;
	struct err e = { 0 };

	if (code)
		return code;
	if (args_unknown(a))
		return ctl_usage("file upload knows no %s", args_unknown(a));
	if (a->n < 1 || a->n > 2)
		return ctl_usage("vmctl file upload FILE ['[DATASTORE] PATH']");
	if (split(a->n > 1 ? a->v[1] : NULL, a->v[0], &store, &path))
		return CTL_USAGE;
	AUTO_CLOSE int fd = open(a->v[0], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		fail_errno(&e, errno, "open %s", a->v[0]);
		return ctl_fail(&e);
	}
	if (!S_ISREG(st.st_mode))
		return ctl_usage("%s isn't a regular file", a->v[0]);
	struct transfer t = { .label = a->v[0], .all = (uint64_t)st.st_size, .fd = fd };

	return send_all(c, op, (const char *[]){ store, path, NULL }, query, &t);
}

static int on_data(void *arg, const char *p, size_t n)
{
	struct transfer *t = arg;

	t->error = file_write_all(t->fd, p, n);
	t->done += n;
	tty_transfer(t->label, t->done, t->all);
	return t->error;
}

/* The bytes of @url into @fd. */
static int receive(struct ctl *c, const char *url, const char *label, int fd)
{
	struct transfer t = { .label = label, .fd = fd };
	struct http_request q = HTTP_REQUEST("GET", url);
	struct http_answer a;
	struct err e = { 0 };
	int r;

	q.data = on_data;
	q.arg = &t;
	r = http_do(&c->http, &q, &a, &e);
	if (!r && a.reply.status >= 400)
		call_problem(&a, &e);
	else if (t.error)
		fail_errno(&e, t.error, "write the file");
	http_answer_fini(&a);
	tty_transfer_end();
	if (r < 0 && e.code == ERR_UNAVAILABLE)
		return ctl_fail(&e), CTL_CONNECT;
	return e.code ? ctl_fail(&e) : CTL_OK;
}

static int download(struct ctl *c, const struct api_op *op, struct args *a)
{
	AUTO_FREE char *store = NULL, *path = NULL, *url = NULL, *temp = NULL;
	const char *to;
	struct err e = { 0 };
	int fd, code;

	if (args_unknown(a))
		return ctl_usage("file download knows no %s", args_unknown(a));
	if (a->n < 1 || a->n > 2)
		return ctl_usage("vmctl file download '[DATASTORE] PATH' [FILE], or - for stdout");
	if (split(a->v[0], NULL, &store, &path))
		return CTL_USAGE;
	url = call_path(op, (const char *[]){ store, path, NULL }, NULL);
	to = a->n > 1 ? a->v[1] : strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	if (!strcmp(to, "-"))
		return receive(c, url, path, STDOUT_FILENO);
	temp = xasprintf("%s.part", to);
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0) {
		fail_errno(&e, errno, "make %s", temp);
		return ctl_fail(&e);
	}
	code = receive(c, url, path, fd);
	if (!code && (fsync(fd) < 0 || rename(temp, to) < 0)) {
		fail_errno(&e, errno, "write %s", to);
		code = ctl_fail(&e);
	}
	close(fd);
	if (code)
		unlink(temp);
	return code;
}

int file_transfer(struct ctl *c, const struct api_op *op, struct args *a)
{
	return op->flags & API_BYTES_IN ? upload(c, op, a) : download(c, op, a);
}
