// LINK: hv-core
/* A VM's spec: what is accepted, what is generated, and that what was given once stays. */
#include <errno.h>
#include <stdlib.h>
#include "buf.h"
#include "host.h"
#include "mem.h"
#include "spec.h"
#include "t.h"
#include "text.h"

#define SMALL "'cpus':1,'memory_bytes':33554432"
#define UUID "6e1c0f3a-52b4-4d0e-9a57-0c1d2e3f4a5b"

static int decode(struct vm_spec *s, const char *text, enum fields_mode mode, struct err *e)
{
	AUTO_FREE char *json = xstrdup(text);	/* written with ' for " */

	for (char *q = json; (q = strchr(q, '\'')); )
		*q = '"';
	json_t *j = json_parse(json, strlen(json), 1 << 16, e);
	int r = j ? fields_decode(&vm_spec_fields, j, mode, s, e) : -1;

	json_decref(j);
	return r;
}

static void create(struct vm_spec *s, const struct host *h, const char *text)
{
	struct err e = { 0 };

	*s = (struct vm_spec){ 0 };
	if (decode(s, text, FIELDS_CREATE, &e))
		t_fail(__FILE__, __LINE__, "%s: %s", text, e.msg);
	vm_spec_freeze(s, h, UUID);
	if (vm_spec_check(s, h, &e))
		t_fail(__FILE__, __LINE__, "%s: %s", text, e.msg);
}

static void patch(struct vm_spec *s, const struct host *h, const char *text)
{
	struct err e = { 0 };

	if (decode(s, text, FIELDS_PATCH, &e))
		t_fail(__FILE__, __LINE__, "%s: %s", text, e.msg);
	vm_spec_freeze(s, h, UUID);
}

static char *encode(const struct vm_spec *s)
{
	struct buf b = BUF_INIT(1 << 16);
	struct jw w = JW(&b);

	fields_encode(&vm_spec_fields, s, &w, NULL);
	return buf_take(&b);
}

static struct host tcg_host(void)
{
	return (struct host){ .memory_bytes = 64ull << 30, .qemu = { .path = (char *)"/usr/bin/qemu-system-aarch64",
		.machine = (char *)"virt-7.2" }, .firmware = { .code = (char *)"/c", .vars = (char *)"/v" } };
}

static struct host kvm_host(unsigned gic)
{
	struct host h = tcg_host();

	h.kvm = (struct host_kvm){ .usable = true, .gic = gic, .ipa_bits = 44, .max_vcpus = gic == 2 ? 8 : 512 };
	return h;
}

static struct vm_disk *disk(const struct vm_spec *s, const char *name)
{
	return field_vec_find(&s->disks, sizeof(struct vm_disk), name);
}

static struct vm_nic *nic(const struct vm_spec *s, const char *name)
{
	return field_vec_find(&s->nics, sizeof(struct vm_nic), name);
}

TEST(defaults)
{
	struct host h = tcg_host();
	struct vm_spec s;

	create(&s, &h, "{}");
	eq_int(s.cpus, 1);
	eq_int(s.memory_bytes, 512 << 20);
	eq_int(s.firmware, VM_FIRMWARE_UEFI);
	eq_int(s.display, VM_DISPLAY_VIRTIO);
	eq_str(s.machine, "virt-7.2");
	eq_str(s.cpu_model, "cortex-a72");	/* never plain max: it is four times slower */
	eq_int(s.gic, VM_GIC_3);
	fields_fini(&vm_spec_fields, &s);
}

TEST(frozen_for_the_host_at_hand)
{
	struct host pi = kvm_host(2), altra = kvm_host(3), tcg = tcg_host();
	struct err e = { 0 };
	struct vm_spec s;

	create(&s, &pi, "{}");
	eq_str(s.cpu_model, "host");
	eq_int(s.gic, VM_GIC_2);
	eq_int(vm_spec_accel(&s, &pi), VM_ACCEL_KVM);
	vm_spec_freeze(&s, &altra, UUID);	/* again, elsewhere: nothing moves */
	eq_int(s.gic, VM_GIC_2);
	eq_int(vm_spec_check(&s, &altra, &e), -EINVAL);
	eq_str(e.pointer, "/gic");
	eq_int(vm_spec_check(&s, &tcg, &e), -EINVAL);
	eq_str(e.pointer, "/cpu_model");
	fields_fini(&vm_spec_fields, &s);

	create(&s, &tcg, "{}");			/* born emulated, it stays so */
	eq_int(vm_spec_accel(&s, &altra), VM_ACCEL_TCG);
	eq_int(vm_spec_check(&s, &altra, &e), 0);
	fields_fini(&vm_spec_fields, &s);
}

