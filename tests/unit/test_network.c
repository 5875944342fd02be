// LINK: net
#include <errno.h>
#include "network.h"
#include "t.h"

static int conflict(struct forward a, struct forward b, struct err *e)
{
	return forwards_conflict(&a, 1, &b, 1, e);
}

#define F(proto, addr, p)	(struct forward){ .vm = "web", .pointer = "/nics/n0/forwards/0", .protocol = proto, \
						  .address = addr, .port = p }

TEST(forwards_that_collide)
{
	static const char *const all[] = { "", "0.0.0.0", "::", NULL };
	struct err e = { 0 };

	for (size_t i = 0; i < 4; i++) {
		eq_int(conflict(F(FORWARD_TCP, all[i], 22), F(FORWARD_TCP, "127.0.0.1", 22), &e), -EEXIST);
		eq_int(conflict(F(FORWARD_TCP, "10.0.0.1", 22), F(FORWARD_TCP, all[i], 22), &e), -EEXIST);
	}
	eq_int(conflict(F(FORWARD_UDP, "10.0.0.1", 53), F(FORWARD_UDP, "10.0.0.1", 53), &e), -EEXIST);
	eq_int(e.code, ERR_EXISTS);
	eq_str(e.msg, "port 53/udp of 10.0.0.1 is forwarded to VM \"web\" already");
	eq_str(e.pointer, "/nics/n0/forwards/0");
	ok(*e.hint);
}

TEST(forwards_that_do_not_collide)
{
	eq_int(conflict(F(FORWARD_TCP, "", 22), F(FORWARD_UDP, "", 22), NULL), 0);
	eq_int(conflict(F(FORWARD_TCP, "", 22), F(FORWARD_TCP, "", 23), NULL), 0);
	eq_int(conflict(F(FORWARD_TCP, "127.0.0.1", 22), F(FORWARD_TCP, "127.0.0.2", 22), NULL), 0);
	eq_int(forwards_conflict(NULL, 0, NULL, 0, NULL), 0);
}

TEST(forwards_of_one_request_collide_with_each_other)
{
	struct forward two[] = { F(FORWARD_TCP, "", 80), F(FORWARD_TCP, "127.0.0.1", 80) };

	eq_int(forwards_conflict(two, 2, NULL, 0, NULL), -EEXIST);
	two[1].port = 81;
	eq_int(forwards_conflict(two, 2, NULL, 0, NULL), 0);
}

TEST(network_config)
{
	struct network_config c = { 0 };
	struct err e = { 0 };
	json_t *j = json_parse("{\"kind\":\"bridge\"}", 17, 100, &e);

	ok(fields_decode(&network_fields, j, FIELDS_CREATE, &c, &e) < 0);
	eq_str(e.pointer, "/kind");
	json_decref(j);
	j = json_parse("{}", 2, 100, &e);
	eq_int(fields_decode(&network_fields, j, FIELDS_CREATE, &c, &e), 0);
	eq_int(c.kind, NETWORK_USER);
	json_decref(j);
	fields_fini(&network_fields, &c);
}

T_MAIN
