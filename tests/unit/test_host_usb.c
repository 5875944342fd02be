// LINK: hv-core
/* The host's USB devices from trees that look like /sys; and the kernel's notices, or what pretends to be one. */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "file.h"
#include "host_usb.h"
#include "mem.h"
#include "spec.h"
#include "t.h"

static char root[32];

static void put(const char *device, const char *name, const char *text)
{
	AUTO_FREE char *dir = xasprintf("%s/sys/bus/usb/devices/%s", root, device);
	AUTO_FREE char *path = xasprintf("%s/%s", dir, name);

	ok(file_mkdirs(dir, 0700) == 0);
	ok(file_publish_at(AT_FDCWD, path, text, strlen(text), 0600) == 0);
}

static void plug(const char *port, const char *bus, const char *address, const char *vendor, const char *product, const char *class)
{
	put(port, "busnum", bus);
	put(port, "devnum", address);
	put(port, "idVendor", vendor);
	put(port, "idProduct", product);
	put(port, "bDeviceClass", class);
	put(port, "speed", "480\n");
}

static void begin(void)
{
	snprintf(root, sizeof(root), "/tmp/test-usb-XXXXXX");
	ok(mkdtemp(root) != NULL);
}

static void end(struct field_vec *v)
{
	AUTO_CLOSE int tmp = open("/tmp", O_DIRECTORY | O_RDONLY | O_CLOEXEC);

	usb_devices_free(v);
	eq_int(file_remove_tree(tmp, root + strlen("/tmp/")), 0);
}

#define D(i)	(&((struct usb_device *)v.items)[i])

TEST(a_host_without_usb_has_none)
{
	struct field_vec v;

	begin();
	usb_scan(root, &v);
	eq_int(v.n, 0);
	end(&v);
}

TEST(devices_are_listed_and_hubs_are_not)
{
	struct field_vec v;

	begin();
	plug("usb1", "1\n", "1\n", "1d6b\n", "0002\n", "09\n");		/* a root hub */
	plug("1-1", "1\n", "2\n", "0424\n", "2514\n", "09\n");		/* a hub */
	plug("1-1.10", "1\n", "5\n", "0951\n", "1666\n", "00\n");
	put("1-1.10:1.0", "bInterfaceClass", "08\n");
	put("1-1.10", "serial", "E0D55EA573E4\n");
	put("1-1.10", "manufacturer", "Kingston\n");
	put("1-1.10", "product", "DataTraveler 3.0\n");
	plug("1-1.2", "1\n", "3\n", "10c4\n", "ea60\n", "ff\n");
	put("1-1.2", "speed", "1.5\n");
	usb_scan(root, &v);
	eq_int(v.n, 2);
	eq_str(D(0)->port, "1-1.2");
	eq_str(D(0)->kind, "vendor's own");
	eq_int(D(0)->speed_kbit, 1500);
	ok(!D(0)->serial);
	eq_str(D(1)->port, "1-1.10");
	eq_str(D(1)->kind, "storage");
	eq_str(D(1)->serial, "E0D55EA573E4");
	eq_str(D(1)->model, "DataTraveler 3.0");
	eq_int(D(1)->bus, 1);
	eq_int(D(1)->address, 5);
	eq_int(D(1)->speed_kbit, 480000);
	end(&v);
}

TEST(what_a_device_says_is_made_harmless)
{
	AUTO_FREE char *cut = xcalloc(1, 201);
	struct field_vec v;

	begin();
	memset(cut, 'x', 200);
	plug("1-1", "1", "2", "0951", "1666", "00");
	put("1-1", "serial", "a\nb\033[2Jc\x7f ");
	put("1-1", "manufacturer", "\xff\xfe evil");
	memcpy(cut + 124, "\xe2\x82\xac", 3);				/* the end falls into a letter */
	put("1-1", "product", cut);
	plug("1-2", "1", "300", "0951", "1666", "00");			/* no such address */
	plug("1-3", "1", "4", "095", "1666", "00");
	plug("1-4", "1", "5", "0951", "16G6", "00");
	plug("1-5x", "1", "6", "0951", "1666", "00");
	plug("1-6", "", "7", "0951", "1666", "00");
	usb_scan(root, &v);
	eq_int(v.n, 1);
	eq_str(D(0)->serial, "a b [2Jc");
	eq_str(D(0)->manufacturer, "?? evil");
	eq_int(strlen(D(0)->model), 124);
	end(&v);
}

