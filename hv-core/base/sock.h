/* sock.h: unix sockets in a folder that is known by descriptor, so that the length of its path never matters. */
#pragma once

/* @type: SOCK_STREAM or SOCK_SEQPACKET. Both return a non-blocking CLOEXEC socket or -errno. */
int sock_listen_at(int dirfd, const char *name, int type);	/* replaces what is there; its mode is by the umask */
int sock_connect_at(int dirfd, const char *name, int type);	/* -EAGAIN: the listener's queue is full */
