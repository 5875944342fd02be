// LINK: hv-core/base
/* The frozen words between croftd and croft-vm. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "ctl.h"
#include "mem.h"
#include "t.h"

static char *arg_texts[] = { (char *)"/usr/bin/q", (char *)"-x", NULL };
static uint32_t some_numbers[] = { 12, 13 };
static const struct ctl_launch launch = {
	.uuid = (char *)"u", .boot_id = (char *)"b", .version = (char *)"v", .argv = { arg_texts, 2 },
	.numbers = { some_numbers, 2 }, .qmp = 10, .serial = 11, .uid = 7, .gid = 8, .shim_uid = 9, .shim_gid = 10,
	.console_bytes = 1 << 20, .private_root = 1, .memlock_bytes = UINT64_MAX, .pid = 5, .start_time = 1ull << 40,
	.confinement = (char *)"root=private", .cpus = (char *)"4-7", .agent = 14,
};

/* Golden: these bytes are spoken by croft-vms that run now. They never change, they only grow at the end. */
static void golden(enum ctl_type type, const void *body, const char *hex)
{
	AUTO_BUF struct buf b = BUF_INIT(CTL_MAX), got = BUF_INIT(CTL_MAX);
	ctl_encode(type, 0x01020304, body, &b);
	for (size_t i = 0; i < b.len; i++)
		buf_addf(&got, "%02x", (unsigned char)b.data[i]);
	eq_str(got.data, hex);
}

TEST(bytes_are_frozen)
{
	static const struct ctl_state state = {
		.phase = CTL_RUNNING, .pid = 0x1234, .start_time = 0x1122334455667788, .shim_pid = 9,
		.shim_start_time = 10, .uid = 11, .adopted = 1, .confinement = (char *)"c", .how = CTL_END_KILLED,
		.code = 9, .at_usec = 12, .said = NULL, .console_total = 13,
	};
	golden(CTL_HELLO, &(struct ctl_hello){ (char *)"hi" }, "01000000" "01000000" "04030201" "06000000" "020000006869");
	golden(CTL_GO, &(struct ctl_empty){ 0 }, "01000000" "04000000" "04030201" "00000000");
	golden(CTL_STATUS, &(struct ctl_empty){ 0 }, "01000000" "05000000" "04030201" "00000000");
	golden(CTL_VIEWER, &(struct ctl_empty){ 0 }, "01000000" "06000000" "04030201" "00000000");
	golden(CTL_DONE, &(struct ctl_empty){ 0 }, "01000000" "41000000" "04030201" "00000000");
	golden(CTL_FAILED, &(struct ctl_failed){ 2, (char *)"no" }, "01000000" "42000000" "04030201" "0a000000" "02000000"
	       "020000006e6f");
	golden(CTL_UNSUPPORTED, &(struct ctl_unsupported){ 99 }, "01000000" "43000000" "04030201" "04000000" "63000000");
	golden(CTL_STATE, &state, "01000000" "40000000" "04030201" "45000000" "02000000" "34120000" "8877665544332211"
	       "09000000" "0a00000000000000" "0b000000" "01000000" "0100000063" "02000000" "09000000" "0c00000000000000"
	       "ffffffff" "0d00000000000000");
	golden(CTL_LAUNCH, &launch, "01000000" "02000000" "04030201" "92000000" "0100000075" "0100000062" "0100000076"
	       "ffffffff" "02000000" "0a000000" "2f7573722f62696e2f71" "02000000" "2d78" "02000000" "0c000000" "0d000000"
	       "0a000000" "0b000000" "07000000" "08000000" "09000000" "0a000000" "0000100000000000" "01000000" "00000000"
	       "00000000" "ffffffffffffffff" "05000000" "0000000000010000" "0c000000" "726f6f743d70726976617465"
	       "03000000" "342d37" "0e000000");
}

TEST(launch_comes_back)
{
	AUTO_BUF struct buf b = BUF_INIT(CTL_MAX);
	struct ctl_message m;
	ctl_encode(CTL_LAUNCH, 1, &launch, &b);
	eq_int(ctl_decode(b.data, b.len, &m), 0);
	const struct ctl_launch *l = &m.body.launch;
	eq_int(m.type, CTL_LAUNCH);
	eq_str(l->uuid, "u");
	ok(!l->qemu_version);
	eq_int(l->argv.n, 2);
	eq_str(l->argv.v[1], "-x");
	ok(!l->argv.v[2]);
	eq_int(l->numbers.v[1], 13);
	ok(l->memlock_bytes == UINT64_MAX);
	eq_int(l->devices.n, 0);
	ok(l->devices.v && !l->devices.v[0]);
	eq_str(l->confinement, "root=private");
	eq_str(l->cpus, "4-7");
	eq_int(l->agent, 14);
	ctl_fini(&m);
}

