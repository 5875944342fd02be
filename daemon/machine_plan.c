/* machine_plan.c: open what QEMU gets. One file after the other: each in the lane of its own datastore. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "file.h"
#include "firmware.h"
#include "image.h"
#include "log.h"
#include "machine_check.h"
#include "machine_plan.h"
#include "mem.h"
#include "place.h"
#include "stores.h"
#include "suspend.h"
#include "vmfolder.h"
#include "volume.h"

#define KERNEL_MAX	(512ull << 20)

struct plan {
	struct job job;			/* the check of what was opened */
	struct machine *m;
	struct vm_spec as;		/* what stands in it is borrowed */
	const struct vm_spec *spec;	/* as it is wanted; of a suspended VM as it was started */
	struct vm_launch *l;
	size_t at;			/* index of the descriptor that is being made */
	int fd, lock;			/* lock: the folder's, from before anything in it is opened */
	uint64_t vars_cluster_bytes;
	struct datastore *ds;
	void (*done)(void *arg, struct vm_launch *l, const struct err *e);
	void *arg;
};

static void next(struct plan *p);

static void end(struct plan *p, const struct err *e)
{
	struct vm_launch *l = TAKE(p->l);

	if (e)
		vm_launch_free(TAKE(l));
	p->done(p->arg, l, e);
	close_at(&p->fd);
	close_at(&p->lock);
	free(p);
}

static void *named(const struct field_vec *v, size_t size, const char *name) { return field_vec_find(v, size, name); }

static const char *path_of(const struct plan *p, const struct argv_fd *f, char vars[DSPATH_TEXT])
{
	const struct vm_spec *s = p->spec;
	struct vm_disk *d;
	struct vm_cdrom *cd;

	switch (f->what) {
	case ARGV_FD_KERNEL: return s->kernel.image;
	case ARGV_FD_INITRD: return s->kernel.initrd;
	case ARGV_FD_FW_VARS: snprintf(vars, DSPATH_TEXT, "%s/uefi-vars.qcow2", p->m->folder); return vars;
	case ARGV_FD_DISK: d = named(&s->disks, sizeof *d, f->name); return d ? d->path : NULL;
	case ARGV_FD_CDROM: cd = named(&s->cdroms, sizeof *cd, f->name); return cd ? cd->iso : NULL;
	case ARGV_FD_QMP: case ARGV_FD_SERIAL: case ARGV_FD_AGENT: case ARGV_FD_FW_CODE: return NULL;
	case ARGV_FD_FOLDER: return p->m->folder;
	}
	return NULL;
}

static int check_image(int fd, enum image_format format, const char *what, uint64_t *ret_cluster_bytes, struct err *e)
{
	struct image_info info = {};
	char hint[sizeof e->hint];
	int r = image_inspect(fd, format, &info, e) ?: image_acceptable(&info, e);

	if (r == 0 && ret_cluster_bytes)
		*ret_cluster_bytes = info.cluster_bytes;
	fields_fini(&image_info_fields, &info);
	if (r == 0)
		return 0;
	memcpy(hint, e->hint, sizeof hint);
	fail(e, e->code, "%.120s: %s", what, e->msg);
	return err_hint(e, "%s", hint);
}

int machine_check_disk(int fd, const struct vm_disk *d, struct err *e)
{
	return check_image(fd, d->format == VM_FORMAT_RAW ? IMAGE_RAW : IMAGE_QCOW2, d->path, NULL, e);
}

/* In the lane: a disk is what it was said to be; a kernel is copied into sealed memory. */
static int check_work(struct job *j, struct err *e)
{
	struct plan *p = (struct plan *)j;
	const struct argv_fd *f = &p->l->argv.fds[p->at];
	const struct vm_disk *d = f->what == ARGV_FD_DISK ? named(&p->spec->disks, sizeof *d, f->name) : NULL;

	switch (f->what) {
	case ARGV_FD_KERNEL: case ARGV_FD_INITRD: {
		int mem = file_memfd_from(f->what == ARGV_FD_KERNEL ? "kernel" : "initrd", p->fd, KERNEL_MAX, 0444);

		if (mem < 0)
			return fail_errno(e, mem, "read the kernel or initrd of %s", p->m->name);
		close(p->fd);
		p->fd = mem;
		return 0;
	}
	case ARGV_FD_FW_VARS:
		return check_image(p->fd, IMAGE_QCOW2, "the UEFI variables", &p->vars_cluster_bytes, e);
	case ARGV_FD_DISK:
		return machine_check_disk(p->fd, d, e);
	case ARGV_FD_CDROM: case ARGV_FD_QMP: case ARGV_FD_SERIAL: case ARGV_FD_AGENT: case ARGV_FD_FW_CODE: case ARGV_FD_FOLDER:
		return 0;
	}
	return 0;
}

static void check_done(struct job *j, const struct err *e)
{
	struct plan *p = (struct plan *)j;

	if (e) {
		end(p, e);
		return;
	}
	p->l->fds[p->at++] = TAKE_FD(p->fd);
	next(p);
}

static void opened_whole(void *arg, int *fd, const struct err *e)
{
	struct plan *p = arg;

	if (!e)
		p->fd = TAKE_FD(*fd);
	check_done(&p->job, e);
}

static void opened(void *arg, int *fd, uint64_t size, const struct err *e)
{
	struct plan *p = arg;

	if (e) {
		struct err named = *e;
		char vars[DSPATH_TEXT];
		const char *path = path_of(p, &p->l->argv.fds[p->at], vars);

		fail(&named, e->code, "%s of %s cannot be opened: %s", path ?: "a file", p->m->name, e->msg);
		err_hint(&named, "vmctl file ls shows what is on a datastore");
		end(p, &named);
		return;
	}
	p->fd = TAKE_FD(*fd);
	lane_run(p->ds->lane, &p->job, check_work, check_done);
}

