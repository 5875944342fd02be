#include "host_usb.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "host_read.h"
#include "mem.h"
#include "spec.h"
#include "text.h"

#define DEVICES "sys/bus/usb/devices"
enum { TEXT_MAX = 126, USB_MAJOR = 189, PER_BUS = 128, NOTICE_MAX = 8192, KERNEL_GROUP = 1 };

#define O(f, t, ...) { .name = #f, .type = t, .off = offsetof(struct usb_device, f), __VA_ARGS__ }
static const struct field rows[] = {
	O(port, F_STR, .help = "where it is plugged in"),
	O(bus, F_U64, .help = "number of the bus"),
	O(address, F_U64, .help = "on the bus; another one each time that it is plugged in"),
	O(vendor, F_STR, .help = "vendor id"),
	O(product, F_STR, .help = "product id"),
	O(serial, F_STR, .flags = FIELD_NULLABLE, .help = "serial number, as the device says"),
	O(manufacturer, F_STR, .flags = FIELD_NULLABLE, .help = "who made it, as the device says"),
	O(model, F_STR, .flags = FIELD_NULLABLE, .help = "what it is, as the device says"),
	O(kind, F_STR, .flags = FIELD_NULLABLE, .help = "its class: storage, audio, ..., or a number in hex"),
	O(speed_kbit, F_U64, .help = "1500, 12000, 480000, 5000000, ... kbit/s; 0: not known"),
	O(vm, F_STR, .flags = FIELD_NULLABLE, .help = "the VM that has it now"),
	{}
};
#undef O
const struct fields usb_device_fields = { "HostUsb", sizeof(struct usb_device), rows, "a USB device that is plugged into this host" };

/* ---- what is plugged in ---- */

/* One line that may be shown: without control characters, at most TEXT_MAX bytes; NULL when nothing is left. */
static char *printable(char *owned)
{
	AUTO_FREE char *s = owned;
	size_t n = s ? strnlen(s, TEXT_MAX) : 0;

	while (n && !text_is_utf8(s, n) && n > TEXT_MAX - 4)
		n--;			/* cut within a letter */
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			s[i] = ' ';
	if (n && !text_is_utf8(s, n))
		for (size_t i = 0; i < n; i++)
			s[i] = (unsigned char)s[i] < 0x80 ? s[i] : '?';
	while (n && s[n - 1] == ' ')
		n--;
	return n ? xstrndup(s, n) : NULL;
}

static char *attribute(const char *root, const char *dir, const char *name)
{
	return host_text(root, DEVICES "/%s/%s", dir, name);
}

static uint64_t number(const char *root, const char *dir, const char *name, uint64_t max)
{
	AUTO_FREE char *text = attribute(root, dir, name);
	uint64_t n = 0;

	return text && !text_u64(text, &n) && n <= max ? n : 0;
}

/* "1.5", "480", in Mbit/s. */
static uint64_t speed(const char *root, const char *dir)
{
	AUTO_FREE char *text = attribute(root, dir, "speed");
	uint64_t n = 0;

	if (text && !strcmp(text, "1.5"))
		return 1500;
	return text && !text_u64(text, &n) && n <= 1000000 ? n * 1000 : 0;
}

/* bDeviceClass; 00: each of its interfaces has one, and the first tells. */
static char *class_of(const char *root, const char *dir)
{
	char *class = attribute(root, dir, "bDeviceClass");

	if (class && strcmp(class, "00") && strcmp(class, "ef"))
		return class;
	free(class);
	return host_text(root, DEVICES "/%s:1.0/bInterfaceClass", dir);
}

static char *kind_of(char *class)
{
	static const struct { const char *class, *kind; } kinds[] = {
		{ "01", "audio" }, { "02", "communication" }, { "03", "input" }, { "06", "camera" }, { "07", "printer" },
		{ "08", "storage" }, { "0a", "data" }, { "0b", "smart card" }, { "0d", "security" }, { "0e", "video" },
		{ "e0", "wireless" }, { "ff", "vendor's own" },
	};

	for (size_t i = 0; class && i < COUNT(kinds); i++)
		if (!strcmp(class, kinds[i].class)) {
			free(class);
			return xstrdup(kinds[i].kind);
		}
	return printable(class);
}

static bool is_hex4(const char *s)
{
	return s && strlen(s) == 4 && s[strspn(s, "0123456789abcdef")] == 0;
}

/* "1-1.2"; not a root hub ("usb1"), not an interface ("1-1:1.0"). */
static bool is_port(const char *s)
{
	return *s >= '1' && *s <= '9' && strchr(s, '-') && s[strspn(s, "0123456789-.")] == 0 && strlen(s) <= 31;
}

static void device_fini(struct usb_device *d) { fields_fini(&usb_device_fields, d); }

static void add(const char *root, const char *dir, struct field_vec *v)
{
	struct usb_device d = { .bus = number(root, dir, "busnum", 4096), .address = number(root, dir, "devnum", PER_BUS - 1) };
	AUTO_FREE char *class = class_of(root, dir);
	bool hub = class && !strcmp(class, "09");

	d.vendor = attribute(root, dir, "idVendor");
	d.product = attribute(root, dir, "idProduct");
	if (hub || !d.bus || !d.address || !is_hex4(d.vendor) || !is_hex4(d.product)) {
		device_fini(&d);
		return;
	}
	d.port = xstrdup(dir);
	d.serial = printable(attribute(root, dir, "serial"));
	d.manufacturer = printable(attribute(root, dir, "manufacturer"));
	d.model = printable(attribute(root, dir, "product"));
	d.kind = kind_of(TAKE(class));
	d.speed_kbit = speed(root, dir);
	*(struct usb_device *)field_vec_add(v, sizeof(d)) = d;
}

