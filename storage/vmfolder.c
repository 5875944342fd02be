#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "dsjob.h"
#include "fields.h"
#include "file.h"
#include "mem.h"
#include "text.h"
#include "vmfolder.h"

#define OWNER	VMFOLDER_MARK

#define GATHER_MAX	10000		/* as many VMs as a restore takes */
#define NAME	63			/* longest name of a VM; its folder may have 9 bytes more */

struct vmjob {
	struct dsjob j;			/* path: the folder, one part */
	char uuid[37], made[64], other[DSPATH_PART];
	char *text;
	size_t n;
	int fd;
	void (*locked)(void *arg, int *fd, const struct err *);
	void (*created)(void *arg, const char *folder, const struct err *);
};

static struct vmjob *vmjob_new(const char *uuid)
{
	struct vmjob *v = xnew(vmjob);

	v->fd = -1;
	snprintf(v->uuid, sizeof(v->uuid), "%s", uuid);
	snprintf(v->made, sizeof(v->made), ".croft-new-%s", v->uuid);
	return v;
}

static bool is_owner(int dirfd, const char *folder, const char *uuid)
{
	char path[DSPATH_MAX + 32];
	AUTO_FREE char *text = NULL;
	size_t n;

	snprintf(path, sizeof(path), "%s/" OWNER, folder);
	return !file_read_at(dirfd, path, 64, &text, &n) && !strcmp(text, uuid);
}

/* The folder gets its name by a rename of a folder that bears its owner already: so it is never there without. rename
 * replaces nothing but an empty folder. 0, -EEXIST when the name is somebody else's. */
static int take_name(struct vmjob *v, const char *folder)
{
	if (!renameat(v->j.dirfd, v->made, v->j.dirfd, folder))
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR)
		return -errno;
	return -EEXIST;
}

static int make_marked(struct vmjob *v, struct err *e)
{
	char owner[sizeof(v->made) + sizeof("/" OWNER)];
	int r;

	if (mkdirat(v->j.dirfd, v->made, 0700) < 0 && errno != EEXIST)
		return dsjob_fail(e, errno, "make the folder", v->j.path);
	snprintf(owner, sizeof(owner), "%s/" OWNER, v->made);
	r = file_publish_at(v->j.dirfd, owner, v->uuid, strlen(v->uuid), 0600);
	return r < 0 ? dsjob_fail(e, r, "make the folder", v->j.path) : 0;
}

static int create_work(struct job *job, struct err *e)
{
	struct vmjob *v = (struct vmjob *)job;
	int r;

	if (strchr(v->j.path, '/') || strlen(v->j.path) > NAME)
		return fail(e, ERR_INVALID, "the name of a VM's folder has at most %d bytes and no \"/\"", NAME);
	snprintf(v->other, sizeof(v->other), "%.*s-%.8s", NAME, v->j.path, v->uuid);
	if (is_owner(v->j.dirfd, v->j.path, v->uuid))
		return 0;
	if (is_owner(v->j.dirfd, v->other, v->uuid)) {
		memcpy(v->j.path, v->other, sizeof(v->other));
		return 0;
	}
	r = make_marked(v, e);
	if (r < 0) {
		file_remove_tree(v->j.dirfd, v->made);	/* the disk is full, most likely: nobody undoes what has no name yet */
		return r;
	}
	r = take_name(v, v->j.path);
	if (r == -EEXIST) {
		memcpy(v->j.path, v->other, sizeof(v->other));
		r = take_name(v, v->other);
	}
	if (!r)
		r = file_sync_dir(v->j.dirfd);
	return r < 0 ? dsjob_fail(e, r, "make the folder", v->j.path) : 0;
}

static void create_done(struct job *job, const struct err *e)
{
	struct vmjob *v = (struct vmjob *)job;

	v->created(v->j.arg, e ? NULL : v->j.path, e);
	free(v);
}

void vmfolder_create(struct datastore *ds, const char *name, const char *uuid,
		     void (*done)(void *, const char *, const struct err *), void *arg)
{
	struct vmjob *v = vmjob_new(uuid);

	v->created = done;
	v->j.arg = arg;
	dsjob_run(ds, &v->j, name, 0, create_work, create_done);
}

