// LINK: hv-core
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "fake_qmp.c"
#include "loop.h"
#include "qmp.h"
#include "t.h"
#include "text.h"

/* One client and one fake peer in one loop; what happened is written down as text: "ready|stop ok|..." */
static struct {
	sd_event *ev;
	struct fake_qmp *fake;
	struct qmp *qmp;
	struct buf story;
	bool free_on_event, free_on_done, free_on_end;
} w;

static void told(const char *a, const char *b, const char *c)
{
	buf_addf(&w.story, "%s%s%s|", a, b, c);
}

static void on_ready(void *arg) { told("ready", "", ""); }
static void on_late(void *arg) { told("late", "", ""); }

static void drop(void)
{
	qmp_free(w.qmp);
	w.qmp = NULL;
}

static void on_event(void *arg, const char *name, json_t *data)
{
	AUTO_FREE char *text = data ? json_dumps(data, JSON_COMPACT) : NULL;

	told("event ", name, text ? text : "");
	if (w.free_on_event)
		drop();
}

static void on_ended(void *arg, const char *why)
{
	told("ended: ", why, "");
	if (w.free_on_end)
		drop();
}

static void on_done(void *arg, json_t *result, const struct err *e)
{
	AUTO_FREE char *text = result ? json_dumps(result, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	told(arg, "=", e ? e->msg : text);
	ok(!e == !!result);
	if (e)
		told(err_slug(e->code), "", "");
	if (w.free_on_done)
		drop();
}

static void begin(void)
{
	static const struct qmp_how how = { .ready = on_ready, .event = on_event, .late = on_late, .ended = on_ended };
	struct qmp_how h = how;
	int fd;

	w.story.max = 1 << 20;
	sd_event_new(&w.ev);
	w.fake = fake_qmp_new(w.ev, &fd);
	h.ev = w.ev;
	w.qmp = qmp_new(&h, fd);
}

static void turn_for(unsigned ms);

static void begin_ready(void)
{
	begin();
	fake_qmp_expect_start(w.fake);
	turn_for(10);
	buf_reset(&w.story);
}

static void finish(void)
{
	qmp_free(w.qmp);
	fake_qmp_free(w.fake);
	sd_event_unref(w.ev);
	buf_fini(&w.story);
}

/* Turn the loop until it is quiet for @ms. */
static void turn_for(unsigned ms)
{
	while (sd_event_run(w.ev, ms * 1000) > 0)
		;
}

static void story_is(const char *want)
{
	turn_for(30);
	if (fake_qmp_wrong(w.fake))
		t_fail(__FILE__, __LINE__, "%s", fake_qmp_wrong(w.fake));
	eq_str(w.story.data ? w.story.data : "", want);
	buf_reset(&w.story);
}

static void call(const char *command)
{
	qmp_call(w.qmp, command, NULL, -1, 1000000, on_done, (void *)command);
}

TEST(greeting_calls_and_events)
{
	begin();
	fake_qmp_expect_start(w.fake);
	fake_qmp_expect(w.fake, "query-status", NULL, "{\"return\": {\"status\": \"running\"}, \"id\": $id}\r\n"
			"{\"event\": \"STOP\", \"timestamp\": {}}\r\n");
	fake_qmp_expect(w.fake, "cont", "\"arguments\":{\"a\":1}",
			"{\"event\":\"RESUME\",\"data\":{\"b\":2}}\n{\"id\":$id,\"return\":{}}\n");
	call("query-status");			/* before the greeting: waits in line */
	qmp_call(w.qmp, "cont", json_pack("{s:i}", "a", 1), -1, 1000000, on_done, (void *)"cont");
	story_is("ready|query-status={\"status\":\"running\"}|event STOP|event RESUME{\"b\":2}|cont={}|");
	ok(fake_qmp_finished(w.fake));
	finish();
}

TEST(split_at_every_byte)
{
	begin();
	fake_qmp_chunk(w.fake, 1);
	fake_qmp_expect_start(w.fake);
	fake_qmp_expect(w.fake, "stop", NULL, "{\"event\":\"STOP\"}\r\n\r\n{\"return\":{},\"id\":$id}\r\n{\"event\":\"X\"}\r\n");
	call("stop");
	story_is("ready|event STOP|stop={}|event X|");
	finish();
}

TEST(qemu_refuses)
{
	begin();
	fake_qmp_expect_start(w.fake);
	fake_qmp_expect(w.fake, "a", NULL, "{\"id\":$id,\"error\":{\"class\":\"GenericError\",\"desc\":\"no\\nway\"}}\r\n");
	fake_qmp_expect(w.fake, "b", NULL, "{\"id\":$id,\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"what?\"}}\r\n");
	fake_qmp_expect(w.fake, "c", NULL, "{\"id\":$id,\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"x\"}}\r\n");
	fake_qmp_expect(w.fake, "d", NULL, "{\"id\":$id,\"error\":7}\r\n");
	call("a");
	call("b");
	call("c");
	call("d");
	story_is("ready|a=QEMU refused a: no?way (GenericError)|wrong-state|b=QEMU refused b: what? (CommandNotFound)|unsupported|"
		 "c=QEMU refused c: x (DeviceNotFound)|not-found|d=QEMU refused d: no reason given (no class)|wrong-state|");
	finish();
}

TEST(descriptors_go_along)
{
	begin();
	fake_qmp_expect_start(w.fake);
	fake_qmp_expect(w.fake, "getfd", "viewer", "{\"return\":{},\"id\":$id}\r\n");
	qmp_call(w.qmp, "getfd", json_pack("{s:s}", "fdname", "viewer"), dup(0), 1000000, on_done, (void *)"getfd");
	story_is("ready|getfd={}|");
	eq_int(fake_qmp_fds(w.fake), 1);
	qmp_call(w.qmp, "getfd", NULL, dup(0), 1000000, NULL, NULL);	/* freed unsent: no leak */
	finish();
}

TEST(silence_meets_the_deadline_and_a_late_answer_is_life)
{
	begin();
	fake_qmp_expect_start(w.fake);
	fake_qmp_expect(w.fake, "stop", NULL, NULL);
	qmp_call(w.qmp, "stop", NULL, -1, 20000, on_done, (void *)"stop");
	qmp_call(w.qmp, "cont", NULL, -1, 20000, on_done, (void *)"cont");	/* waits behind it, never sent */
	turn_for(60);
	story_is("ready|stop=stop: QEMU's monitor did not answer in time|timeout|"
		 "cont=cont: QEMU's monitor did not answer in time|timeout|");
	fake_qmp_expect(w.fake, "query-status", NULL, "{\"return\":{},\"id\":$id}\r\n");
	fake_qmp_says(w.fake, "{\"return\":{},\"id\":1}\r\n");
	call("query-status");
	story_is("late|query-status={}|");
	finish();
}

TEST(a_question_waits_once)
{
	char one[] = "one", other[] = "other";

	begin_ready();
	fake_qmp_expect(w.fake, "query", NULL, "{\"return\":1,\"id\":$id}\r\n");
	fake_qmp_expect(w.fake, "query", NULL, "{\"return\":2,\"id\":$id}\r\n");
	fake_qmp_expect(w.fake, "query-more", NULL, "{\"return\":3,\"id\":$id}\r\n");
	for (unsigned i = 0; i < 1000; i++)
		qmp_ask(w.qmp, "query", json_pack("{s:s}", "a", "b"), 1000000, on_done, one);
	qmp_ask(w.qmp, "query", NULL, 1000000, on_done, other);
	qmp_ask(w.qmp, "query-more", NULL, 1000000, on_done, one);
	story_is("one=1|other=2|one=3|");
	fake_qmp_expect(w.fake, "query", NULL, NULL);
	fake_qmp_expect(w.fake, "query", NULL, "{\"return\":5,\"id\":$id}\r\n");
	qmp_ask(w.qmp, "query", NULL, 1000000, on_done, one);
	turn_for(10);				/* it has gone out: whether its answer is new enough, nobody knows */
	qmp_ask(w.qmp, "query", NULL, 1000000, on_done, one);
	fake_qmp_says(w.fake, "{\"return\":4,\"id\":5}\r\n");
	story_is("one=4|one=5|");
	finish();
}

TEST(no_greeting_is_no_answer)
{
	begin();
	qmp_call(w.qmp, "stop", NULL, -1, 20000, on_done, (void *)"stop");
	turn_for(60);
	story_is("stop=stop: QEMU's monitor did not answer in time|timeout|");
	finish();
}

static void junk(const char *text, const char *why)
{
	AUTO_FREE char *want = xasprintf("ready|stop=stop: %s|unavailable|ended: %s|", why, why);

	begin();
	fake_qmp_expect_start(w.fake);
	fake_qmp_expect(w.fake, "stop", NULL, text);
	call("stop");
	story_is(want);
	finish();
}

TEST(junk_ends_the_connection)
{
	junk("hello\r\n", "QEMU sent something that is no JSON object");
	junk("[]\r\n", "QEMU sent something that is no JSON object");
	junk("{\"a\":1}\r\n", "QEMU sent something that is no answer and no event");
	junk("{\"return\":{},\"id\":99}\r\n", "QEMU answered what was not asked");
	junk("{\"return\":{}}\r\n", "QEMU answered what was not asked");
	junk("{\"return\":{},\"id\":\"2\"}\r\n", "QEMU answered what was not asked");
	junk("{\"QMP\":{}}\r\n", "QEMU greeted twice");
	junk("{\"event\":\"\xff\xfe\"}\r\n", "QEMU sent something that is no JSON object");
	junk("\x01\x02\x7f{}\n", "QEMU sent something that is no JSON object");
}

TEST(an_answer_before_any_call_is_junk)
{
	begin();
	fake_qmp_says(w.fake, "{\"return\":{},\"id\":1}\r\n");
	call("stop");
	story_is("stop=stop: QEMU answered what was not asked|unavailable|ended: QEMU answered what was not asked|");
	finish();
}

TEST(huge_and_deep)
{
	size_t n = QMP_LINE_MAX + 100000;
	char *text = xmalloc(n);

	begin_ready();
	memset(text, ' ', n);
	fake_qmp_send(w.fake, text, n);			/* a line that never ends */
	story_is("ended: QEMU sent a line that is too long|");
	finish();
	begin_ready();
	memset(text, '[', 100000);
	text[100000] = '\n';
	fake_qmp_send(w.fake, text, 100001);
	story_is("ended: QEMU sent something that is no JSON object|");
	finish();
	begin_ready();					/* large and right */
	memset(text, 'x', 2 << 20);
	memcpy(text, "{\"event\":\"BIG\", \"unused\":\"", 26);
	memcpy(text + (2 << 20), "\"}\n", 3);
	fake_qmp_send(w.fake, text, (2 << 20) + 3);
	story_is("event BIG|");
	finish();
	free(text);
}

TEST(the_peer_goes)
{
	begin();
	fake_qmp_expect_start(w.fake);
	fake_qmp_expect(w.fake, "stop", NULL, NULL);
	call("stop");
	call("cont");
	story_is("ready|");
	shutdown(w.fake->fd, SHUT_RDWR);
	turn_for(30);
	story_is("stop=stop: QEMU closed its monitor|unavailable|cont=cont: QEMU closed its monitor|unavailable|"
		 "ended: QEMU closed its monitor|");
	qmp_call(w.qmp, "quit", NULL, -1, 20000, on_done, (void *)"quit");	/* the owner has not freed it yet */
	turn_for(40);
	story_is("quit=quit: QEMU's monitor did not answer in time|timeout|");
	finish();
}

TEST(freed_inside_callbacks)
{
	begin_ready();
	w.free_on_event = true;
	fake_qmp_says(w.fake, "{\"event\":\"A\"}\n{\"event\":\"B\"}\n");
	call("stop");
	turn_for(30);
	ok(!w.qmp);
	eq_str(w.story.data, "event A|stop=stop: the monitor was let go|interrupted|");
	w.free_on_event = false;
	finish();

	begin();
	w.free_on_done = true;
	fake_qmp_expect_start(w.fake);
	fake_qmp_expect(w.fake, "stop", NULL, "{\"return\":{},\"id\":$id}\n{\"event\":\"B\"}\n");
	call("stop");
	call("cont");
	turn_for(30);
	ok(!w.qmp);
	eq_str(w.story.data, "ready|stop={}|cont=cont: the monitor was let go|interrupted|");
	w.free_on_done = false;
	finish();

	begin();
	w.free_on_end = true;
	fake_qmp_says(w.fake, "junk\n");
	turn_for(30);
	ok(!w.qmp);
	w.free_on_end = false;
	finish();

	begin();
	w.free_on_done = true;				/* in a deadline */
	qmp_call(w.qmp, "a", NULL, -1, 5000, on_done, (void *)"a");
	qmp_call(w.qmp, "b", NULL, -1, 5000, on_done, (void *)"b");
	turn_for(40);
	ok(!w.qmp);
	w.free_on_done = false;
	finish();
}

TEST(heard_is_told)
{
	int64_t before;

	begin();
	before = mono_usec();
	fake_qmp_expect_start(w.fake);
	story_is("ready|");
	ok(qmp_heard_usec(w.qmp) >= before);
	finish();
}

T_MAIN
