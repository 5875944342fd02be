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
#include "survey.h"
#include "text.h"
#include "vmfolder.h"

#define ENTRIES_MAX	100000		/* of a datastore */
#define FOUND_MAX	1000		/* marks, and rests */
#define FOLDERS_MAX	20000		/* that wait to be looked at */
#define UPLOAD		".croft-upload-"
#define NEW		".croft-new-"

static char *join(const char *folder, const char *name)
{
	return *folder ? xasprintf("%s/%s", folder, name) : xstrdup(name);
}

static void texts_free(struct field_vec *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(((char **)v->items)[i]);
	free(v->items);
	*v = (struct field_vec){ 0 };
}

/* ---- the whole datastore */

struct walk {
	struct dsjob j;			/* of the folder that is looked at */
	struct datastore *ds;
	struct field_vec folders;	/* of char *: not looked at yet */
	char *folder;
	dev_t device;			/* of the datastore itself */
	bool begun;
	struct survey found;
	void (*done)(void *arg, const struct survey *s, const struct err *e);
	void *arg;
};

static bool rest_of(const char *name, const struct stat *st, struct survey_rest *ret)
{
	uint8_t id[16];
	bool upload = strncmp(name, UPLOAD, strlen(UPLOAD)) == 0;
	const char *text = upload ? name + strlen(UPLOAD) : strncmp(name, NEW, strlen(NEW)) == 0 ? name + strlen(NEW) : "";

	if (text_uuid(text, id) < 0 || (!S_ISREG(st->st_mode) && (upload || !S_ISDIR(st->st_mode))))
		return false;
	*ret = (struct survey_rest){ .upload = upload, .is_folder = S_ISDIR(st->st_mode), .used_bytes = (uint64_t)st->st_blocks * 512,
				     .modified = st->st_mtim.tv_sec * 1000000LL + st->st_mtim.tv_nsec / 1000 };
	text_uuid_format(id, ret->id);
	return true;
}

static void found_mark(struct walk *w, int folder)
{
	struct survey_mark *m = field_vec_add(&w->found.marks, sizeof(*m));
	AUTO_FREE char *text = NULL;
	uint8_t id[16];
	size_t n;

	m->folder = xstrdup(w->folder);
	if (!file_read_at(folder, VMFOLDER_MARK, 64, &text, &n) && !text_uuid(text, id))
		text_uuid_format(id, m->uuid);
}

