#include "agent_facts.h"
#include <arpa/inet.h>
#include <string.h>
#include "mem.h"
#include "text.h"

const char *const agent_state_names[] = {
#define X(id, name) [AGENT_##id] = name,
	AGENT_STATES(X)
#undef X
	NULL
};

#define ROW(s, f, t, ...) { .name = #f, .type = t, .off = offsetof(struct s, f), __VA_ARGS__ }
static const struct field address_rows[] = {
	ROW(agent_address, interface, F_STR, .help = "name of the interface in the guest"),
	ROW(agent_address, mac, F_STR, .flags = FIELD_NULLABLE, .help = "its hardware address"),
	ROW(agent_address, address, F_STR, .help = "IPv4 or IPv6 address"),
	ROW(agent_address, prefix, F_U64, .help = "length of the network's prefix"),
	{ 0 }
};
static const struct fields address_fields = {
	"VmGuestAddress", sizeof(struct agent_address), address_rows, "an address of the guest",
};
static const struct field file_system_rows[] = {
	ROW(agent_file_system, mountpoint, F_STR, .help = "where it is mounted in the guest"),
	ROW(agent_file_system, type, F_STR, .help = "ext4, ..."),
	ROW(agent_file_system, total_bytes, F_U64, .help = "its size, 0 when not told"),
	ROW(agent_file_system, used_bytes, F_U64, .help = "what is used of it; a change of it alone is no event"),
	{ 0 }
};
static const struct fields file_system_fields = {
	"VmGuestFileSystem", sizeof(struct agent_file_system), file_system_rows, "a file system of the guest",
};
static const struct field rows[] = {
	ROW(agent_facts, agent, F_ENUM, .names = agent_state_names, .help = "off: not wanted; absent: none runs in the guest; "
	    "answers; silent: it runs, but does not answer as it should"),
	ROW(agent_facts, version, F_STR, .flags = FIELD_NULLABLE, .help = "of qemu-guest-agent"),
	ROW(agent_facts, as_of, F_TIME, .flags = FIELD_NULLABLE, .help = "when the guest told what follows"),
	ROW(agent_facts, frozen, F_BOOL, .help = "its file systems are frozen: what it writes waits"),
	ROW(agent_facts, hostname, F_STR, .flags = FIELD_NULLABLE, .help = "as the guest calls itself"),
	ROW(agent_facts, os, F_STR, .flags = FIELD_NULLABLE, .help = "operating system"),
	ROW(agent_facts, kernel, F_STR, .flags = FIELD_NULLABLE, .help = "release of its kernel"),
	ROW(agent_facts, address, F_STR, .flags = FIELD_NULLABLE, .help = "the one of its addresses to reach it by"),
	ROW(agent_facts, addresses, F_LIST, .sub = &address_fields, .help = "its addresses, without the loopback's; up to 64"),
	ROW(agent_facts, file_systems, F_LIST, .sub = &file_system_fields, .help = "its file systems on disks; up to 64"),
	{ 0 }
};
const struct fields agent_facts_fields = {
	"VmGuest", sizeof(struct agent_facts), rows, "what the guest tells of itself, by its agent",
};

void agent_facts_fini(struct agent_facts *f)
{
	fields_fini(&agent_facts_fields, f);
}

static bool same_text(const char *a, const char *b)
{
	return !a == !b && (!a || !strcmp(a, b));
}

bool agent_facts_same(const struct agent_facts *a, const struct agent_facts *b)
{
	const struct agent_address *aa = a->addresses.items, *ba = b->addresses.items;
	const struct agent_file_system *af = a->file_systems.items, *bf = b->file_systems.items;
	bool same = a->agent == b->agent && a->frozen == b->frozen && same_text(a->version, b->version) &&
		same_text(a->hostname, b->hostname) && same_text(a->os, b->os) && same_text(a->kernel, b->kernel) &&
		a->addresses.n == b->addresses.n && a->file_systems.n == b->file_systems.n;

	for (size_t i = 0; same && i < a->addresses.n; i++)
		same = fields_equal(&address_fields, &aa[i], &ba[i]);
	for (size_t i = 0; same && i < a->file_systems.n; i++)
		same = same_text(af[i].mountpoint, bf[i].mountpoint) && same_text(af[i].type, bf[i].type) &&
			af[i].total_bytes == bf[i].total_bytes;
	return same;
}

/* ---- what the guest says ---- */

