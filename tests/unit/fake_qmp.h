/* fake_qmp.h: a QEMU monitor that follows a script. It lives in the test's own loop, at the other end of a socketpair. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

struct fake_qmp;
struct fake_qmp *fake_qmp_new(sd_event *ev, int *ret_client_fd);	/* the caller owns the client's end */
void fake_qmp_free(struct fake_qmp *f);			/* closes its end */
/* The next command must be @command and its message contain @has (NULL: anything); then @answer is sent ("$id" stands
 * for its id; NULL: silence). */
void fake_qmp_expect(struct fake_qmp *f, const char *command, const char *has, const char *answer);
void fake_qmp_expect_start(struct fake_qmp *f);		/* greet now, and agree to the capabilities when asked */
void fake_qmp_send(struct fake_qmp *f, const void *p, size_t n);	/* at once, if it fits into the socket */
void fake_qmp_says(struct fake_qmp *f, const char *text);
void fake_qmp_chunk(struct fake_qmp *f, size_t n);	/* from now on, write n bytes a turn of the loop */
const char *fake_qmp_wrong(const struct fake_qmp *f);	/* what did not follow the script, or NULL */
bool fake_qmp_finished(const struct fake_qmp *f);	/* all that was expected has come, all was sent */
unsigned fake_qmp_fds(const struct fake_qmp *f);	/* descriptors that came along */
const char *fake_qmp_last(const struct fake_qmp *f);	/* the last message */
