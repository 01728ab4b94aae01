/* SPDX-License-Identifier: Apache-2.0 */
#include "web/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define FILE_MAX (1u << 20)
#define VALID_DAYS 3650
#define SERIAL_BYTES 16
/* Clocks differ. */
#define EARLIER_S 86400

G_DEFINE_AUTO_CLEANUP_FREE_FUNC(gnutls_x509_crt_t, gnutls_x509_crt_deinit, NULL)
G_DEFINE_AUTO_CLEANUP_FREE_FUNC(gnutls_x509_privkey_t, gnutls_x509_privkey_deinit, NULL)

void tls_files_clear(struct tls_files *files)
{
    g_clear_pointer(&files->certificate, g_free);
    g_clear_pointer(&files->key, g_free);
    g_clear_pointer(&files->client_ca, g_free);
}

static gnutls_datum_t datum_of(const char *text)
{
    return (gnutls_datum_t){(unsigned char *)text, (unsigned)strlen(text)};
}

/* --- a certificate of our own ----------------------------------------------------------------- */

static bool done(int result, const char *what, GError **error)
{
    return result >= 0 || fail(error, ERROR_FAILED, "%s: %s", what, gnutls_strerror(result));
}

/* The key of PATH, or a new one that is written there. */
static bool have_key(const char *path, gnutls_x509_privkey_t key, GError **error)
{
    g_autofree char *text = NULL;
    gnutls_datum_t out, in;
    bool ok;

    if (g_file_test(path, G_FILE_TEST_EXISTS)) {
        if (!file_read(path, FILE_MAX, &text, NULL, error))
            return false;
        in = datum_of(text);
        return done(gnutls_x509_privkey_import(key, &in, GNUTLS_X509_FMT_PEM), path, error);
    }
    if (!done(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                           GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
              "cannot make a key for the web page", error) ||
        !done(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &out), path, error))
        return false;
    ok = file_write(path, out.data, out.size, 0600, error);
    gnutls_free(out.data);
    return ok;
}

static int add_name(gnutls_x509_crt_t certificate, const char *name)
{
    return gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME, name,
                                                (unsigned)strlen(name), GNUTLS_FSAN_APPEND);
}

static int add_address(gnutls_x509_crt_t certificate, const char *text)
{
    struct in6_addr six;
    struct in_addr four;

    if (inet_pton(AF_INET, text, &four) == 1)
        return gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS, &four,
                                                    sizeof(four), GNUTLS_FSAN_APPEND);
    inet_pton(AF_INET6, text, &six);
    return gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS, &six,
                                                sizeof(six), GNUTLS_FSAN_APPEND);
}

static int fill(gnutls_x509_crt_t certificate, gnutls_x509_privkey_t key, const char *address)
{
    const char *host = g_get_host_name();
    g_autofree char *name = g_strdup_printf("CN=drctl on %s", host);
    uint8_t serial[SERIAL_BYTES];
    time_t now = time(NULL);
    int result;

    gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial));
    serial[0] &= 0x7f; /* a number that is not negative */
    if ((result = gnutls_x509_crt_set_version(certificate, 3)) < 0 ||
        (result = gnutls_x509_crt_set_serial(certificate, serial, sizeof(serial))) < 0 ||
        (result = gnutls_x509_crt_set_activation_time(certificate, now - EARLIER_S)) < 0 ||
        (result = gnutls_x509_crt_set_expiration_time(certificate,
                                                      now + (time_t)VALID_DAYS * 86400)) < 0 ||
        (result = gnutls_x509_crt_set_dn(certificate, name, NULL)) < 0 ||
        (result = gnutls_x509_crt_set_key(certificate, key)) < 0 ||
        (result = add_name(certificate, "localhost")) < 0 ||
        (result = add_name(certificate, host)) < 0 ||
        (result = add_address(certificate, address)) < 0 ||
        (result = gnutls_x509_crt_set_basic_constraints(certificate, 0, -1)) < 0 ||
        (result = gnutls_x509_crt_set_key_usage(certificate, GNUTLS_KEY_DIGITAL_SIGNATURE)) < 0 ||
        (result = gnutls_x509_crt_set_key_purpose_oid(certificate, GNUTLS_KP_TLS_WWW_SERVER, 0)) <
            0)
        return result;
    return gnutls_x509_crt_sign2(certificate, certificate, key, GNUTLS_DIG_SHA256, 0);
}

