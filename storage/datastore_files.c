/* datastore_files.c: the second half of datastore.h: what a user does with the files. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "dsjob.h"
#include "file.h"
#include "mem.h"

static const char *const entry_kinds[] = {
	[ENTRY_FILE] = "file", [ENTRY_FOLDER] = "folder", [ENTRY_OTHER] = "other", NULL
};

const struct fields datastore_entry_fields = {
	.name = "DatastoreEntry", .size = sizeof(struct datastore_entry), .help = "A file or folder on a datastore",
	.rows = (const struct field[]){
		{ "name", F_STR, offsetof(struct datastore_entry, name), FIELD_READ_ONLY, .help = "its name in its folder" },
		{ "kind", F_ENUM, offsetof(struct datastore_entry, kind), FIELD_READ_ONLY, .names = entry_kinds,
		  .help = "other: a link or a device, which Croft leaves alone" },
		{ "size_bytes", F_U64, offsetof(struct datastore_entry, size_bytes), FIELD_READ_ONLY, .help = "length" },
		{ "used_bytes", F_U64, offsetof(struct datastore_entry, used_bytes), FIELD_READ_ONLY,
		  .help = "what it takes on the disk" },
		{ "modified", F_TIME, offsetof(struct datastore_entry, modified), FIELD_READ_ONLY, .help = "last change" },
		{ 0 },
	},
};

static int entry_at(int dirfd, const char *name, struct datastore_entry *ret)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	*ret = (struct datastore_entry){
		.kind = S_ISREG(st.st_mode) ? ENTRY_FILE : S_ISDIR(st.st_mode) ? ENTRY_FOLDER : ENTRY_OTHER,
		.size_bytes = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0,
		.used_bytes = (uint64_t)st.st_blocks * 512,
		.modified = st.st_mtim.tv_sec * 1000000LL + st.st_mtim.tv_nsec / 1000,
		.name = xstrdup(name),
	};
	return 0;
}

/* list */

struct lister {
	struct dsjob j;
	char *after;
	size_t limit;
	struct datastore_page page;
	void (*done)(void *arg, const struct datastore_page *, const struct err *);
};

/* The smallest @limit names beyond @after, of a folder of any size: at most 2 * limit are held at once. */
struct names { char **v; size_t n, limit; bool more; };

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_cut(struct names *s)
{
	if (s->n)
		qsort(s->v, s->n, sizeof(*s->v), by_bytes);
	s->more = s->more || s->n > s->limit;
	while (s->n > s->limit)
		free(s->v[--s->n]);
}

static void names_add(struct names *s, const char *name)
{
	s->v[s->n++] = xstrdup(name);
	if (s->n == 2 * s->limit)
		names_cut(s);
}

static int read_names(DIR *dir, const char *after, struct names *s)
{
	struct dirent *d;
	int r;

	while (errno = 0, (d = readdir(dir)))
		if (!dspath_check(d->d_name, false, NULL) && (!after || strcmp(d->d_name, after) > 0))
			names_add(s, d->d_name);
	r = -errno;
	names_cut(s);
	return r;
}

static int list_work(struct job *job, struct err *e)
{
	struct lister *l = (struct lister *)job;
	struct names s = { .limit = l->limit };
	int r, fd = dsjob_open_folder(l->j.dirfd, l->j.path, e);
	DIR *dir;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return dsjob_fail(e, errno, "read the folder", l->j.path);
	}
	s.v = xcalloc(2 * l->limit, sizeof(*s.v));
	l->page.entries = xcalloc(l->limit, sizeof(*l->page.entries));
	r = read_names(dir, l->after, &s);
	l->page.more = s.more;
	for (size_t i = 0; i < s.n; i++) {	/* one that vanished meanwhile is left out */
		if (!r && !entry_at(dirfd(dir), s.v[i], &l->page.entries[l->page.n]))
			l->page.n++;
		free(s.v[i]);
	}
	free(s.v);
	closedir(dir);
	return r < 0 ? dsjob_fail(e, r, "read the folder", l->j.path) : 0;
}

static void list_done(struct job *job, const struct err *e)
{
	struct lister *l = (struct lister *)job;

	l->done(l->j.arg, e ? NULL : &l->page, e);
	for (size_t i = 0; i < l->page.n; i++)
		free(l->page.entries[i].name);
	free(l->page.entries);
	free(l->after);
	free(l);
}

