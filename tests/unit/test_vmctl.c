// LINK: cli
/* What vmctl makes of the words of a command line. */
#include <stdlib.h>
#include "../../cli/args.h"
#include "../../cli/api.h"
#include "../../cli/short.h"
#include "../../cli/value.h"
#include "../../cli/vmctl.h"
#include "mem.h"
#include "t.h"

static char text[8192];

/* Put the words (NULL-terminated) into a VM that is created; the JSON, or "error; hint". */
static const char *made_by(bool creating, const char *const *words)
{
	const struct api_op *op = api_op(creating ? "vm_create" : "vm_set");
	json_t *body = json_object();
	struct err e = { 0 };
	char *json;

	for (; *words; words++) {
		int r = short_set(body, op->in, *words, &e);

		if (!r)
			r = value_set(body, op->in, *words, creating, &e);
		if (r < 0) {
			snprintf(text, sizeof(text), "%s; %s", e.msg, e.hint);
			json_decref(body);
			return text;
		}
	}
	json = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
	snprintf(text, sizeof(text), "%s", json);
	free(json);
	json_decref(body);
	return text;
}
#define made(...)	made_by(true, (const char *const[]){ __VA_ARGS__, NULL })
#define patch(...)	made_by(false, (const char *const[]){ __VA_ARGS__, NULL })

TEST(keys_and_values)
{
	eq_str(made("cpus=2", "memory=1GiB"), "{\"config\":{\"cpus\":2,\"memory_bytes\":1073741824}}");
	eq_str(made("memory_bytes=1024"), "{\"config\":{\"memory_bytes\":1024}}");
	eq_str(made("config.cpus=2"), "{\"config\":{\"cpus\":2}}");
	eq_str(made("description=a=b, c", "autostart=yes"), "{\"config\":{\"autostart\":true,\"description\":\"a=b, c\"}}");
	eq_str(made("description=[x] y"), "{\"config\":{\"description\":\"[x] y\"}}");
	eq_str(made("labels.env=prod", "labels.a.b/c=d"), "{\"labels\":{\"a.b/c\":\"d\",\"env\":\"prod\"}}");
	eq_str(made("disks.data.size=1KiB", "disks.data.bus=scsi"),
	       "{\"config\":{\"disks\":{\"data\":{\"bus\":\"scsi\",\"size_bytes\":1024}}}}");
	eq_str(made("nics.n.forwards=[{\"host_port\":1,\"guest_port\":2}]"),
	       "{\"config\":{\"nics\":{\"n\":{\"forwards\":[{\"guest_port\":2,\"host_port\":1}]}}}}");
	eq_str(patch("disks.data=null", "cdroms.cd0.iso=null", "description=null"),
	       "{\"config\":{\"cdroms\":{\"cd0\":{\"iso\":null}},\"description\":null,\"disks\":{\"data\":null}}}");
	eq_str(patch("labels.env=null", "name=new"), "{\"labels\":{\"env\":null},\"name\":\"new\"}");
}

TEST(keys_for_what_is_wanted_most)
{
	eq_str(made("disk=20GiB"), "{\"config\":{\"disks\":{\"disk0\":{\"size_bytes\":21474836480}}}}");
	eq_str(made("disk=1KiB", "disk=2KiB"),
	       "{\"config\":{\"disks\":{\"disk0\":{\"size_bytes\":1024},\"disk1\":{\"size_bytes\":2048}}}}");
	eq_str(made("image=a.qcow2", "disk=1KiB"),
	       "{\"config\":{\"disks\":{\"disk0\":{\"size_bytes\":1024,\"source\":\"[local] a.qcow2\"}}}}");
	eq_str(made("disk=1KiB,source=[s] a, b.qcow2,bus=scsi"),
	       "{\"config\":{\"disks\":{\"disk0\":{\"bus\":\"scsi\",\"size_bytes\":1024,\"source\":\"[s] a, b.qcow2\"}}}}");
	eq_str(made("cdrom=d.iso"), "{\"config\":{\"cdroms\":{\"cd0\":{\"iso\":\"[local] d.iso\"}}}}");
	eq_str(made("nic=none"), "{\"config\":{\"nics\":{}}}");
	eq_str(made("nic=nat", "nic=lan"), "{\"config\":{\"nics\":{\"nic0\":{\"network\":\"nat\"},\"nic1\":{\"network\":\"lan\"}}}}");
	eq_str(made("forward=2222:22", "forward=udp:0.0.0.0:53:5353"),
	       "{\"config\":{\"nics\":{\"nic0\":{\"forwards\":[{\"guest_port\":22,\"host_port\":2222,\"protocol\":\"tcp\"},"
	       "{\"guest_port\":5353,\"host_address\":\"0.0.0.0\",\"host_port\":53,\"protocol\":\"udp\"}]}}}}");
	eq_str(made("kernel=Image", "cmdline=console=ttyAMA0"),
	       "{\"config\":{\"firmware\":\"kernel\",\"kernel\":{\"command_line\":\"console=ttyAMA0\",\"image\":\"[local] Image\"}}}");
}

