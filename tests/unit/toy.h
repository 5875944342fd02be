/* toy.h: a table with a row of every type, for the tests and the fuzz target of fields.c. */
#pragma once
#include "fields.h"
#include "text.h"

struct disk { char *name, *volume; uint64_t size_bytes; int bus; };
struct rule { uint64_t port; char *note; };
struct cpu { uint64_t count; int model; };
struct toy {
	int untouched;		/* no row describes it */
	char *name, *description, *boot, *token, *extra;
	uint64_t memory_bytes, port;
	bool autostart;
	int state;
	int64_t created_at;
	struct cpu cpu;
	struct field_vec disks, rules, dns, labels;
};

static const char *const buses[] = { "virtio", "scsi", NULL }, *const models[] = { "host", "max", NULL },
	*const states[] = { "on", "off", NULL };

static const struct field disk_rows[] = {
	{ "name", F_STR, offsetof(struct disk, name), .max = 63, .check = text_is_name, .rule = "a name" },
	{ "volume", F_STR, offsetof(struct disk, volume), FIELD_REQUIRED | FIELD_CREATE_ONLY, .max = 100 },
	{ "size_bytes", F_U64, offsetof(struct disk, size_bytes), .min = 1 << 20, .multiple = 512, .def = "1048576" },
	{ "bus", F_ENUM, offsetof(struct disk, bus), .names = buses },
	{ 0 }
};
static const struct fields disk_fields = { "Disk", sizeof(struct disk), disk_rows };
static const struct field rule_rows[] = {
	{ "port", F_U64, offsetof(struct rule, port), FIELD_REQUIRED, .min = 1, .max = 65535 },
	{ "note", F_STR, offsetof(struct rule, note) },
	{ 0 }
};
static const struct fields rule_fields = { "Rule", sizeof(struct rule), rule_rows };
static const struct field cpu_rows[] = {
	{ "count", F_U64, offsetof(struct cpu, count), FIELD_HOT, .min = 1, .max = 512, .def = "2" },
	{ "model", F_ENUM, offsetof(struct cpu, model), .names = models, .def = "\"max\"" },
	{ 0 }
};
static const struct fields cpu_fields = { "Cpu", sizeof(struct cpu), cpu_rows };
static const struct field toy_rows[] = {
	{ "name", F_STR, offsetof(struct toy, name), FIELD_REQUIRED, .max = 63, .check = text_is_name,
	  .rule = "a name of letters and digits" },
	{ "description", F_STR, offsetof(struct toy, description), FIELD_NULLABLE, .max = 20 },
	{ "boot", F_STR, offsetof(struct toy, boot), .def = "\"disk\"", .min = 2 },
	{ "token", F_STR, offsetof(struct toy, token), FIELD_SECRET, .check = text_is_name, .rule = "a good token" },
	{ "extra", F_JSON, offsetof(struct toy, extra), .max = 30 },
	{ "memory_bytes", F_U64, offsetof(struct toy, memory_bytes), .min = 64 << 20, .max = 1ull << 40, .multiple = 1 << 20,
	  .def = "1073741824" },
	{ "port", F_U64, offsetof(struct toy, port), FIELD_NULLABLE, .max = 65535 },
	{ "autostart", F_BOOL, offsetof(struct toy, autostart), FIELD_HOT, .def = "true" },
	{ "state", F_ENUM, offsetof(struct toy, state), FIELD_CREATE_ONLY, .names = states, .def = "\"off\"" },
	{ "created_at", F_TIME, offsetof(struct toy, created_at), FIELD_READ_ONLY },
	{ "cpu", F_OBJECT, offsetof(struct toy, cpu), .sub = &cpu_fields },
	{ "disks", F_MAP, offsetof(struct toy, disks), FIELD_HOT, .max = 3, .sub = &disk_fields },
	{ "rules", F_LIST, offsetof(struct toy, rules), .max = 2, .sub = &rule_fields },
	{ "dns", F_STRS, offsetof(struct toy, dns), .max = 2, .check = text_is_name, .rule = "a name" },
	{ "labels", F_LABELS, offsetof(struct toy, labels), FIELD_HOT },
	{ 0 }
};
static const struct fields toy_fields = { "Toy", sizeof(struct toy), toy_rows };
