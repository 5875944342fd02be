/* front.h: what the parts of croft-front share: the loop, the door, and what HELLO brought. One thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "door.h"

struct front {
	sd_event *ev;
	struct door *door;
	uint32_t requests_max, connections_max, connections_per_address;
	uint32_t head_timeout_ms, idle_timeout_ms;
	uint64_t ring_bytes;
};
extern struct front front;