/* At most @max bytes of a text, whole characters, with '?' for what would move a cursor or hide something. */
static char *clean(const char *s, size_t max)
{
	size_t n = strnlen(s, max + 1);
	char *out;

	if (n > max)
		for (n = max; n && ((unsigned char)s[n] & 0xc0) == 0x80; n--)
			;
	out = xstrndup(s, n);
	for (unsigned char *p = (unsigned char *)out; *p; p++) {
		if (*p < 0x20 || *p == 0x7f) {
			*p = '?';
		} else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) {		/* C1 controls */
			p[0] = p[1] = '?';
		} else if (*p == 0xe2 && ((p[1] == 0x80 && p[2] >= 0xa8 && p[2] <= 0xae) ||
					  (p[1] == 0x81 && p[2] >= 0xa0 && p[2] <= 0xaf))) {	/* line ends, direction */
			p[0] = p[1] = p[2] = '?';
		}
	}
	return out;
}

static char *text_of(json_t *j, const char *key, size_t max)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s && *s ? clean(s, max) : NULL;
}

static uint64_t number_of(json_t *j, const char *key)
{
	json_t *v = json_object_get(j, key);

	return json_is_integer(v) && json_integer_value(v) > 0 ? (uint64_t)json_integer_value(v) : 0;
}

static void put(char **at, char *text)
{
	free(*at);
	*at = text;
}

void agent_facts_version(struct agent_facts *f, json_t *result)
{
	put(&f->version, text_of(result, "version", 63));
}

void agent_facts_os(struct agent_facts *f, json_t *result)
{
	char *name = text_of(result, "pretty-name", 127);

	put(&f->os, name ? name : text_of(result, "name", 127));
	put(&f->kernel, text_of(result, "kernel-release", 127));
}

void agent_facts_hostname(struct agent_facts *f, json_t *result)
{
	put(&f->hostname, text_of(result, "host-name", 255));
}

static bool is_address(const char *s)
{
	struct in6_addr a;

	return s && strlen(s) < INET6_ADDRSTRLEN && (inet_pton(AF_INET, s, &a) == 1 || inet_pton(AF_INET6, s, &a) == 1);
}

static bool is_loopback(const char *s)
{
	return !strncmp(s, "127.", 4) || !strcmp(s, "::1");
}

static void interface(struct field_vec *to, json_t *j)
{
	const char *mac = json_string_value(json_object_get(j, "hardware-address"));
	json_t *list = json_object_get(j, "ip-addresses"), *item;
	uint8_t bytes[6];
	size_t i;

	json_array_foreach(list, i, item) {
		const char *address = json_string_value(json_object_get(item, "ip-address"));
		uint64_t prefix = number_of(item, "prefix");
		struct agent_address *a;

		if (to->n >= AGENT_ITEMS_MAX || !is_address(address) || is_loopback(address) || prefix > 128)
			continue;
		a = field_vec_add(to, sizeof(*a));
		a->interface = text_of(j, "name", 63);
		a->mac = mac && text_mac(mac, bytes) == 0 ? xstrdup(mac) : NULL;
		a->address = xstrdup(address);
		a->prefix = prefix;
	}
}

/* The first IPv4 address that isn't of the link only, else the first IPv6 one. Borrowed. */
static const char *to_reach_it(const struct field_vec *v)
{
	const struct agent_address *a = v->items;
	const char *six = NULL;

	for (size_t i = 0; i < v->n; i++) {
		if (!strncmp(a[i].address, "169.254.", 8) || !strncasecmp(a[i].address, "fe80:", 5))
			continue;
		if (!strchr(a[i].address, ':'))
			return a[i].address;
		if (!six)
			six = a[i].address;
	}
	return six;
}

void agent_facts_addresses(struct agent_facts *f, json_t *result)
{
	struct agent_facts old = { .addresses = TAKE_VEC(f->addresses), .address = TAKE(f->address) };
	const char *best;
	json_t *item;
	size_t i;

	agent_facts_fini(&old);
	json_array_foreach(result, i, item)
		interface(&f->addresses, item);
	best = to_reach_it(&f->addresses);
	f->address = best ? xstrdup(best) : NULL;
}

void agent_facts_file_systems(struct agent_facts *f, json_t *result)
{
	struct agent_facts old = { .file_systems = TAKE_VEC(f->file_systems) };
	json_t *item;
	size_t i;

	agent_facts_fini(&old);
	json_array_foreach(result, i, item) {
		char *at = text_of(item, "mountpoint", 255);
		struct agent_file_system *fs;

		if (!at || f->file_systems.n >= AGENT_ITEMS_MAX) {
			free(at);
			continue;
		}
		fs = field_vec_add(&f->file_systems, sizeof(*fs));
		fs->mountpoint = at;
		fs->type = text_of(item, "type", 31);
		fs->total_bytes = number_of(item, "total-bytes");
		fs->used_bytes = number_of(item, "used-bytes");
	}
}
