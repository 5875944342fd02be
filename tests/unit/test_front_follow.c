// LINK: tests/front
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "mem.h"
#include "rig.h"

#define BOTH(v) for (enum via v = UNIX; v <= TLS; v++)

static bool again_1(void) { return rig->again >= 1; }
static bool all_acked(void) { return rig->acks == 100; }
static bool gone_2(void) { return rig->gone == 2; }

static struct client *follow(enum via v)
{
	struct client *c = client_open(v);
	client_say(c, "GET /api/follow HTTP/1.1\r\nHost: h\r\n\r\n");
	ok(client_wait_for(c, ": welcome\n\n"));
	ok(c->buf && strstr(c->buf, "text/event-stream") && strstr(c->buf, "chunked"));
	return c;
}

static void post(const char *path)
{
	eq_int(get(UNIX, path, NULL, 0), 200);
}

TEST(followers_get_events)
{
	rig_start(&(struct rig_how){ 0 });
	struct client *a = follow(UNIX), *b = follow(TLS);
	post("/api/post");
	ok(client_wait_for(a, "id: 11\ndata: \n\n"));
	ok(client_wait_for(b, "id: 11\ndata: \n\n"));
	struct client *late = follow(TLS);
	post("/api/post?1000");
	ok(client_wait_for(a, "id: 12\n"));
	ok(client_wait_for(late, "id: 12\n"));
	ok(!strstr(late->buf, "id: 11\n"));
	client_close(a);
	client_close(b);
	client_close(late);
	rig_stop();
}

TEST(events_are_acknowledged)
{
	rig_start(&(struct rig_how){ 0 });
	struct client *a = follow(UNIX), *p = client_open(UNIX);
	struct reply r;
	for (int i = 0; i < 100; i++) {
		client_say(p, "POST /api/post HTTP/1.1\r\nHost: h\r\n\r\n");
		ok(client_reply(p, &r, false));
		reply_free(&r);
	}
	ok(client_wait_for(a, "id: 110\n"));
	for (int i = 11; i <= 110; i++) {	/* all, in order */
		char text[32];
		sprintf(text, "id: %d\n", i);
		char *at = memmem(a->buf, a->n, text, strlen(text));
		ok(at);
		if (at)
			memset(a->buf, ' ', at - a->buf);
	}
	ok(rig_wait(all_acked));
	client_close(a);
	client_close(p);
	rig_stop();
}

/* A number that the front never heard of: everybody asks again from the last one it gave. */
TEST(a_gap_is_asked_for)
{
	rig_start(&(struct rig_how){ 0 });
	struct client *a = follow(UNIX);
	post("/api/post");
	ok(client_wait_for(a, "id: 11\n"));
	post("/api/gap");
	ok(rig_wait(again_1));
	ok(client_wait_for(a, "data: missed after 11\n\n"));
	post("/api/post");
	ok(client_wait_for(a, "id: 14\n"));
	eq_int(rig->again, 1);
	client_close(a);
	rig_stop();
}

/* What has no number comes in its place, once, and nothing is asked for because of it. */
TEST(what_passes)
{
	rig_start(&(struct rig_how){ 0 });
	struct client *a = follow(UNIX);
	post("/api/pass");		/* nothing before it */
	ok(client_wait_for(a, "data: passing\n\n"));
	post("/api/post");
	post("/api/pass");
	post("/api/pass");
	post("/api/post");
	ok(client_wait_for(a, "id: 12\ndata: \n\n"));
	char *first = memmem(a->buf, a->n, "id: 11\n", 7), *at = first;
	unsigned passed = 0;

	while (at && (at = memmem(at, a->n - (size_t)(at - a->buf), "passing", 7))) {
		passed++;
		at++;
	}
	eq_int(passed, 2);
	eq_int(rig->again, 0);
	struct client *b = follow(TLS);	/* it may be told again of what is no news, and sees what comes */
	post("/api/gap");
	ok(client_wait_for(a, "data: missed after 12\n\n"));
	post("/api/pass");
	post("/api/post");
	ok(client_wait_for(b, "id: 15\n"));
	ok(client_wait_for(a, "id: 15\n"));
	client_close(a);
	client_close(b);
	rig_stop();
}

