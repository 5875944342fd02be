// LINK: hv-core
/* From what runs to what is wanted: the plan, and what a step makes true. */
#include <string.h>
#include "hot.h"
#include "t.h"

static struct vm_spec spec(const char *json)
{
	struct vm_spec s = { 0 };
	struct err e = { 0 };
	json_t *j = json_parse(json, strlen(json), 1 << 20, &e);

	if (!j || fields_decode(&vm_spec_fields, j, FIELDS_CREATE, &s, &e) < 0)
		t_fail(__FILE__, __LINE__, "%s: %s", json, e.msg);
	json_decref(j);
	return s;
}

static const char *const names[HOT_NWHATS] = {
	[HOT_MEDIUM] = "medium", [HOT_SIZE] = "size", [HOT_LIMITS] = "limits", [HOT_CABLE] = "cable", [HOT_FORWARDS] = "forwards",
	[HOT_MEMORY] = "memory", [HOT_USB] = "usb", [HOT_USB_UNPLUG] = "-usb", [HOT_NIC_REMOVE] = "-nic", [HOT_DISK_REMOVE] = "-disk",
	[HOT_CDROM_ADD] = "+cd", [HOT_CDROM_REMOVE] = "-cd", [HOT_DISK_ADD] = "+disk", [HOT_NIC_ADD] = "+nic", [HOT_USB_PLUG] = "+usb",
};

static void tell(const struct hot_plan *p, struct buf *out)
{
	for (size_t i = 0; i < p->n; i++)
		buf_addf(out, "%s%s %s %s", i ? "; " : "", names[p->steps[i].what], p->steps[i].name, p->steps[i].pointer);
}

#define DISK(name, more)	"\"" name "\":{\"size_bytes\":1048576" more "}"
static const struct { const char *is, *wanted; bool fresh; const char *steps; } rows[] = {
	{ "{}", "{}", false, "" },
	{ "{}", "{\"cpus\":2,\"description\":\"x\",\"autostart\":true,\"on_crash\":\"off\"}", false, "" },
	{ "{\"cdroms\":{\"cd0\":{}}}", "{\"cdroms\":{\"cd0\":{\"iso\":\"[a] b.iso\"}}}", false, "medium cd0 /cdroms/cd0/iso" },
	{ "{}", "{\"cdroms\":{\"cd0\":{}}}", false, "+cd cd0 /cdroms/cd0" },
	{ "{\"cdroms\":{\"cd0\":{}}}", "{}", false, "-cd cd0 /cdroms/cd0" },
	{ "{\"disks\":{" DISK("a", "") "}}", "{\"disks\":{" DISK("a", ",\"limits\":{\"read_iops\":1,\"write_iops\":2}") "}}", false,
	  "limits a /disks/a/limits" },
	{ "{\"disks\":{" DISK("a", "") "}}", "{\"disks\":{" DISK("a", ",\"bus\":\"nvme\"") "}}", false, "" },
	{ "{\"disks\":{" DISK("a", "") "," DISK("b", "") "},\"nics\":{\"x\":{},\"y\":{}}}",
	  "{\"disks\":{" DISK("c", "") "," DISK("b", ",\"limits\":{\"read_iops\":1}") "},"
	  "\"nics\":{\"y\":{\"connected\":false,\"forwards\":[{\"host_port\":8080,\"guest_port\":80}]},\"z\":{}}}", false,
	  "limits b /disks/b/limits; cable y /nics/y/connected; forwards y /nics/y/forwards; -nic x /nics/x; -disk a /disks/a; "
	  "+disk c /disks/c; +nic z /nics/z" },
	/* just started, nothing differs: what a command line can't say */
	{ "{\"disks\":{" DISK("a", ",\"limits\":{\"read_iops\":1}") "," DISK("b", "") "},\"nics\":{\"x\":{\"connected\":false},\"y\":{}}}",
	  "{\"disks\":{" DISK("a", ",\"limits\":{\"read_iops\":1}") "," DISK("b", "") "},\"nics\":{\"x\":{\"connected\":false},\"y\":{}}}",
	  true, "limits a /disks/a/limits; cable x /nics/x/connected; memory  /memory_bytes" },
	/* once is enough, and what comes is plugged in with its limits */
	{ "{\"disks\":{" DISK("a", "") "}}",
	  "{\"disks\":{" DISK("a", ",\"limits\":{\"read_iops\":1}") "," DISK("b", ",\"limits\":{\"read_iops\":1}") "}}", true,
	  "limits a /disks/a/limits; memory  /memory_bytes; +disk b /disks/b" },
};

