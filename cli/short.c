#include <stdio.h>
#include <string.h>
#include "mem.h"
#include "short.h"
#include "text.h"
#include "value.h"

const struct short_key short_keys[] = {
	{ "disk", "SIZE[,KEY=VALUE...]", "a new disk: disk=20GiB; with image= the size of its copy; disk=20GiB,bus=scsi", true },
	{ "image", "FILE", "a disk that begins as a copy of this image: image='[local] debian.qcow2'", true },
	{ "cdrom", "FILE", "a CD drive with this ISO: cdrom='[local] debian.iso'" },
	{ "nic", "NETWORK", "a NIC on this network; nic=none: a VM without" },
	{ "forward", "PORTS", "a port of the host that leads into the guest: forward=2222:22, udp:0.0.0.0:53:53" },
	{ "kernel", "FILE", "boot this kernel without firmware; with initrd= and cmdline=" },
	{ "initrd", "FILE", "its initial RAM disk" },
	{ "cmdline", "TEXT", "what the kernel is told" },
	{ 0 }
};

static json_t *enter(json_t *in, const char *name)
{
	json_t *j = json_object_get(in, name);

	if (!j) {
		j = json_object();
		json_object_set_new(in, name, j);
	}
	return j;
}

/* "a.iso" is on the datastore "local" */
static char *store_path(const char *value)
{
	return *value == '[' ? xstrdup(value) : xasprintf("[local] %s", value);
}

/* The first entry of @map, prefix0, prefix1, ..., that hasn't @key. */
static json_t *next_entry(json_t *map, const char *prefix, const char *key)
{
	for (int i = 0; ; i++) {
		AUTO_FREE char *name = xasprintf("%s%d", prefix, i);
		json_t *entry = enter(map, name);

		if (!json_object_get(entry, key))
			return entry;
	}
}

static bool is_format(const char *path, const char *tail)
{
	size_t n = strlen(path), m = strlen(tail);

	return n > m && !strcmp(path + n - m, tail);
}

static int set_image(json_t *config, const char *value, struct err *e)
{
	AUTO_FREE char *path = store_path(value);
	json_t *disk = next_entry(enter(config, "disks"), "disk", "source");

	if (is_format(path, ".iso")) {
		fail(e, ERR_INVALID, "%s is an ISO, not a disk image", path);
		return err_hint(e, "cdrom='%s'", path);
	}
	json_object_set_new(disk, "source", json_string(path));
	return 1;
}

static int set_forward(json_t *config, const char *value, struct err *e)
{
	AUTO_FREE char *text = xstrdup(value);
	const char *protocol = "tcp";
	char *s = text, *parts[3];
	uint64_t host, guest;
	json_t *f, *list, *nic;
	int n = 0;

	if (!strncmp(s, "tcp:", 4) || !strncmp(s, "udp:", 4)) {
		protocol = *s == 't' ? "tcp" : "udp";
		s += 4;
	}
	for (char *p; n < 3 && (p = strsep(&s, ":")); )
		parts[n++] = p;
	if (n < 2 || s || text_u64(parts[n - 2], &host) < 0 || text_u64(parts[n - 1], &guest) < 0) {
		fail(e, ERR_INVALID, "forward: \"%s\" can't be read", value);
		return err_hint(e, "write it as forward=2222:22, forward=0.0.0.0:8080:80 or forward=udp:5353:53");
	}
	f = json_pack("{s:s, s:I, s:I}", "protocol", protocol, "host_port", (json_int_t)host, "guest_port", (json_int_t)guest);
	if (n == 3)
		json_object_set_new(f, "host_address", json_string(parts[0]));
	nic = enter(enter(config, "nics"), "nic0");
	list = json_object_get(nic, "forwards");
	if (!list) {
		list = json_array();
		json_object_set_new(nic, "forwards", list);
	}
	json_array_append_new(list, f);
	return 1;
}

static int set_nic(json_t *config, const char *value)
{
	json_t *nics = enter(config, "nics");

	if (strcmp(value, "none"))
		json_object_set_new(next_entry(nics, "nic", "network"), "network", json_string(value));
	return 1;
}

static int set_kernel(json_t *config, const char *key, const char *value)
{
	AUTO_FREE char *path = store_path(value);

	json_object_set_new(config, "firmware", json_string("kernel"));
	json_object_set_new(enter(config, "kernel"), !strcmp(key, "kernel") ? "image" : key, json_string(path));
	return 1;
}

/* SIZE[,KEY=VALUE...], or KEY=VALUE,...: "20GiB,bus=scsi", "source=[local] a.qcow2". A comma that no key follows is text. */
static int set_disk(json_t *config, const struct api_schema *disk_schema, const char *value, struct err *e)
{
	json_t *disk = next_entry(enter(config, "disks"), "disk", "size_bytes");
	AUTO_FREE char *text = xstrdup(value);
	char *part = text, *end;

	for (bool first = true; part; part = end, first = false) {
		AUTO_FREE char *assignment = NULL;
		size_t name;

		for (end = strchr(part, ','); end; end = strchr(end + 1, ',')) {
			name = strspn(end + 1, "abcdefghijklmnopqrstuvwxyz_");
			if (name && end[1 + name] == '=')
				break;
		}
		if (end)
			*end++ = '\0';
		assignment = first && !strchr(part, '=') ? xasprintf("size=%s", part) : xstrdup(part);
		if (value_set(disk, disk_schema, assignment, true, e) < 0) {
			err_hint(e, "disk=20GiB makes a new one, image=FILE copies one");
			return -1;
		}
	}
	return 1;
}

static const struct api_schema *disk_of(const struct api_schema *s)
{
	const struct api_field *config = api_field(s, "config", 6), *disks = config ? api_field(config->sub, "disks", 5) : NULL;

	return disks ? disks->sub : s;
}

int short_set(json_t *body, const struct api_schema *s, const char *assignment, struct err *e)
{
	const char *equals = strchr(assignment, '=');
	AUTO_FREE char *key = equals ? xstrndup(assignment, (size_t)(equals - assignment)) : NULL;
	json_t *config;
	int known = 0;

	if (!key || !api_field(s, "config", 6) || api_field(s, key, strlen(key)))
		return 0;
	for (const struct short_key *k = short_keys; k->name; k++)
		known |= !strcmp(k->name, key);
	if (!known)
		return 0;
	config = enter(body, "config");
	if (!strcmp(key, "disk"))
		return set_disk(config, disk_of(s), equals + 1, e);
	if (!strcmp(key, "image"))
		return set_image(config, equals + 1, e);
	if (!strcmp(key, "forward"))
		return set_forward(config, equals + 1, e);
	if (!strcmp(key, "nic"))
		return set_nic(config, equals + 1);
	if (!strcmp(key, "cmdline")) {
		json_object_set_new(enter(config, "kernel"), "command_line", json_string(equals + 1));
		return 1;
	}
	if (!strcmp(key, "cdrom")) {
		AUTO_FREE char *path = store_path(equals + 1);

		json_object_set_new(next_entry(enter(config, "cdroms"), "cd", "iso"), "iso", json_string(path));
		return 1;
	}
	return set_kernel(config, key, equals + 1);
}

void short_defaults(json_t *body, const struct api_schema *s)
{
	json_t *config = enter(body, "config");

	if (!json_object_get(config, "nics"))
		enter(enter(config, "nics"), "nic0");
}
