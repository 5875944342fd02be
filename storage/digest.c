#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <string.h>
#include <unistd.h>
#include "digest.h"
#include "mem.h"

#define PIECE	(1024 * 1024)

int digest_sha256(int fd, uint64_t bytes, uint8_t ret[32], struct err *e)
{
	AUTO_FREE void *piece = xmalloc(PIECE);
	gnutls_hash_hd_t h;
	uint8_t sum[32];
	uint64_t at = 0;
	int r = 0;

	if (gnutls_hash_init(&h, GNUTLS_DIG_SHA256) < 0)
		return fail(e, ERR_INTERNAL, "cannot compute SHA-256");
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	while (at < bytes) {
		ssize_t n = pread(fd, piece, bytes - at < PIECE ? bytes - at : PIECE, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = fail_errno(e, errno, "read for the digest");
		else if (!n)
			r = fail(e, ERR_INTERNAL, "the file became shorter while its digest was computed");
		if (n <= 0)
			break;
		gnutls_hash(h, piece, (size_t)n);
		at += (uint64_t)n;
	}
	gnutls_hash_deinit(h, sum);
	if (!r)
		memcpy(ret, sum, sizeof(sum));
	return r;
}
