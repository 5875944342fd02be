#include "ctl.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mem.h"
#include "pack.h"

enum row_type { ROW_END, ROW_U32, ROW_U64, ROW_TEXT, ROW_TEXTS, ROW_NUMBERS };
struct row { enum row_type type; size_t off; };

#define LIST_MAX	4096	/* items of a list */

/* The order of the rows is the wire format: add at the end, change nothing else. */
#define R(t, s, m) { ROW_##t, offsetof(struct ctl_##s, m) }
static const struct row hello_rows[] = { R(TEXT, hello, build), { 0 } };
static const struct row launch_rows[] = {
	R(TEXT, launch, uuid), R(TEXT, launch, boot_id), R(TEXT, launch, version), R(TEXT, launch, qemu_version),
	R(TEXTS, launch, argv), R(NUMBERS, launch, numbers), R(U32, launch, qmp), R(U32, launch, serial),
	R(U32, launch, uid), R(U32, launch, gid), R(U32, launch, shim_uid), R(U32, launch, shim_gid),
	R(U64, launch, console_bytes), R(U32, launch, private_root), R(TEXTS, launch, devices),
	R(TEXTS, launch, binds), R(U64, launch, memlock_bytes), R(U32, launch, pid), R(U64, launch, start_time),
	R(TEXT, launch, confinement), R(TEXT, launch, cpus), R(U32, launch, agent), { 0 },
};
static const struct row state_rows[] = {
	R(U32, state, phase), R(U32, state, pid), R(U64, state, start_time), R(U32, state, shim_pid),
	R(U64, state, shim_start_time), R(U32, state, uid), R(U32, state, adopted), R(TEXT, state, confinement),
	R(U32, state, how), R(U32, state, code), R(U64, state, at_usec), R(TEXT, state, said),
	R(U64, state, console_total), { 0 },
};
static const struct row failed_rows[] = { R(U32, failed, error), R(TEXT, failed, what), { 0 } };
static const struct row unsupported_rows[] = { R(U32, unsupported, type), { 0 } };
static const struct row empty_rows[] = { { 0 } };

static const struct row *rows_of(uint32_t type)
{
	switch (type) {
#define X(name, number, s) case CTL_##name: return s##_rows;
	CTL_TABLE(X)
#undef X
	}
	return empty_rows;
}

static void row_pack(const struct row *r, const char *body, struct buf *out)
{
	const void *at = body + r->off;
	const struct ctl_texts *texts = at;
	const struct ctl_numbers *numbers = at;
	switch (r->type) {
	case ROW_U32: pack_u32(out, *(const uint32_t *)at); break;
	case ROW_U64: pack_u64(out, *(const uint64_t *)at); break;
	case ROW_TEXT: pack_str(out, *(char *const *)at); break;
	case ROW_TEXTS:
		pack_u32(out, texts->n);
		for (size_t i = 0; i < texts->n; i++)
			pack_str(out, texts->v[i]);
		break;
	case ROW_NUMBERS:
		pack_u32(out, numbers->n);
		for (size_t i = 0; i < numbers->n; i++)
			pack_u32(out, numbers->v[i]);
		break;
	case ROW_END: break;
	}
}

/* A list's length is believed only as far as the message can hold so many items: each takes four bytes at least. */
static size_t unpack_count(struct unpack *u)
{
	size_t n = unpack_u32(u);
	if (n > LIST_MAX || n > (size_t)(u->end - u->p) / 4)
		u->bad = true;
	return u->bad ? 0 : n;
}

static void row_unpack(const struct row *r, struct unpack *u, char *body)
{
	void *at = body + r->off;
	struct ctl_texts *texts = at;
	struct ctl_numbers *numbers = at;
	switch (r->type) {
	case ROW_U32: *(uint32_t *)at = unpack_u32(u); break;
	case ROW_U64: *(uint64_t *)at = unpack_u64(u); break;
	case ROW_TEXT: *(char **)at = unpack_str(u); break;
	case ROW_TEXTS:
		texts->n = unpack_count(u);
		texts->v = xcalloc(texts->n + 1, sizeof(*texts->v));
		for (size_t i = 0; i < texts->n; i++)
			if (!(texts->v[i] = unpack_str(u)))
				u->bad = true;		/* a list has no holes */
		break;
	case ROW_NUMBERS:
		numbers->n = unpack_count(u);
		numbers->v = xcalloc(numbers->n + 1, sizeof(*numbers->v));
		for (size_t i = 0; i < numbers->n; i++)
			numbers->v[i] = unpack_u32(u);
		break;
	case ROW_END: break;
	}
}

