/* main.c: croftd: options, start, wiring, end. */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include "access.h"
#include "certificate.h"
#include "consoles.h"
#include "croft.h"
#include "db.h"
#include "demo.h"
#include "doctor.h"
#include "drain.h"
#include "event.h"
#include "firmware.h"
#include "fronts.h"
#include "home.h"
#include "host_cache.h"
#include "inventory.h"
#include "lane.h"
#include "log.h"
#include "machine_row.h"
#include "maintenance.h"
#include "mem.h"
#include "networks.h"
#include "openapi.h"
#include "rebuild.h"
#include "settings.h"
#include "crash.h"
#include "startup.h"
#include "stores.h"
#include "task.h"
#include "text.h"
#include "usb.h"
#include "version.h"

#define SLOW_MS		50	/* a callback of the loop that takes longer is told */
#define STOP_S		30	/* what --stop gives the guests, all together */
#define PATIENCE_MAX_S	3600
#define EXIT_FOR_GOOD	2	/* only a person can mend it: croftd.service does not try again */
#define FRONT_USEC	5000000u
#define END_S		10	/* what the lanes get to finish in when croftd ends */

static const char help[] =
	"croftd, the host agent of an ARM hypervisor host\n\n"
	"  --home DIR           all state is here (./run; an installed host: /var/lib/croft)\n"
	"  --listen ADDR:PORT   HTTPS (127.0.0.1:8443; an installed host: :443)\n"
	"  --demo DIR           at the first start, create the VM demo from the files there\n"
	"  --stop               end the croftd of this home and its VMs: the orders of their start descending, each as it\n"
	"                       is set in shutdown\n"
	"  --patience SECONDS   what --stop gives all of them together (30)\n"
	"  --openapi            print the API's OpenAPI document\n"
	"  --libexec DIR        where croft-front and croft-vm are\n"
	"  --web FILE           the web client\n"
	"  --version, --help\n";

static void slow(const char *what, unsigned ms) { log_warn("the loop was held up for %u ms by: %s", ms, what); }

static int parse(int argc, char **argv, struct options *o)
{
	enum { HOME = 1, LISTEN, DEMO, STOP, PATIENCE, OPENAPI, LIBEXEC, WEB, VERSION, HELP };
	static const struct option options[] = {
		{ "home", 1, 0, HOME }, { "listen", 1, 0, LISTEN }, { "demo", 1, 0, DEMO }, { "stop", 0, 0, STOP },
		{ "patience", 1, 0, PATIENCE },
		{ "openapi", 0, 0, OPENAPI }, { "libexec", 1, 0, LIBEXEC }, { "web", 1, 0, WEB }, { "version", 0, 0, VERSION },
		{ "help", 0, 0, HELP }, {}
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case HOME: o->home = optarg; break;
		case LISTEN: o->listen = optarg; break;
		case DEMO: o->demo = optarg; break;
		case STOP: o->stop = true; break;
		case PATIENCE:
			if (text_u64(optarg, &o->patience_s) == 0 && o->patience_s >= 1 && o->patience_s <= PATIENCE_MAX_S)
				break;
			fprintf(stderr, "croftd: --patience takes 1 to %u seconds, not \"%s\"\n", PATIENCE_MAX_S, optarg);
			return -EINVAL;
		case OPENAPI: o->openapi = true; break;
		case LIBEXEC: o->libexec = optarg; break;
		case WEB: o->web = optarg; break;
		case VERSION: puts("croftd " CROFT_VERSION); exit(0);
		case HELP: fputs(help, stdout); exit(0);
		default: fputs("try croftd --help\n", stderr); return -EINVAL;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "croftd: \"%s\" is no option; try croftd --help\n", argv[optind]);
		return -EINVAL;
	}
	return 0;
}

static void defaults(struct options *o)
{
	static char self[4096], web[4200];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (n > 0)
		*strrchr(self, '/') = 0;
	o->home = o->home ?: strcmp(self, "/usr/libexec/croft") == 0 ? "/var/lib/croft" : "./run";
	o->libexec = o->libexec ?: self;
	snprintf(web, sizeof web, "%s/web.bundle", o->libexec);
	o->web = o->web ?: web;
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	return sd_event_exit(sd_event_source_get_event(s), 0);
}