TEST(what_is_wrong_is_told_with_a_way_out)
{
	eq_str(made("memry=1"), "there is no field \"memry\"; did you mean memory?");
	eq_str(made("cpus"), "\"cpus\" is no KEY=VALUE; write it as cpus=2 or memory=1GiB");
	eq_str(made("=1"), "\"=1\" is no KEY=VALUE; write it as cpus=2 or memory=1GiB");
	eq_str(made("cpus=two"), "cpus: \"two\" is not a whole number; write it in digits: 4");
	eq_str(made("cpus=-1"), "cpus: \"-1\" is not a whole number; write it in digits: 4");
	eq_str(made("memory=lots"), "memory: \"lots\" is not a size; write it as 4GiB, 512MiB, or in bytes");
	eq_str(made("firmware=efi"), "firmware can't be \"efi\", only one of: uefi, kernel; did you mean firmware=uefi?");
	eq_str(made("autostart=maybe"), "autostart is yes or no, not \"maybe\"; ");
	eq_str(made("cpus.x=1"), "cpus has no parts; ");
	eq_str(made("disks=1"), "disks has parts: write disks.PART=..., or JSON; ");
	eq_str(made("disks.data=1"), "\"data\" has parts: write disks.data.PART=..., or =null to remove it; ");
	eq_str(made("disks.=1"), "disks: a name is missing behind the dot; ");
	eq_str(made("disks.d.slot=4"), "slot is only shown, it can't be set; ");
	eq_str(made("forward=22"),
	       "forward: \"22\" can't be read; write it as forward=2222:22, forward=0.0.0.0:8080:80 or forward=udp:5353:53");
	eq_str(made("image=x.iso"), "[local] x.iso is an ISO, not a disk image; cdrom='[local] x.iso'");
	ok(strstr(made("disk=big"), "is not a size"));
	eq_str(patch("machine=virt-8.0"), "machine is settled at creation and can't be changed; ");
	eq_str(patch("nics.n.mac=null"), "{\"config\":{\"nics\":{\"n\":{\"mac\":null}}}}");
	ok(strstr(made("disks.d.d.d.d.d.d.d=1"), "no field"));
}

TEST(meant_words)
{
	static const char *const names[] = { "start", "shutdown", "poweroff", "console", "ls", NULL };

	eq_str(did_you_mean("strat", names), "start");
	eq_str(did_you_mean("shutdwon", names), "shutdown");
	eq_str(did_you_mean("cons", names), "console");
	eq_str(did_you_mean("l", names), "ls");
	ok(!did_you_mean("frobnicate", names));
	ok(!did_you_mean("", names) || strlen(did_you_mean("", names)) <= 2);
	ok(!did_you_mean("a-word-that-is-much-longer-than-any-of-the-names-that-there-are", names));
}

static bool is_flag(void *arg, const char *name)
{
	return !strcmp(name, "autostart");
}

/* A command line: words between "|". */
static struct args words(const char *line)
{
	static char copy[256], *v[16];
	int n = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *rest = copy; n < 16 && (v[n] = strsep(&rest, "|")); )
		n++;
	return args_from(n, v);
}

TEST(options_stand_anywhere)
{
	struct args a = words("a|--for=x|-o|json|b|-y|--|--yes|-o");
	bool bad = false;

	eq_str(args_value(&a, "--output", "-o", &bad), "json");
	eq_str(args_value(&a, "--for", NULL, &bad), "x");
	ok(args_flag(&a, "--yes", "-y"));
	ok(!args_flag(&a, "--yes", "-y"));
	ok(!args_value(&a, "--output", "-o", &bad) && !bad);
	ok(!args_unknown(&a));
	eq_int(a.n, 4);
	eq_str(a.v[2], "--yes");

	a = words("a|--bogus|--timeout");
	ok(!args_value(&a, "--timeout", NULL, &bad) && bad);
	eq_str(args_unknown(&a), "--bogus");
}

TEST(options_become_words)
{
	struct args a = words("web|--memory|1GiB|--cpus=2|--autostart|--cpu-model|max|--disk");

	args_to_words(&a, is_flag, NULL);
	eq_int(a.n, 6);
	eq_str(a.v[1], "memory=1GiB");
	eq_str(a.v[2], "cpus=2");
	eq_str(a.v[3], "autostart=yes");
	eq_str(a.v[4], "cpu_model=max");
	eq_str(args_unknown(&a), "--disk");		/* its value is missing */
	free(a.v[1]);
	free(a.v[3]);
	free(a.v[4]);
}

TEST(the_table_of_the_api)
{
	const struct api_op *op = api_op("vm_start");

	ok(op && !strcmp(op->method, "POST") && !strcmp(op->path, "/api/v1/vms/{vm}/start") && op->flags & API_TASK);
	eq_str(op->params[0].name, "vm");
	ok(api_op("vm_list")->flags & API_LISTS && !strcmp(api_op("vm_list")->out->name, "Vm"));
	ok(api_op("file_upload")->flags & API_BYTES_IN && api_op("file_download")->flags & API_BYTES_OUT);
	ok(api_op("vm_set")->flags & API_PATCH && api_op("console_open")->flags & API_SOCKET);
	ok(api_field(api_op("user_create")->in, "password", 8)->flags & API_SECRET);
	ok(!api_op("vm_fly"));
}

T_MAIN