TEST(what_is_written_is_read)
{
	struct host h = tcg_host();
	struct vm_spec s, again = { 0 };
	struct err e = { 0 };

	create(&s, &h, "{'description':'a, b=c \\u00e9','cpus':4,'disks':{'root':{'size_bytes':1048576,'bus':'scsi'}},"
	       "'cdroms':{'cd0':{}},'nics':{'lan':{'forwards':[{'host_port':2222,'guest_port':22}]}},"
	       "'autostart':true}");
	AUTO_FREE char *one = encode(&s);
	eq_int(decode(&again, one, FIELDS_STORED, &e), 0);
	ok(fields_equal(&vm_spec_fields, &s, &again));
	AUTO_FREE char *two = encode(&again);
	eq_str(two, one);
	eq_str(VM_FORWARDS(nic(&again, "lan"))->host_address, "127.0.0.1");
	ok(strstr(one, "\"iso\":null"));
	fields_fini(&vm_spec_fields, &s);
	fields_fini(&vm_spec_fields, &again);
}

TEST(macs)
{
	struct host h = tcg_host();
	struct vm_spec s, other = { 0 };
	struct err e = { 0 };
	uint8_t mac[6];

	create(&s, &h, "{'nics':{'a':{},'b':{},'c':{'mac':'52:54:00:12:34:56'}}}");
	eq_int(text_mac(nic(&s, "a")->mac, mac), 0);
	ok((mac[0] & 3) == 2);			/* locally administered, unicast */
	ok(strcmp(nic(&s, "a")->mac, nic(&s, "b")->mac));
	eq_str(nic(&s, "c")->mac, "52:54:00:12:34:56");
	ok(decode(&other, "{'nics':{'a':{}}}", FIELDS_CREATE, &e) == 0);
	vm_spec_freeze(&other, &h, "7e1c0f3a-52b4-4d0e-9a57-0c1d2e3f4a5b");
	ok(strcmp(nic(&s, "a")->mac, nic(&other, "a")->mac));
	eq_int(decode(&s, "{'nics':{'a':{'mac':'52:54:00:00:00:09'}}}", FIELDS_PATCH, &e), -EINVAL);
	fields_fini(&vm_spec_fields, &s);
	fields_fini(&vm_spec_fields, &other);
}

/* 5,000 VMs of four NICs each: no two addresses alike. */
static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

TEST(macs_of_many)
{
	enum { VMS = 5000, NICS = 4 };
	char **all = xcalloc(VMS * NICS, sizeof(*all)), uuid[37];
	struct host h = tcg_host();
	struct vm_spec s;
	int same = 0;

	create(&s, &h, "{'nics':{'a':{},'b':{},'c':{},'d':{}}}");
	for (int i = 0; i < VMS; i++) {
		text_uuid_random(uuid);
		for (int k = 0; k < NICS; k++) {
			free(VM_NICS(&s)[k].mac);
			VM_NICS(&s)[k].mac = NULL;
		}
		vm_spec_freeze(&s, &h, uuid);
		for (int k = 0; k < NICS; k++)
			all[i * NICS + k] = xstrdup(VM_NICS(&s)[k].mac);
	}
	qsort(all, VMS * NICS, sizeof(*all), by_text);
	for (int i = 1; i < VMS * NICS; i++)
		same += !strcmp(all[i], all[i - 1]);
	ok(same == 0);
	for (int i = 0; i < VMS * NICS; i++)
		free(all[i]);
	free(all);
	fields_fini(&vm_spec_fields, &s);
}

