#include "event.h"
#include "routes.h"

static const struct route_query query[] = {
	{ "after", "integer", "only events after this number" },
	{ "wait", "integer", "if there are none yet, wait up to so many seconds for one" },
	{ "limit", "integer", "at most so many; default 100" },
	{ "kinds", "string", "only these kinds: vm.*,task.finished" },
	{}
};
const struct route routes_event[] = {
	{ "GET", "/api/v1/events", "event_list", PERM_VM_VIEW, ROUTE_LIST | ROUTE_STREAM, NULL, &event_fields, query, api_events,
	  "list events, wait for them, or follow them as text/event-stream with Last-Event-ID" },
	{}
};
