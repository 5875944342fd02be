/* The rules of a VM's spec that one row can't say, and the values that are chosen once. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "buf.h"
#include "cputype.h"
#include "host.h"
#include "mem.h"
#include "memory.h"
#include "place.h"
#include "spec.h"
#include "text.h"

#define GIB (1024ull * 1024 * 1024)

enum vm_accel vm_spec_accel(const struct vm_spec *s, const struct host *h)
{
	if (s->accel != VM_ACCEL_AUTO)
		return s->accel;
	if (s->cpu_model && !strcmp(s->cpu_model, "host"))
		return VM_ACCEL_KVM;
	/* A model that was frozen under emulation stays emulated: KVM can show a guest no CPU but its own. */
	if (s->cpu_model && strcmp(s->cpu_model, "max"))
		return VM_ACCEL_TCG;
	if (s->gic != VM_GIC_AUTO && !host_has_gic(h, s->gic == VM_GIC_2 ? 2 : 3))
		return VM_ACCEL_TCG;
	return h->kvm.usable ? VM_ACCEL_KVM : VM_ACCEL_TCG;
}

/* The same UUID and name give the same address on any host, so a spec that lost its MACs gets them back. The first
 * byte says: locally administered, unicast. 40 bits keep 5,000 VMs apart. */
static char *make_mac(const char *uuid, const char *nic)
{
	uint64_t x = 0xcbf29ce484222325;
	uint8_t mac[6] = { 0x52 };
	char text[18];

	for (const char *p = uuid; *p; p++)
		x = (x ^ (uint8_t)*p) * 0x100000001b3;
	x = (x ^ '/') * 0x100000001b3;
	for (const char *p = nic; *p; p++)
		x = (x ^ (uint8_t)*p) * 0x100000001b3;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	x ^= x >> 31;
	for (int i = 1; i < 6; i++)
		mac[i] = x >> 8 * i;
	text_mac_format(mac, text);
	return xstrdup(text);
}

struct place { const char *map, *name; uint64_t *slot, order; bool scsi; };
enum { MAX_PLACES = VM_MAX_DISKS + VM_MAX_CDROMS + VM_MAX_NICS };

/* Every device that has an address and may be booted from. */
static size_t list_places(const struct vm_spec *s, struct place all[MAX_PLACES])
{
	size_t n = 0;

	for (struct vm_disk *d = VM_DISKS(s); d < VM_DISKS(s) + s->disks.n && n < MAX_PLACES; d++)
		all[n++] = (struct place){ "disks", d->name, &d->slot, d->boot_order, d->bus == VM_BUS_SCSI };
	for (struct vm_cdrom *c = VM_CDROMS(s); c < VM_CDROMS(s) + s->cdroms.n && n < MAX_PLACES; c++)
		all[n++] = (struct place){ "cdroms", c->name, &c->slot, c->boot_order, true };
	for (struct vm_nic *c = VM_NICS(s); c < VM_NICS(s) + s->nics.n && n < MAX_PLACES; c++)
		all[n++] = (struct place){ "nics", c->name, &c->slot, c->boot_order, false };
	return n;
}

/* Who has a slot keeps it, unless the device moved to another bus where the number is taken or reserved. */
static void give_slots(struct vm_spec *s)
{
	struct place all[MAX_PLACES];
	size_t n = list_places(s, all);
	uint32_t used[2] = { (1u << VM_SLOT_FIRST) - 1, 1 };	/* PCI, SCSI; reserved ones count as used */

	for (size_t i = 0; i < n; i++) {
		uint32_t bit = 1u << (*all[i].slot & 31);

		if (*all[i].slot >= VM_SLOT_END || used[all[i].scsi] & bit)
			*all[i].slot = 0;
		else
			used[all[i].scsi] |= bit;
	}
	for (size_t i = 0; i < n; i++)
		for (unsigned k = 1; k < VM_SLOT_END && !*all[i].slot; k++)
			if (!(used[all[i].scsi] & 1u << k)) {
				*all[i].slot = k;
				used[all[i].scsi] |= 1u << k;
			}
}

