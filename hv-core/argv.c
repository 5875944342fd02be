#include "argv.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "buf.h"
#include "jw.h"
#include "mem.h"
#include "memory.h"
#include "reshape.h"
#include "text.h"

/* Device numbers on pcie.0 of what every VM has. Function 0 of 6 is the balloon, 1 the memory that can be plugged in,
 * 2 tells of a panic. */
enum { SLOT_RNG = 1, SLOT_GPU = 2, SLOT_XHCI = 3, SLOT_SCSI = 4, SLOT_VSERIAL = 5, SLOT_MEMORY = 6, SLOT_PORTS = 7 };
enum { SECTOR = 512 };

static void add(struct argv *a, char *owned)
{
	a->v = xrealloc(a->v, (a->n + 2) * sizeof(*a->v));
	a->v[a->n++] = owned;
	a->v[a->n] = NULL;
}

/* An option without a value when @fmt is NULL. */
__attribute__((format(printf, 3, 4))) static void opt(struct argv *a, const char *name, const char *fmt, ...)
{
	va_list ap;
	char *value;

	add(a, xstrdup(name));
	if (!fmt)
		return;
	va_start(ap, fmt);
	if (vasprintf(&value, fmt, ap) < 0)
		abort();
	va_end(ap);
	add(a, value);
}

static int take_fd(struct argv *a, enum argv_what what, const char *name, bool writable)
{
	int fd = ARGV_FD_FIRST + (int)a->nfds;

	a->fds = xrealloc(a->fds, (a->nfds + 1) * sizeof(*a->fds));
	a->fds[a->nfds++] = (struct argv_fd){
		.what = what, .name = name ? xstrdup(name) : NULL, .fd = fd, .writable = writable,
	};
	return fd;
}

/* What users named goes to QEMU as JSON, or as an id of checked letters. */
struct json { struct buf b; struct jw w; };

static void json_begin(struct json *j, const char *driver)
{
	*j = (struct json){ .b = BUF_INIT(16384) };
	j->w = JW(&j->b);
	jw_obj(&j->w, NULL);
	jw_str(&j->w, "driver", driver);
}

static char *json_text(struct json *j)
{
	jw_end(&j->w);
	if (j->b.over)
		abort();	/* every part of it has a maximum */
	return buf_take(&j->b);
}

static void json_end(struct json *j, struct argv *a, const char *option)
{
	add(a, xstrdup(option));
	add(a, json_text(j));
}

static void device_begin(struct json *j, const char *driver, const char *kind, const char *name)
{
	json_begin(j, driver);
	if (name)
		jw_strf(&j->w, "id", "%s-%s", kind, name);
	else
		jw_str(&j->w, "id", kind);
}

/* @port: a root port that it is plugged into; NULL: its own place. */
static void pci_addr(struct json *j, unsigned slot, const char *port)
{
	if (port) {
		jw_str(&j->w, "bus", port);
		jw_str(&j->w, "addr", "0x0");	/* QEMU would put a second one where the guest never looks */
		return;
	}
	jw_str(&j->w, "bus", "pcie.0");
	jw_strf(&j->w, "addr", "0x%x", slot);
}

struct image { const char *node, *file, *driver; unsigned slot; bool writable, discard, unread; };

/* QEMU before 8.0 fills the memory of a flash bank with all 64 MiB of it, zeros too. What a qcow2 doesn't hold is read
 * from its backing node, and this one leaves the reader's buffer as it is: a bank's is fresh from the kernel, zero, and
 * so never touched. For any other reader that is whatever his buffer had in it: nothing else may read such a node
 * (copy, back up or overlay the file, or only what the top layer holds). */
static void put_unread(struct json *j)
{
	jw_obj(&j->w, "backing");
	jw_str(&j->w, "driver", "null-co");
	jw_bool(&j->w, "read-zeroes", false);
	jw_end(&j->w);
}

