/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest shows: the screenshot of host.h. */
#include "common/error.h"
#include "common/host-private.h"

#define SCREEN_MAX_BYTES (64u << 20)

static int collect(virStreamPtr stream, const char *data, size_t len, void *context)
{
    GByteArray *picture = context;

    if (picture->len + len > SCREEN_MAX_BYTES)
        return -1;
    g_byte_array_append(picture, (const guint8 *)data, (guint)len);
    return (int)len;
}

bool domain_screenshot(struct domain *domain, char **type, char **data, size_t *len, GError **error)
{
    g_autoptr(virStream) stream = virStreamNew(domain->host->connection, 0);
    g_autofree char *media = stream ? virDomainScreenshot(domain->handle, stream, 0, 0) : NULL;
    g_autoptr(GByteArray) picture = g_byte_array_new();

    if (!media)
        return domain_fail(domain, error, "take a screenshot of");
    if (virStreamRecvAll(stream, collect, picture) < 0)
        return domain_fail(domain, error, "read the screenshot of");
    if (virStreamFinish(stream) < 0)
        return domain_fail(domain, error, "finish the screenshot of");
    *type = g_steal_pointer(&media);
    *len = picture->len;
    *data = (char *)g_byte_array_free(g_steal_pointer(&picture), FALSE);
    return true;
}
