/* vms.c: what all VMs share: the rounds that find silent monitors and stopped processes, and the delivery of completions. */
#include "engine.h"

/* Completions run from here only, with nobody else on the stack, so that they may do anything. */
static int on_deliver(sd_event_source *src, void *arg)
{
	struct vms *v = arg;

	while (!list_empty(&v->over)) {
		struct vm_op *op = LIST_ENTRY(v->over.next, struct vm_op, in_vm);

		list_remove(&op->in_vm);
		if (op->done)
			op->done(op->arg, op->err.code ? &op->err : NULL);
		free(op);
	}
	return sd_event_source_set_enabled(src, SD_EVENT_OFF);
}

void vm_op_end(struct vm_op *op, const struct err *e)
{
	struct vms *v = op->vm->vms;

	if (!e)
		op->err.code = ERR_NONE;
	else if (e != &op->err)
		op->err = *e;
	timer_disarm(&op->deadline);
	list_remove(&op->in_vm);
	list_append(&v->over, &op->in_vm);
	sd_event_source_set_enabled(v->deliver, SD_EVENT_ON);
}

static void on_round(void *arg)
{
	struct vms *v = arg;

	LIST_FOR(vm, &v->live, struct vm, in_live)
		vm->engine->probe(vm);
	if (!list_empty(&v->live))
		timer_arm(&v->round, v->how.ev, v->how.round_usec, on_round, v);
}

static void on_look(void *arg)
{
	struct vms *v = arg;

	LIST_FOR(vm, &v->live, struct vm, in_live) {
		if (vm->engine->look)
			vm->engine->look(vm);
	}
	if (!list_empty(&v->live))
		timer_arm(&v->look, v->how.ev, v->how.look_usec, on_look, v);
}

void vms_join(struct vm *vm)
{
	struct vms *v = vm->vms;

	if (vm->in_live.next)
		return;
	if (list_empty(&v->live)) {
		timer_arm(&v->round, v->how.ev, v->how.round_usec, on_round, v);
		timer_arm(&v->look, v->how.ev, v->how.look_usec, on_look, v);
	}
	list_append(&v->live, &vm->in_live);
}

void vms_leave(struct vm *vm)
{
	list_remove(&vm->in_live);
	if (list_empty(&vm->vms->live)) {
		timer_disarm(&vm->vms->round);
		timer_disarm(&vm->vms->look);
	}
}

struct vms *vms_new(const struct vms_how *how)
{
	struct vms *v = xnew(vms);

	v->how = *how;
	v->how.round_usec = how->round_usec ? how->round_usec : 30000000;
	v->how.look_usec = how->look_usec ? how->look_usec : 4000000;
	v->how.answer_usec = how->answer_usec ? how->answer_usec : 5000000;
	v->how.start_usec = how->start_usec ? how->start_usec : 60000000;
	list_init(&v->live);
	list_init(&v->over);
	if (sd_event_add_defer(how->ev, &v->deliver, on_deliver, v) < 0)
		abort();	/* out of memory is all that can happen */
	sd_event_source_set_enabled(v->deliver, SD_EVENT_OFF);
	return v;
}

void vms_free(struct vms *v)
{
	if (!v)
		return;
	on_deliver(v->deliver, v);
	sd_event_source_disable_unref(v->deliver);
	timer_disarm(&v->round);
	timer_disarm(&v->look);
	free(v);
}