static void look_at(struct walk *w, int folder, const struct dirent *d)
{
	struct survey_rest rest;
	struct stat st;

	w->found.looked++;
	if (d->d_type == DT_REG && *d->d_name != '.')
		return;			/* nearly all are such: no further look */
	if (fstatat(folder, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (!strcmp(d->d_name, VMFOLDER_MARK)) {
		if (w->found.marks.n < FOUND_MAX * 10 && *w->folder)
			found_mark(w, folder);
	} else if (rest_of(d->d_name, &st, &rest)) {
		rest.path = join(w->folder, d->d_name);
		if (w->found.rests.n < FOUND_MAX)
			*(struct survey_rest *)field_vec_add(&w->found.rests, sizeof(rest)) = rest;
		else
			free(rest.path);
	} else if (S_ISDIR(st.st_mode) && st.st_dev == w->device && !dspath_check(d->d_name, false, NULL)) {
		char *path = join(w->folder, d->d_name);

		if (w->folders.n < FOLDERS_MAX && strlen(path) <= DSPATH_MAX)
			*(char **)field_vec_add(&w->folders, sizeof(char *)) = path;
		else
			free(path);
	}
}

static int walk_work(struct job *job, struct err *e)
{
	struct walk *w = (struct walk *)job;
	int fd = dsjob_open_folder(w->j.dirfd, w->folder, e);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct stat st;

	if (fd < 0)
		return fd;
	if (!dir) {
		close(fd);
		return dsjob_fail(e, errno, "read the folder", w->folder);
	}
	if (!w->begun && fstat(fd, &st) == 0)
		w->device = st.st_dev;
	w->begun = true;
	for (struct dirent *d; w->found.looked < ENTRIES_MAX && (d = readdir(dir)); )
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			look_at(w, fd, d);
	closedir(dir);
	return 0;
}

static void walk_end(struct walk *w, const struct err *e)
{
	w->found.cut = w->found.looked >= ENTRIES_MAX;
	w->done(w->arg, &w->found, e);
	for (size_t i = 0; i < w->found.marks.n; i++)
		free(((struct survey_mark *)w->found.marks.items)[i].folder);
	for (size_t i = 0; i < w->found.rests.n; i++)
		free(((struct survey_rest *)w->found.rests.items)[i].path);
	free(w->found.marks.items);
	free(w->found.rests.items);
	texts_free(&w->folders);
	free(w->folder);
	free(w);
}

static void walk_next(struct walk *w);

static void walk_done(struct job *job, const struct err *e)
{
	struct walk *w = (struct walk *)job;
	bool top = !*w->folder;
	struct err err = { 0 };

	if (w->ds->closing && datastore_usable(w->ds, &err) < 0)
		walk_end(w, &err);
	else if (e && (top || e->code == ERR_UNAVAILABLE))	/* one that has vanished since is no matter */
		walk_end(w, e);
	else if (!w->folders.n || w->found.looked >= ENTRIES_MAX)
		walk_end(w, NULL);
	else
		walk_next(w);
}

static void walk_next(struct walk *w)
{
	free(w->folder);
	w->folder = ((char **)w->folders.items)[--w->folders.n];
	w->j = (struct dsjob){ 0 };
	dsjob_run(w->ds, &w->j, w->folder, DSJOB_TOP, walk_work, walk_done);
}

void datastore_survey(struct datastore *ds, void (*done)(void *, const struct survey *, const struct err *), void *arg)
{
	struct walk *w = xnew(walk);

	w->ds = ds;
	w->done = done;
	w->arg = arg;
	*(char **)field_vec_add(&w->folders, sizeof(char *)) = xstrdup("");
	walk_next(w);
}

/* ---- removing a rest */

struct removal { struct dsjob j; char *name; int64_t modified; };

static int removal_work(struct job *job, struct err *e)
{
	struct removal *r = (struct removal *)job;
	AUTO_CLOSE int folder = -1;
	struct stat st;
	int got = dsjob_open_folder(r->j.dirfd, r->j.path, e);

	if (got < 0)
		return got == -ENOENT ? 0 : got;
	folder = got;
	if (fstatat(folder, r->name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    st.st_mtim.tv_sec * 1000000LL + st.st_mtim.tv_nsec / 1000 != r->modified)
		return 0;
	got = file_remove_tree(folder, r->name);
	return got < 0 ? dsjob_fail(e, got, "remove", r->name) : 0;
}

static void removal_done(struct job *job, const struct err *e)
{
	struct removal *r = (struct removal *)job;

	r->j.done(r->j.arg, e);
	free(r->name);
	free(r);
}

void survey_remove(struct datastore *ds, const struct survey_rest *rest, storage_done done, void *arg)
{
	struct removal *r = xnew(removal);
	const char *name = strrchr(rest->path, '/');
	AUTO_FREE char *folder = xstrndup(rest->path, name ? (size_t)(name - rest->path) : 0);

	r->name = xstrdup(name ? name + 1 : rest->path);
	r->modified = rest->modified;
	r->j.done = done;
	r->j.arg = arg;
	dsjob_run(ds, &r->j, folder, DSJOB_TOP, removal_work, removal_done);
}

/* ---- one VM */

struct vm_look {
	struct dsjob j;
	struct survey_vm *vm;
	void (*done)(void *arg, struct survey_vm *vm, const struct err *e);
};

/* What the folder itself says. */
static void look_at_folder(int dirfd, struct survey_vm *vm)
{
	AUTO_CLOSE int folder = file_open_dir(dirfd, vm->folder, false, 0);
	AUTO_FREE char *mark = NULL, *text = NULL;
	size_t n;
	int r;

	vm->descriptor = DESCRIPTOR_MISSING;
	vm->folder_there = folder >= 0;
	if (folder < 0)
		return;
	vm->marked = !file_read_at(folder, VMFOLDER_MARK, 64, &mark, &n) && !strcmp(mark, vm->uuid);
	r = file_read_at(folder, VMFOLDER_DESCRIPTOR, VMFOLDER_DESCRIPTOR_MAX, &text, &n);
	if (r == -ENOENT)
		return;
	json_t *j = r < 0 ? NULL : json_parse(text, n, VMFOLDER_DESCRIPTOR_MAX, NULL);
	json_t *revision = json_object_get(j, "revision");
	const char *id = json_string_value(json_object_get(j, "id"));

	vm->config = json_incref(json_object_get(j, "config"));
	if (!vm->config || !json_is_integer(revision) || !id)
		vm->descriptor = DESCRIPTOR_BROKEN;
	else if (strcmp(id, vm->uuid))
		vm->descriptor = DESCRIPTOR_OTHER;
	else
		vm->descriptor = (uint64_t)json_integer_value(revision) < vm->revision ? DESCRIPTOR_OLDER : DESCRIPTOR_SAME;
	json_decref(j);
}

static bool is_file(int dirfd, const char *path)
{
	AUTO_CLOSE int fd = dspath_check(path, false, NULL) < 0 ? -EINVAL : file_open_beneath(dirfd, path, O_PATH | O_NOFOLLOW, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static int vm_work(struct job *job, struct err *e)
{
	struct vm_look *l = (struct vm_look *)job;
	struct survey_vm *vm = l->vm;

	if (vm->folder)
		look_at_folder(l->j.dirfd, vm);
	for (size_t i = 0; i < vm->files.n; i++) {
		const char *path = ((char **)vm->files.items)[i];

		if (!is_file(l->j.dirfd, path))
			*(char **)field_vec_add(&vm->missing, sizeof(char *)) = xstrdup(path);
	}
	return 0;
}

static void vm_done(struct job *job, const struct err *e)
{
	struct vm_look *l = (struct vm_look *)job;
	struct survey_vm *vm = l->vm;

	l->done(l->j.arg, vm, e);
	texts_free(&vm->files);
	texts_free(&vm->missing);
	json_decref(vm->config);
	free(vm->folder);
	free(vm);
	free(l);
}

void datastore_survey_vm(struct datastore *ds, struct survey_vm *vm,
			 void (*done)(void *, struct survey_vm *, const struct err *), void *arg)
{
	struct vm_look *l = xnew(vm_look);

	l->vm = vm;
	l->done = done;
	l->j.arg = arg;
	dsjob_run(ds, &l->j, "", DSJOB_TOP, vm_work, vm_done);
}