/* A block node over a set of descriptors. A backing file that the header may name is never followed. */
static char *node_json(const struct image *i, int fdset)
{
	struct json j;

	json_begin(&j, i->driver);
	if (i->slot)
		jw_strf(&j.w, "node-name", "%s%u", i->node, i->slot);
	else
		jw_str(&j.w, "node-name", i->node);
	jw_bool(&j.w, "read-only", !i->writable);
	if (i->discard)
		jw_str(&j.w, "discard", "unmap");
	if (i->unread)
		put_unread(&j);
	else if (!strcmp(i->driver, "qcow2"))
		jw_null(&j.w, "backing");
	jw_obj(&j.w, "file");
	jw_str(&j.w, "driver", "file");
	if (i->slot)
		jw_strf(&j.w, "node-name", "%s%u", i->file, i->slot);
	else
		jw_str(&j.w, "node-name", i->file);
	jw_strf(&j.w, "filename", "/dev/fdset/%d", fdset);
	jw_bool(&j.w, "read-only", !i->writable);
	jw_str(&j.w, "locking", "on");
	if (i->discard)
		jw_str(&j.w, "discard", "unmap");
	jw_end(&j.w);
	return json_text(&j);
}

static void blockdev(struct argv *a, const struct image *i, enum argv_what what, const char *name)
{
	int fd = take_fd(a, what, name, i->writable);

	opt(a, "-add-fd", "fd=%d,set=%d", fd, fd);
	add(a, xstrdup("-blockdev"));
	add(a, node_json(i, fd));
}

static void put_boot_order(struct json *j, uint64_t order)
{
	if (order)
		jw_u64(&j->w, "bootindex", order);
}

/* Inside the guest: /dev/disk/by-id/virtio-NAME. virtio has room for 20 letters. */
static void put_serial(struct json *j, const char *name)
{
	jw_strf(&j->w, "serial", "%.20s", name);
}

static void put_scsi(struct json *j, unsigned target)
{
	jw_str(&j->w, "bus", "scsi.0");
	jw_u64(&j->w, "channel", 0);
	jw_u64(&j->w, "scsi-id", target);
	jw_u64(&j->w, "lun", 0);
}

static struct image disk_image(const struct vm_disk *d)
{
	bool scsi = d->bus == VM_BUS_SCSI;

	return (struct image){
		.node = scsi ? "sdisk" : "disk",
		.file = scsi ? "sdiskfile" : "diskfile",
		.slot = (unsigned)d->slot,
		.driver = d->format == VM_FORMAT_RAW ? "raw" : "qcow2",
		.writable = !d->read_only,
		.discard = !d->read_only,
	};
}

char *argv_disk_node(const struct vm_disk *d, int fdset)
{
	struct image image = disk_image(d);

	return node_json(&image, fdset);
}

char *argv_disk_device(const struct vm_disk *d, uint64_t boot_order, const char *port)
{
	static const char *const drivers[] = {
		[VM_BUS_VIRTIO] = "virtio-blk-pci", [VM_BUS_NVME] = "nvme", [VM_BUS_SCSI] = "scsi-hd",
	};
	struct image image = disk_image(d);
	struct json j;

	device_begin(&j, drivers[d->bus], "disk", d->name);
	if (d->bus == VM_BUS_SCSI)
		put_scsi(&j, image.slot);
	else
		pci_addr(&j, image.slot, port);
	jw_strf(&j.w, "drive", "%s%u", image.node, image.slot);
	put_serial(&j, d->name);
	if (d->bus != VM_BUS_NVME) {		/* (QEMU's NVMe tells every error to its guest) */
		jw_str(&j.w, "werror", "stop");
		jw_str(&j.w, "rerror", "stop");
	}
	put_boot_order(&j, boot_order);
	return json_text(&j);
}

static void add_disk(struct argv *a, const struct vm_disk *d, uint64_t boot_order)
{
	struct image image = disk_image(d);

	blockdev(a, &image, ARGV_FD_DISK, d->name);
	add(a, xstrdup("-device"));
	add(a, argv_disk_device(d, boot_order, NULL));
}