static int make_loop(struct croft *c, struct err *e)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	int r = sd_event_default(&c->ev);

	if (r >= 0)
		r = sd_event_add_signal(c->ev, NULL, SIGTERM, on_signal, c);
	if (r >= 0)
		r = sd_event_add_signal(c->ev, NULL, SIGINT, on_signal, c);
	sd_event_set_watchdog(c->ev, true);
	return r < 0 ? fail_errno(e, r, "make the event loop") : 0;
}

static void problem(struct croft *c, char *text)
{
	log_error("%s", text);
	*(char **)field_vec_add(&c->problems, sizeof(char *)) = text;
}

/* What both serving and draining need: the state, and the VMs that run. */
static int open_state(struct croft *c, struct err *e)
{
	AUTO_FREE char *path = xasprintf("%s/croft.db", c->home);
	int r = db_open(c->ev, path, &c->frozen, &c->db, e);

	if (c->frozen.code)
		problem(c, xasprintf("%s; %s", c->frozen.msg, c->frozen.hint));
	if (r == 0 && db_damage(c->db))
		problem(c, xstrdup(db_damage(c->db)));
	rebuild_tell(c);
	c->firmware = firmware_new(c->ev);
	if (r == 0)
		r = settings_uids(c, e);
	if (r == 0) {
		settings_accounts(c);
		settings_home(c);
	}
	if (r == 0)
		r = host_cache_load(c, e);
	if (r == 0)
		r = events_new(c, &c->events, e);
	if (r == 0)
		r = stores_new(c, &c->stores, e);
	if (r == 0)
		r = networks_new(c, &c->networks, e);
	if (r == 0)
		r = tasks_new(c, &c->tasks, e);
	if (r == 0)
		r = maintenance_new(c, e);
	if (r == 0)
		r = inventory_new(c, &c->inv, e);
	return r;
}

/* A lane that hangs in a dead file server cannot be waited for. All that was answered is on disk. */
static void end_without(int signal)
{
	static const char text[] = "croftd: a datastore does not answer; ending without it\n";

	(void)!write(STDERR_FILENO, text, sizeof text - 1);
	_exit(0);
}

static void close_state(struct croft *c)
{
	c->stopping = true;
	signal(SIGALRM, end_without);
	alarm(END_S);
	fronts_free(c->fronts);
	c->fronts = NULL;
	tasks_stop(c->tasks);
	lane_free(c->auth_lane);
	lane_free(c->doctor_lane);
	stores_free(c->stores);
	firmware_free(c->firmware);
	usb_free(TAKE(c->usb));
	db_close(c->db);
	consoles_free(c->consoles);
	inventory_free(c->inv);		/* what was asked of VMs ends now: their tasks are told */
	tasks_free(c->tasks);
	maintenance_free(c->maintenance);
	access_free(c->access);
	events_free(c->events);
	networks_free(c->networks);
	host_fini(&c->host);
	for (size_t i = 0; i < c->problems.n; i++)
		free(((char **)c->problems.items)[i]);
	free(c->problems.items);
	free(c->certificate);
	free(c->key);
	free(c->home);
	free(c->run);
	sd_event_unref(c->ev);
}

static void tell_start(struct croft *c, const char *password)
{
	AUTO_FREE char *host = xstrndup(c->opt.listen, strcspn(c->opt.listen, "]:") + (*c->opt.listen == '['));
	const char *shown = *host && *c->opt.listen != '[' ? host : "127.0.0.1";

	printf("Croft %s serves https://%s:%u and %s/croft.sock\n", CROFT_VERSION, shown, fronts_port(c->fronts),
	       fronts_socket(c));
	if (password)
		printf("Log in as admin with the password %s (this is the only time that it is shown)\n", password);
	if (c->opt.installed && !access_has_passwords(c))
		printf("Nobody can log in by a password yet; set admin's, as root: vmctl user set admin password=-\n");
	printf("Guests run by %s: %s\n", c->host.accel, c->host.accel_reason);
	fflush(stdout);
	sd_notify(0, "READY=1");
}