static int by_port(const void *a, const void *b)
{
	return strverscmp(((const struct usb_device *)a)->port, ((const struct usb_device *)b)->port);
}

void usb_scan(const char *root, struct field_vec *ret)
{
	AUTO_FREE char *path = xasprintf("%s/" DEVICES, root);
	DIR *dir = opendir(path);
	struct dirent *de;

	*ret = (struct field_vec){};
	while (dir && ret->n < USB_DEVICES_MAX && (de = readdir(dir)))
		if (is_port(de->d_name))
			add(root, de->d_name, ret);
	if (dir)
		closedir(dir);
	if (ret->n)
		qsort(ret->items, ret->n, sizeof(struct usb_device), by_port);
}

void usb_devices_free(struct field_vec *v)
{
	for (size_t i = 0; i < v->n; i++)
		device_fini(&((struct usb_device *)v->items)[i]);
	free(v->items);
	*v = (struct field_vec){};
}

static bool fits(const char *want, const char *is) { return !want || (is && !strcmp(want, is)); }

bool usb_matches(const struct vm_usb *want, const struct usb_device *d)
{
	return fits(want->vendor, d->vendor) && fits(want->product, d->product) && fits(want->serial, d->serial) &&
	       fits(want->port, d->port) && (want->port || (want->vendor && want->product));
}

/* ---- its node ---- */

bool usb_node_address(int fd, uint64_t *ret_bus, uint64_t *ret_address)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || major(st.st_rdev) != USB_MAJOR)
		return false;
	*ret_bus = minor(st.st_rdev) / PER_BUS + 1;
	*ret_address = minor(st.st_rdev) % PER_BUS + 1;
	return true;
}

int usb_open_node(const struct usb_device *d)
{
	uint64_t bus, address;
	char path[64];

	snprintf(path, sizeof(path), "/dev/bus/usb/%03u/%03u", (unsigned)d->bus, (unsigned)d->address);
	AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (!usb_node_address(fd, &bus, &address) || bus != d->bus || address != d->address)
		return -ENODEV;
	/* Opened, it stays what it is: was it that one? */
	if (number("", d->port, "busnum", 4096) != d->bus || number("", d->port, "devnum", PER_BUS - 1) != d->address)
		return -ENODEV;
	return TAKE_FD(fd);
}

/* ---- the kernel's notices ---- */

int usb_notices_open(void)
{
	AUTO_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
	struct sockaddr_nl all = { .nl_family = AF_NETLINK, .nl_groups = KERNEL_GROUP };
	int on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&all, sizeof(all)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* Sent by the kernel to its own group, and not by a process to us or to the group. */
static bool is_kernels(struct msghdr *m)
{
	const struct sockaddr_nl *from = m->msg_name;

	if (m->msg_namelen < sizeof(*from) || from->nl_family != AF_NETLINK || from->nl_pid != 0 || from->nl_groups != KERNEL_GROUP)
		return false;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		struct ucred who;

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_CREDENTIALS || h->cmsg_len != CMSG_LEN(sizeof(who)))
			continue;
		memcpy(&who, CMSG_DATA(h), sizeof(who));
		return who.uid == 0 && who.pid == 0;
	}
	return false;
}

bool usb_notice_matters(const char *p, size_t n)
{
	static const char *const actions[] = { "add", "remove", "bind" };	/* bind: its interfaces are there */
	bool usb = false, device = false, action = false;

	for (const char *end = p + n; p < end; p += strnlen(p, (size_t)(end - p)) + 1) {
		size_t len = strnlen(p, (size_t)(end - p));

		if (len == (size_t)(end - p))
			return false;		/* no NUL: cut off, or rubbish */
		usb |= !strcmp(p, "SUBSYSTEM=usb");
		device |= !strcmp(p, "DEVTYPE=usb_device");
		for (size_t i = 0; i < COUNT(actions); i++)
			action |= !strncmp(p, "ACTION=", 7) && !strcmp(p + 7, actions[i]);
	}
	return usb && device && action;
}

bool usb_notices_read(int fd)
{
	union { char space[CMSG_SPACE(sizeof(struct ucred))]; struct cmsghdr align; } control;
	char text[NOTICE_MAX];
	bool matters = false;

	for (unsigned i = 0; i < 256; i++) {		/* the loop has other things to do: it calls again */
		struct sockaddr_nl from = {};
		struct iovec iov = { text, sizeof(text) };
		struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1,
				    .msg_control = &control, .msg_controllen = sizeof(control) };
		ssize_t got = recvmsg(fd, &m, MSG_DONTWAIT);

		if (got < 0 && errno == ENOBUFS)
			matters = true;			/* more came than was read */
		else if (got < 0 && errno != EINTR)
			break;
		else if (got > 0 && !(m.msg_flags & MSG_TRUNC) && is_kernels(&m))
			matters |= usb_notice_matters(text, (size_t)got);
	}
	return matters;
}