/* What is plugged in at run time is no part of the command line. What stands in it is borrowed. */
static struct vm_spec started_with(const struct machine *m, uint64_t boot_bytes)
{
	struct vm_spec s = *machine_built(m);

	s.memory_bytes = boot_bytes ?: s.memory_bytes;
	return s;
}

int machine_fits(const struct machine *m, const struct field_vec *devices, uint64_t boot_bytes, struct err *e)
{
	struct vm_spec s = started_with(m, boot_bytes);
	struct vm_plan plan = { .uuid = m->id, .name = m->name, .resumes = true, .devices = devices };
	struct argv a = {};
	int r = argv_build(&s, &m->c->host, &plan, &a, e);

	if (r == 0)
		argv_fini(&a);
	return r;
}

static int build(struct plan *p, struct err *e)
{
	const struct machine *m = p->m;
	struct vm_plan plan = { .uuid = m->id, .name = m->name, .vars_cluster_bytes = p->vars_cluster_bytes,
				.resumes = m->memory != NULL, .has_folder = m->folder && *m->folder,
				.devices = m->memory && m->memory->devices.n ? &m->memory->devices : NULL };
	struct argv a = {};
	int r = machine_at_config(e, argv_build(p->spec, &m->c->host, &plan, &a, e));

	if (r < 0)
		return r;
	argv_fini(&p->l->argv);
	p->l->argv = a;
	return 0;
}

static void next(struct plan *p)
{
	const struct argv *a = &p->l->argv;
	char vars[DSPATH_TEXT];
	struct dspath path;
	struct err e = {};
	int r;

	while (p->at < a->nfds && argv_fd_is_socket(a->fds[p->at].what))
		p->at++;
	if (p->at == a->nfds) {
		r = p->vars_cluster_bytes ? build(p, &e) : 0;	/* the same descriptors, told with what was seen in them */
		end(p, r < 0 ? &e : NULL);
		return;
	}
	const struct argv_fd *f = &a->fds[p->at];
	const char *text = path_of(p, f, vars);

	if (f->what == ARGV_FD_FOLDER) {
		p->l->fds[p->at++] = TAKE_FD(p->lock);
		next(p);
	} else if (f->what == ARGV_FD_FW_CODE) {
		firmware_open(p->m->c->firmware, p->m->c->host.firmware.code, opened_whole, p);
	} else if (!text) {
		fail(&e, ERR_INTERNAL, "%s has no file for %s", p->m->name, f->name ?: "its kernel");
		end(p, &e);
	} else if (stores_path(p->m->c, text, &p->ds, &path, &e) < 0) {
		end(p, &e);
	} else {
		datastore_open_file(p->ds, path.path, f->writable ? O_RDWR : O_RDONLY, opened, p);
	}
}

/* ---- first the lock, then what has to be made ready in the folder */

static void trimmed(void *arg, const struct err *e)
{
	struct plan *p = arg;

	if (e)
		log_warn("the UEFI variables of %s are not made small: %s", p->m->name, e->msg);
	next(p);
}

static void no_memory(void *arg, const struct err *e)
{
	struct plan *p = arg;
	struct dspath path;
	struct err err = {};
	char vars[DSPATH_TEXT];

	if (e) {
		end(p, e);
		return;
	}
	/* A memory that was saved goes with the store that it was saved with. */
	if (p->spec->firmware != VM_FIRMWARE_UEFI || p->m->memory)
		next(p);
	else if (stores_path(p->m->c, path_of(p, &(struct argv_fd){ .what = ARGV_FD_FW_VARS }, vars), &p->ds, &path, &err) < 0)
		end(p, &err);
	else
		volume_trim_vars(p->ds, path.path, p->m->id, trimmed, p);
}

static void locked(void *arg, int *fd, const struct err *e)
{
	struct plan *p = arg;

	if (e) {
		end(p, e);
	} else {
		p->lock = TAKE_FD(*fd);
		suspend_check(p->m, no_memory, p);
	}
}

static void lock(struct plan *p)
{
	struct dspath path;
	struct err e = {};

	if (!p->m->folder || !*p->m->folder)
		next(p);
	else if (stores_path(p->m->c, p->m->folder, &p->ds, &path, &e) < 0)
		end(p, &e);
	else
		vmfolder_lock(p->ds, path.path, p->m->id, locked, p);
}

static void begin(void *arg)
{
	struct plan *p = arg;
	struct machine *m = p->m;
	struct vm_place place;
	struct err e = {};

	if (build(p, &e) < 0) {
		end(p, &e);
		return;
	}
	p->l->fds = xcalloc(p->l->argv.nfds + 1, sizeof(int));
	for (size_t i = 0; i < p->l->argv.nfds; i++)
		p->l->fds[i] = -1;
	p->l->uid = p->l->gid = m->uid;
	p->l->qemu_version = m->c->host.qemu.version;
	vm_place(p->spec, &m->c->host, &place);
	p->l->cpus = place.cpus;
	p->l->kvm = vm_spec_accel(p->spec, &m->c->host) == VM_ACCEL_KVM;
	lock(p);
}

void machine_plan(struct machine *m, void (*done)(void *arg, struct vm_launch *l, const struct err *e), void *arg)
{
	struct plan *p = xnew(plan);

	p->m = m;
	p->as = started_with(m, m->memory ? m->memory->boot_bytes : 0);
	p->spec = &p->as;
	p->fd = p->lock = -1;
	p->l = xnew(vm_launch);
	p->done = done;
	p->arg = arg;
	loop_defer(m->c->ev, begin, p);
}
