/* ds.h: for the storage tests: a datastore in a temporary folder, and waiting for its answers. */
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "datastore.h"
#include "dsjob.h"
#include "file.h"
#include "mem.h"
#include "t.h"
#include "text.h"

static sd_event *ev;
static struct datastore *ds;
static char home[64];
static struct err last;			/* of the last answer; code 0: success */
static bool answered;

static inline void answer(const struct err *e)
{
	last = e ? *e : (struct err){ 0 };
	answered = true;
}

static inline void on_answer(void *arg, const struct err *e) { answer(e); }

/* Run the loop until the answer is there; the error code, 0 for success. */
static inline int await(void)
{
	for (int64_t end = mono_usec() + 60 * 1000000ll; !answered && mono_usec() < end; )
		sd_event_run(ev, 1000000);
	ok(answered);
	answered = false;
	return last.code;
}

/* @tmpfs: "size=4m": a file system of its own of that size; NULL: just a folder. False when it can't be had. */
static inline bool ds_start(const char *tmpfs)
{
	strcpy(home, "/tmp/croft-ds-XXXXXX");
	ok(mkdtemp(home));
	if (tmpfs && mount("test", home, "tmpfs", 0, tmpfs) < 0) {
		rmdir(home);
		t_skip("no tmpfs can be mounted here");
		return false;
	}
	sd_event_new(&ev);
	ds = datastore_new(ev, "local", home, NULL);
	datastore_refresh(ds, on_answer, NULL);
	eq_int(await(), 0);
	return true;
}

static inline void ds_stop(void)
{
	datastore_free(ds);
	ds = NULL;
	sd_event_unref(ev);
	umount2(home, MNT_DETACH);
	AUTO_CLOSE int tmp = open("/tmp", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	eq_int(file_remove_tree(tmp, home + strlen("/tmp/")), 0);
}

static inline char *in_home(const char *name)
{
	static char path[2][1200];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", home, name);
	return path[turn];
}

static inline void put(const char *name, const void *data, size_t n)
{
	int fd = open(in_home(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ok(fd >= 0);
	eq_int(file_write_all(fd, data, n), 0);
	close(fd);
}

static inline bool there(const char *name)
{
	struct stat st;

	return !lstat(in_home(name), &st);
}

/* Run a program without a shell; its exit status. */
static inline int run(const char *const argv[])
{
	pid_t pid = fork();
	int status = -1;

	if (!pid) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		dup2(null, 2);
		execv(argv[0], (char **)(uintptr_t)argv);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
