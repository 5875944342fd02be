/* engine_qemu_disk.c: disks and CD drives of a running guest: what is called. */
#include <stdio.h>
#include <string.h>
#include "argv.h"
#include "engine_qemu_hot.h"

/* Out, whatever was in it, and in. Done again it is the same; the guest sees that the disc was changed once more. The
 * drive opens although the guest has locked it: who changes the disc here knows what he does. */
int hot_medium(struct hot_run *h, const struct hot_step *s, const struct vm_spec *is, const struct vm_spec *wanted, int *fd,
	       struct err *e)
{
	const struct vm_cdrom *c = field_vec_find(&wanted->cdroms, sizeof(*c), s->name);
	AUTO_FREE char *id = xasprintf("cd-%s", s->name);
	char node[24], file[24];

	if (!c)
		return fail(e, ERR_INTERNAL, "there is no drive %s", s->name);
	snprintf(node, sizeof(node), "cd%u", (unsigned)c->slot);
	snprintf(file, sizeof(file), "cdfile%u", (unsigned)c->slot);
	hot_call(h, "blockdev-open-tray", json_pack("{s:s, s:b}", "id", id, "force", 1));
	hot_call(h, "blockdev-remove-medium", json_pack("{s:s}", "id", id));
	hot_drop_node(h, node, file);
	if (*fd >= 0) {
		hot_add_node(h, argv_cdrom_node(c, 0), fd);
		hot_call(h, "blockdev-insert-medium", json_pack("{s:s, s:s}", "id", id, "node-name", node));
	}
	hot_call(h, "blockdev-close-tray", json_pack("{s:s}", "id", id));
	return 0;
}