void vm_spec_freeze(struct vm_spec *s, const struct host *h, const char *uuid)
{
	bool kvm = vm_spec_accel(s, h) == VM_ACCEL_KVM;

	if (!s->machine)
		s->machine = xstrdup(h->qemu.machine ? h->qemu.machine : "virt-7.2");
	if (!s->cpu_model)
		s->cpu_model = xstrdup(kvm ? "host" : "cortex-a72");
	if (s->gic == VM_GIC_AUTO)
		s->gic = kvm && h->kvm.gic == 2 ? VM_GIC_2 : VM_GIC_3;
	for (size_t i = 0; i < s->nics.n; i++)
		if (!VM_NICS(s)[i].mac)
			VM_NICS(s)[i].mac = make_mac(uuid, VM_NICS(s)[i].name);
	give_slots(s);
}

static int fail_in(struct err *e, const char *map, const char *name, const char *row, const char *sentence)
{
	char pointer[96];

	snprintf(pointer, sizeof(pointer), "/%s/%s%s%s", map, name, *row ? "/" : "", row);
	return fail_at(e, pointer, "%s", sentence);
}

/* What KVM was asked; "host" and "max" it always takes. */
static bool takes_model(const struct host *h, const char *model)
{
	char *const *models = h->kvm.cpu_models.items;
	bool takes = !strcmp(model, "host") || !strcmp(model, "max");

	for (size_t i = 0; i < h->kvm.cpu_models.n && !takes; i++)
		takes = !strcmp(models[i], model);
	return takes;
}

static int check_accel(const struct vm_spec *s, const struct host *h, struct err *e)
{
	const char *model = s->cpu_model ? s->cpu_model : "";

	if (vm_spec_accel(s, h) == VM_ACCEL_TCG) {
		if (!strcmp(model, "host")) {
			fail_at(e, "/cpu_model", "the CPU model \"host\" needs KVM, and accel is tcg");
			return err_hint(e, "set accel to auto or kvm, or create the VM with one of: %s",
					cputype_tcg_list);
		}
		if (*model && !cputype_tcg_bits(model)) {
			fail_at(e, "/cpu_model", "QEMU does not emulate the CPU model \"%s\"", model);
			return err_hint(e, "choose one of: %s", cputype_tcg_list);
		}
		return 0;
	}
	if (!h->kvm.usable) {
		fail_at(e, s->accel == VM_ACCEL_KVM ? "/accel" : "/cpu_model",
			"%s needs KVM, which can't be used here: %s",
			s->accel == VM_ACCEL_KVM ? "accel kvm" : "the CPU model \"host\"",
			h->kvm.reason ? h->kvm.reason : "it was not probed");
		return err_hint(e, "accel tcg emulates; it needs a CPU model such as cortex-a72");
	}
	if (*model && !takes_model(h, model)) {
		fail_at(e, "/cpu_model", "under KVM a guest sees the host's own CPU, not a \"%s\"", model);
		return err_hint(e, "use cpu_model host, or accel tcg");
	}
	if (s->gic != VM_GIC_AUTO && !host_has_gic(h, s->gic == VM_GIC_2 ? 2 : 3)) {
		fail_at(e, "/gic", "this host's KVM has a GICv%u, not a GICv%u", (unsigned)h->kvm.gic,
			s->gic == VM_GIC_2 ? 2 : 3);
		return err_hint(e, "use gic auto, or accel tcg");
	}
	return 0;
}

static int check_cpus(const struct vm_spec *s, const struct host *h, struct err *e)
{
	bool kvm = vm_spec_accel(s, h) == VM_ACCEL_KVM;

	if (!s->cpus)
		return fail_at(e, "/cpus", "a VM needs at least 1 virtual CPU");
	if (s->cpus > 8 && (s->gic == VM_GIC_2 || (s->gic == VM_GIC_AUTO && kvm && h->kvm.gic == 2))) {
		fail_at(e, "/cpus", "a GICv2 serves at most 8 virtual CPUs, not %u", (unsigned)s->cpus);
		return kvm && h->kvm.gic == 2 ? err_hint(e, "this host has a GICv2; more virtual CPUs need a host with a GICv3")
					      : err_hint(e, "a VM that is created with gic 3 can have more");
	}
	if (kvm && h->kvm.max_vcpus && s->cpus > h->kvm.max_vcpus) {
		fail_at(e, "/cpus", "KVM runs at most %u virtual CPUs a VM here, not %u", (unsigned)h->kvm.max_vcpus,
			(unsigned)s->cpus);
		return err_hint(e, "give it fewer virtual CPUs");
	}
	return 0;
}

