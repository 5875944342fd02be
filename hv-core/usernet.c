#include "usernet.h"
#include <stdio.h>
#include <string.h>

/* "  TCP[ESTABLISHED]  15  127.0.0.1 2222  10.0.2.15  22  0  0": state, descriptor, forward, guest, two queues. */
bool usernet_open(const char *text, uint16_t host_port, uint16_t guest_port)
{
	static const char up[] = "  TCP[ESTABLISHED]";

	for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		unsigned from, to;
		char rest[120];

		if (strncmp(line, up, sizeof(up) - 1))
			continue;
		snprintf(rest, sizeof(rest), "%.*s", (int)strcspn(line, "\n"), line + sizeof(up) - 1);
		if (sscanf(rest, " %*5u %*15s %5u %*15s %5u", &from, &to) == 2 && from == host_port && to == guest_port)
			return true;
	}
	return false;
}