static struct image cdrom_image(const struct vm_cdrom *c)
{
	return (struct image){ .node = "cd", .file = "cdfile", .driver = "raw", .slot = (unsigned)c->slot };
}

char *argv_cdrom_node(const struct vm_cdrom *c, int fdset)
{
	struct image image = cdrom_image(c);

	return node_json(&image, fdset);
}

char *argv_cdrom_device(const struct vm_cdrom *c, uint64_t boot_order)
{
	struct json j;

	device_begin(&j, "scsi-cd", "cd", c->name);
	put_scsi(&j, (unsigned)c->slot);
	if (c->iso)
		jw_strf(&j.w, "drive", "cd%u", (unsigned)c->slot);
	put_boot_order(&j, boot_order);
	return json_text(&j);
}

static void add_cdrom(struct argv *a, const struct vm_cdrom *c, uint64_t boot_order)
{
	struct image image = cdrom_image(c);

	if (c->iso)
		blockdev(a, &image, ARGV_FD_CDROM, c->name);
	add(a, xstrdup("-device"));
	add(a, argv_cdrom_device(c, boot_order));
}

void argv_forward(const struct vm_forward *f, struct buf *out)
{
	buf_addf(out, "%s:%s:%u-:%u", f->protocol == VM_UDP ? "udp" : "tcp", f->host_address, (unsigned)f->host_port,
		 (unsigned)f->guest_port);
}

char *argv_nic_device(const struct vm_nic *n, const char *port)
{
	static const char *const drivers[] = { [VM_NIC_VIRTIO] = "virtio-net-pci", [VM_NIC_E1000E] = "e1000e" };
	struct json j;

	device_begin(&j, drivers[n->model], "nic", n->name);
	pci_addr(&j, (unsigned)n->slot, port);
	jw_strf(&j.w, "netdev", "net-%s", n->name);
	jw_str(&j.w, "mac", n->mac);
	jw_str(&j.w, "romfile", "");	/* the option ROMs that come with QEMU are for x86 */
	put_boot_order(&j, n->boot_order);
	return json_text(&j);
}

static void add_nic(struct argv *a, const struct vm_nic *n)
{
	struct buf b AUTO_BUF = BUF_INIT(8192);

	/* Every part has been checked to be a name, an IPv4 address or a number. */
	buf_addf(&b, "user,id=net-%s", n->name);
	for (size_t i = 0; i < n->forwards.n; i++) {
		buf_adds(&b, ",hostfwd=");
		argv_forward(&VM_FORWARDS(n)[i], &b);
	}
	opt(a, "-netdev", "%s", b.data);
	add(a, xstrdup("-device"));
	add(a, argv_nic_device(n, NULL));
}

/* Where disks and NICs are plugged in while the guest runs: the root bus itself takes none. One port each, all in one
 * slot; without io-reserve each would take 4 KiB of the 64 that there are for ports. */
static void add_ports(struct argv *a)
{
	struct json j;

	for (unsigned i = 0; i < ARGV_PORTS; i++) {
		json_begin(&j, "pcie-root-port");
		jw_strf(&j.w, "id", ARGV_PORT "%u", i);
		jw_str(&j.w, "bus", "pcie.0");
		jw_strf(&j.w, "addr", "0x%x.0x%x", SLOT_PORTS, i);
		if (!i)
			jw_bool(&j.w, "multifunction", true);
		jw_u64(&j.w, "chassis", 1);
		jw_u64(&j.w, "slot", i + 1);
		jw_u64(&j.w, "io-reserve", 0);
		json_end(&j, a, "-device");
	}
}

static void add_plain_device(struct argv *a, const char *driver, const char *id, unsigned slot)
{
	struct json j;

	device_begin(&j, driver, id, NULL);
	pci_addr(&j, slot, NULL);
	json_end(&j, a, "-device");
}

static void add_usb_device(struct argv *a, const char *driver, const char *id)
{
	struct json j;

	device_begin(&j, driver, id, NULL);
	jw_str(&j.w, "bus", "usb.0");
	json_end(&j, a, "-device");
}