static void row_fini(const struct row *r, char *body)
{
	void *at = body + r->off;
	struct ctl_texts *texts = at;
	struct ctl_numbers *numbers = at;
	switch (r->type) {
	case ROW_TEXT: free(*(char **)at); break;
	case ROW_TEXTS:
		for (size_t i = 0; i < texts->n; i++)
			free(texts->v[i]);
		free(texts->v);
		break;
	case ROW_NUMBERS: free(numbers->v); break;
	case ROW_U32: case ROW_U64: case ROW_END: break;
	}
}

void ctl_encode(enum ctl_type type, uint32_t id, const void *body, struct buf *out)
{
	AUTO_BUF struct buf b = BUF_INIT(CTL_MAX);
	for (const struct row *r = rows_of(type); r->type != ROW_END; r++)
		row_pack(r, body, &b);
	pack_u32(out, CTL_VERSION);
	pack_u32(out, type);
	pack_u32(out, id);
	pack_bytes(out, b.data, b.len);
	out->over |= b.over;
}

int ctl_decode(const void *p, size_t n, struct ctl_message *m)
{
	struct unpack u = UNPACK(p, n);
	size_t len;
	memset(m, 0, offsetof(struct ctl_message, fds));
	m->nfds = 0;
	m->version = unpack_u32(&u);
	m->type = unpack_u32(&u);
	m->id = unpack_u32(&u);
	const char *body = unpack_bytes(&u, &len);
	if (u.bad || !m->version)
		return -EBADMSG;
	struct unpack in = UNPACK(body, len);
	for (const struct row *r = rows_of(m->type); r->type != ROW_END && in.p < in.end && !in.bad; r++)
		row_unpack(r, &in, (char *)&m->body);
	if (!in.bad)
		return 0;
	ctl_fini(m);
	return -EBADMSG;
}

void ctl_fini(struct ctl_message *m)
{
	for (const struct row *r = rows_of(m->type); r->type != ROW_END; r++)
		row_fini(r, (char *)&m->body);
	memset(&m->body, 0, sizeof(m->body));
	for (size_t i = 0; i < m->nfds; i++)
		close_at(&m->fds[i]);
	m->nfds = 0;
}

int ctl_send(int sock, enum ctl_type type, uint32_t id, const void *body, const int *fds, size_t nfds)
{
	AUTO_BUF struct buf b = BUF_INIT(CTL_MAX);
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * CTL_FDS)] = { 0 };
	if (nfds > CTL_FDS)
		return -E2BIG;
	ctl_encode(type, id, body, &b);
	if (b.over)
		return -EMSGSIZE;
	struct iovec io = { b.data, b.len };
	struct msghdr h = { .msg_iov = &io, .msg_iovlen = 1 };
	if (nfds) {
		h.msg_control = control;
		h.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	return sendmsg(sock, &h, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Take the descriptors out of what has come; true when some were cut off. */
static bool take_fds(struct msghdr *h, struct ctl_message *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			m->nfds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(m->fds, CMSG_DATA(c), m->nfds * sizeof(int));
		}
	return h->msg_flags & MSG_CTRUNC;
}

int ctl_recv(int sock, struct ctl_message *m)
{
	char probe;
	ssize_t n = recv(sock, &probe, 1, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	if (n > CTL_MAX)
		return -EMSGSIZE;
	AUTO_FREE char *p = xmalloc(n);
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * CTL_FDS)];
	struct iovec io = { p, n };
	struct msghdr h = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	n = recvmsg(sock, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	struct ctl_message got = { .nfds = 0 };
	bool cut = take_fds(&h, &got);
	int r = ctl_decode(p, n, m);
	memcpy(m->fds, got.fds, sizeof(int) * got.nfds);
	m->nfds = got.nfds;
	if (!r && cut)
		r = -EBADMSG;
	if (r < 0)
		ctl_fini(m);
	return r < 0 ? r : 1;
}