TEST(plans)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct vm_spec is = spec(rows[i].is), wanted = spec(rows[i].wanted);
		AUTO_BUF struct buf b = BUF_INIT(4096);
		struct hot_plan p;

		hot_plan(&is, &wanted, rows[i].fresh, &p);
		buf_adds(&b, "");
		tell(&p, &b);
		eq_str(b.data ? b.data : "", rows[i].steps);
		/* Each done, nothing hot is left to do; and doing it again changes nothing. */
		for (int again = 0; again < 2; again++)
			for (size_t k = 0; k < p.n; k++)
				hot_adopt(&is, &wanted, &p.steps[k]);
		hot_plan(&is, &wanted, false, &p);
		eq_int(p.n, 0);
		fields_fini(&vm_spec_fields, &is);
		fields_fini(&vm_spec_fields, &wanted);
	}
}

TEST(what_a_step_makes_true_is_that_part_alone)
{
	struct vm_spec is = spec("{\"cpus\":1,\"cdroms\":{\"cd0\":{},\"cd1\":{\"iso\":\"[a] c.iso\"}}}");
	struct vm_spec wanted = spec("{\"cpus\":2,\"cdroms\":{\"cd0\":{\"iso\":\"[a] b.iso\"},\"cd1\":{}}}");
	struct hot_plan p;

	hot_plan(&is, &wanted, false, &p);
	eq_int(p.n, 2);
	hot_adopt(&is, &wanted, &p.steps[0]);
	eq_str(VM_CDROMS(&is)[0].iso, "[a] b.iso");
	eq_str(VM_CDROMS(&is)[1].iso, "[a] c.iso");
	eq_int(is.cpus, 1);
	fields_fini(&vm_spec_fields, &is);
	fields_fini(&vm_spec_fields, &wanted);
}

TEST(what_was_tried_is_tried_again)
{
	struct vm_spec is = spec("{\"disks\":{" DISK("a", "") "},\"cdroms\":{\"cd0\":{}}}");
	struct vm_spec wanted = spec("{\"cdroms\":{\"cd0\":{}}}");
	struct hot_plan p = { .n = 0 };
	AUTO_BUF struct buf b = BUF_INIT(4096);

	hot_again(&is, &is, "/cdroms/cd0/iso", &p);
	hot_again(&is, &is, "/disks/a", &p);		/* the guest let go of it by itself */
	hot_again(&is, &is, "/disks/gone", &p);
	hot_again(&is, &wanted, "/disks/a", &p);	/* differs: the plan has it */
	hot_again(&is, &is, "/cpus", &p);
	tell(&p, &b);
	eq_str(b.data, "medium cd0 /cdroms/cd0/iso; +disk a /disks/a");
	fields_fini(&vm_spec_fields, &is);
	fields_fini(&vm_spec_fields, &wanted);
}

TEST(more_than_there_is_room_for_is_left_for_the_next_time)
{
	AUTO_BUF struct buf b = BUF_INIT(1 << 16);
	struct hot_plan p;

	buf_adds(&b, "{\"nics\":{");
	for (int i = 0; i < 8; i++)
		buf_addf(&b, "%s\"n%d\":{}", i ? "," : "", i);
	buf_adds(&b, "},\"disks\":{");
	for (int i = 0; i < 16; i++)
		buf_addf(&b, "%s\"d%d\":{\"size_bytes\":512,\"limits\":{\"read_iops\":1}}", i ? "," : "", i);
	buf_adds(&b, "}}");
	struct vm_spec none = spec("{}"), all = spec(b.data);

	hot_plan(&none, &all, true, &p);
	eq_int(p.n, 25);
	hot_plan(&all, &none, true, &p);
	eq_int(p.n, 25);
	ok(p.n <= HOT_MAX);
	fields_fini(&vm_spec_fields, &none);
	fields_fini(&vm_spec_fields, &all);
}

T_MAIN