static int describe_work(struct job *job, struct err *e)
{
	struct vmjob *v = (struct vmjob *)job;
	char path[DSPATH_MAX + 32];
	AUTO_FREE char *old = NULL;
	size_t n;
	int r;

	if (!is_owner(v->j.dirfd, v->j.path, v->uuid))
		return fail(e, ERR_STATE, "the folder \"%.200s\" doesn't belong to VM %s", v->j.path, v->uuid);
	snprintf(path, sizeof(path), "%s/" VMFOLDER_DESCRIPTOR, v->j.path);
	if (!file_read_at(v->j.dirfd, path, VMFOLDER_DESCRIPTOR_MAX, &old, &n) && n == v->n && !memcmp(old, v->text, n)) {
		snprintf(path, sizeof(path), "%s/" FILE_TEMP VMFOLDER_DESCRIPTOR, v->j.path);
		unlinkat(v->j.dirfd, path, 0);		/* of a croftd that was killed */
		return 0;		/* it says so already: storage that wears out is written no more than needed */
	}
	r = file_publish_at(v->j.dirfd, path, v->text, v->n, 0600);
	return r < 0 ? dsjob_fail(e, r, "write", path) : 0;
}

static void describe_done(struct job *job, const struct err *e)
{
	struct vmjob *v = (struct vmjob *)job;

	v->j.done(v->j.arg, e);
	free(v->text);
	free(v);
}

void vmfolder_describe(struct datastore *ds, const char *folder, const char *uuid, const char *text, size_t n,
		       storage_done done, void *arg)
{
	struct vmjob *v = vmjob_new(uuid);

	v->text = xmemdup(text, n);
	v->n = n;
	v->j.done = done;
	v->j.arg = arg;
	dsjob_run(ds, &v->j, folder, 0, describe_work, describe_done);
}

static int lock_work(struct job *job, struct err *e)
{
	struct vmjob *v = (struct vmjob *)job;
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[DSPATH_MAX + 32];

	if (!is_owner(v->j.dirfd, v->j.path, v->uuid))
		return fail(e, ERR_STATE, "the folder \"%.200s\" doesn't belong to VM %s", v->j.path, v->uuid);
	snprintf(path, sizeof(path), "%s/" OWNER, v->j.path);
	v->fd = file_open_beneath(v->j.dirfd, path, O_RDWR | O_NONBLOCK, 0);
	if (v->fd < 0)
		return dsjob_fail(e, v->fd, "open", path);
	if (fcntl(v->fd, F_OFD_SETLK, &whole) == 0)
		return 0;
	if (errno != EAGAIN && errno != EACCES)
		return dsjob_fail(e, errno, "lock", path);
	fail(e, ERR_BUSY, "the VM in the folder \"%.200s\" runs already, by another Croft that has this datastore, too", v->j.path);
	return err_hint(e, "shut it down there; a VM belongs to one host at a time");
}

static void lock_done(struct job *job, const struct err *e)
{
	struct vmjob *v = (struct vmjob *)job;

	v->locked(v->j.arg, &v->fd, e);
	close_at(&v->fd);
	free(v);
}

void vmfolder_lock(struct datastore *ds, const char *folder, const char *uuid,
		   void (*done)(void *, int *, const struct err *), void *arg)
{
	struct vmjob *v = vmjob_new(uuid);

	v->locked = done;
	v->j.arg = arg;
	dsjob_run(ds, &v->j, folder, 0, lock_work, lock_done);
}

