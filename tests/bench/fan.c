/* fan.c: those who follow events, many at once, while things happen and others ask.
 *
 *	fan TARGET TOKEN CLIENTS SLOW SECONDS RATE
 * CLIENTS follow and read, SLOW follow and never read. Simulated VMs are changed RATE times a second; 0: as fast as all
 * who read keep up with, at most WINDOW events ahead of them. Meanwhile one client asks for one VM, again and again.
 * Prints: events a second, events times clients a second, resets, numbers that were left out, bytes of a delivered event,
 * median and 99th percentile of the answers in ms, and how many answers there were. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "mem.h"
#include "talk.h"
#include "text.h"

enum { VMS = 16, CHANGERS = 4, WINDOW = 64, SAMPLES = 1 << 18, ASK_USEC = 2000, LINE = 32 };

struct follower {
	struct conn *c;
	bool head;			/* its head has been read */
	size_t chunk;			/* bytes left of the chunk */
	char size[24], line[LINE];	/* beginnings of a chunk's head, of a line */
	unsigned nsize, nline;
	uint64_t last;
};
static struct {
	int clients, slow, seconds, rate;
	_Atomic uint64_t made, seen;	/* events that were asked for; frames that came, of all clients */
	atomic_bool over;
	uint64_t resets, left_out, started, bytes;
	double *ms;
	size_t asked;
} fan;

/* ---- a follower: chunks, lines, numbers */

static void line_came(struct follower *f)
{
	uint64_t id;

	f->line[f->nline < LINE ? f->nline : LINE - 1] = 0;
	if (strncmp(f->line, "id: ", 4) == 0 && text_u64(f->line + 4, &id) == 0) {
		fan.left_out += f->last && id > f->last + 1 ? id - f->last - 1 : 0;
		f->last = id;
		atomic_fetch_add(&fan.seen, 1);
	} else if (strcmp(f->line, "event: reset") == 0) {
		fan.resets++;
	}
	f->nline = 0;
}

static void data_came(struct follower *f, const char *p, size_t n)
{
	while (n) {
		const char *end = memchr(p, '\n', n);
		size_t part = end ? (size_t)(end - p) : n, room = f->nline < LINE - 1 ? LINE - 1 - f->nline : 0;

		memcpy(f->line + f->nline, p, part < room ? part : room);
		f->nline += (unsigned)(part < room ? part : room);
		if (!end)
			return;
		line_came(f);
		p = end + 1;
		n -= part + 1;
	}
}

static void chunks_came(struct follower *f, const char *p, size_t n)
{
	while (n) {
		if (f->chunk) {
			size_t part = f->chunk < n ? f->chunk : n;

			data_came(f, p, part);
			f->chunk -= part;
			p += part;
			n -= part;
			continue;
		}
		if (*p != '\r' && *p != '\n' && f->nsize < sizeof f->size - 1)
			f->size[f->nsize++] = *p;
		if (*p == '\n' && f->nsize) {
			f->size[f->nsize] = 0;
			f->chunk = strtoul(f->size, NULL, 16);
			f->nsize = 0;
			if (!f->chunk)
				die("a stream has ended");
		}
		p++;
		n--;
	}
}

static void read_some(struct follower *f)
{
	static char buf[256 * 1024];
	ssize_t got = conn_read(f->c, buf, sizeof buf - 1, 0);
	char *p = buf, *end;

	if (got == -ETIMEDOUT)
		return;
	if (got <= 0)
		die("a stream was cut off");
	if (!f->head) {			/* it comes whole: it is small */
		buf[got] = 0;
		end = strstr(buf, "\r\n\r\n");
		if (!end || atoi(buf + 9) != 200)
			die("a follower was answered %.200s", buf);
		f->head = true;
		fan.started++;
		p = end + 4;
	}
	fan.bytes += (uint64_t)(buf + got - p);
	chunks_came(f, p, (size_t)(buf + got - p));
}

static struct conn *follow(void)
{
	struct conn *c = talk_dial();

	talk_send(c, "GET", "/api/v1/events", "Accept: text/event-stream\r\n", "", 0);
	return c;
}

static void listen_for(int ep, int64_t until, bool (*enough)(void))
{
	struct epoll_event ev[256];

	while (mono_usec() < until && !(enough && enough())) {
		int n = epoll_wait(ep, ev, 256, 50);

		for (int i = 0; i < n; i++)
			read_some(ev[i].data.ptr);
	}
}

static bool all_started(void) { return fan.started == (uint64_t)fan.clients; }

/* ---- those who change, and the one who asks */

