/* fuzz_door.c: any bytes are refused, or decoded to a message that encodes to the very same bytes. Seeds: one message
 * of each type, as `test_door` encodes them. */
// LINK: hv-core/base
#include <stdlib.h>
#include <string.h>
#include "door.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static char again[DOOR_MAX];
	uint64_t msg[64], id;
	enum door_type type;
	unsigned nfds;
	size_t len;

	if (door_decode(p, n, &type, &id, &nfds, msg, sizeof(msg)))
		return 0;
	if (door_encode(type, id, msg, nfds, again, sizeof(again), &len) || len != n || memcmp(again, p, n))
		abort();
	return 0;
}