static int remove_marks(struct vmjob *v, struct err *e)
{
	AUTO_CLOSE int folder = dsjob_open_folder(v->j.dirfd, v->j.path, e);
	int r;

	if (folder < 0) {
		r = folder;
		folder = -1;
		return r;
	}
	if ((unlinkat(folder, VMFOLDER_DESCRIPTOR, 0) < 0 && errno != ENOENT) ||
	    (unlinkat(folder, FILE_TEMP VMFOLDER_DESCRIPTOR, 0) < 0 && errno != ENOENT) ||
	    (unlinkat(folder, v->made, 0) < 0 && errno != ENOENT && errno != EISDIR) || file_sync_dir(folder) < 0)
		return dsjob_fail(e, errno, "delete the descriptor in", v->j.path);
	/* The mark last: without it a folder that the power left behind would be nobody's. */
	if (unlinkat(folder, OWNER, 0) < 0 && errno != ENOENT)
		return dsjob_fail(e, errno, "remove the mark in", v->j.path);
	return 0;
}

static int remove_work(struct job *job, struct err *e)
{
	struct vmjob *v = (struct vmjob *)job;
	int r = file_remove_tree(v->j.dirfd, v->made);

	if (r < 0 && r != -ENOENT)
		return dsjob_fail(e, r, "remove", v->made);
	if (is_owner(v->j.dirfd, v->j.path, v->uuid) && (r = remove_marks(v, e)) < 0)
		return r;
	/* Without a mark it is somebody else's, and then not empty; or a crash came between the mark and this. */
	if (unlinkat(v->j.dirfd, v->j.path, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY && errno != EEXIST && errno != ENOENT &&
	    errno != ENOTDIR)
		return dsjob_fail(e, errno, "remove the folder", v->j.path);
	r = file_sync_dir(v->j.dirfd);
	return r < 0 ? dsjob_fail(e, r, "make durable the removal of", v->j.path) : 0;
}

void vmfolder_remove(struct datastore *ds, const char *folder, const char *uuid, storage_done done, void *arg)
{
	dsjob_simple(ds, &vmjob_new(uuid)->j, folder, 0, remove_work, done, arg);
}

/* ---- gathering */

struct gathering {
	struct dsjob j;
	json_t *vms;
	void (*done)(void *arg, json_t *vms, const struct err *);
};

static void gather_one(struct gathering *g, const char *folder)
{
	char path[DSPATH_MAX + 32];
	AUTO_FREE char *id = NULL, *text = NULL;
	uint8_t uuid[16];
	size_t n;

	snprintf(path, sizeof(path), "%s/" OWNER, folder);
	if (file_read_at(g->j.dirfd, path, 36, &id, &n) < 0 || text_uuid(id, uuid) < 0)
		return;
	snprintf(path, sizeof(path), "%s/" VMFOLDER_DESCRIPTOR, folder);
	json_t *vm = file_read_at(g->j.dirfd, path, VMFOLDER_DESCRIPTOR_MAX, &text, &n) < 0 ? NULL
		     : json_parse(text, n, VMFOLDER_DESCRIPTOR_MAX, NULL);

	json_array_append_new(g->vms, json_pack("{s:s, s:s, s:o}", "folder", folder, "id", id, "vm", vm ?: json_null()));
}

static int gather_work(struct job *job, struct err *e)
{
	struct gathering *g = (struct gathering *)job;
	int fd = dsjob_open_folder(g->j.dirfd, g->j.path, e);
	struct dirent *d;

	if (fd < 0)
		return fd;
	DIR *dir = fdopendir(fd);

	if (!dir) {
		close(fd);
		return dsjob_fail(e, errno, "read the folder", g->j.path);
	}
	while (json_array_size(g->vms) < GATHER_MAX && (d = readdir(dir)))
		if (!dspath_check(d->d_name, false, NULL))
			gather_one(g, d->d_name);
	closedir(dir);
	return 0;
}

static void gather_done(struct job *job, const struct err *e)
{
	struct gathering *g = (struct gathering *)job;

	g->done(g->j.arg, g->vms, e);
	json_decref(g->vms);
	free(g);
}

void vmfolder_gather(struct datastore *ds, void (*done)(void *, json_t *, const struct err *), void *arg)
{
	struct gathering *g = xnew(gathering);

	g->vms = json_array();
	g->done = done;
	g->j.arg = arg;
	dsjob_run(ds, &g->j, "", DSJOB_TOP, gather_work, gather_done);
}