/* An older peer sends fewer rows: every cut at a row's end is a message, every other cut is not. */
TEST(cut_at_every_byte)
{
	AUTO_BUF struct buf b = BUF_INIT(CTL_MAX);
	struct ctl_message m;
	int good = 0;
	ctl_encode(CTL_LAUNCH, 1, &launch, &b);
	for (uint32_t n = 0; n <= b.len - 16; n++) {
		AUTO_FREE char *copy = xmemdup(b.data, 16 + n);	/* exactly as long, for the sanitizer */
		memcpy(copy + 12, &n, 4);
		if (ctl_decode(copy, 16 + n, &m) == 0) {
			good++;
			ctl_fini(&m);
		}
	}
	eq_int(good, 23);		/* after each of the 22 rows, and before the first */
}

TEST(what_is_added_is_skipped)
{
	AUTO_BUF struct buf b = BUF_INIT(CTL_MAX);
	struct ctl_message m;
	ctl_encode(CTL_UNSUPPORTED, 1, &(struct ctl_unsupported){ 5 }, &b);
	buf_adds(&b, "more");
	b.data[12] += 4;
	eq_int(ctl_decode(b.data, b.len, &m), 0);
	eq_int(m.body.unsupported.type, 5);
	ctl_fini(&m);
}

TEST(lists_lie)
{
	AUTO_BUF struct buf b = BUF_INIT(CTL_MAX);
	struct ctl_message m;
	ctl_encode(CTL_LAUNCH, 1, &launch, &b);
	size_t argv_at = 16 + 5 + 5 + 5 + 4;
	static const uint32_t counts[] = { 3, 1000, 5000, UINT32_MAX };
	for (size_t i = 0; i < COUNT(counts); i++) {
		memcpy(b.data + argv_at, &counts[i], 4);
		eq_int(ctl_decode(b.data, b.len, &m), -EBADMSG);
	}
	uint32_t two = 2, none = UINT32_MAX;
	memcpy(b.data + argv_at, &two, 4);
	memcpy(b.data + argv_at + 4, &none, 4);		/* a hole in argv */
	eq_int(ctl_decode(b.data, b.len, &m), -EBADMSG);
}

TEST(descriptors_travel)
{
	int pair[2], fds[CTL_FDS], before = dup(0);
	struct ctl_message m;
	ok(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	eq_int(ctl_recv(pair[1], &m), -EAGAIN);
	for (int i = 0; i < CTL_FDS; i++)
		fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	eq_int(ctl_send(pair[0], CTL_LAUNCH, 3, &launch, fds, CTL_FDS), 0);
	for (int i = 0; i < CTL_FDS; i++)
		close(fds[i]);
	eq_int(ctl_recv(pair[1], &m), 1);
	eq_int(m.nfds, CTL_FDS);
	ok(fcntl(m.fds[0], F_GETFD) == FD_CLOEXEC);
	int kept = TAKE_FD(m.fds[7]);
	ctl_fini(&m);
	ok(fcntl(kept, F_GETFD) == FD_CLOEXEC);
	close(kept);
	/* Bad bytes with descriptors leave none behind. */
	for (int i = 0; i < 50; i++) {
		char control[CMSG_SPACE(sizeof(int))] = { 0 };
		struct iovec io = { (char *)"bad", 3 };
		struct msghdr h = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(c), &before, sizeof(int));
		ok(sendmsg(pair[0], &h, 0) == 3);
		eq_int(ctl_recv(pair[1], &m), -EBADMSG);
	}
	close(pair[0]);
	eq_int(ctl_recv(pair[1], &m), 0);
	close(pair[1]);
	int after = dup(0);
	eq_int(after, before + 1);
	close(before);
	close(after);
}

TEST(a_peer_that_does_not_read)
{
	int pair[2], r = 0;
	ok(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	for (int i = 0; i < 100000 && !r; i++)
		r = ctl_send(pair[0], CTL_STATUS, 1, &(struct ctl_empty){ 0 }, NULL, 0);
	eq_int(r, -EAGAIN);
	close(pair[1]);
	r = ctl_send(pair[0], CTL_STATUS, 1, &(struct ctl_empty){ 0 }, NULL, 0);
	ok(r == -EPIPE || r == -ECONNRESET);
	close(pair[0]);
}

T_MAIN
