/* Every parser of text.h on the same bytes: none may read beyond them, and what a parser takes, its printer writes so
 * that it is taken again with the same meaning. */
#include <assert.h>
#include <string.h>
#include "mem.h"
#include "text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void numbers(const char *s)
{
	uint64_t v, back;
	int64_t t, again;
	char out[32];

	if (!text_u64(s, &v)) {
		assert(!text_size(s, &back) && back == v);
		text_size_format(v, out);
		/* The format rounds down to a tenth. */
		assert(!text_size(out, &back) && back <= v && v - back <= v / 10 + 1);
	}
	text_size(s, &v);
	if (!text_time(s, &t)) {
		text_time_format(t, out);
		assert(!text_time(out, &again) && again == t - t % 1000);
	}
}

static void identities(const char *s)
{
	uint8_t u[16], v[16];
	char out[64], host[64];
	uint16_t port;

	if (!text_uuid(s, u)) {
		text_uuid_format(u, out);
		assert(!text_uuid(out, v) && text_const_eq(u, v, 16) && !text_is_name(s));
	}
	if (!text_mac(s, u)) {
		text_mac_format(u, out);
		assert(!text_mac(out, v) && text_const_eq(u, v, 6));
	}
	if (!text_hex(s, u, 16)) {
		text_hex_format(u, 16, out);
		assert(!text_hex(out, v, 16) && text_const_eq(u, v, 16));
	}
	if (text_is_name(s))
		assert(text_is_utf8(s, strlen(s)) && strlen(s) < 64);
	if (!text_host_port(s, host, &port))
		assert(strlen(host) < 64 && !strpbrk(host, "/[] \n"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_FREE char *s = xmalloc(size + 1), *half = NULL;
	char out[256];

	memcpy(s, data, size);
	s[size] = '\0';
	numbers(s);
	identities(s);
	if (!text_unescape((const char *)data, size, size & 1, out, sizeof(out)))
		assert(text_is_utf8(out, strlen(out)));
	text_is_utf8((const char *)data, size);
	half = xstrndup(s, size / 2);
	text_glob(half, s + strlen(half));
	assert(strchr(s, '*') || text_glob(s, s));
	return 0;
}
