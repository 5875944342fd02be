/* power.c: power-on and hard power-off of one VM beside bare QEMU, in turn, for `make bench`.
 *
 *	power SOCKET TOKEN VM HOME KERNEL COUNT	medians: ours/bare, ours, bare (ms to the guest's first byte), power-off (ms)
 *
 * Ours: from the request to the byte in a WebSocket that was opened before. Bare: the same argv, with descriptors at the
 * same numbers, from exec to the byte in the serial socket, on which a client waits already, as croft-vm does. The guest
 * says one byte and sleeps. */
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "mem.h"
#include "talk.h"
#include "text.h"

enum { QMP = 10, SERIAL = 11, KERNEL = 12, AGENT = 13 };

static double ms_since(int64_t start) { return (double)(mono_usec() - start) / 1000; }

/* ---- ours */

/* Everything that is there already: what the last run has said. */
static void drain(struct conn *c)
{
	uint8_t buf[4096], last;
	ssize_t n;

	while ((n = conn_read(c, buf, sizeof buf, SECOND / 10)) > 0)
		talk_payload(buf, (size_t)n, &last);
}

static double first_byte(struct conn *c, int64_t start)
{
	uint8_t buf[4096], last = 0;
	ssize_t n;

	do {
		if ((n = conn_read(c, buf, sizeof buf, 20 * SECOND)) <= 0)
			die("the guest said nothing on its console");
	} while (!talk_payload(buf, (size_t)n, &last));
	if (last != 'R')
		die("the guest said '%c', not 'R'", last);
	return ms_since(start);
}

static double power_on(const char *vm)
{
	AUTO_FREE char *path = xasprintf("/api/v1/vms/%s/start", vm);
	struct conn *console = talk_console(vm), *c = talk_dial();
	static char answer[65536];

	drain(console);
	int64_t start = mono_usec();

	talk_send(c, "POST", path, "Prefer: wait=60\r\n", "", 0);
	double ms = first_byte(console, start);

	if (talk_answer(c, answer, sizeof answer) != 200)
		die("%s cannot be started: %.500s", vm, answer);
	conn_close(console);
	conn_close(c);
	return ms;
}

static double power_off(const char *vm)
{
	AUTO_FREE char *path = xasprintf("/api/v1/vms/%s/poweroff", vm);
	struct conn *c = talk_dial();
	int64_t start;

	talk(c, "GET", "/api/v1/session", "", 200);	/* a connection that is in use */
	usleep(50000);
	start = mono_usec();
	talk(c, "POST", path, "", 200);
	double ms = ms_since(start);

	conn_close(c);
	return ms;
}

/* ---- bare */

static int listen_at(const char *home, const char *name, struct sockaddr_un *at)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*at = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(at->sun_path, sizeof at->sun_path, "%s/bench-%s", home, name);
	unlink(at->sun_path);
	if (fd < 0 || bind(fd, (struct sockaddr *)at, sizeof *at) < 0 || listen(fd, 1) < 0)
		die("no socket at %s: %m", at->sun_path);
	return fd;
}

struct bare { char **argv; int qmp, serial, kernel, agent, null; struct sockaddr_un serial_at; };

static double bare_run(const struct bare *b)
{
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char byte = 0;

	if (connect(client, (const struct sockaddr *)&b->serial_at, sizeof b->serial_at) < 0)
		die("connect to %s: %m", b->serial_at.sun_path);
	int64_t start = mono_usec();
	pid_t pid = vfork();

	if (pid == 0) {
		for (int i = 0; i < 3; i++)
			dup2(b->null, i);
		dup2(b->qmp, QMP);
		dup2(b->serial, SERIAL);
		dup2(b->kernel, KERNEL);
		dup2(b->agent, AGENT);
		execv(b->argv[0], b->argv);
		_exit(127);
	}
	if (pid < 0 || poll(&(struct pollfd){ .fd = client, .events = POLLIN }, 1, 20000) != 1 ||
	    read(client, &byte, 1) != 1 || byte != 'R')
		die("bare QEMU did not run the guest");
	double ms = ms_since(start);

	usleep(50000);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(client);
	return ms;
}

static char *id_of(const char *vm)
{
	AUTO_FREE char *path = xasprintf("/api/v1/vms/%s", vm);
	struct conn *c = talk_dial();
	const char *id = strstr(talk(c, "GET", path, "", 200), "\"id\":\"");
	char *copy = id ? xstrndup(id + 6, 36) : NULL;

	conn_close(c);
	return copy;
}

/* The argv that croft-vm gave to QEMU, which must name the descriptors that we pass. */
static char **argv_of(const char *home, const char *vm)
{
	AUTO_FREE char *id = id_of(vm), *path = xasprintf("%s/run/vm/%s/launch.json", home, id);
	json_t *launch = json_load_file(path, 0, NULL), *args = json_object_get(launch, "argv"), *arg;
	char **argv = xcalloc(json_array_size(args) + 1, sizeof *argv);
	unsigned named = 0;
	size_t i;

	json_array_foreach(args, i, arg) {
		argv[i] = xstrdup(json_string_value(arg));
		named += strstr(argv[i], "fd=10,") || strstr(argv[i], "fd=11,") || strstr(argv[i], "fd=13,") ||
			 strcmp(argv[i], "/proc/self/fd/12") == 0;
	}
	if (named != 4)
		die("%s does not name the descriptors that are expected", path);
	json_decref(launch);
	return argv;
}

static struct bare bare_open(const char *home, const char *vm, const char *kernel)
{
	struct sockaddr_un at;
	struct bare b = { .argv = argv_of(home, vm), .kernel = open(kernel, O_RDONLY | O_CLOEXEC) };
	int *fds[] = { &b.qmp, &b.serial, &b.kernel, &b.agent, &b.null };

	b.qmp = listen_at(home, "qmp", &at);
	b.agent = listen_at(home, "agent", &at);
	b.serial = listen_at(home, "serial", &b.serial_at);
	b.null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (size_t i = 0; i < COUNT(fds); i++) {	/* out of the way of the numbers that they get in the child */
		int low = *fds[i];

		if ((*fds[i] = fcntl(low, F_DUPFD_CLOEXEC, 100)) < 0)
			die("%s: %m", kernel);
		close(low);
	}
	return b;
}

int main(int argc, char **argv)
{
	if (argc != 7)
		die("usage: power SOCKET TOKEN VM HOME KERNEL COUNT");
	const char *vm = argv[3];
	size_t n = (size_t)atoi(argv[6]);
	AUTO_FREE double *ratio = xcalloc(n, sizeof *ratio), *ours = xcalloc(n, sizeof *ours), *alone = xcalloc(n, sizeof *alone);
	AUTO_FREE double *off = xcalloc(n, sizeof *off);

	signal(SIGPIPE, SIG_IGN);
	talk_to(argv[1], argv[2]);
	power_on(vm);		/* warm-up; and it leaves the argv behind */
	struct bare b = bare_open(argv[4], vm, argv[5]);

	power_off(vm);
	bare_run(&b);
	for (size_t i = 0; i < n; i++) {
		ours[i] = power_on(vm);
		usleep(200000);
		off[i] = power_off(vm);
		usleep(100000);
		alone[i] = bare_run(&b);
		usleep(100000);
		ratio[i] = ours[i] / alone[i];
	}
	printf("%.3f %.2f %.2f %.2f\n", median(ratio, n), median(ours, n), median(alone, n), median(off, n));
	for (size_t i = 0; b.argv[i]; i++)
		free(b.argv[i]);
	free(b.argv);
	return 0;
}
