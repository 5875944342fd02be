/* croft.h: what croftd consists of. One of it; the loop's thread owns all of it. */
#pragma once
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>
#include "err.h"
#include "fields.h"
#include "host.h"
#include "loop.h"

struct machine;

struct options {
	const char *home, *listen, *demo, *web, *libexec;
	bool stop, openapi;
	uint64_t patience_s;		/* of --stop; 0: not said */
	bool installed;			/* home is /var/lib/croft: run folder and socket are in /run/croft */
};

struct croft {
	struct options opt;
	sd_event *ev;
	int home_fd, run_fd;		/* HOME and the run folder */
	char *home, *run;		/* absolute */
	struct err frozen;		/* the home is read-only: why nothing can be changed; code 0: it can be written */
	char home_id[37];		/* a UUID of its own, for as long as its database lives */
	char instance[37];		/* changes with each start: an older cursor of a list is no error, a ticket is */
	int64_t started_usec;
	bool stopping;
	uint32_t uid_base, uid_count;	/* numeric uids of this home: front, shim, then the VMs */
	uid_t front_uid, shim_uid;	/* of the accounts croft and croft-vm on an installed host, else of that range */
	gid_t front_gid, shim_gid;
	char *certificate, *key;	/* PEM */
	char certificate_sha256[65];	/* of the certificate in DER, as hex */
	struct host host;
	struct db *db;
	struct lane *auth_lane;		/* hashes and NSS */
	struct lane *doctor_lane;	/* /proc and run folders; NULL until the first examination */
	struct fronts *fronts;
	struct access *access;		/* users, tokens, sessions, lock-outs */
	struct events *events;
	struct tasks *tasks;
	struct stores *stores;		/* datastores */
	struct firmware *firmware;	/* UEFI's code for VMs */
	struct networks *networks;
	struct usb *usb;		/* NULL while draining */
	struct inventory *inv;		/* VMs */
	struct field_vec problems;	/* of char *: what a person has to know about this host's state */
	struct consoles *consoles;	/* one-time tickets */
	struct maintenance *maintenance;
	bool draining;			/* croftd --stop: no VM is started */
};
