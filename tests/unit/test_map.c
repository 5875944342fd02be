/* Maps keep the order of insertion, and let a walk delete where it stands. */
#include "map.h"
#include "mem.h"
#include "t.h"

static int values[5000];

static const char *key_of(int i)
{
	static char key[32];

	snprintf(key, sizeof(key), "key-%d", i);
	return key;
}

TEST(map_set_get_del)
{
	struct map *m = map_new();

	ok(!map_get(m, "a") && !map_del(m, "a"));
	ok(!map_set(m, "a", &values[0]));
	ok(map_set(m, "a", &values[1]) == &values[0]);
	ok(map_get(m, "a") == &values[1]);
	ok(!map_set(m, "", &values[2]) && map_get(m, "") == &values[2]);
	eq_int(map_len(m), 2);
	ok(map_del(m, "a") == &values[1]);
	ok(!map_get(m, "a") && !map_del(m, "a"));
	eq_int(map_len(m), 1);
	map_free(m);
	map_free(NULL);
}

TEST(map_keeps_order_through_growth)
{
	struct map *m = map_new();
	const char *key;
	int want = 0, *v;

	for (int i = 0; i < 5000; i++)
		map_set(m, key_of(i), &values[i]);
	for (int i = 0; i < 5000; i++)
		ok(map_get(m, key_of(i)) == &values[i]);
	for (size_t i = 0; (v = map_next(m, &i, &key)); want++)
		if (v != &values[want] || strcmp(key, key_of(want)))
			t_fail(__FILE__, __LINE__, "entry %d is %s", want, key);
	eq_int(want, 5000);
	map_free(m);
}

TEST(map_delete_while_walking)
{
	struct map *m = map_new();
	const char *key;
	int seen = 0, *v;

	for (int i = 0; i < 1000; i++)
		map_set(m, key_of(i), &values[i]);
	for (size_t i = 0; (v = map_next(m, &i, &key)); seen++)
		if ((v - values) % 2)
			ok(map_del(m, key) == v);	/* the key is the map's own */
	eq_int(seen, 1000);
	eq_int(map_len(m), 500);
	for (int i = 0; i < 1000; i++)
		ok(map_get(m, key_of(i)) == (i % 2 ? NULL : &values[i]));
	map_free(m);
}

/* A map that is filled and emptied for ever stays small, and what was deleted and set again goes to the end. */
TEST(map_churn)
{
	struct map *m = map_new();
	const char *key;

	map_set(m, "stays", &values[0]);
	for (int i = 0; i < 200000; i++) {
		map_set(m, key_of(i), &values[1]);
		if (i >= 10)
			ok(map_del(m, key_of(i - 10)) == &values[1]);
	}
	eq_int(map_len(m), 11);
	map_del(m, "stays");
	map_set(m, "stays", &values[2]);
	for (size_t i = 0; map_next(m, &i, &key); )
		;
	eq_str(key, "stays");
	map_free(m);
}
T_MAIN
