/* task.h: durable tasks. Of each kind a table of steps: a step's name, its do, its undo, its share of the progress. A
 * row is on disk before the first side effect, and the step's number before each step; after a crash the task goes on
 * with the step it was in (every do can be done again), or is undone, or ends as interrupted. The loop's thread only. */
#pragma once
#include <jansson.h>
#include "change.h"
#include "croft.h"
#include "fields.h"
#include "inventory.h"

struct task;

enum step_recovery { STEP_REDO, STEP_UNDO, STEP_INTERRUPT };	/* when croftd died in it */
struct step {
	const char *name;		/* what a person reads: "create disks" */
	void (*run)(struct task *t);	/* ends with task_step_end, now or later */
	void (*undo)(struct task *t);	/* ends with task_step_end; NULL: nothing to undo */
	unsigned weight;		/* share of the progress */
	enum step_recovery recovery;
	bool (*needed)(const struct task *t);	/* NULL: always; one that isn't is passed over, undo and all */
	bool final;			/* from its beginning on a cancel is refused: others act on what it has done */
	bool up;			/* begun again with a guest that runs, it is done: a cancel came too late */
};
struct task_kind {
	const char *name;		/* "vm.create" */
	const struct step *steps;	/* ends with a row without name */
	bool cancellable;
	bool created;			/* Prefer: wait answers 201 with the object; else 200 */
	bool gone;			/* the object is gone after success: 204 */
	bool host;			/* its target is the host: no VM is held */
	void (*answer)(struct req *r);	/* of a host's kind: what Prefer: wait gets after success */
	/* SQL of the end, in the lane, and its effect in memory, in the loop: success, or failed (all is undone). */
	int (*commit)(struct change *ch, struct db_tx *tx, struct task *t, struct err *e);
	void (*apply)(struct task *t);
	int (*fail_commit)(struct change *ch, struct db_tx *tx, struct task *t, struct err *e);
	void (*fail_apply)(struct task *t);
};
extern const struct task_kind *const task_kinds[];	/* NULL-terminated; tasks_vm.c */
const struct task_kind *task_kind_named(const char *name);	/* NULL: there is none */
bool task_kind_cancellable(const struct task_kind *k, unsigned step);	/* in that step */

#define TASK_STATES(X) X(RUNNING, "running") X(UNDOING, "undoing") X(DONE, "done") X(FAILED, "failed") \
	X(CANCELLED, "cancelled") X(INTERRUPTED, "interrupted")
enum task_state {
#define X(id, name) TASK_##id,
	TASK_STATES(X)
#undef X
	TASK_NSTATES
};
extern const char *const task_state_names[TASK_NSTATES + 1];

struct task_mark { int64_t usec; uint64_t bytes; };	/* CLOCK_MONOTONIC */
struct task_bytes { uint64_t done, total; struct task_mark marks[2]; };	/* of a step that counts bytes; marks: for the rate */

struct task {
	struct croft *c;
	uint64_t id;
	const struct task_kind *kind;
	struct machine *vm;		/* the target, or NULL when it is gone; it has ->task == this */
	char target[37];
	char *target_name, *user;	/* owned */
	json_t *args, *data;		/* owned; data is saved with each step */
	enum task_state state;
	enum task_state saved;		/* the same as it stands on disk: what clients are told */
	unsigned step;
	double share;			/* of the step, 0..1 */
	char *note;			/* owned: what it waits for, for people, or NULL */
	struct task_bytes bytes;
	int64_t told_usec;		/* when followers were told of its progress last (CLOCK_MONOTONIC) */
	bool cancel;			/* asked for */
	bool stuck;			/* its last save failed; it is tried again */
	bool redone;			/* its step was begun by the croftd before */
	struct err err;			/* why it failed */
	int64_t created_usec, finished_usec;
	struct timer deadline;		/* of a step that waits */
	void *run;			/* what the step that runs keeps in memory */
	void (*cancelled)(struct task *t);	/* set by a step that can be cancelled in its middle */
	void (*vm_changed)(struct task *t);	/* set by a step that waits for the VM's state */
	struct task *next;		/* owned: begins when this one has ended; see task_follow */
	struct list waiters;		/* requests with Prefer: wait, by in_wait */
	struct tasks *tasks;
};

extern const struct fields task_fields;		/* schema "Task" */

int tasks_new(struct croft *c, struct tasks **ret, struct err *e);
void tasks_stop(struct tasks *ts);	/* croftd ends: what runs long is broken off, to be done again by the next one */
void tasks_free(struct tasks *ts);
/* Take up the tasks that a croftd before left; after the inventory was loaded and VMs were attached. */
int tasks_recover(struct croft *c, struct err *e);
#define TASK_HOST	"host"		/* the target of a task that has no VM */
/* Start one on @vm (NULL: on the host, for a kind of the host) for @r (taken; NULL for croftd's own), with @args (taken).
 * The change may bring SQL and events of its own (@ch NULL: none); task_begin adds the task's. Answers 202, or with
 * Prefer: wait the end. */
void task_begin(struct croft *c, struct req *r, struct change *ch, const struct task_kind *kind, struct machine *vm,
		json_t *args);
/* In a kind's commit, in the lane: after @t another task on its VM begins, whatever happens to croftd. Its first step is
 * always needed. */
int task_follow(struct change *ch, struct db_tx *tx, struct task *t, const struct task_kind *kind, struct err *e);
void task_step_end(struct task *t, const struct err *e);
/* Progress of the step that runs (task_progress.c): its share 0..1; and, where it moves bytes, how many of how many. It is
 * told to those who follow events, at most once a second, and kept in memory only. */
void task_share(struct task *t, double share);
void task_note(struct task *t, const char *note);	/* copied; who follows the events is told when it is another one */
struct task *task_of_host(const struct croft *c);	/* that is under way, or NULL */
void task_bytes(struct task *t, uint64_t done, uint64_t total);
uint64_t task_rate(const struct task *t);	/* bytes a second, over the last few seconds; 0: none are counted */
/* Answer @r with the task: 202, or wait for its end. */
void task_answer(struct req *r, uint64_t id);
void api_task_list(struct req *r);
void api_task_get(struct req *r);
void api_task_cancel(struct req *r);
/* Its data to its row, now. @r, if any, is answered with the task then (task_keep.c). */
void task_keep(struct task *t, struct req *r);
const char *task_cancelled_by(const struct task *t);
bool task_was_cancelled(const struct task *t);	/* as its data says: by a croftd before */
void task_too_late(struct task *t);	/* what was cancelled has happened all the same */
bool task_cancel_for(struct task *t, const char *by);	/* somebody's stronger wish: true when it was cancelled, and will end */
/* Its first or last commit is under way: who wants the VM next waits in its claim for that, a moment, and is not refused. */
bool task_soon(const struct task *t);
bool task_ending(const struct task *t);		/* its last commit is under way */
size_t tasks_open(const struct croft *c);