/* One that doesn't read holds the audience: the others ask once all the same, not for ever. */
TEST(a_gap_is_asked_for_once)
{
	rig_start(&(struct rig_how){ 0 });
	struct client *slow = follow(TLS), *quick = follow(UNIX);
	for (int i = 0; i < 300; i++) {
		char text[32];
		post("/api/post?20000");
		sprintf(text, "id: %d\n", 11 + i);
		ok(client_wait_for(quick, text));
		quick->n = 0;
	}
	post("/api/lost");
	ok(client_wait_for(quick, "data: missed after 310\n\n"));
	post("/api/post");
	ok(client_wait_for(quick, "id: 312\n"));
	eq_int(rig->again, 1);
	client_close(slow);
	client_close(quick);
	rig_stop();
}

/* One that doesn't read falls out of the ring; it costs neither memory without bound nor the others. */
TEST(a_slow_follower_falls_behind)
{
	rig_start(&(struct rig_how){ .ring = 100000 });
	struct client *slow = follow(TLS), *quick = follow(UNIX);
	for (int i = 0; i < 300; i++) {
		char text[32];
		post("/api/post?20000");
		sprintf(text, "id: %d\n", 11 + i);
		ok(client_wait_for(quick, text));
		quick->n = 0;
	}
	eq_int(rig->again, 0);
	ok(client_wait_for(slow, "data: missed after "));
	ok(rig->again >= 1);
	post("/api/post");
	ok(client_wait_for(slow, "id: 311\n"));
	ok(client_wait_for(quick, "id: 311\n"));
	client_close(slow);
	client_close(quick);
	rig_stop();
}

TEST(followers_that_leave_are_gone)
{
	rig_start(&(struct rig_how){ 0 });
	struct client *a = follow(UNIX), *b = follow(TLS);
	client_close(a);
	client_close(b);		/* closed with FIN: for a follower that is the end */
	ok(rig_wait(gone_2));
	post("/api/post");
	rig_stop();
}

TEST(many_followers)
{
	static struct client *c[300];

	rig_start(&(struct rig_how){ .requests_max = 400 });
	for (int i = 0; i < 300; i++)
		c[i] = follow(UNIX);
	post("/api/post");
	post("/api/post?5000");
	for (int i = 0; i < 300; i++) {
		ok(client_wait_for(c[i], "id: 11\n"));
		ok(client_wait_for(c[i], "id: 12\n"));
		client_close(c[i]);
	}
	eq_int(get(TLS, "/api/hello", NULL, 0), 200);
	rig_stop();
}

static unsigned long switches(void)
{
	char path[64], line[128];
	unsigned long n = 0, v;

	sprintf(path, "/proc/%d/status", rig->front);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "voluntary_ctxt_switches: %lu", &v) == 1)
			n = v;
	if (f)
		fclose(f);
	return n;
}

/* Nothing wakes up while nobody is there, and a follower costs one comment in 15 s. */
TEST(quiet_but_for_heartbeats)
{
	struct timeval patience = { .tv_sec = 20 };

	rig_start(&(struct rig_how){ .head_ms = 500 });
	eq_int(get(UNIX, "/api/hello", NULL, 0), 200);
	sleep(1);		/* timers that were armed for it run out, once */
	unsigned long before = switches();
	sleep(2);
	eq_int(switches(), before);
	struct client *a = follow(TLS);
	setsockopt(a->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	sleep(1);
	before = switches();
	sleep(8);
	eq_int(switches(), before);
	ok(client_wait_for(a, "\r\n:\n\n"));
	client_close(a);
	rig_stop();
}

T_MAIN
