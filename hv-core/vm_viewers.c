/* vm_viewers.c: viewers of the serial line of a VM that is off. They are given what the last run left behind and wait;
 * at power-on they move to the engine. What they type meanwhile goes nowhere. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include "engine.h"
#include "keeper.h"

enum { VIEWERS_MAX = 16 };

struct viewer {
	struct list in_vm;
	struct vm *vm;
	int fd;					/* owned */
	sd_event_source *src;
	char *history;				/* owned; what is left of it starts at sent */
	size_t len, sent;
};

struct vm_viewers { struct list all; unsigned n; };

/* Leave the waiting room; the descriptor is the caller's. */
static int viewer_leave(struct viewer *w)
{
	struct vm *vm = w->vm;
	int fd = w->fd;

	list_remove(&w->in_vm);
	sd_event_source_disable_unref(w->src);
	free(w->history);
	free(w);
	if (!--vm->parked->n)
		free(TAKE(vm->parked));
	return fd;
}

static void viewer_close(struct viewer *w)
{
	int fd = viewer_leave(w);

	close_at(&fd);
}

static int on_viewer(sd_event_source *src, int fd, uint32_t events, void *arg)
{
	struct viewer *w = arg;
	char typed[512];
	ssize_t n = -1;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		n = read(fd, typed, sizeof(typed));
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			viewer_close(w);
			return 0;
		}
	}
	if (!(events & EPOLLOUT))
		return 0;
	n = send(fd, w->history + w->sent, w->len - w->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		viewer_close(w);
		return 0;
	}
	w->sent += n > 0 ? (size_t)n : 0;
	if (w->sent == w->len) {
		free(TAKE(w->history));
		sd_event_source_set_io_events(src, EPOLLIN);
	}
	return 0;
}

int vm_viewers_park(struct vm *vm, int fd, struct err *e)
{
	const struct keeper_house *house = vm->vms->how.house;
	AUTO_CLOSE int owned = fd;
	struct viewer *w;
	char uuid[37];
	int r;

	if (vm->parked && vm->parked->n == VIEWERS_MAX)
		return fail(e, ERR_BUSY, "%u viewers wait at the serial line of VM \"%s\" already", VIEWERS_MAX,
			    vm->name);
	w = xnew(viewer);
	if (house && vm->engine->attach) {		/* no history is no reason to refuse a viewer */
		vm_uuid(vm, uuid);
		run_history(house->run_fd, uuid, &w->history, &w->len, NULL);
	}
	r = sd_event_add_io(vm->vms->how.ev, &w->src, fd, w->len ? EPOLLIN | EPOLLOUT : EPOLLIN, on_viewer, w);
	if (r < 0) {
		free(w->history);
		free(w);
		return fail_errno(e, r, "a viewer of VM \"%s\"", vm->name);
	}
	w->vm = vm;
	w->fd = TAKE_FD(owned);
	if (!vm->parked) {
		vm->parked = xnew(vm_viewers);
		list_init(&vm->parked->all);
	}
	list_append(&vm->parked->all, &w->in_vm);
	vm->parked->n++;
	return 0;
}

void vm_viewers_hand_over(struct vm *vm)
{
	while (vm->parked) {
		int fd = viewer_leave(LIST_ENTRY(vm->parked->all.next, struct viewer, in_vm));

		if (vm->engine->serial(vm, fd) < 0)
			close_at(&fd);
	}
}

void vm_viewers_free(struct vm *vm)
{
	while (vm->parked)
		viewer_close(LIST_ENTRY(vm->parked->all.next, struct viewer, in_vm));
}
