/* door.h: the wire between croftd and croft-front. SOCK_SEQPACKET; one message is a header, a body packed by pack.h
 * from a struct by a table of its rows, and up to DOOR_FDS descriptors. Both ends are one build, so nothing here needs
 * compatibility; the bytes from the front are hostile all the same. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "err.h"

#define DOOR_MAX	65536		/* bytes of a message with its header; what is larger travels as a memfd */
#define DOOR_INLINE	32768		/* a body up to this is inline */
#define DOOR_FDS	16
#define DOOR_NO_LENGTH	UINT64_MAX	/* content_length of a chunked body; length "to the end" */

struct door_bytes { const char *p; size_t n; };		/* borrowed from the message while its callback runs */

/* croft-front -> croftd */
struct door_request {		/* a new id; sent when the head is read, before any byte of the body */
	const char *method, *path, *query;	/* path and query raw, still escaped; query without '?', or NULL */
	const char *peer;			/* "10.1.2.3", "fe80::1"; "unix" for a local client */
	const char *ticket;			/* of a local client's connection, else NULL */
	const char *host, *origin, *authorization, *cookie, *content_type, *accept, *if_match, *if_none_match;
	const char *idempotency_key, *prefer, *last_event_id, *range, *upload_offset, *repr_digest;
	uint64_t content_length;		/* 0: no body */
	uint32_t websocket;			/* a well-formed upgrade to WebSocket version 13 */
};
struct door_body { struct door_bytes body; };	/* what COLLECT asked for, whole; a memfd as fd 0 when not inline */
struct door_stored { uint64_t bytes; uint32_t error; };	/* STORE ended; error is an errno or 0 */
struct door_sent { uint64_t bytes; uint32_t error; };	/* SEND ended */
struct door_again { uint64_t after; };		/* a follower fell behind the ring: answer with FOLLOW, same id */
struct door_ack { uint32_t events; };		/* so many EVENT messages were taken */
struct door_log { uint32_t level; const char *line; };

/* both ways, first message */
struct door_hello {
	const char *build;			/* build id, must be equal */
	/* from here on croftd -> front only; fds: listeners[0..listeners), then the web bundle */
	uint32_t listeners, uid, gid;
	const char *certificate, *key;		/* PEM; NULL for a front of the unix socket */
	uint32_t requests_max;			/* ids under way at once; more wait in the front, suspended */
	uint32_t events_credit;			/* EVENT messages that may be unacknowledged */
	uint32_t connections_max, connections_per_address;
	uint32_t head_timeout_ms, idle_timeout_ms;
	uint64_t ring_bytes;			/* of an audience's ring */
};

/* croftd -> croft-front */
struct door_certificate { const char *certificate, *key; };	/* renewed: for new connections */
struct door_connection { const char *ticket; };			/* fd 0: an accepted local client */
struct door_reply {		/* ends the id */
	uint32_t status;
	const char *headers;			/* "Name: value\r\n..." or NULL; Date, lengths, Connection are added */
	struct door_bytes body;			/* or a sealed memfd as fd 0, whole */
	uint32_t close;				/* close the connection after it */
};
struct door_collect { uint64_t max; };		/* read the body, at most this (else the front itself answers 413) */
struct door_store {		/* the body goes into fd 0 at offset; at most max bytes */
	const char *lane;
	uint64_t offset, max, deadline_usec;	/* deadline of each read or write in the lane */
};
struct door_send {		/* bytes of fd 0; ends the id, told by SENT */
	uint32_t status;
	const char *headers, *lane;
	uint64_t offset, length, deadline_usec;
};
struct door_join { const char *protocol; };	/* fd 0: a stream socket; joined to the WebSocket as binary frames */
struct door_follow {		/* the client becomes a follower: SSE. fd 0 (optional): a memfd to be sent first */
	uint64_t audience;
	uint64_t from;				/* the text goes up to this event number; the ring continues after it */
};
struct door_event {		/* one SSE frame for everybody in an audience */
	/* previous: the audience's event before; another means a gap, UINT64_MAX one of unknown size. A gap at the end,
	 * up to seq, has an empty frame. previous = seq: a frame without a number, for those who are up to date. */
	uint64_t audience, seq, previous;
	struct door_bytes frame;
};
struct door_withdraw { uint32_t unused; };	/* end this id now: close its connection */

#define DOOR_TABLE(X) /* name, struct, from the front, from croftd */ \
	X(HELLO, hello, 1, 1) \
	X(REQUEST, request, 1, 0) X(BODY, body, 1, 0) X(STORED, stored, 1, 0) X(SENT, sent, 1, 0) \
	X(GONE, withdraw, 1, 0) X(AGAIN, again, 1, 0) X(ACK, ack, 1, 0) X(LOG, log, 1, 0) \
	X(CERTIFICATE, certificate, 0, 1) X(CONNECTION, connection, 0, 1) X(REPLY, reply, 0, 1) \
	X(COLLECT, collect, 0, 1) X(STORE, store, 0, 1) X(SEND, send, 0, 1) X(JOIN, join, 0, 1) \
	X(FOLLOW, follow, 0, 1) X(EVENT, event, 0, 1) X(WITHDRAW, withdraw, 0, 1)

enum door_type {
	DOOR_NONE,
#define X(name, s, f, c) DOOR_##name,
	DOOR_TABLE(X)
#undef X
	DOOR_NTYPES
};

struct door;
/* A message has come. @msg points to the struct of its type; texts are borrowed until the callback returns. A
 * descriptor that the callback keeps is set to -1 in fds[]; the rest is closed. */
typedef void (*door_fn)(void *arg, enum door_type type, uint64_t id, const void *msg, int *fds, unsigned nfds);
/* @fd is owned from now on. @side: which end we are, so that only the other end's types are accepted; anything else,
 * or a torn message, is the end of the door. @ended(arg) is called once when the other side has gone or misbehaved;
 * door_free is then the caller's to do, from there or later. */
enum door_side { DOOR_OF_FRONT, DOOR_OF_CROFTD };
struct door *door_new(sd_event *ev, int fd, enum door_side side, door_fn fn,
		      void (*ended)(void *arg, const char *why), void *arg);
void door_free(struct door *d);
/* Queue a message; it never blocks. @fds are owned from now on (closed when sent or when the door ends). The queue is
 * bounded by the credits of the protocol; as a last resort the door ends when over 16 MiB are waiting. */
void door_send(struct door *d, enum door_type type, uint64_t id, const void *msg, const int *fds, unsigned nfds);
size_t door_queued(const struct door *d);		/* bytes waiting */
/* The codec alone (for tests and the fuzz target): 0 or -EBADMSG. door_decode allocates nothing: texts point into @p,
 * which must be writable-free and outlive *msg; every text in the message is followed by a NUL on the wire. */
int door_encode(enum door_type type, uint64_t id, const void *msg, unsigned nfds, void *out, size_t cap,
		size_t *ret_len);
int door_decode(const void *p, size_t n, enum door_type *type, uint64_t *id, unsigned *nfds, void *msg, size_t msg_cap);
size_t door_size(enum door_type type);			/* sizeof its struct */
