// LINK: hv-core/base
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "log.h"
#include "t.h"
#include "text.h"

static int out = -1;

/* stderr becomes one end of @fd; the other is read by us. */
static void capture(int fd[2])
{
	dup2(fd[1], 2);
	close(fd[1]);
	out = fd[0];
	fcntl(out, F_SETFL, O_NONBLOCK);
	log_open("test", LOG_INFO, NULL);
}

static const char *got(void)
{
	static char text[1 << 17];
	size_t len = 0;
	ssize_t n;

	while (len < sizeof(text) - 1 && (n = read(out, text + len, sizeof(text) - 1 - len)) > 0)
		len += n;
	text[len] = 0;
	return text;
}

TEST(a_line_has_its_level_and_stays_one_line)
{
	int p[2];

	eq_int(pipe(p), 0);
	capture(p);
	log_warn("name %s", "a\n<0>forged\x1b[2J");
	log_debug("not asked for");
	eq_str(got(), "<4>name a <0>forged [2J\n");
}

TEST(a_long_line_is_cut)
{
	static char big[5000];
	int p[2];

	memset(big, 'x', sizeof(big) - 1);
	eq_int(pipe(p), 0);
	capture(p);
	log_info("%s", big);
	const char *text = got();
	ok(strlen(text) > 1000 && strlen(text) < 2100 && text[strlen(text) - 1] == '\n');
}

static void flood(void)
{
	int64_t from = mono_usec();

	for (int i = 0; i < 5000; i++)		/* nobody reads: far more than fits */
		log_error("a line of some length, so that it is full soon: %d", i);
	ok(mono_usec() - from < 5000000);
	const char *text = got();
	ok(strstr(text, "soon: 0\n"));
	ok(!strstr(text, "soon: 4999\n"));
	log_error("back");
	text = got();
	ok(strstr(text, "lines of the log were lost\n<3>back\n"));
	log_error("calm");
	eq_str(got(), "<3>calm\n");
}

TEST(a_full_pipe_loses_lines_and_says_how_many)
{
	int p[2];
	eq_int(pipe(p), 0);
	capture(p);
	flood();
}

TEST(a_full_socket_loses_lines_and_says_how_many)
{
	int p[2];
	eq_int(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	capture(p);
	flood();
}

static char sunk[100];
static void sink(enum log_level level, const char *line)
{
	snprintf(sunk, sizeof(sunk), "%d %s", level, line);
}

TEST(a_sink_gets_the_bare_line)
{
	log_open("test", LOG_WARN, sink);
	log_error("hello %d", 5);
	eq_str(sunk, "3 hello 5");
	log_info("no");
	eq_str(sunk, "3 hello 5");
}

T_MAIN