static void tell_end(struct croft *c)
{
	struct buf names AUTO_BUF = BUF_INIT(4096);
	size_t n = 0;

	for (size_t i = 0; i < inventory_len(c->inv); i++) {
		const struct machine *m = inventory_at(c->inv, i);

		if (!m->vm || m->spec.engine == VM_ENGINE_SIM || !vm_state_alive(vm_state(m->vm)))
			continue;
		if (n++ < 20)
			buf_addf(&names, "%s%s", names.len ? ", " : "", m->name);
	}
	if (n)
		printf("croftd has ended. %zu VM%s on without it: %s\nStart it again and they are there; "
		       "croftd --home %s --stop (%s) shuts them down.\n", n, n == 1 ? " runs" : "s run", names.data, c->home,
		       c->opt.installed ? "systemctl stop croft-guests" : "make stop");
	else
		printf("croftd has ended. No VM of this home runs.\n");
	fflush(stdout);
}

static void set(void *arg) { *(bool *)arg = true; }

/* Nobody is told of an address that does not answer. */
static void wait_front(struct croft *c)
{
	struct timer deadline = {};
	bool over = false;

	timer_arm(&deadline, c->ev, FRONT_USEC, set, &over);
	while (!fronts_serve(c->fronts) && !over && sd_event_run(c->ev, UINT64_MAX) >= 0)
		;
	timer_disarm(&deadline);
	if (over)
		log_error("croft-front has not come up within %u s: nobody reaches this host by HTTPS until it does; it is tried again"
			  " (what it said is above)", FRONT_USEC / 1000000);
}

static int serve(struct croft *c, struct err *e)
{
	AUTO_FREE char *password = NULL;
	int r = access_new(c, &c->access, e);

	c->auth_lane = lane_new(c->ev, "auth", 2, 64);
	c->consoles = consoles_new(c);
	c->usb = usb_new(c);
	if (r == 0)
		r = access_first_admin(c, c->opt.installed ? NULL : &password, e);	/* (a log is no place for a password) */
	if (r == 0)
		r = certificate_load(c, e);
	if (r == 0)
		r = fronts_new(c, &c->fronts, e);
	if (r == 0)
		r = tasks_recover(c, e);
	if (r < 0)
		return r;
	wait_front(c);
	tell_start(c, password);
	startup_begin(c);
	crash_begin(c);
	rebuild_begin(c, demo_begin);
	machine_mirror_all(c);
	doctor_sweep(c);
	home_watch(c);
	r = loop_run(c->ev, SLOW_MS, slow);
	tell_end(c);
	return r;
}

static int run(struct croft *c, struct err *e)
{
	int pid, r = make_loop(c, e);

	if (r < 0 || (r = home_open(c, e)) < 0)
		return r;
	c->opt.listen = c->opt.listen ?: c->opt.installed ? ":443" : "127.0.0.1:8443";
	r = c->opt.stop ? home_end_other(c, e) : home_lock(c, &pid, e);
	if (r < 0 || (r = open_state(c, e)) < 0)
		return r;
	if (!c->opt.stop)
		return serve(c, e);
	c->draining = true;
	if ((r = tasks_recover(c, e)) < 0)
		return r;
	drain_host(c, c->opt.patience_s ?: STOP_S);
	return loop_run(c->ev, SLOW_MS, slow);
}

int main(int argc, char **argv)
{
	struct croft c = { .home_fd = -1, .run_fd = -1, .started_usec = now_usec() };
	struct rlimit files = { 65536, 65536 };
	struct err e = {};
	size_t n;

	if (parse(argc, argv, &c.opt) < 0)
		return EXIT_FOR_GOOD;
	if (c.opt.openapi) {
		puts(openapi_text(&n));
		return 0;
	}
	defaults(&c.opt);
	mallopt(M_ARENA_MAX, 1);
	umask(077);
	setrlimit(RLIMIT_NOFILE, &files);
	log_open("croftd", getenv("CROFT_DEBUG") ? LOG_DEBUG : LOG_INFO, NULL);
	text_uuid_random(c.instance);
	if (geteuid() != 0) {
		fputs("croftd: it has to be started as root, since it gives each VM a user of its own; try sudo\n", stderr);
		return 1;
	}
	int r = run(&c, &e);

	if (r < 0 && e.code)
		fprintf(stderr, "croftd: %s%s%s\n", e.msg, *e.hint ? "; " : "", e.hint);
	if (c.ev)
		close_state(&c);
	if (r < 0 && (e.code == ERR_INVALID || e.code == ERR_UNSUPPORTED))
		return EXIT_FOR_GOOD;
	return r < 0;
}
