/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of what metadata/ reads. The first byte of the input says what the rest is:
 *
 *     'c'  drctl.conf
 *     'm'  manifest.json
 *     'b'  a pool bundle
 *     'a'  an address
 */
#include <string.h>

#include "metadata/metadata.h"
#include "tests/fuzz.h"

/* An error without a message, or a result with one, is a fault of the parser. */
static void require(bool ok, const GError *error)
{
    if (ok == (error != NULL))
        g_error("result and error disagree: %s", error ? error->message : "no error");
}

static void read_config(const char *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    AUTO(config) config = config_parse(data, len, "/etc/drctl", &error);

    require(config != NULL, error);
}

/* What was accepted once is written so that it is accepted again. */
static void read_manifest(const char *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    AUTO(manifest) manifest = manifest_parse(data, len, "manifest", &error);
    AUTO(manifest) again = NULL;
    g_autofree char *text = NULL;

    require(manifest != NULL, error);
    if (!manifest)
        return;
    text = manifest_text(manifest);
    if (strlen(text) > MANIFEST_MAX_BYTES)
        return;
    again = manifest_parse(text, strlen(text), "what we wrote", &error);
    require(again != NULL, error);
    if (!again)
        g_error("%s", error->message);
}

static void read_bundle(const char *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    AUTO(bundle) bundle = bundle_unpack(data, len, "bundle", &error);
    g_autofree char *packed = NULL;
    size_t packed_len;

    require(bundle != NULL, error);
    if (bundle && !bundle_pack(bundle, &packed, &packed_len, &error))
        g_error("%s", error->message);
}

static void read_address(const char *data, size_t len)
{
    g_autofree char *text = g_strndup(data, len);
    g_autofree char *user = NULL, *host = NULL;
    g_autoptr(GError) error = NULL;
    uint16_t port = 0;
    bool ok = address_parse(text, &user, &host, &port, &error);

    require(ok, error);
    if (ok && (port == 0 || *user == '-' || *host == '-'))
        g_error("accepted %s", text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *rest = (const char *)data + 1;

    if (len < 1)
        return 0;
    if (data[0] == 'c')
        read_config(rest, len - 1);
    else if (data[0] == 'm')
        read_manifest(rest, len - 1);
    else if (data[0] == 'b')
        read_bundle(rest, len - 1);
    else if (data[0] == 'a')
        read_address(rest, len - 1);
    return 0;
}
