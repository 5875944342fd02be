#include <stddef.h>
#include "routes.h"

const struct route *const route_tables[] = {
	routes_vm, routes_disk, routes_console, routes_task, routes_event, routes_datastore, routes_file, routes_network, routes_host,
	routes_usb, routes_doctor, routes_maintenance, routes_session, routes_user, routes_token, routes_config, NULL
};