TEST(what_an_entry_means)
{
	struct usb_device d = { .port = (char *)"1-1.2", .vendor = (char *)"0951", .product = (char *)"1666", .serial = (char *)"A1" };
	static const struct { struct vm_usb want; bool fits; } rows[] = {
		{ { .vendor = (char *)"0951", .product = (char *)"1666" }, true },
		{ { .vendor = (char *)"0951", .product = (char *)"1666", .serial = (char *)"A1" }, true },
		{ { .vendor = (char *)"0951", .product = (char *)"1666", .serial = (char *)"A2" }, false },
		{ { .vendor = (char *)"0951", .product = (char *)"1667" }, false },
		{ { .port = (char *)"1-1.2" }, true },
		{ { .port = (char *)"1-1" }, false },
		{ { .port = (char *)"1-1.2", .vendor = (char *)"0952" }, false },
		{ { .vendor = (char *)"0951" }, false },		/* no spec has that */
		{ { .name = (char *)"x" }, false },
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		eq_int(usb_matches(&rows[i].want, &d), rows[i].fits);
	d.serial = NULL;
	ok(!usb_matches(&rows[1].want, &d));
}

#define NOTICE(action, subsystem, type) \
	action "@/devices/x\0ACTION=" action "\0DEVPATH=/devices/x\0SUBSYSTEM=" subsystem "\0DEVTYPE=" type "\0SEQNUM=9"
#define MATTERS(text)	usb_notice_matters(text, sizeof(text))

TEST(notices_that_matter)
{
	ok(MATTERS(NOTICE("add", "usb", "usb_device")));
	ok(MATTERS(NOTICE("remove", "usb", "usb_device")));
	ok(MATTERS(NOTICE("bind", "usb", "usb_device")));
	ok(!MATTERS(NOTICE("change", "usb", "usb_device")));
	ok(!MATTERS(NOTICE("add", "usb", "usb_interface")));
	ok(!MATTERS(NOTICE("add", "net", "usb_device")));
	ok(!MATTERS("add@/devices/x\0ACTION=add\0SUBSYSTEM=usb"));
	ok(!usb_notice_matters("ACTION=add", 10));			/* no end */
	ok(!usb_notice_matters("", 0));
}

/* A process may send to the group as well: nobody believes it. */
TEST(only_the_kernel_is_heard)
{
	static const char text[] = NOTICE("add", "usb", "usb_device");
	struct sockaddr_nl group = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	AUTO_CLOSE int heard = usb_notices_open(), liar = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
	char space[4096];
	struct sockaddr_nl own = { 0 };
	socklen_t len = sizeof(own);

	if (heard < 0) {
		t_skip("no notices of the kernel here");
		return;
	}
	ok(!usb_notices_read(heard));
	ok(getsockname(heard, (struct sockaddr *)&own, &len) == 0);
	if (sendto(liar, text, sizeof(text), 0, (struct sockaddr *)&group, sizeof(group)) < 0) {
		own.nl_groups = 0;			/* only to us, then */
		ok(sendto(liar, text, sizeof(text), 0, (struct sockaddr *)&own, sizeof(own)) == sizeof(text));
	}
	ok(recv(heard, space, sizeof(space), MSG_PEEK | MSG_DONTWAIT) == sizeof(text));	/* it has come */
	ok(!usb_notices_read(heard));
	ok(recv(heard, space, sizeof(space), MSG_DONTWAIT) < 0 && errno == EAGAIN);
}

TEST(a_node_is_a_node)
{
	struct usb_device d = { .port = (char *)"99-1", .bus = 99, .address = 1 };
	AUTO_CLOSE int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uint64_t bus, address;

	ok(!usb_node_address(fd, &bus, &address));
	ok(!usb_node_address(-1, &bus, &address));
	ok(usb_open_node(&d) == -ENOENT);
}

T_MAIN