static bool write_certificate(const struct web_config *web, gnutls_x509_privkey_t key,
                              GError **error)
{
    static const char what[] = "cannot make a certificate for the web page";
    g_auto(gnutls_x509_crt_t) certificate = NULL;
    gnutls_datum_t out;
    bool ok;

    if (!done(gnutls_x509_crt_init(&certificate), what, error) ||
        !done(fill(certificate, key, web->address), what, error) ||
        !done(gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &out), what, error))
        return false;
    ok = file_write(web->certificate, out.data, out.size, 0644, error);
    gnutls_free(out.data);
    return ok;
}

/* Killed between the two, the next start goes on with the key. */
bool tls_make(const struct web_config *web, GError **error)
{
    g_auto(gnutls_x509_privkey_t) key = NULL;

    if (web->own_certificate || g_file_test(web->certificate, G_FILE_TEST_EXISTS))
        return true;
    return done(gnutls_x509_privkey_init(&key), "cannot make a key for the web page", error) &&
           have_key(web->key, key, error) && write_certificate(web, key, error);
}

/* --- certificates ----------------------------------------------------------------------------- */

char *tls_fingerprint(const char *text, GError **error)
{
    g_auto(gnutls_x509_crt_t) certificate = NULL;
    gnutls_datum_t in = datum_of(text);
    uint8_t digest[DIGEST_SIZE];
    size_t size = sizeof(digest);
    GString *hex;

    if (!done(gnutls_x509_crt_init(&certificate), "certificate", error) ||
        !done(gnutls_x509_crt_import(certificate, &in, GNUTLS_X509_FMT_PEM), "certificate",
              error) ||
        !done(gnutls_x509_crt_get_fingerprint(certificate, GNUTLS_DIG_SHA256, digest, &size),
              "certificate", error))
        return NULL;
    hex = g_string_new(NULL);
    for (size_t i = 0; i < size; i++)
        g_string_append_printf(hex, "%s%02X", i ? ":" : "", digest[i]);
    return g_string_free(hex, FALSE);
}

/* Whoever reads the key can be the page. */
static bool check_key_mode(const char *path, GError **error)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return fail_errno(error, errno, "cannot read the key of the web page in %s", path);
    return (st.st_mode & 077) == 0 || fail(error, ERROR_CONFIG,
                                           "the key of the web page in %s is open to others: "
                                           "chmod 600 %s",
                                           path, path);
}

static bool check_pair(const struct web_config *web, const struct tls_files *files, GError **error)
{
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t certificate = datum_of(files->certificate), key = datum_of(files->key);
    int result = gnutls_certificate_allocate_credentials(&credentials);

    if (result < 0)
        return done(result, "TLS", error);
    result =
        gnutls_certificate_set_x509_key_mem(credentials, &certificate, &key, GNUTLS_X509_FMT_PEM);
    gnutls_certificate_free_credentials(credentials);
    return result >= 0 ||
           fail(error, ERROR_CONFIG, "the certificate in %s and the key in %s cannot be used: %s",
                web->certificate, web->key, gnutls_strerror(result));
}

bool tls_files_load(const struct web_config *web, struct tls_files *files, GError **error)
{
    AUTO_TLS_FILES loaded = {0};

    if (!file_read(web->certificate, FILE_MAX, &loaded.certificate, NULL, error) ||
        !check_key_mode(web->key, error) ||
        !file_read(web->key, FILE_MAX, &loaded.key, NULL, error) ||
        !check_pair(web, &loaded, error) ||
        (web->client_ca && !file_read(web->client_ca, FILE_MAX, &loaded.client_ca, NULL, error)))
        return false;
    *files = loaded;
    loaded = (struct tls_files){0};
    return true;
}

bool tls_is_certified(void *session)
{
    gnutls_typed_vdata_st purpose = {
        .type = GNUTLS_DT_KEY_PURPOSE_OID,
        .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT,
    };
    unsigned count = 0, status = 1;

    return gnutls_certificate_get_peers(session, &count) && count > 0 &&
           gnutls_certificate_verify_peers(session, &purpose, 1, &status) == 0 && status == 0;
}