void datastore_list(struct datastore *ds, const char *path, const char *after, size_t limit,
		    void (*done)(void *, const struct datastore_page *, const struct err *), void *arg)
{
	struct lister *l = xnew(lister);

	l->after = after ? xstrdup(after) : NULL;
	l->limit = !limit || limit > DATASTORE_PAGE ? DATASTORE_PAGE : limit;
	l->done = done;
	l->j.arg = arg;
	dsjob_run(ds, &l->j, path, DSJOB_TOP, list_work, list_done);
}

/* stat */

struct stater {
	struct dsjob j;
	struct datastore_entry entry;
	void (*done)(void *arg, const struct datastore_entry *, const struct err *);
};

static int stat_work(struct job *job, struct err *e)
{
	struct stater *s = (struct stater *)job;
	const char *name;
	AUTO_CLOSE int folder = -1;
	int r = dsjob_folder(&s->j, &name, e);

	if (r < 0)
		return r;
	folder = r;
	r = entry_at(folder, *name ? name : ".", &s->entry);
	return r < 0 ? dsjob_fail(e, r, "look at", s->j.path) : 0;
}

static void stat_done(struct job *job, const struct err *e)
{
	struct stater *s = (struct stater *)job;

	s->done(s->j.arg, e ? NULL : &s->entry, e);
	free(s->entry.name);
	free(s);
}

void datastore_stat(struct datastore *ds, const char *path,
		    void (*done)(void *, const struct datastore_entry *, const struct err *), void *arg)
{
	struct stater *s = xnew(stater);

	s->done = done;
	s->j.arg = arg;
	dsjob_run(ds, &s->j, path, DSJOB_TOP, stat_work, stat_done);
}

/* open */

struct opener {
	struct dsjob j;
	int flags, fd;
	uint64_t size;
	void (*done)(void *arg, int *fd, uint64_t size, const struct err *);
};

static int open_work(struct job *job, struct err *e)
{
	struct opener *o = (struct opener *)job;
	struct stat st;
	int fd = dsjob_open(&o->j, o->flags, e);

	if (fd < 0)
		return fd;
	o->fd = fd;
	if (fstat(fd, &st) < 0)
		return dsjob_fail(e, errno, "look at", o->j.path);
	o->size = (uint64_t)st.st_size;
	return 0;
}

static void open_done(struct job *job, const struct err *e)
{
	struct opener *o = (struct opener *)job;

	o->done(o->j.arg, &o->fd, o->size, e);
	close_at(&o->fd);
	free(o);
}

void datastore_open_file(struct datastore *ds, const char *path, int flags,
			 void (*done)(void *, int *, uint64_t, const struct err *), void *arg)
{
	struct opener *o = xnew(opener);

	o->flags = flags & (O_ACCMODE | O_DIRECT);
	o->fd = -1;
	o->done = done;
	o->j.arg = arg;
	dsjob_run(ds, &o->j, path, 0, open_work, open_done);
}

/* mkdir, delete */

static int mkdir_work(struct job *job, struct err *e)
{
	struct dsjob *j = (struct dsjob *)job;
	const char *name;
	AUTO_CLOSE int folder = -1;
	int r = dsjob_folder(j, &name, e);

	if (r < 0)
		return r;
	folder = r;
	if (mkdirat(folder, name, 0700) < 0)
		return dsjob_fail(e, errno, "make the folder", j->path);
	r = file_sync_dir(folder);
	return r < 0 ? dsjob_fail(e, r, "make durable", j->path) : 0;
}

void datastore_mkdir(struct datastore *ds, const char *path, storage_done done, void *arg)
{
	dsjob_simple(ds, xnew(dsjob), path, 0, mkdir_work, done, arg);
}

static int delete_work(struct job *job, struct err *e)
{
	struct dsjob *j = (struct dsjob *)job;
	const char *name;
	AUTO_CLOSE int folder = -1;
	int r = dsjob_folder(j, &name, e);

	if (r < 0)
		return r;
	folder = r;
	if (unlinkat(folder, name, 0) < 0 && (errno != EISDIR || unlinkat(folder, name, AT_REMOVEDIR) < 0))
		return dsjob_fail(e, errno, "delete", j->path);
	r = file_sync_dir(folder);
	return r < 0 ? dsjob_fail(e, r, "make durable the deletion of", j->path) : 0;
}

void datastore_delete(struct datastore *ds, const char *path, storage_done done, void *arg)
{
	dsjob_simple(ds, xnew(dsjob), path, 0, delete_work, done, arg);
}