static int check_core_type(const struct vm_spec *s, const struct host *h, struct err *e)
{
	AUTO_BUF struct buf kinds = BUF_INIT(1024);
	const struct host_cpu_type *t = h->cpu_types.items;

	if (!s->core_type || vm_place_type(h, s->core_type, s->cpus))
		return 0;
	for (size_t i = 0; i < h->cpu_types.n; i++)
		buf_addf(&kinds, "%s%s", i ? ", " : "", t[i].name);
	fail_at(e, "/core_type", "this host has no cores of the kind \"%s\"", s->core_type);
	return err_hint(e, "leave core_type out, or choose of: %s", kinds.data);
}

/* The most that so many address bits hold. A guest's memory begins at 1 GiB; what can be plugged in begins at a whole GiB,
 * and takes whole ones. */
static uint64_t most_addressable(const struct vm_spec *s, unsigned bits, bool grows)
{
	uint64_t end = 1ull << bits, boot_end = (GIB + s->memory_bytes + GIB - 1) / GIB * GIB;

	if (!grows)
		return end - GIB;
	return end > boot_end ? s->memory_bytes + (end - boot_end) : s->memory_bytes;
}

static int check_memory_fits(const struct vm_spec *s, const struct host *h, bool grows, struct err *e)
{
	bool kvm = vm_spec_accel(s, h) == VM_ACCEL_KVM;
	unsigned bits = kvm ? h->kvm.ipa_bits : s->cpu_model ? cputype_tcg_bits(s->cpu_model) : 0;
	const char *field = grows ? "/memory_max_bytes" : "/memory_bytes";
	uint64_t bytes = grows ? s->memory_bytes + memory_hot_bytes(s, h) : s->memory_bytes;
	char want[24], most[24];

	text_size_format(grows ? s->memory_max_bytes : bytes, want);
	if (bits && bits < 64 && bytes > most_addressable(s, bits, grows)) {
		text_size_format(most_addressable(s, bits, grows), most);
		fail_at(e, field, "%s of memory is more than the %s that %u address bits of %s can hold", want, most, bits,
			kvm ? "this host's KVM" : s->cpu_model);
		return err_hint(e, "devices take the first GiB of a guest's addresses%s; give it at most %s",
				grows ? ", and what it can grow by begins at a whole one" : "", most);
	}
	if (h->memory_bytes && (grows ? s->memory_max_bytes : bytes) > h->memory_bytes) {
		text_size_format(h->memory_bytes, most);
		fail_at(e, field, "%s of memory is more than this host has (%s)", want, most);
		return err_hint(e, "give it less: the host itself and other VMs need some too");
	}
	return 0;
}

static int check_memory(const struct vm_spec *s, const struct host *h, struct err *e)
{
	char most[24], now[24];
	int r;

	if (!s->memory_bytes)
		return fail_at(e, "/memory_bytes", "a VM needs memory");
	if (s->memory_max_bytes && s->memory_max_bytes < s->memory_bytes) {
		text_size_format(s->memory_max_bytes, most);
		text_size_format(s->memory_bytes, now);
		fail_at(e, "/memory_max_bytes", "memory cannot grow to %s while the VM runs: it begins with %s", most, now);
		return err_hint(e, "memory_max_bytes is memory_bytes or more, or 0: then it cannot grow");
	}
	r = check_memory_fits(s, h, false, e);
	return r || !s->memory_max_bytes ? r : check_memory_fits(s, h, true, e);
}

static int check_firmware(const struct vm_spec *s, struct err *e)
{
	if (s->firmware == VM_FIRMWARE_KERNEL && !s->kernel.image) {
		fail_at(e, "/kernel/image", "firmware kernel needs a kernel to boot");
		return err_hint(e, "set kernel.image to a path such as \"[local] demo/vmlinuz\"");
	}
	if (s->firmware == VM_FIRMWARE_UEFI && (s->kernel.image || s->kernel.initrd || s->kernel.command_line)) {
		fail_at(e, "/kernel", "a kernel is booted only with firmware kernel, and this VM has firmware uefi");
		return err_hint(e, "set firmware to kernel, or leave out kernel");
	}
	return 0;
}

