/* map.c: entries stand in one array in order of insertion; a table of open hashing tells where. A deleted entry leaves
 * a hole in both until the next growth, so that a walk can delete what it stands on. The hash is SipHash-1-3 with a
 * key drawn once a process: keys come from clients, who must not be able to make them collide. */
#include "map.h"
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include "mem.h"

struct entry { char *key; void *value; uint64_t hash; };	/* key NULL: a hole */
struct map {
	struct entry *entries;
	size_t n, cap, live;		/* n: entries with holes */
	uint32_t *slots;		/* 0: empty; else index of the entry + 1, also of a hole */
	size_t nslots;			/* a power of two, at least 2 * cap */
};

static uint64_t seed[2];

static void draw_seed(void)
{
	if (getrandom(seed, sizeof(seed), 0) != sizeof(seed))
		abort();
}

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

static void sip_round(uint64_t v[4])
{
	v[0] += v[1]; v[1] = ROTL(v[1], 13); v[1] ^= v[0]; v[0] = ROTL(v[0], 32);
	v[2] += v[3]; v[3] = ROTL(v[3], 16); v[3] ^= v[2];
	v[0] += v[3]; v[3] = ROTL(v[3], 21); v[3] ^= v[0];
	v[2] += v[1]; v[1] = ROTL(v[1], 17); v[1] ^= v[2]; v[2] = ROTL(v[2], 32);
}

static uint64_t hash_of(const char *key)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	size_t len = strlen(key), left = len;
	uint64_t word;

	pthread_once(&once, draw_seed);
	uint64_t v[4] = { seed[0] ^ 0x736f6d6570736575, seed[1] ^ 0x646f72616e646f6d,
			  seed[0] ^ 0x6c7967656e657261, seed[1] ^ 0x7465646279746573 };
	for (; left >= 8; left -= 8, key += 8) {
		memcpy(&word, key, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	word = 0;
	memcpy(&word, key, left);
	word |= (uint64_t)len << 56;
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct map *map_new(void)
{
	return xnew(map);
}

void map_free(struct map *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->n; i++)
		free(m->entries[i].key);
	free(m->entries);
	free(m->slots);
	free(m);
}

static struct entry *find(const struct map *m, const char *key, uint64_t hash)
{
	if (!m->live)
		return NULL;
	for (size_t s = hash & (m->nslots - 1); m->slots[s]; s = (s + 1) & (m->nslots - 1)) {
		struct entry *it = &m->entries[m->slots[s] - 1];

		if (it->key && it->hash == hash && !strcmp(it->key, key))
			return it;
	}
	return NULL;
}

static void put_slot(struct map *m, size_t index)
{
	size_t s = m->entries[index].hash & (m->nslots - 1);

	while (m->slots[s])
		s = (s + 1) & (m->nslots - 1);
	m->slots[s] = (uint32_t)index + 1;
}

/* Close the holes; grow when at least half of the room is really in use. */
static void make_room(struct map *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n; i++)
		if (m->entries[i].key)
			m->entries[n++] = m->entries[i];
	m->n = n;
	if (!m->cap || n >= m->cap / 2) {
		m->cap = m->cap ? m->cap * 2 : 8;
		m->entries = xrealloc(m->entries, m->cap * sizeof(*m->entries));
	}
	free(m->slots);
	m->nslots = m->cap * 2;
	m->slots = xcalloc(m->nslots, sizeof(*m->slots));
	for (size_t i = 0; i < n; i++)
		put_slot(m, i);
}

void *map_get(const struct map *m, const char *key)
{
	struct entry *it = m->live ? find(m, key, hash_of(key)) : NULL;

	return it ? it->value : NULL;
}

void *map_set(struct map *m, const char *key, void *value)
{
	uint64_t hash = hash_of(key);
	struct entry *it = find(m, key, hash);

	if (it) {
		void *was = it->value;

		it->value = value;
		return was;
	}
	if (m->n == m->cap)
		make_room(m);
	m->entries[m->n] = (struct entry){ xstrdup(key), value, hash };
	put_slot(m, m->n++);
	m->live++;
	return NULL;
}

void *map_del(struct map *m, const char *key)
{
	struct entry *it = find(m, key, hash_of(key));

	if (!it)
		return NULL;
	void *was = it->value;
	free(it->key);		/* maybe @key itself: it was looked up before */
	*it = (struct entry){ .hash = it->hash };
	m->live--;
	return was;
}

size_t map_len(const struct map *m)
{
	return m->live;
}

void *map_next(const struct map *m, size_t *i, const char **key)
{
	while (*i < m->n) {
		const struct entry *it = &m->entries[(*i)++];

		if (!it->key)
			continue;
		if (key)
			*key = it->key;
		return it->value;
	}
	return NULL;
}