/* The port that qemu-guest-agent looks for, and room for three more. Port 0 is the console's. */
static void add_agent(struct argv *a)
{
	struct json j;

	opt(a, "-chardev", "socket,id=agent,fd=%d,server=on,wait=off", take_fd(a, ARGV_FD_AGENT, NULL, true));
	device_begin(&j, "virtio-serial-pci", "vserial", NULL);
	pci_addr(&j, SLOT_VSERIAL, NULL);
	jw_u64(&j.w, "max_ports", 4);
	json_end(&j, a, "-device");
	device_begin(&j, "virtserialport", "agent", NULL);
	jw_str(&j.w, "bus", "vserial.0");
	jw_str(&j.w, "chardev", "agent");
	jw_str(&j.w, "name", "org.qemu.guest_agent.0");
	json_end(&j, a, "-device");
}

static bool has_scsi(const struct vm_spec *s)
{
	for (size_t i = 0; i < s->disks.n; i++)
		if (VM_DISKS(s)[i].bus == VM_BUS_SCSI)
			return true;
	return s->cdroms.n > 0;
}

static void add_machine(struct argv *a, const struct vm_spec *s, const struct host *h)
{
	uint64_t hot = memory_hot_bytes(s, h);
	bool kvm = vm_spec_accel(s, h) == VM_ACCEL_KVM;
	bool max = !strcmp(s->cpu_model, "max");

	opt(a, "-machine", "%s,gic-version=%d,dump-guest-core=off%s", s->machine, s->gic == VM_GIC_2 ? 2 : 3,
	    s->firmware == VM_FIRMWARE_UEFI ? ",pflash0=code,pflash1=vars" : "");
	if (kvm)
		opt(a, "-accel", "kvm");
	else
		opt(a, "-accel", "tcg,thread=multi,tb-size=128");
	/* Architected pointer authentication costs four times the time under emulation. */
	opt(a, "-cpu", "%s%s", s->cpu_model, max && !kvm ? ",pauth-impdef=on" : "");
	opt(a, "-smp", "cpus=%u,sockets=1,cores=%u,threads=1", (unsigned)s->cpus, (unsigned)s->cpus);
	if (hot)
		opt(a, "-m", "size=%lluM,maxmem=%lluM", (unsigned long long)(s->memory_bytes >> 20),
		    (unsigned long long)((s->memory_bytes + hot) >> 20));
	else
		opt(a, "-m", "size=%lluM", (unsigned long long)(s->memory_bytes >> 20));
	opt(a, "-rtc", "base=utc");
}

static void add_monitors(struct argv *a)
{
	int qmp = take_fd(a, ARGV_FD_QMP, NULL, true), serial = take_fd(a, ARGV_FD_SERIAL, NULL, true);

	opt(a, "-chardev", "socket,id=qmp,fd=%d,server=on,wait=off", qmp);
	opt(a, "-mon", "chardev=qmp,mode=control");
	/* wait: croft-vm has connected already, and the guest's first bytes must not be lost. */
	opt(a, "-chardev", "socket,id=serial0,fd=%d,server=on,wait=on", serial);
	opt(a, "-serial", "chardev:serial0");
}

