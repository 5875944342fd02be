/* demo.h: the VM that a first start brings up, so that there is something to see. */
#pragma once
#include "croft.h"

/* Once in the life of a home: copy kernel and initramfs from c->opt.demo to the first datastore, create and start the
 * VM "demo" through the API's own routes. The copy is made in the datastore's lane. */
void demo_begin(struct croft *c);
