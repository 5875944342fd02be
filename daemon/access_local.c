/* access_local.c: who a local user is, by the kernel's word on the socket and the host's names. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include "access_state.h"
#include "lane.h"
#include "mem.h"

#define GROUP		"croft"
#define NSS_BYTES	(64 * 1024)	/* an entry of a large group is long */
#define NSS_MAX		(16 * 1024 * 1024)

struct lookup {
	struct job job;
	struct access *a;
	uid_t uid;
	gid_t *gids;			/* the peer's, when it connected */
	size_t ngids;
	char name[64];			/* "" when the host has no name for it */
	bool has_group, member;
	void (*done)(void *arg, const struct who *w);
	void *arg;
};

/* The host's names end up in sentences, and in tickets. */
static void clean(char out[64], const char *name)
{
	snprintf(out, 64, "%s", name);
	for (char *p = out; *p; p++)
		if (*p <= ' ' || *p >= 127 || *p == '|')
			*p = '?';
}

static int user_name(struct lookup *l, char *buf, struct err *e)
{
	struct passwd pw, *found;
	int no = getpwuid_r(l->uid, &pw, buf, NSS_BYTES, &found);

	if (no && no != ENOENT && no != ESRCH)
		return fail_errno(e, no, "look up the local uid %u", l->uid);
	if (found)
		clean(l->name, pw.pw_name);
	return 0;
}

static int group(struct lookup *l, struct err *e)
{
	struct group gr, *found = NULL;
	int no = ERANGE;

	for (size_t n = NSS_BYTES; no == ERANGE && n <= NSS_MAX; n *= 4) {
		AUTO_FREE char *buf = xmalloc(n);

		no = getgrnam_r(GROUP, &gr, buf, n, &found);
		for (size_t i = 0; !no && found && i < l->ngids; i++)
			l->member |= l->gids[i] == gr.gr_gid;
	}
	if (no && no != ENOENT && no != ESRCH)
		return fail_errno(e, no, "look up the group " GROUP);
	l->has_group = found;
	return 0;
}

static int lookup_work(struct job *j, struct err *e)
{
	struct lookup *l = (struct lookup *)j;
	AUTO_FREE char *buf = xmalloc(NSS_BYTES);
	int r = user_name(l, buf, e);

	return r < 0 ? r : group(l, e);
}

static void lookup_done(struct job *j, const struct err *e)
{
	struct lookup *l = (struct lookup *)j;
	struct who w = {};
	struct user *u = *l->name ? access_user(l->a, l->name) : NULL;
	unsigned uid = l->uid;

	if (e)
		snprintf(w.why, sizeof w.why, "who the local uid %u is could not be found out: %.100s", uid, e->msg);
	else if (!*l->name)
		snprintf(w.why, sizeof w.why, "the local uid %u has no name on this host", uid);
	else if (!l->has_group)
		snprintf(w.why, sizeof w.why, "this host has no group " GROUP ", which the local user %s (uid %u) would have to be in",
			 l->name, uid);
	else if (!l->member)
		snprintf(w.why, sizeof w.why, "the local user %s (uid %u) is not in the group " GROUP, l->name, uid);
	else if (!u || strcmp(u->name, l->name) != 0 || strcmp(u->name, "root") == 0)
		snprintf(w.why, sizeof w.why, "the local user %s (uid %u) is in the group " GROUP ", but no Croft user has that name",
			 l->name, uid);
	else
		who_of_user(&w, WHO_UNIX, u);
	if (!l->a->c->stopping)		/* else who asked is gone */
		l->done(l->arg, &w);
	free(l->gids);
	free(l);
}

/* All groups of the peer when it connected: SO_PEERCRED has the first, SO_PEERGROUPS the others. */
static void peer_groups(int fd, gid_t **ret, size_t *ret_n)
{
	struct ucred cred;
	socklen_t len = sizeof cred, bytes = 0;
	gid_t *gids;

	*ret_n = 0;
	getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &bytes);	/* ERANGE: tells how many */
	*ret = gids = xmalloc(bytes + sizeof *gids);
	if (bytes && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, gids, &bytes) == 0)
		*ret_n = bytes / sizeof *gids;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
		gids[(*ret_n)++] = cred.gid;
}

void access_local(struct croft *c, uid_t uid, int peer_fd, void (*done)(void *arg, const struct who *w), void *arg)
{
	if (uid == 0) {
		struct user *u = access_user(c->access, "root");
		struct who w = { .via = WHO_UNIX, .role = ROLE_ADMIN, .perms = role_perms(ROLE_ADMIN), .name = "root" };

		if (u)
			memcpy(w.user_id, u->id, sizeof w.user_id);
		done(arg, &w);
		return;
	}
	struct lookup *l = xnew(lookup);

	l->a = c->access;
	l->uid = uid;
	l->done = done;
	l->arg = arg;
	peer_groups(peer_fd, &l->gids, &l->ngids);
	lane_run(c->access->nss, &l->job, lookup_work, lookup_done);
}