static void exchange(struct conn *c, const char *method, const char *path, const char *body)
{
	static __thread char answer[64 * 1024];

	talk_send(c, method, path, *body ? "Content-Type: application/json\r\n" : "", body, strlen(body));
	if (talk_answer(c, answer, sizeof answer) >= 400)
		die("%s %s: %.500s", method, path, answer);
}

static bool may_change(int64_t begin)
{
	uint64_t made = atomic_load(&fan.made);

	if (fan.rate)
		return made < (uint64_t)((mono_usec() - begin) * fan.rate / 1000000);
	return made < atomic_load(&fan.seen) / (uint64_t)fan.clients + WINDOW;
}

static void *change(void *arg)
{
	struct conn *c = talk_dial();
	int64_t begin = mono_usec();
	unsigned me = (unsigned)(uintptr_t)arg, i = 0;

	while (!atomic_load(&fan.over)) {
		if (!may_change(begin)) {
			usleep(500);
			continue;
		}
		AUTO_FREE char *path = xasprintf("/api/v1/vms/fan%u", me + CHANGERS * (i % (VMS / CHANGERS)));
		AUTO_FREE char *body = xasprintf("{\"labels\":{\"n\":\"%u\"}}", i++);

		atomic_fetch_add(&fan.made, 1);
		exchange(c, "PATCH", path, body);
	}
	conn_close(c);
	return NULL;
}

static void *ask(void *arg)
{
	struct conn *c = talk_dial();

	while (!atomic_load(&fan.over) && fan.asked < SAMPLES) {
		int64_t start = mono_usec();

		exchange(c, "GET", "/api/v1/vms/fan0", "");
		fan.ms[fan.asked++] = (double)(mono_usec() - start) / 1000;
		usleep(ASK_USEC);
	}
	conn_close(c);
	return NULL;
}

static void make_vms(void)
{
	struct conn *c = talk_dial();
	char answer[4096];

	for (int i = 0; i < VMS; i++) {
		AUTO_FREE char *body = xasprintf("{\"name\":\"fan%d\",\"config\":{\"engine\":\"sim\"}}", i);

		talk_send(c, "POST", "/api/v1/vms", "Content-Type: application/json\r\nPrefer: wait=60\r\n", body, strlen(body));
		int status = talk_answer(c, answer, sizeof answer);

		if (status != 201 && status != 409)
			die("POST /vms: %d", status);
	}
	conn_close(c);
}

int main(int argc, char **argv)
{
	pthread_t threads[CHANGERS + 1];
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (argc != 7)
		die("usage: fan TARGET TOKEN CLIENTS SLOW SECONDS RATE");
	signal(SIGPIPE, SIG_IGN);
	talk_to(argv[1], argv[2]);
	fan.clients = atoi(argv[3]);
	fan.slow = atoi(argv[4]);
	fan.seconds = atoi(argv[5]);
	fan.rate = atoi(argv[6]);
	fan.ms = xcalloc(SAMPLES, sizeof *fan.ms);
	make_vms();
	struct follower *all = xcalloc((size_t)(fan.clients + fan.slow), sizeof *all);

	for (int i = 0; i < fan.clients + fan.slow; i++) {
		all[i].c = follow();
		if (i < fan.clients)		/* the slow ones read nothing */
			epoll_ctl(ep, EPOLL_CTL_ADD, conn_fd(all[i].c), &(struct epoll_event){ .events = EPOLLIN, .data.ptr = &all[i] });
	}
	listen_for(ep, mono_usec() + 60 * (int64_t)SECOND, all_started);
	if (!all_started())
		die("%llu of %d streams began", (unsigned long long)fan.started, fan.clients);
	int64_t start = mono_usec();

	for (uintptr_t i = 0; i < CHANGERS; i++)
		pthread_create(&threads[i], NULL, change, (void *)i);
	pthread_create(&threads[CHANGERS], NULL, ask, NULL);
	listen_for(ep, start + fan.seconds * (int64_t)SECOND, NULL);
	uint64_t seen = atomic_load(&fan.seen);
	double s = (double)(mono_usec() - start) / 1e6;

	atomic_store(&fan.over, true);
	for (int i = 0; i <= CHANGERS; i++)
		pthread_join(threads[i], NULL);
	if (!fan.asked)
		die("nothing was answered");
	double p50 = percentile(fan.ms, fan.asked, 50), p99 = percentile(fan.ms, fan.asked, 99);

	printf("%.1f %.0f %llu %llu %.0f %.3f %.3f %zu\n", (double)seen / fan.clients / s, (double)seen / s,
	       (unsigned long long)fan.resets, (unsigned long long)fan.left_out, (double)fan.bytes / (double)(seen ?: 1), p50, p99,
	       fan.asked);
	for (int i = 0; i < fan.clients + fan.slow; i++)
		conn_close(all[i].c);
	free(all);
	return 0;
}
