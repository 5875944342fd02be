// LINK: storage
#include "ds.h"
#include "vmfolder.h"

static char names[8000];		/* of the last page: "a b+" ('+': there is more) */
static struct datastore_entry first;

static void on_page(void *arg, const struct datastore_page *p, const struct err *e)
{
	names[0] = '\0';
	for (size_t i = 0; p && i < p->n; i++) {
		if (strlen(names) + strlen(p->entries[i].name) + 3 < sizeof(names))
			sprintf(names + strlen(names), "%s%s", i ? " " : "", p->entries[i].name);
		if (!i)
			first = p->entries[i];
	}
	if (p && p->more)
		strcat(names, "+");
	answer(e);
}

static int list(const char *path, const char *after, size_t limit)
{
	datastore_list(ds, path, after, limit, on_page, NULL);
	return await();
}

TEST(a_new_datastore_is_made_and_found_again)
{
	char id[37];

	if (!ds_start(NULL))
		return;
	strcpy(id, ds->id);
	eq_int(strlen(id), 36);
	eq_int(ds->status.state, DATASTORE_READY);
	ok(ds->status.capacity_bytes >= ds->status.free_bytes && ds->status.free_bytes > 0);
	ok(ds->status.filesystem && ds->status.as_of);
	datastore_free(ds);
	ds = datastore_new(ev, "local", home, id);
	eq_int(datastore_usable(ds, &last), -EAGAIN);
	ok(strstr(last.msg, "still being opened"));
	datastore_refresh(ds, on_answer, NULL);
	eq_int(await(), 0);
	datastore_refresh(ds, on_answer, NULL);
	eq_int(await(), 0);
	eq_int(datastore_usable(ds, NULL), 0);
	ds_stop();
}

TEST(an_unmounted_datastore_is_not_taken_for_an_empty_one)
{
	if (!ds_start(NULL))
		return;
	datastore_free(ds);
	unlink(in_home(".croft-datastore.json"));
	ds = datastore_new(ev, "local", home, "11111111-2222-4333-8444-555555555555");
	datastore_refresh(ds, on_answer, NULL);
	eq_int(await(), ERR_STATE);
	ok(strstr(last.hint, "mounted"));
	eq_int(ds->status.state, DATASTORE_UNAVAILABLE);
	ok(ds->status.reason);
	ok(!there(".croft-datastore.json"));
	eq_int(list("", NULL, 0), ERR_UNAVAILABLE);
	/* its disk comes back */
	put(".croft-datastore.json", "{\"id\":\"11111111-2222-4333-8444-555555555555\"}", 45);
	datastore_refresh(ds, on_answer, NULL);
	eq_int(await(), 0);
	eq_int(list("", NULL, 0), 0);
	datastore_free(ds);
	/* another disk */
	ds = datastore_new(ev, "local", home, "99999999-2222-4333-8444-555555555555");
	datastore_refresh(ds, on_answer, NULL);
	eq_int(await(), ERR_STATE);
	ok(strstr(last.msg, "another datastore"));
	ds_stop();
}

TEST(a_marker_is_hostile)
{
	static const char *const bad[] = { "", "{", "[]", "{\"id\":5}", "{\"id\":\"../x\"}", "{\"id\":null}" };

	if (!ds_start(NULL))
		return;
	for (size_t i = 0; i < COUNT(bad); i++) {
		datastore_free(ds);
		put(".croft-datastore.json", bad[i], strlen(bad[i]));
		ds = datastore_new(ev, "local", home, NULL);
		datastore_refresh(ds, on_answer, NULL);
		eq_int(await(), ERR_STATE);
		ok(strstr(last.msg, "can't be read"));
	}
	ds_stop();
}

TEST(system_folders_are_refused)
{
	static const char *const bad[] = { "/", "//", "/etc", "/usr/share/x", "/proc/self", "relative", "" };

	sd_event_new(&ev);
	for (size_t i = 0; i < COUNT(bad); i++) {
		ds = datastore_new(ev, "x", bad[i], NULL);
		datastore_refresh(ds, on_answer, NULL);
		eq_int(await(), ERR_INVALID);
		datastore_free(ds);
	}
	sd_event_unref(ev);
}

TEST(files_are_listed_in_order_and_in_pages)
{
	char name[32];

	if (!ds_start(NULL))
		return;
	for (int i = 0; i < 2500; i++) {
		snprintf(name, sizeof(name), "f%04d", (i * 7919) % 2500);
		put(name, "x", 1);
	}
	eq_int(list("", NULL, 3), 0);
	eq_str(names, "f0000 f0001 f0002+");
	eq_int(first.kind, ENTRY_FILE);
	eq_int(first.size_bytes, 1);
	ok(first.modified > 0);
	eq_int(list("", "f0002", 2), 0);
	eq_str(names, "f0003 f0004+");
	eq_int(list("", "f2497", 2), 0);
	eq_str(names, "f2498 f2499");
	eq_int(list("", "f1498", 0), 0);
	ok(strstr(names, "f1499 f1500") == names && strstr(names, "f2498+"));
	ds_stop();
}

