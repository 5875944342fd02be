/* engine_qemu_disk.c: disks and CD drives of a running guest: what is called. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "argv.h"
#include "engine_qemu_hot.h"

/* Names of a drive's nodes inside QEMU: argv.h. */
static void cd_nodes(const struct vm_cdrom *c, char node[24], char file[24])
{
	snprintf(node, 24, "cd%u", (unsigned)c->slot);
	snprintf(file, 24, "cdfile%u", (unsigned)c->slot);
}

static const struct vm_cdrom *cdrom(const struct vm_spec *v, const char *name, struct err *e)
{
	const struct vm_cdrom *c = field_vec_find(&v->cdroms, sizeof(*c), name);

	if (!c)
		fail(e, ERR_INTERNAL, "there is no drive %s", name);
	return c;
}

/* Out, whatever was in it, and in. Done again it is the same; the guest sees that the disc was changed once more. The
 * drive opens although the guest has locked it: who changes the disc here knows what he does. */
HOT_BUILDER(hot_medium)
{
	const struct vm_cdrom *c = cdrom(wanted, s->name, e);
	AUTO_FREE char *id = xasprintf("cd-%s", s->name);
	char node[24], file[24];

	if (!c)
		return -EIO;
	cd_nodes(c, node, file);
	hot_call(h, "blockdev-open-tray", json_pack("{s:s, s:b}", "id", id, "force", 1));
	hot_call(h, "blockdev-remove-medium", json_pack("{s:s}", "id", id));
	hot_drop_node(h, node, file);
	if (*fd >= 0) {
		hot_add_node(h, argv_cdrom_node(c, 0), fd);
		hot_call(h, "blockdev-insert-medium", json_pack("{s:s, s:s}", "id", id, "node-name", node));
	}
	hot_call(h, "blockdev-close-tray", json_pack("{s:s}", "id", id));
	return 0;
}

/* QEMU's own limits of a device, which need no filter in the way of a disk without: at a start they are told as soon as
 * the monitor answers. A virtio disk is two devices, and the inner one has no id. */
static void set_limits(struct hot_run *h, const struct vm_disk *d)
{
	const struct vm_limits *l = &d->limits;
	json_t *id = d->bus == VM_BUS_VIRTIO ? json_sprintf("/machine/peripheral/disk-%s/virtio-backend", d->name) :
					       json_sprintf("disk-%s", d->name);

	hot_call(h, "block_set_io_throttle", json_pack("{s:o, s:i, s:I, s:I, s:i, s:I, s:I}", "id", id, "bps", 0, "bps_rd",
		 (json_int_t)l->read_bytes_per_s, "bps_wr", (json_int_t)l->write_bytes_per_s, "iops", 0, "iops_rd",
		 (json_int_t)l->read_iops, "iops_wr", (json_int_t)l->write_iops));
}

static const struct vm_disk *disk(const struct vm_spec *v, const char *name, struct err *e)
{
	const struct vm_disk *d = field_vec_find(&v->disks, sizeof(*d), name);

	if (!d)
		fail(e, ERR_INTERNAL, "there is no disk %s", name);
	return d;
}

HOT_BUILDER(hot_limits)
{
	const struct vm_disk *d = disk(wanted, s->name, e);

	if (d)
		set_limits(h, d);
	return d ? 0 : -EIO;
}

/* Names of its nodes inside QEMU: argv.h. */
static void nodes(const struct vm_disk *d, char node[24], char file[24])
{
	const char *s = d->bus == VM_BUS_SCSI ? "s" : "";

	snprintf(node, 24, "%sdisk%u", s, (unsigned)d->slot);
	snprintf(file, 24, "%sdiskfile%u", s, (unsigned)d->slot);
}

/* Larger, as everybody before this has made sure: 7.2 would cut a disk off without a word. */
HOT_BUILDER(hot_size)
{
	const struct vm_disk *d = disk(wanted, s->name, e), *was = disk(is, s->name, e);
	char node[24], file[24];

	if (!d || !was)
		return -EIO;
	if (d->size_bytes < was->size_bytes)
		return fail(e, ERR_INVALID, "the disk %s cannot become smaller", s->name);
	if (d->size_bytes == was->size_bytes)	/* after a try whose end nobody saw: it may be larger by now */
		return 0;
	if (d->bus == VM_BUS_NVME) {
		fail(e, ERR_STATE, "QEMU's NVMe disks cannot grow while a guest has them");
		return err_hint(e, "shut it down first");
	}
	nodes(d, node, file);
	hot_call(h, "block_resize", json_pack("{s:s, s:I}", "node-name", node, "size", (json_int_t)d->size_bytes));
	return 0;
}

/* SCSI's controller: what comes may be the first of its kind. */
static void plug_controller(struct hot_run *h)
{
	hot_plug_begin(h, true);
	hot_plug(h, xstrdup("{\"driver\":\"virtio-scsi-pci\",\"id\":\"scsi\",\"addr\":\"0x0\"}"));
}

HOT_BUILDER(hot_disk_add)
{
	static const struct vm_limits none;
	const struct vm_disk *d = disk(wanted, s->name, e);
	char node[24], file[24];

	if (!d)
		return -EIO;
	nodes(d, node, file);
	if (d->bus == VM_BUS_SCSI)
		plug_controller(h);
	hot_plug_begin(h, d->bus != VM_BUS_SCSI);
	hot_drop_node(h, node, file);		/* of a croftd that died before device_add */
	hot_add_node(h, argv_disk_node(d, 0), fd);
	hot_plug(h, argv_disk_device(d, 0, d->bus == VM_BUS_SCSI ? NULL : ARGV_PORT "0"));	/* nothing boots from it now */
	if (memcmp(&d->limits, &none, sizeof(none)))
		set_limits(h, d);
	hot_undo(h, "blockdev-del", json_pack("{s:s}", "node-name", node));
	return 0;
}

HOT_BUILDER(hot_disk_remove)
{
	const struct vm_disk *d = disk(is, s->name, e);
	AUTO_FREE char *id = xasprintf("disk-%s", s->name);
	char node[24], file[24];

	if (!d)
		return -EIO;
	nodes(d, node, file);
	hot_unplug(h, id, e);
	hot_drop_node(h, node, file);
	return 0;
}

HOT_BUILDER(hot_cdrom_add)
{
	const struct vm_cdrom *c = cdrom(wanted, s->name, e);
	char node[24], file[24];
	bool disc = *fd >= 0;

	if (!c)
		return -EIO;
	cd_nodes(c, node, file);
	plug_controller(h);
	hot_plug_begin(h, false);
	hot_drop_node(h, node, file);
	if (disc)
		hot_add_node(h, argv_cdrom_node(c, 0), fd);
	hot_plug(h, argv_cdrom_device(c, 0));
	if (disc)
		hot_undo(h, "blockdev-del", json_pack("{s:s}", "node-name", node));
	return 0;
}

HOT_BUILDER(hot_cdrom_remove)
{
	const struct vm_cdrom *c = cdrom(is, s->name, e);
	AUTO_FREE char *id = xasprintf("cd-%s", s->name);
	char node[24], file[24];

	if (!c)
		return -EIO;
	cd_nodes(c, node, file);
	hot_unplug(h, id, e);
	hot_drop_node(h, node, file);
	return 0;
}
