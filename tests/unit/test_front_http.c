// LINK: tests/front
#include <stdlib.h>
#include "mem.h"
#include "rig.h"

static const enum via vias[] = { UNIX, TLS };
#define BOTH(v) for (size_t v##_i = 0; v##_i < 2; v##_i++) for (enum via v = vias[v##_i], v##_once = 1; v##_once; v##_once = 0)

TEST(get_over_both)
{
	char body[256];

	rig_start(&(struct rig_how){ 0 });
	BOTH(v) {
		eq_int(get(v, "/api/hello", body, sizeof(body)), 200);
		eq_str(body, "hello\n");
	}
	rig_stop();
}

T_MAIN
