#include "reshape.h"
#include <jansson.h>
#include <string.h>
#include "mem.h"

/* Its index in @devices, or their number. */
static size_t find(const struct field_vec *devices, const char *id)
{
	size_t i = 0, n = strlen(id);

	while (i < devices->n && (strncmp(((char **)devices->items)[i], id, n) || ((char **)devices->items)[i][n] != '@'))
		i++;
	return i;
}

bool argv_has_device(const struct field_vec *devices, const char *id)
{
	return devices && find(devices, id) < devices->n;
}

static void take_out(struct argv *a, size_t i)
{
	free(a->v[i]);
	free(a->v[i + 1]);
	a->n -= 2;
	memmove(a->v + i, a->v + i + 2, (a->n - i + 1) * sizeof(*a->v));
}

/* What it is now does not fit to what was saved: nothing can be done about that here. */
static int elsewhere(const char *device, struct err *e)
{
	return fail(e, ERR_STATE, "its machine has the device %s, and would not be built with that again", device);
}

static int move(char **text, json_t *device, const char *at, struct err *e)
{
	const char *bus = strrchr(at, '@') + 1;
	const char *now = json_string_value(json_object_get(device, "bus"));

	if (now && !strcmp(now, bus))
		return 0;
	if (strncmp(bus, ARGV_PORT, strlen(ARGV_PORT)))
		return elsewhere(at, e);
	json_object_set_new(device, "bus", json_string(bus));
	json_object_set_new(device, "addr", json_string("0x0"));
	free(*text);
	*text = json_dumps(device, JSON_COMPACT);
	return 0;
}

int argv_reshape(struct argv *a, const struct field_vec *devices, struct err *e)
{
	AUTO_FREE bool *made = xcalloc(devices->n + 1, sizeof(*made));
	char **d = devices->items;
	int r = 0;

	for (size_t i = 1; i + 1 < a->n && !r; i++) {
		json_t *device = strcmp(a->v[i], "-device") ? NULL : json_loads(a->v[i + 1], 0, NULL);
		size_t at = device ? find(devices, json_string_value(json_object_get(device, "id")) ?: "") : 0;

		if (device && at == devices->n)
			take_out(a, i--);
		else if (device && !(r = move(&a->v[i + 1], device, d[at], e)))
			made[at] = true;
		json_decref(device);
	}
	for (size_t i = 0; i < devices->n && !r; i++)
		if (!made[i])
			r = elsewhere(d[i], e);
	return r;
}
