/* event.h: numbered, kept, replayed events, and the audiences that follow them (SSE) or wait for them (long poll). */
#pragma once
#include <stdint.h>
#include "buf.h"
#include "croft.h"
#include "fields.h"

struct req;
struct front;
struct db_tx;

struct event {
	uint64_t seq;
	int64_t time_usec;
	char kind[32];			/* "vm.changed" */
	char target[64];		/* id of the object */
	char user[64];			/* who did it; "croft" for croftd itself */
	struct buf data;		/* the object's new JSON, or "" */
};
#define EVENT_DATA_MAX	(256 * 1024)
#define EVENTS_KEPT	10000		/* and none for longer than */
#define EVENTS_USEC	(30 * 24 * 3600 * 1000000ll)

extern const struct fields event_fields;	/* schema "Event" */

int events_new(struct croft *c, struct events **ret, struct err *e);
void events_free(struct events *ev);
/* Insert, in the db lane. */
int event_insert(struct db_tx *tx, struct event *e, struct err *err);
/* Tell everybody, in the loop, after the commit; in the order of seq. */
void event_publish(struct croft *c, const struct event *e);	/* without a number it passes */
/* croftd's own event, without another change. @json is copied. */
void event_post(struct croft *c, const char *kind, const char *target, const char *json, size_t n);
/* Something that passes: told to those who follow right now, without a number, and not kept. */
void event_pass(struct croft *c, const char *kind, const char *target, const char *user, const struct buf *data);
uint64_t events_last(const struct croft *c);
/* What a permission is needed to see an event of this kind. */
enum perm event_perm(const char *kind);

void api_events(struct req *r);			/* GET /events: SSE, long poll or list */
void event_again(struct req *r, uint64_t after);	/* a follower fell behind */
void event_front_gone(struct croft *c, struct front *f);
void event_ack(struct croft *c, struct front *f, unsigned n);
void event_unfollow(struct req *r);