TEST(slots_stay)
{
	struct host h = tcg_host();
	struct vm_spec s;

	create(&s, &h, "{'disks':{'a':{'size_bytes':512},'b':{'size_bytes':512},'c':{'size_bytes':512,'bus':'scsi'}},"
	       "'cdroms':{'cd':{}},'nics':{'n':{}}}");
	eq_int(disk(&s, "a")->slot, 8);
	eq_int(disk(&s, "b")->slot, 9);
	eq_int(disk(&s, "c")->slot, 1);
	eq_int(VM_CDROMS(&s)->slot, 2);
	eq_int(nic(&s, "n")->slot, 10);
	patch(&s, &h, "{'disks':{'a':null}}");
	eq_int(disk(&s, "b")->slot, 9);
	eq_int(nic(&s, "n")->slot, 10);
	patch(&s, &h, "{'disks':{'d':{'size_bytes':512},'e':{'size_bytes':512}}}");
	eq_int(disk(&s, "d")->slot, 8);		/* free again */
	eq_int(disk(&s, "e")->slot, 11);
	fields_fini(&vm_spec_fields, &s);
}

/* A disk that moves to another bus keeps its number only where that is free and allowed. */
TEST(slots_when_the_bus_changes)
{
	struct host h = tcg_host();
	struct err e = { 0 };
	struct vm_spec s;

	create(&s, &h, "{'disks':{'a':{'size_bytes':512,'bus':'scsi'},'b':{'size_bytes':512}},'cdroms':{'cd':{}}}");
	patch(&s, &h, "{'disks':{'a':{'bus':'virtio'}}}");
	eq_int(disk(&s, "a")->slot, 9);
	eq_int(disk(&s, "b")->slot, 8);
	patch(&s, &h, "{'disks':{'b':{'bus':'scsi'}}}");
	eq_int(vm_spec_check(&s, &h, &e), 0);
	fields_fini(&vm_spec_fields, &s);
}