TEST(odd_names)
{
	if (!ds_start(NULL))
		return;
	put("\xff\xfe", "x", 1);	/* can't be told in JSON */
	put("a\nb", "x", 1);
	put(".croft-upload-1", "x", 1);
	put(".hidden", "x", 1);
	put("-rf *", "x", 1);
	put("\xc3\xa4", "x", 1);
	eq_int(list("", NULL, 0), 0);
	eq_str(names, "-rf * .hidden \xc3\xa4");
	datastore_delete(ds, "-rf *", on_answer, NULL);
	eq_int(await(), 0);
	ok(!there("-rf *") && there(".hidden"));
	datastore_delete(ds, ".croft-upload-1", on_answer, NULL);
	eq_int(await(), ERR_NOT_FOUND);
	ds_stop();
}

TEST(folders)
{
	if (!ds_start(NULL))
		return;
	datastore_mkdir(ds, "a", on_answer, NULL);
	eq_int(await(), 0);
	datastore_mkdir(ds, "a", on_answer, NULL);
	eq_int(await(), ERR_EXISTS);
	datastore_mkdir(ds, "b/c", on_answer, NULL);
	eq_int(await(), ERR_NOT_FOUND);
	put("a/f", "x", 1);
	datastore_delete(ds, "a", on_answer, NULL);
	eq_int(await(), ERR_STATE);
	ok(strstr(last.msg, "isn't empty"));
	datastore_mkdir(ds, "a/f/g", on_answer, NULL);
	eq_int(await(), ERR_INVALID);
	datastore_delete(ds, "a/f", on_answer, NULL);
	eq_int(await(), 0);
	datastore_delete(ds, "a/f", on_answer, NULL);
	eq_int(await(), ERR_NOT_FOUND);
	datastore_delete(ds, "a", on_answer, NULL);
	eq_int(await(), 0);
	datastore_delete(ds, "", on_answer, NULL);
	eq_int(await(), ERR_INVALID);
	ok(there(""));
	ds_stop();
}

static int opened = -1;
static uint64_t size;

static void on_open(void *arg, int *fd, uint64_t n, const struct err *e)
{
	opened = e ? -1 : TAKE_FD(*fd);
	size = n;
	answer(e);
}

static int open_it(const char *path, int flags)
{
	datastore_open_file(ds, path, flags, on_open, NULL);
	return await();
}

static void on_stat(void *arg, const struct datastore_entry *entry, const struct err *e)
{
	if (!e)
		first = *entry;
	answer(e);
}

TEST(files_are_opened_beneath)
{
	if (!ds_start(NULL))
		return;
	put("f", "hello", 5);
	eq_int(open_it("f", O_RDONLY), 0);
	eq_int(size, 5);
	eq_int(write(opened, "x", 1), -1);
	ok(fcntl(opened, F_GETFD) & FD_CLOEXEC);
	close(opened);
	eq_int(open_it("f", O_RDWR | O_TRUNC | O_CREAT), 0);
	eq_int(size, 5);		/* other flags aren't taken over */
	close(opened);
	eq_int(open_it("none", O_RDWR | O_CREAT), ERR_NOT_FOUND);
	ok(!there("none"));
	mkdir(in_home("d"), 0700);
	eq_int(open_it("d", O_RDONLY), ERR_INVALID);
	mkfifo(in_home("pipe"), 0600);
	eq_int(open_it("pipe", O_RDONLY), ERR_INVALID);	/* and doesn't wait */
	datastore_stat(ds, "d", on_stat, NULL);
	eq_int(await(), 0);
	eq_int(first.kind, ENTRY_FOLDER);
	datastore_stat(ds, "", on_stat, NULL);
	eq_int(await(), 0);
	eq_int(first.kind, ENTRY_FOLDER);
	datastore_stat(ds, "pipe", on_stat, NULL);
	eq_int(await(), 0);
	eq_int(first.kind, ENTRY_OTHER);
	ds_stop();
}

TEST(links_lead_nowhere)
{
	if (!ds_start(NULL))
		return;
	mkdir(in_home("d"), 0700);
	put("f", "x", 1);
	ok(!symlink("/etc", in_home("etc")) && !symlink("/etc/passwd", in_home("pw")) && !symlink("f", in_home("l")) &&
	   !symlink("..", in_home("d/up")));
	eq_int(open_it("pw", O_RDONLY), ERR_FORBIDDEN);
	eq_int(open_it("l", O_RDONLY), ERR_FORBIDDEN);
	eq_int(open_it("etc/passwd", O_RDONLY), ERR_FORBIDDEN);
	eq_int(open_it("d/up/f", O_RDONLY), ERR_FORBIDDEN);
	eq_int(list("etc", NULL, 0), ERR_FORBIDDEN);
	datastore_mkdir(ds, "etc/croft-was-here", on_answer, NULL);
	eq_int(await(), ERR_FORBIDDEN);
	datastore_delete(ds, "etc/hostname", on_answer, NULL);
	eq_int(await(), ERR_FORBIDDEN);
	datastore_delete(ds, "l", on_answer, NULL);	/* the link itself may go */
	eq_int(await(), 0);
	ok(there("f") && !there("l"));
	ds_stop();
}