static void add_firmware(struct argv *a, const struct vm_spec *s, const struct host *h, const struct vm_plan *p)
{
	bool reads_zeros = strtoul(h->qemu.version, NULL, 10) < 8;
	struct image code = { .node = "code", .file = "codefile", .driver = "qcow2", .unread = reads_zeros };
	struct image vars = {
		.node = "vars", .file = "varsfile", .driver = "qcow2", .writable = true,
		/* The guest writes by sectors. In a larger cluster QEMU reads the rest of it from the backing node into
		 * a buffer of its own: pieces of QEMU's memory would come to lie where the guest can read them. */
		.unread = reads_zeros && p->vars_cluster_bytes == SECTOR,
	};

	if (s->firmware == VM_FIRMWARE_UEFI) {
		blockdev(a, &code, ARGV_FD_FW_CODE, NULL);
		blockdev(a, &vars, ARGV_FD_FW_VARS, NULL);
		opt(a, "-boot", "menu=on,splash-time=0,strict=on");	/* without splash-time AAVMF waits for 5 s */
		return;
	}
	opt(a, "-kernel", "/proc/self/fd/%d", take_fd(a, ARGV_FD_KERNEL, NULL, false));
	if (s->kernel.initrd)
		opt(a, "-initrd", "/proc/self/fd/%d", take_fd(a, ARGV_FD_INITRD, NULL, false));
	if (s->kernel.command_line)
		opt(a, "-append", "%s", s->kernel.command_line);
}

/* What the guest frees goes back to the host by itself (free-page-reporting); memory.h says the rest. */
static void add_memory(struct argv *a, const struct vm_spec *s, const struct host *h)
{
	uint64_t hot = memory_hot_bytes(s, h);
	struct json j;

	device_begin(&j, "virtio-balloon-pci", "balloon", NULL);
	pci_addr(&j, SLOT_MEMORY, NULL);
	jw_bool(&j.w, "multifunction", true);
	jw_bool(&j.w, "free-page-reporting", true);
	jw_bool(&j.w, "deflate-on-oom", true);
	json_end(&j, a, "-device");
	device_begin(&j, "pvpanic-pci", "panic", NULL);
	jw_str(&j.w, "bus", "pcie.0");
	jw_strf(&j.w, "addr", "0x%x.2", SLOT_MEMORY);
	json_end(&j, a, "-device");
	if (!hot)
		return;
	/* Costs nothing until it is plugged in. (reserve=off reads /proc/sys, which QEMU's private root has not.) */
	opt(a, "-object", "memory-backend-ram,id=vmem-ram,size=%lluM", (unsigned long long)(hot >> 20));
	device_begin(&j, "virtio-mem-pci", MEMORY_DEVICE, NULL);
	jw_str(&j.w, "bus", "pcie.0");
	jw_strf(&j.w, "addr", "0x%x.1", SLOT_MEMORY);
	jw_str(&j.w, "memdev", "vmem-ram");
	jw_u64(&j.w, "block-size", memory_block_bytes(h));
	jw_u64(&j.w, "requested-size", 0);
	json_end(&j, a, "-device");
}

static bool has_boot_order(const struct vm_spec *s)
{
	bool has = false;

	for (size_t i = 0; i < s->disks.n; i++)
		has |= VM_DISKS(s)[i].boot_order != 0;
	for (size_t i = 0; i < s->cdroms.n; i++)
		has |= VM_CDROMS(s)[i].boot_order != 0;
	for (size_t i = 0; i < s->nics.n; i++)
		has |= VM_NICS(s)[i].boot_order != 0;
	return has;
}

/* Without any boot order all disks come first, then the CDs. They are numbered for the firmware all the same: AAVMF
 * finds no SCSI target but the first unless it is told to. */
static void add_devices(struct argv *a, const struct vm_spec *s, const struct vm_plan *p)
{
	bool number = s->firmware == VM_FIRMWARE_UEFI && !has_boot_order(s);

	add_plain_device(a, "virtio-rng-pci", "rng", SLOT_RNG);
	if (s->display == VM_DISPLAY_VIRTIO) {
		opt(a, "-vnc", "none");		/* viewers come by QMP add_client */
		add_plain_device(a, "virtio-gpu-pci", "gpu", SLOT_GPU);
	}
	if (s->display == VM_DISPLAY_VIRTIO || s->usb.n || argv_has_device(p->devices, "usb"))
		add_plain_device(a, "qemu-xhci", "usb", SLOT_XHCI);	/* the host's devices come by QMP (host_usb.h) */
	if (s->display == VM_DISPLAY_VIRTIO) {
		add_usb_device(a, "usb-kbd", "keyboard");
		add_usb_device(a, "usb-tablet", "tablet");
	}
	if (s->guest_agent)
		add_agent(a);
	add_ports(a);
	if (has_scsi(s) || argv_has_device(p->devices, "scsi"))
		add_plain_device(a, "virtio-scsi-pci", "scsi", SLOT_SCSI);
	for (size_t i = 0; i < s->disks.n; i++)
		add_disk(a, &VM_DISKS(s)[i], number ? 1 + i : VM_DISKS(s)[i].boot_order);
	for (size_t i = 0; i < s->cdroms.n; i++)
		add_cdrom(a, &VM_CDROMS(s)[i], number ? 1 + s->disks.n + i : VM_CDROMS(s)[i].boot_order);
	for (size_t i = 0; i < s->nics.n; i++)
		add_nic(a, &VM_NICS(s)[i]);
}