TEST(slots_for_the_most_devices)
{
	char text[2048];
	struct host h = tcg_host();
	struct err e = { 0 };
	struct vm_spec s;
	int n = snprintf(text, sizeof(text), "{'disks':{");
	uint32_t used = 0;

	for (int i = 0; i < VM_MAX_DISKS; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s'd%d':{'size_bytes':512}", i ? "," : "", i);
	n += snprintf(text + n, sizeof(text) - (size_t)n, "},'nics':{");
	for (int i = 0; i < VM_MAX_NICS; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s'n%d':{}", i ? "," : "", i);
	snprintf(text + n, sizeof(text) - (size_t)n, "}}");
	create(&s, &h, text);
	for (size_t i = 0; i < s.disks.n; i++)
		used |= 1u << VM_DISKS(&s)[i].slot;
	for (size_t i = 0; i < s.nics.n; i++)
		used |= 1u << VM_NICS(&s)[i].slot;
	eq_int(used, 0xffffff00);
	eq_int(vm_spec_check(&s, &h, &e), 0);
	fields_fini(&vm_spec_fields, &s);
}

/* What a stored or forged spec may hold must be refused, not walked into. */
TEST(forged)
{
	static const struct { const char *text, *pointer; } all[] = {
		{ "{'cpus':0,'memory_bytes':33554432}", "/cpus" },
		{ "{'cpus':1,'memory_bytes':0}", "/memory_bytes" },
		{ "{" SMALL ",'nics':{'a':{'network':''}}}", "/nics/a/network" },
		{ "{" SMALL ",'nics':{'a':{'network':'nat',"
		  "'forwards':[{'host_address':'','host_port':2222,'guest_port':1}]}}}",
		  "/nics/a/forwards/0/host_port" },
		{ "{" SMALL ",'disks':{'a':{'size_bytes':512,'slot':9},'b':{'size_bytes':512,'slot':9}}}",
		  "/disks/b/slot" },
		{ "{" SMALL ",'disks':{'a':{'size_bytes':512,'slot':3}}}",
		  "/disks/a/slot" },
	};
	struct host h = tcg_host();

	for (size_t i = 0; i < COUNT(all); i++) {
		struct vm_spec s = { 0 };
		struct err e = { 0 };

		eq_int(decode(&s, all[i].text, FIELDS_STORED, &e), 0);
		eq_int(vm_spec_check(&s, &h, &e), -EINVAL);
		eq_str(e.pointer, all[i].pointer);
		fields_fini(&vm_spec_fields, &s);
	}
}

TEST(sim_needs_nothing_of_the_host)
{
	struct host nothing = { 0 };
	struct vm_spec s;

	create(&s, &nothing, "{'engine':'sim','cpus':512,'memory_bytes':1099511627776,"
	       "'nics':{'a':{'forwards':[{'host_port':22,'guest_port':22}]}}}");
	fields_fini(&vm_spec_fields, &s);
}

TEST(without_a_host_only_the_spec_is_judged)
{
	struct vm_spec s = { 0 };
	struct err e = { 0 };

	eq_int(decode(&s, "{'accel':'kvm','cpus':500}", FIELDS_CREATE, &e), 0);
	eq_int(vm_spec_check(&s, NULL, &e), 0);
	s.firmware = VM_FIRMWARE_KERNEL;
	eq_int(vm_spec_check(&s, NULL, &e), -EINVAL);
	fields_fini(&vm_spec_fields, &s);
}

TEST(hot_rows)
{
	static const char *const hot[] = { "description", "cpu_weight", "cpu_limit_percent", "on_crash", "autostart" };
	size_t n = 0;

	for (const struct field *f = vm_spec_fields.rows; f->name; f++)
		if (f->flags & FIELD_HOT)
			eq_str(f->name, n < COUNT(hot) ? hot[n++] : "no more");
	eq_int(n, COUNT(hot));
}

TEST(what_belongs_together)
{
	static const struct { const char *config, *pointer; } bad[] = {
		{ "{'usb':{'stick':{'vendor':'10c4'}}}", "/usb/stick" },
		{ "{'startup':{'gate':'port'}}", "/startup/port" },
		{ "{'startup':{'gate':'agent'},'guest_agent':false}", "/startup/gate" },
	};
	struct err e = { 0 };

	for (size_t i = 0; i < COUNT(bad); i++) {
		struct vm_spec s = { 0 };

		eq_int(decode(&s, bad[i].config, FIELDS_CREATE, &e), 0);
		eq_int(vm_spec_check(&s, NULL, &e), -EINVAL);
		eq_str(e.pointer, bad[i].pointer);
		fields_fini(&vm_spec_fields, &s);
	}
}

TEST(limits_need_somebody_who_keeps_them)
{
	struct host h = tcg_host();
	struct vm_spec s = { 0 };
	struct err e = { 0 };

	h.systemd = true;
	h.cgroup = 2;
	create(&s, &h, "{'cpu_limit_percent':50,'firmware':'kernel','kernel':{'image':'[local] k'}}");
	eq_int(vm_spec_check(&s, &h, &e), 0);
	h.cgroup = 1;
	eq_int(vm_spec_check(&s, &h, &e), -EINVAL);
	eq_str(e.pointer, "/cpu_limit_percent");
	ok(strstr(e.msg, "version 2"));
	h.cgroup = 2;
	h.systemd = false;
	s.cpu_weight = 200;
	eq_int(vm_spec_check(&s, &h, &e), -EINVAL);
	eq_str(e.pointer, "/cpu_weight");
	fields_fini(&vm_spec_fields, &s);
}

/* 5,000 of them live in croftd. */
TEST(compact)
{
	ok(sizeof(struct vm_spec) <= 264);
	ok(sizeof(struct vm_disk) <= 104 && sizeof(struct vm_nic) <= 80);
}

TEST(store_paths)
{
	static const char *const good[] = { "[local] a", "[local] a/b c.iso", "[x] ü" };
	static const char *const bad[] = { "", "a", "/a", "[] a", "[local]", "[local] ", "[local]a", "local] a",
					   "[local] a\tb" };
	struct vm_spec s = { 0 };
	struct err e = { 0 };

	for (size_t i = 0; i < COUNT(good) + COUNT(bad); i++) {
		const char *path = i < COUNT(good) ? good[i] : bad[i - COUNT(good)];
		json_t *j = json_pack("{s{s{ss}}}", "cdroms", "a", "iso", path);
		int r = fields_decode(&vm_spec_fields, j, FIELDS_CREATE, &s, &e);

		if ((r == 0) != (i < COUNT(good)) && *path)
			t_fail(__FILE__, __LINE__, "\"%s\" was %s", path, r ? "refused" : "accepted");
		json_decref(j);
		fields_fini(&vm_spec_fields, &s);
	}
}

T_MAIN
