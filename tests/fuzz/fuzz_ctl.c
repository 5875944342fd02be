// LINK: hv-core/base
/* What croft-vm and croftd read from each other. What was taken is written again and must come back the same. */
#include <stdlib.h>
#include <string.h>
#include "ctl.h"
#include "mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO_BUF struct buf once = BUF_INIT(CTL_MAX), twice = BUF_INIT(CTL_MAX);
	struct ctl_message m;

	if (n > CTL_MAX || ctl_decode(data, n, &m))
		return 0;
	ctl_encode((enum ctl_type)m.type, m.id, &m.body, &once);
	ctl_fini(&m);
	if (once.over)
		return 0;
	if (ctl_decode(once.data, once.len, &m))
		abort();
	ctl_encode((enum ctl_type)m.type, m.id, &m.body, &twice);
	ctl_fini(&m);
	if (once.len != twice.len || memcmp(once.data, twice.data, once.len))
		abort();
	return 0;
}
