/* routes.h: the tables of all api_*.c. */
#pragma once
#include "req.h"
#include "route.h"

extern const struct route routes_vm[], routes_disk[], routes_task[], routes_event[], routes_host[], routes_session[], routes_user[],
	routes_token[], routes_datastore[], routes_file[], routes_network[], routes_console[], routes_config[], routes_doctor[],
	routes_maintenance[], routes_usb[];