static int check_disks(const struct vm_spec *s, struct err *e)
{
	for (size_t i = 0; i < s->disks.n; i++) {
		const struct vm_disk *d = &VM_DISKS(s)[i];

		if (d->path && d->source)
			return fail_in(e, "disks", d->name, "source",
				       "a disk that exists already (path) can't be copied from a source");
		if (!d->path && !d->source && !d->size_bytes) {
			fail_in(e, "disks", d->name, "size_bytes", "a new disk needs a size");
			return err_hint(e, "set size_bytes, or a source to copy, or the path of an image that exists");
		}
		for (size_t k = 0; d->path && k < i; k++)
			if (VM_DISKS(s)[k].path && !strcmp(VM_DISKS(s)[k].path, d->path))
				return fail_in(e, "disks", d->name, "path", "another disk of this VM is the same file");
	}
	return 0;
}

static bool forwarded_before(const struct vm_spec *s, const struct vm_nic *n, size_t i)
{
	const struct vm_forward *f = &VM_FORWARDS(n)[i];

	for (const struct vm_nic *m = VM_NICS(s); m <= n; m++)
		for (size_t k = 0; k < (m == n ? i : m->forwards.n); k++) {
			const struct vm_forward *g = &VM_FORWARDS(m)[k];

			if (g->protocol == f->protocol && g->host_port == f->host_port &&
			    !strcmp(g->host_address, f->host_address))
				return true;
		}
	return false;
}

static int check_forwards(const struct vm_spec *s, const struct vm_nic *n, struct err *e)
{
	char row[48];

	if (n->forwards.n && strcmp(n->network, "nat"))
		return fail_in(e, "nics", n->name, "forwards", "ports are forwarded only on the network \"nat\"");
	for (size_t i = 0; i < n->forwards.n; i++) {
		const struct vm_forward *f = &VM_FORWARDS(n)[i];

		snprintf(row, sizeof(row), "forwards/%zu/host_port", i);
		if (!f->host_port || !f->guest_port || !f->host_address)
			return fail_in(e, "nics", n->name, row,
				       "a forward needs host_address, host_port and guest_port");
		if (s->engine == VM_ENGINE_QEMU && f->host_port < 1024) {
			fail_in(e, "nics", n->name, row,
				"ports below 1024 can't be opened by a VM, which runs without privileges");
			return err_hint(e, "use a host_port from 1024 on, such as %u", (unsigned)(f->host_port + 8000));
		}
		if (forwarded_before(s, n, i))
			return fail_in(e, "nics", n->name, row, "this VM forwards that port already");
	}
	return 0;
}

static int check_nics(const struct vm_spec *s, struct err *e)
{
	int r;

	for (size_t i = 0; i < s->nics.n; i++) {
		const struct vm_nic *n = &VM_NICS(s)[i];

		if (!n->network)
			return fail_in(e, "nics", n->name, "network", "a NIC needs a network");
		for (size_t k = 0; n->mac && k < i; k++)
			if (VM_NICS(s)[k].mac && !strcasecmp(VM_NICS(s)[k].mac, n->mac))
				return fail_in(e, "nics", n->name, "mac",
					       "another NIC of this VM has the same address");
		r = check_forwards(s, n, e);
		if (r)
			return r;
	}
	return 0;
}

static int check_usb(const struct vm_spec *s, struct err *e)
{
	for (size_t i = 0; i < s->usb.n; i++) {
		const struct vm_usb *u = &VM_USB(s)[i];

		if (!u->port && (!u->vendor || !u->product)) {
			fail_in(e, "usb", u->name, "", "a USB device is told by vendor and product, or by its port");
			return err_hint(e, "GET /api/v1/host/usb lists what is plugged in");
		}
	}
	return 0;
}

static bool forwards_tcp(const struct vm_spec *s, uint64_t guest_port)
{
	for (size_t i = 0; i < s->nics.n; i++)
		for (size_t k = 0; k < VM_NICS(s)[i].forwards.n; k++) {
			const struct vm_forward *f = &VM_FORWARDS(&VM_NICS(s)[i])[k];

			if (f->protocol == VM_TCP && f->guest_port == guest_port)
				return true;
		}
	return false;
}

