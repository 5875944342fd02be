#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <gnutls/crypto.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "certificate.h"
#include "file.h"
#include "mem.h"
#include "text.h"

#define PEM_MAX		65536
#define YEARS		10

static int fail_tls(struct err *e, int rc, const char *what)
{
	return fail(e, ERR_INTERNAL, "%s for the TLS certificate: %s", what, gnutls_strerror(rc));
}

static int describe(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
	uint8_t serial[16], loop4[4] = { 127, 0, 0, 1 }, loop6[16] = { [15] = 1 };
	char host[256] = "croft";
	time_t now = now_usec() / 1000000;

	gethostname(host, sizeof host - 1);
	gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial);
	serial[0] &= 0x7f;
	int rc = gnutls_x509_crt_set_version(crt, 3);

	if (rc >= 0) rc = gnutls_x509_crt_set_serial(crt, serial, sizeof serial);
	if (rc >= 0) rc = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, host, (unsigned)strnlen(host, 64));
	if (rc >= 0) rc = gnutls_x509_crt_set_activation_time(crt, now - 86400);
	if (rc >= 0) rc = gnutls_x509_crt_set_expiration_time(crt, now + YEARS * 365 * 86400L);
	if (rc >= 0) rc = gnutls_x509_crt_set_key(crt, key);
	if (rc >= 0) rc = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, host, (unsigned)strlen(host), GNUTLS_FSAN_SET);
	if (rc >= 0) rc = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "localhost", 9, GNUTLS_FSAN_APPEND);
	if (rc >= 0) rc = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, loop4, 4, GNUTLS_FSAN_APPEND);
	if (rc >= 0) rc = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, loop6, 16, GNUTLS_FSAN_APPEND);
	if (rc >= 0) rc = gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
	if (rc >= 0) rc = gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
	if (rc >= 0) rc = gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
	if (rc >= 0) rc = gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
	return rc;
}

/* On a read-only home it serves this croftd; the next one makes another. */
static int keep(struct croft *c, int dir, const gnutls_datum_t *cert, const gnutls_datum_t *key, struct err *e)
{
	int r = dir < 0 ? dir : file_publish_at(dir, "key.pem", key->data, key->size, 0600);

	if (r == 0)
		r = file_publish_at(dir, "certificate.pem", cert->data, cert->size, 0644);
	if (r < 0 && !c->frozen.code)
		return fail_errno(e, r, "write the TLS certificate");
	c->certificate = xstrndup((const char *)cert->data, cert->size);
	c->key = xstrndup((const char *)key->data, key->size);
	return 0;
}

static int make(struct croft *c, int dir, struct err *e)
{
	gnutls_x509_crt_t crt;
	gnutls_x509_privkey_t key;
	gnutls_datum_t cert_pem = {}, key_pem = {};
	int rc, r;

	gnutls_x509_crt_init(&crt);
	gnutls_x509_privkey_init(&key);
	rc = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	if (rc >= 0)
		rc = describe(crt, key);
	if (rc >= 0)
		rc = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &cert_pem);
	if (rc >= 0)
		rc = gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &key_pem);
	r = rc < 0 ? fail_tls(e, rc, "making a key") : keep(c, dir, &cert_pem, &key_pem, e);
	gnutls_free(cert_pem.data);
	gnutls_free(key_pem.data);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
	return r;
}

/* What a client is asked to trust, and can compare. */
static int fingerprint(const char *pem, char out[65])
{
	gnutls_datum_t text = { (void *)pem, (unsigned)strlen(pem) };
	gnutls_x509_crt_t crt;
	uint8_t sum[32];
	size_t n = sizeof sum;
	int rc = gnutls_x509_crt_init(&crt);

	if (rc < 0)
		return rc;
	rc = gnutls_x509_crt_import(crt, &text, GNUTLS_X509_FMT_PEM);
	if (rc >= 0)
		rc = gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, sum, &n);
	gnutls_x509_crt_deinit(crt);
	if (rc >= 0)
		text_hex_format(sum, sizeof sum, out);
	return rc;
}

int64_t certificate_expires(const struct croft *c)
{
	gnutls_datum_t text = { (void *)c->certificate, (unsigned)strlen(c->certificate) };
	gnutls_x509_crt_t crt;
	time_t at = -1;

	if (gnutls_x509_crt_init(&crt) < 0)
		return 0;
	if (gnutls_x509_crt_import(crt, &text, GNUTLS_X509_FMT_PEM) >= 0)
		at = gnutls_x509_crt_get_expiration_time(crt);
	gnutls_x509_crt_deinit(crt);
	return at == (time_t)-1 ? 0 : (int64_t)at * 1000000;
}

int certificate_load(struct croft *c, struct err *e)
{
	AUTO_CLOSE int dir = file_open_dir(c->home_fd, "tls", true, 0700);
	size_t n;
	int r;

	if (dir < 0 && !c->frozen.code)
		return fail_errno(e, dir, "open %s/tls", c->home);
	r = dir < 0 ? -ENOENT : file_read_at(dir, "certificate.pem", PEM_MAX, &c->certificate, &n);
	if (r == 0)
		r = file_read_at(dir, "key.pem", PEM_MAX, &c->key, &n);
	else if (r == -ENOENT && (r = make(c, dir, e)) < 0)
		return r;
	if (r < 0)
		return fail_errno(e, r, "read %s/tls", c->home);
	int rc = fingerprint(c->certificate, c->certificate_sha256);

	return rc < 0 ? fail_tls(e, rc, "reading certificate.pem") : 0;
}
