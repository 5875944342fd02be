#include <stdio.h>
#include <string.h>
#include "log.h"
#include "mem.h"
#include "room.h"
#include "stores.h"
#include "task.h"
#include "tasks_vm.h"
#include "text.h"

#define LOOK_USEC	30000000
#define SOON_USEC	60000000
#define ROOM_BYTES	(64ull << 20)	/* and a hundredth of the datastore: less is full again at once */

struct room {
	struct timer look;
	uint64_t question;		/* that is open; 0: none */
	int64_t went_on_usec;		/* CLOCK_MONOTONIC, by itself; 0: it has not */
};

struct look { struct croft *c; struct datastore *ds; char id[37]; uint64_t question; };

static void look(void *arg);

static void look_again(struct machine *m) { timer_arm(&m->room->look, m->c->ev, LOOK_USEC, look, m); }

static bool has_room(const struct datastore_status *s)
{
	return s->free_bytes >= ROOM_BYTES && s->free_bytes >= s->capacity_bytes / 100;
}

static void go_on(struct machine *m, const struct datastore *ds)
{
	char size[24];

	text_size_format(ds->status.free_bytes, size);
	AUTO_FREE char *why = xasprintf("%s goes on by itself: the datastore %s has %s free again", m->name, ds->name, size);

	log_note("%s", why);
	m->room->went_on_usec = mono_usec();
	task_begin(m->c, NULL, NULL, &task_vm_resume, m, json_pack("{s:s}", "why", why));
}

static void looked(void *arg, const struct err *e)
{
	AUTO_FREE struct look *l = arg;
	struct machine *m = l->c->stopping ? NULL : inventory_get(l->c->inv, l->id);
	struct err ignored;

	if (!m || !m->room || m->room->question != l->question)
		return;
	look_again(m);			/* it may be held right now, or the resume may not be kept */
	if (!e && has_room(&l->ds->status) && !m->claim.held && machine_usable(m, &ignored) == 0 && vm_can(m->vm, VM_ASK_RESUME))
		go_on(m, l->ds);
}

static void look(void *arg)
{
	struct machine *m = arg;
	const struct vm_spec *s = machine_built(m);
	struct vm_status st;
	struct dspath path;
	struct err ignored;
	struct look *l = xnew(look);

	*l = (struct look){ .c = m->c, .question = m->room->question };
	memcpy(l->id, m->id, sizeof l->id);
	vm_status(m->vm, &st);
	for (size_t i = 0; st.question && i < s->disks.n; i++) {
		const struct vm_disk *d = &VM_DISKS(s)[i];

		if (strcmp(d->name, st.question->device) == 0 && d->path && stores_path(m->c, d->path, &l->ds, &path, &ignored) == 0) {
			datastore_refresh(l->ds, looked, l);	/* it comes back when that answers */
			return;
		}
	}
	free(l);
	look_again(m);			/* its datastore cannot be used right now */
}

void room_changed(struct machine *m)
{
	struct vm_status st;

	vm_status(m->vm, &st);
	uint64_t id = st.question && st.question->full ? st.question->id : 0;

	if (m->c->opt.stop || id == (m->room ? m->room->question : 0))
		return;
	m->room = m->room ?: xnew(room);
	m->room->question = id;
	timer_disarm(&m->room->look);
	if (id && m->room->went_on_usec && mono_usec() - m->room->went_on_usec < SOON_USEC)
		log_warn("%s stands still again right after it went on by itself: now it waits for an answer", m->name);
	else if (id)
		look_again(m);
}

void room_free(struct machine *m)
{
	if (m->room)
		timer_disarm(&m->room->look);
	free(TAKE(m->room));
}
