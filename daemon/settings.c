#include <fcntl.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <string.h>
#include "db.h"
#include "file.h"
#include "mem.h"
#include "settings.h"
#include "text.h"

/* Above what adduser, systemd and container managers hand out, below 2^31. */
#define UIDS_FIRST	1900000000u
#define UIDS_SLOTS	1000u
#define UIDS_COUNT	65536u

struct setting { struct db_job job; const char *key, *value; char found[64]; bool was_there; };

static int setting_work(struct db_job *j, struct db_tx *tx, struct err *e)
{
	struct setting *s = (struct setting *)j;
	struct db_rows *q;
	int r = db_exec(tx, e, "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING", "ss", s->key, s->value);

	if (r < 0)
		return r;
	s->was_there = r == 0;
	if ((r = db_query(tx, &q, e, "SELECT value FROM settings WHERE key = ?", "s", s->key)) < 0 || (r = db_next(q, e)) < 0)
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

int settings_uids(struct croft *c, struct err *e)
{
	uint32_t slot;
	char value[16];
	uint64_t base;

	gnutls_rnd(GNUTLS_RND_NONCE, &slot, sizeof slot);
	snprintf(value, sizeof value, "%u", UIDS_FIRST + slot % UIDS_SLOTS * UIDS_COUNT);
	struct setting s = { .key = "uid_base", .value = value };
	int r = db_now(c->db, &s.job, setting_work, e);

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

int settings_first_time(struct croft *c, const char *what, bool *ret, struct err *e)
{
	struct setting s = { .key = what, .value = "done" };
	int r = db_now(c->db, &s.job, setting_work, e);

	*ret = r == 0 && !s.was_there;
	return r;
}
