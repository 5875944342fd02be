#include <dirent.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include "db.h"
#include "file.h"
#include "log.h"
#include "mem.h"
#include "settings.h"
#include "text.h"

/* Above what adduser, systemd and container managers hand out, below 2^31. */
#define UIDS_FIRST	1900000000u
#define UIDS_SLOTS	1000u
#define UIDS_COUNT	65536u
#define UIDS_SYSTEM	1000u	/* Debian's accounts below it are no person's */

struct setting { struct db_job job; const char *key, *value; char found[64]; bool was_there; };

static int setting_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct setting *s = (struct setting *)j;
	struct db_rows *q;
	int r = !s->value ? 0 : db_exec(tx, e, "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING", "ss",
					s->key, s->value);

	if (r < 0)
		return r;
	s->was_there = r == 0;
	if ((r = db_query(tx, &q, e, "SELECT value FROM settings WHERE key = ?", "s", s->key)) < 0 || (r = db_next(q, e)) <= 0)
		return r;
	snprintf(s->found, sizeof s->found, "%s", db_text(q, 0));
	db_done(q);
	return 0;
}

/* Does our user namespace know these uids? */
static bool mapped(uint64_t first, uint64_t count)
{
	AUTO_FREE char *text = NULL;
	size_t n;

	if (file_read_at(AT_FDCWD, "/proc/self/uid_map", 65536, &text, &n) < 0)
		return true;
	for (char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		unsigned long long inside, outside, len;

		if (sscanf(line, "%llu %llu %llu", &inside, &outside, &len) == 3 && first >= inside && first + count <= inside + len)
			return true;
	}
	return false;
}

/* Does a process run as one of them? Then it is another home's, or a container's. */
static bool in_use(uint64_t first, uint64_t count)
{
	DIR *d = opendir("/proc");
	bool found = false;
	uint64_t pid;

	for (struct dirent *at; d && !found && (at = readdir(d)); ) {
		char path[40];
		AUTO_FREE char *text = NULL;
		unsigned long long uid;

		if (text_u64(at->d_name, &pid) < 0)
			continue;
		snprintf(path, sizeof path, "/proc/%llu/status", (unsigned long long)pid);
		if (file_read_at(AT_FDCWD, path, 65536, &text, NULL) < 0)
			continue;
		const char *line = strstr(text, "\nUid:");

		found = line && sscanf(line, "\nUid: %llu", &uid) == 1 && uid >= first && uid < first + count;
	}
	if (d)
		closedir(d);
	return found;
}

static uint64_t draw(void)
{
	uint64_t base;
	uint32_t slot;
	int tries = 0;

	do {
		gnutls_rnd(GNUTLS_RND_NONCE, &slot, sizeof slot);
		base = UIDS_FIRST + slot % UIDS_SLOTS * UIDS_COUNT;
	} while (in_use(base, UIDS_COUNT) && ++tries < 32);
	return base;
}

int settings_uids(struct croft *c, struct err *e)
{
	char value[24];
	uint64_t base;
	struct setting s = { .key = "uid_base" };
	int r = db_now(c->db, &s.job, setting_work, e);

	if (r == 0 && !*s.found) {
		snprintf(value, sizeof value, "%llu", (unsigned long long)draw());
		s = (struct setting){ .key = "uid_base", .value = value };
		r = db_now(c->db, &s.job, setting_work, e);
	}
	if (r < 0)
		return r;
	if (text_u64(s.found, &base) < 0 || base < 1000 || base + UIDS_COUNT > UINT32_MAX)
		return fail(e, ERR_INVALID, "the setting uid_base is %s; it must be a number of at least 1000", s.found);
	if (!mapped(base, UIDS_COUNT)) {
		fail(e, ERR_UNSUPPORTED, "the uids %llu to %llu do not exist in this user namespace (/proc/self/uid_map)",
		     (unsigned long long)base, (unsigned long long)base + UIDS_COUNT - 1);
		return err_hint(e, "set uid_base in the table settings of %s/croft.db to a range that does", c->home);
	}
	c->uid_base = (uint32_t)base;
	c->uid_count = UIDS_COUNT;
	return 0;
}

/* A person who happens to have the name isn't meant. */
static void account(const struct croft *c, const char *name, uint32_t number, uid_t *uid, gid_t *gid)
{
	const struct passwd *pw = c->opt.installed ? getpwnam(name) : NULL;
	bool ours = pw && pw->pw_uid > 0 && pw->pw_uid < UIDS_SYSTEM && pw->pw_gid > 0;

	*uid = ours ? pw->pw_uid : number;
	*gid = ours ? pw->pw_gid : number;
}

void settings_accounts(struct croft *c)
{
	account(c, "croft", c->uid_base, &c->front_uid, &c->front_gid);
	account(c, "croft-vm", c->uid_base + 1, &c->shim_uid, &c->shim_gid);
}

int settings_first_time(struct croft *c, const char *what, bool *ret, struct err *e)
{
	struct setting s = { .key = what, .value = "done" };
	int r = db_now(c->db, &s.job, setting_work, e);

	*ret = r == 0 && !s.was_there;
	return r;
}

int settings_get(struct croft *c, const char *key, char out[64], struct err *e)
{
	struct setting s = { .key = key };
	int r = db_now(c->db, &s.job, setting_work, e);

	memcpy(out, s.found, sizeof s.found);
	return r;
}

void settings_home(struct croft *c)
{
	char found[64];
	uint8_t uuid[16];
	struct err e = {};

	text_uuid_random(c->home_id);
	if (settings_get(c, "home_id", found, &e) == 0 && text_uuid(found, uuid) == 0)
		text_uuid_format(uuid, c->home_id);
	else
		settings_set(c, "home_id", c->home_id);
}

static int set_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct setting *s = (struct setting *)j;

	return db_exec(tx, e, "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
		       "ss", s->key, s->found);
}

static void set_done(struct db_job *j, const struct err *e)
{
	struct setting *s = (struct setting *)j;

	if (e)
		log_warn("the setting %s cannot be kept: %s", s->key, e->msg);
	free(s);
}

void settings_set(struct croft *c, const char *key, const char *value)
{
	struct setting *s = xnew(setting);

	s->key = key;
	snprintf(s->found, sizeof s->found, "%s", value);
	db_run(c->db, &s->job, set_work, set_done);
}