static int check_startup(const struct vm_spec *s, struct err *e)
{
	if (s->startup.gate == VM_GATE_PORT && !s->startup.port)
		return fail_at(e, "/startup/port", "gate port needs the number of the guest's TCP port");
	if (s->startup.gate == VM_GATE_PORT && !forwards_tcp(s, s->startup.port)) {
		fail_at(e, "/startup/port", "gate port waits for the guest's TCP port %llu, but no forward leads there",
			(unsigned long long)s->startup.port);
		return err_hint(e, "give one of its NICs a forward of a host port to the guest port %llu",
				(unsigned long long)s->startup.port);
	}
	if (s->startup.gate == VM_GATE_AGENT && !s->guest_agent) {
		fail_at(e, "/startup/gate", "gate agent waits for the guest agent, which is switched off for this VM");
		return err_hint(e, "set guest_agent to true, or choose another gate");
	}
	return 0;
}

/* Boot orders and slots are each unique: QEMU would refuse to start. */
static int check_places(const struct vm_spec *s, struct err *e)
{
	struct place all[MAX_PLACES];
	size_t n = list_places(s, all);

	for (size_t i = 0; i < n; i++) {
		if (*all[i].slot >= VM_SLOT_END || (!all[i].scsi && *all[i].slot && *all[i].slot < VM_SLOT_FIRST))
			return fail_in(e, all[i].map, all[i].name, "slot", "that slot is reserved");
		for (size_t k = 0; k < i; k++) {
			if (all[i].order && all[i].order == all[k].order)
				return fail_in(e, all[i].map, all[i].name, "boot_order",
					       "another device has the same boot order");
			if (*all[i].slot && *all[i].slot == *all[k].slot && all[i].scsi == all[k].scsi)
				return fail_in(e, all[i].map, all[i].name, "slot", "another device has the same slot");
		}
	}
	return 0;
}

/* What only the installed programs can answer. */
static int check_programs(const struct vm_spec *s, const struct host *h, struct err *e)
{
	if (!h->qemu.path) {
		fail(e, ERR_UNSUPPORTED, "QEMU is not installed on this host");
		return err_hint(e, "install the package qemu-system-arm; engine sim needs no QEMU");
	}
	if (s->firmware == VM_FIRMWARE_UEFI && (!h->firmware.code || !h->firmware.vars)) {
		fail_at(e, "/firmware", "no UEFI firmware for ARM guests is installed on this host");
		return err_hint(e, "install the package qemu-efi-aarch64, or boot a kernel (firmware kernel)");
	}
	return 0;
}

/* A limit that nobody would keep is refused, not forgotten. */
static int check_limits(const struct vm_spec *s, const struct host *h, struct err *e)
{
	bool weight = s->cpu_weight != 100;

	if ((!weight && !s->cpu_limit_percent) || host_scopes(h))
		return 0;
	fail_at(e, weight ? "/cpu_weight" : "/cpu_limit_percent", "this host cannot limit a VM's CPU time: %s",
		h->systemd ? "its control groups are not of version 2" : "systemd is not its init");
	return err_hint(e, "leave %s at %s; the limits of this host are in vmctl host", weight ? "cpu_weight" : "cpu_limit_percent",
			weight ? "100" : "0");
}

int vm_spec_check(const struct vm_spec *s, const struct host *h, struct err *e)
{
	int r = check_firmware(s, e);

	if (!r)
		r = check_disks(s, e);
	if (!r)
		r = check_nics(s, e);
	if (!r)
		r = check_places(s, e);
	if (!r)
		r = check_usb(s, e);
	if (!r)
		r = check_startup(s, e);
	if (r || !h || s->engine != VM_ENGINE_QEMU)
		return r;
	r = check_programs(s, h, e);
	if (!r)
		r = check_limits(s, h, e);
	if (!r)
		r = check_accel(s, h, e);
	if (!r)
		r = check_cpus(s, h, e);
	if (!r)
		r = check_core_type(s, h, e);
	return r ? r : check_memory(s, h, e);
}