static unsigned many;

static void on_one_of_many(void *arg, int *fd, uint64_t n, const struct err *e)
{
	many++;
	ok(!e && n == 1);
	if (many == 200)
		answer(NULL);
}

TEST(many_at_once)
{
	if (!ds_start(NULL))
		return;
	put("f", "x", 1);
	for (int i = 0; i < 200; i++)
		datastore_open_file(ds, "f", O_RDONLY, on_one_of_many, NULL);
	eq_int(await(), 0);
	for (int i = 0; i < 50; i++)		/* and freed while they are under way */
		datastore_open_file(ds, "f", O_RDONLY, on_one_of_many, NULL);
	ds_stop();
	eq_int(many, 250);
}

/* vmfolder */

#define VM1	"11111111-2222-4333-8444-555555555555"
#define VM2	"aaaaaaaa-2222-4333-8444-555555555555"
static char folder[300];

static void on_folder(void *arg, const char *name, const struct err *e)
{
	snprintf(folder, sizeof(folder), "%s", name ? name : "");
	answer(e);
}

static int make_folder(const char *name, const char *uuid)
{
	vmfolder_create(ds, name, uuid, on_folder, NULL);
	return await();
}

TEST(a_vm_has_its_own_folder)
{
	if (!ds_start(NULL))
		return;
	eq_int(make_folder("web", VM1), 0);
	eq_str(folder, "web");
	eq_int(make_folder("web", VM1), 0);	/* again, after a crash */
	eq_str(folder, "web");
	eq_int(make_folder("web", VM2), 0);	/* another VM of that name */
	eq_str(folder, "web-aaaaaaaa");
	eq_int(make_folder("web", VM2), 0);
	eq_str(folder, "web-aaaaaaaa");
	eq_int(list("", NULL, 0), 0);
	eq_str(names, "web web-aaaaaaaa");
	eq_int(list("web", NULL, 0), 0);
	eq_str(names, "");
	eq_int(make_folder("a/b", VM1), ERR_INVALID);
	eq_int(make_folder("..", VM1), ERR_INVALID);
	ds_stop();
}

TEST(a_crash_while_the_folder_was_made)
{
	if (!ds_start(NULL))
		return;
	mkdir(in_home(".croft-new-" VM1), 0700);
	eq_int(make_folder("web", VM1), 0);
	ok(there("web/.croft-vm") && !there(".croft-new-" VM1));
	mkdir(in_home(".croft-new-" VM2), 0700);
	vmfolder_remove(ds, "other", VM2, on_answer, NULL);	/* undo */
	eq_int(await(), 0);
	ok(!there(".croft-new-" VM2));
	put("file", "x", 1);
	eq_int(make_folder("file", VM2), 0);
	eq_str(folder, "file-aaaaaaaa");
	ds_stop();
}

TEST(a_crash_while_the_folder_was_removed)
{
	if (!ds_start(NULL))
		return;
	mkdir(in_home("web"), 0700);		/* its mark is gone already */
	vmfolder_remove(ds, "web", VM1, on_answer, NULL);
	eq_int(await(), 0);
	ok(!there("web"));
	eq_int(make_folder("web", VM2), 0);	/* and what is another's stays */
	vmfolder_remove(ds, "web", VM1, on_answer, NULL);
	eq_int(await(), 0);
	ok(there("web/.croft-vm"));
	ds_stop();
}

TEST(the_descriptor)
{
	if (!ds_start(NULL))
		return;
	eq_int(make_folder("web", VM1), 0);
	vmfolder_describe(ds, "web", VM1, "{}", 2, on_answer, NULL);
	eq_int(await(), 0);
	vmfolder_describe(ds, "web", VM1, "{\"a\":1}", 7, on_answer, NULL);
	eq_int(await(), 0);
	eq_int(list("web", NULL, 0), 0);
	eq_str(names, "vm.croft.json");
	eq_int(first.size_bytes, 7);
	vmfolder_describe(ds, "web", VM2, "{}", 2, on_answer, NULL);
	eq_int(await(), ERR_STATE);
	vmfolder_describe(ds, "none", VM1, "{}", 2, on_answer, NULL);
	eq_int(await(), ERR_STATE);
	vmfolder_remove(ds, "web", VM2, on_answer, NULL);	/* not its folder: nothing happens */
	eq_int(await(), 0);
	ok(there("web/vm.croft.json"));
	put("web/notes.txt", "x", 1);
	vmfolder_remove(ds, "web", VM1, on_answer, NULL);
	eq_int(await(), 0);
	ok(there("web/notes.txt") && !there("web/vm.croft.json") && !there("web/.croft-vm"));
	vmfolder_remove(ds, "web", VM1, on_answer, NULL);
	eq_int(await(), 0);
	ds_stop();
}

T_MAIN
