#include <crypt.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <string.h>
#include "mem.h"
#include "password.h"
#include "text.h"

/* crypt_rn writes its result into @data, which is large and full of secrets: wiped by whoever calls. */
static const char *run(const char *password, const char *setting, struct crypt_data *data, struct err *e)
{
	const char *h = crypt_rn(password, setting, data, (int)sizeof *data);

	if (h)
		return h;
	fail(e, errno == ENOMEM ? ERR_UNAVAILABLE : ERR_INTERNAL, "a password cannot be hashed: %s", strerror(errno));
	return NULL;
}

static void wipe(struct crypt_data *data)
{
	explicit_bzero(data, sizeof *data);
	free(data);
}

int password_hash(const char *password, char **ret, struct err *e)
{
	AUTO_FREE char *setting = crypt_gensalt_ra("$y$", 0, NULL, 0);

	if (!setting)
		return fail_errno(e, errno, "make a salt for a password");
	struct crypt_data *data = xnew(crypt_data);
	const char *h = run(password, setting, data, e);

	if (h)
		*ret = xstrdup(h);
	wipe(data);
	return h ? 0 : -EIO;
}

int password_matches(const char *password, const char *hash, struct err *e)
{
	struct crypt_data *data = xnew(crypt_data);
	const char *h = run(password, hash, data, e);
	size_t n = strlen(hash);
	int r = !h ? -EIO : strlen(h) == n && text_const_eq(h, hash, n);

	wipe(data);
	return r;
}

void password_random(char out[21])
{
	static const char letters[] = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
	size_t n = 0;

	while (n < 20) {
		unsigned char c;

		/* Only a whole multiple of the letters, else the first ones were likelier. */
		if (gnutls_rnd(GNUTLS_RND_KEY, &c, 1) < 0)
			abort();
		if (c < 256 / (sizeof letters - 1) * (sizeof letters - 1))
			out[n++] = letters[c % (sizeof letters - 1)];
	}
	out[n] = 0;
}
