#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include "list.h"
#include "lockout.h"
#include "map.h"
#include "mem.h"

struct entry {
	struct list in_age;
	char *key;
	int64_t until_s;		/* locked until then */
	unsigned n;			/* failures since the last lock */
	uint32_t at_s[];		/* of the last ones, a ring of the table's limit */
};
struct table {
	unsigned limit;
	struct map *entries;
	struct list age;		/* touched last at the end */
};
struct lockout { struct table pairs, addresses; };

static void table_init(struct table *t, unsigned limit)
{
	t->limit = limit;
	t->entries = map_new();
	list_init(&t->age);
}

static void entry_free(struct table *t, struct entry *en)
{
	map_del(t->entries, en->key);
	list_remove(&en->in_age);
	free(en->key);
	free(en);
}

static void table_fini(struct table *t)
{
	while (!list_empty(&t->age))
		entry_free(t, LIST_ENTRY(t->age.next, struct entry, in_age));
	map_free(t->entries);
}

static unsigned left(const struct table *t, const char *key, int64_t now_s)
{
	const struct entry *en = map_get(t->entries, key);

	return en && en->until_s > now_s ? (unsigned)(en->until_s - now_s) : 0;
}

static unsigned failed(struct table *t, const char *key, int64_t now_s)
{
	struct entry *en = map_get(t->entries, key);

	if (!en) {
		if (map_len(t->entries) >= LOCKOUT_ENTRIES)
			entry_free(t, LIST_ENTRY(t->age.next, struct entry, in_age));
		en = xcalloc(1, sizeof *en + t->limit * sizeof *en->at_s);
		en->key = xstrdup(key);
		map_set(t->entries, key, en);
	}
	list_remove(&en->in_age);
	list_append(&t->age, &en->in_age);
	en->at_s[en->n++ % t->limit] = (uint32_t)now_s;
	if (en->n < t->limit || (uint32_t)now_s - en->at_s[en->n % t->limit] >= LOCKOUT_WINDOW_S)
		return 0;
	en->n = 0;
	en->until_s = now_s + LOCKOUT_S;
	return LOCKOUT_S;
}

struct lockout *lockout_new(void)
{
	struct lockout *l = xnew(lockout);

	table_init(&l->pairs, LOCKOUT_PAIR);
	table_init(&l->addresses, LOCKOUT_ADDRESS);
	return l;
}

void lockout_free(struct lockout *l)
{
	if (!l)
		return;
	table_fini(&l->pairs);
	table_fini(&l->addresses);
	free(l);
}

void lockout_address(const char *peer, char out[64])
{
	char text[64];
	struct in6_addr six;

	snprintf(text, sizeof text, "%.*s", (int)strcspn(peer, "%"), peer);	/* a zone names our own interface */
	if (inet_pton(AF_INET6, text, &six) != 1) {
		snprintf(out, 64, "%s", text);
	} else if (IN6_IS_ADDR_V4MAPPED(&six)) {
		inet_ntop(AF_INET, six.s6_addr + 12, out, 64);
	} else {
		memset(six.s6_addr + 8, 0, 8);
		inet_ntop(AF_INET6, &six, text, sizeof text);
		snprintf(out, 64, "%.59s/64", text);
	}
}

/* An address has no blank, so that no user's name can make two pairs look the same. */
static char *pair_key(const char *user, const char *address) { return xasprintf("%s %s", address, user); }

unsigned lockout_left(const struct lockout *l, const char *user, const char *peer, int64_t now_usec)
{
	char address[64];

	lockout_address(peer, address);
	AUTO_FREE char *pair = pair_key(user, address);
	unsigned of_pair = left(&l->pairs, pair, now_usec / 1000000);
	unsigned of_address = left(&l->addresses, address, now_usec / 1000000);

	return of_pair > of_address ? of_pair : of_address;
}

unsigned lockout_failed(struct lockout *l, const char *user, const char *peer, int64_t now_usec)
{
	char address[64];

	lockout_address(peer, address);
	AUTO_FREE char *pair = pair_key(user, address);
	unsigned of_pair = failed(&l->pairs, pair, now_usec / 1000000);
	unsigned of_address = failed(&l->addresses, address, now_usec / 1000000);

	return of_pair > of_address ? of_pair : of_address;
}

void lockout_passed(struct lockout *l, const char *user, const char *peer)
{
	char address[64];

	lockout_address(peer, address);
	AUTO_FREE char *pair = pair_key(user, address);
	struct entry *en = map_get(l->pairs.entries, pair);

	if (en)
		entry_free(&l->pairs, en);
}
