/* usernet.h: what QEMU's user-mode network says of its connections. Any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Does a TCP connection stand that came by @host_port and leads to @guest_port? In @text, the answer of the monitor's "info
 * usernet" (libslirp, slirp_connection_info; it names the forward's port, not the peer's). Parts of it are the guest's. */
bool usernet_open(const char *text, uint16_t host_port, uint16_t guest_port);