/* A spec that was stored by another build, or not frozen, must not become a guess. */
static int check_frozen(const struct vm_spec *s, const struct vm_plan *p, struct err *e)
{
	uint8_t uuid[16];

	if (s->engine != VM_ENGINE_QEMU)
		return fail(e, ERR_INTERNAL, "the VM \"%s\" is simulated and has no command line", p->name);
	if (text_uuid(p->uuid, uuid) || !text_is_name(p->name))
		return fail(e, ERR_INTERNAL, "the VM's UUID or name can't be given to QEMU");
	if (!s->machine || !s->cpu_model || s->gic == VM_GIC_AUTO)
		return fail(e, ERR_INTERNAL, "machine, CPU model or GIC of the VM \"%s\" were never chosen", p->name);
	for (size_t i = 0; i < s->disks.n; i++)
		if (!VM_DISKS(s)[i].slot)
			return fail(e, ERR_INTERNAL, "the disk \"%s\" has no slot", VM_DISKS(s)[i].name);
	for (size_t i = 0; i < s->cdroms.n; i++)
		if (!VM_CDROMS(s)[i].slot)
			return fail(e, ERR_INTERNAL, "the CD drive \"%s\" has no slot", VM_CDROMS(s)[i].name);
	for (size_t i = 0; i < s->nics.n; i++)
		if (!VM_NICS(s)[i].slot || !VM_NICS(s)[i].mac)
			return fail(e, ERR_INTERNAL, "the NIC \"%s\" has no slot or address", VM_NICS(s)[i].name);
	return 0;
}

int argv_build(const struct vm_spec *s, const struct host *h, const struct vm_plan *p, struct argv *ret, struct err *e)
{
	struct argv a = { 0 };
	int r = vm_spec_check(s, h, e);

	if (!r)
		r = check_frozen(s, p, e);
	if (r)
		return r;
	add(&a, xstrdup(h->qemu.path));
	opt(&a, "-nodefaults", NULL);
	opt(&a, "-no-user-config", NULL);
	opt(&a, "-name", "guest=%s,process=vm:%s,debug-threads=on", p->name, p->name);
	opt(&a, "-uuid", "%s", p->uuid);
	opt(&a, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	opt(&a, "-msg", "timestamp=on");
	opt(&a, "-action", "panic=pause");	/* croftd decides what follows */
	add_machine(&a, s, h);
	if (p->resumes) {
		opt(&a, "-S", NULL);
		opt(&a, "-incoming", "defer");
	}
	opt(&a, "-display", "none");
	add_monitors(&a);
	add_firmware(&a, s, h, p);
	add_devices(&a, s, p);
	add_memory(&a, s, h);
	if (p->has_folder)
		take_fd(&a, ARGV_FD_FOLDER, NULL, true);
	if (p->devices)
		r = argv_reshape(&a, p->devices, e);
	if (r < 0)
		argv_fini(&a);
	else
		*ret = a;
	return r;
}

void argv_fini(struct argv *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->v[i]);
	for (size_t i = 0; i < a->nfds; i++)
		free((char *)a->fds[i].name);
	free(a->v);
	free(a->fds);
	*a = (struct argv){ 0 };
}
