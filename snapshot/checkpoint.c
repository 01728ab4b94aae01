/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/checkpoint.h"

#define RECORD_MAX_BYTES (1u << 20)

/* Its parent is superseded by it, and deleted: libvirt would miss it. */
static char *without_parent(const char *text)
{
    AUTO(xml) xml = xml_parse(text, CHECKPOINT_FILE, NULL);
    struct xml_node *parent = xml ? xml_find(xml_root(xml), "parent") : NULL;

    if (parent)
        xml_remove(parent);
    return xml ? xml_dump(xml) : NULL;
}

char *checkpoint_record(struct domain *domain, const char *name)
{
    g_autofree char *text = domain_checkpoint_xml(domain, name, false, NULL);

    return text ? without_parent(text) : NULL;
}

static bool append(void *context, const void *data, size_t len, GError **error)
{
    GString *text = context;

    if (len > RECORD_MAX_BYTES - text->len)
        return fail(error, ERROR_INTEGRITY, "%s is larger than %u bytes", CHECKPOINT_FILE,
                    RECORD_MAX_BYTES);
    g_string_append_len(text, data, (gssize)len);
    return true;
}

bool checkpoint_defines(const char *text, const char *name)
{
    AUTO(xml) xml = xml_parse(text, CHECKPOINT_FILE, NULL);
    g_autofree char *found = xml ? xml_string(xml_root(xml), "/domaincheckpoint/name") : NULL;

    /* libvirt takes attributes by their names alone: with a namespace we would not see them. */
    if (g_strcmp0(found, name) != 0 ||
        xml_find(xml_root(xml), "domain | parent | //*[@*[namespace-uri()]]"))
        return false;
    g_autoptr(GPtrArray) bitmaps = xml_find_all(xml_root(xml), "disks/disk[@bitmap]");

    for (unsigned i = 0; i < bitmaps->len; i++) {
        g_autofree char *bitmap = xml_attr(bitmaps->pdata[i], "bitmap");

        if (!g_str_equal(bitmap, name))
            return false;
    }
    return true;
}

static bool redefine(const struct reference *reference, struct domain *domain,
                     const struct manifest *manifest)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) why = NULL;

    if (store_get(history_store(reference->history), manifest->uuid, manifest->point,
                  CHECKPOINT_FILE, 0, append, text, &why) &&
        checkpoint_defines(text->str, manifest->checkpoint) &&
        domain_checkpoint_redefine(domain, text->str, &why))
        return true;
    g_debug("%s: checkpoint %s: %s", domain_name(domain), manifest->checkpoint,
            why ? why->message : "not what its record defines");
    return false;
}

bool checkpoint_restore(const struct reference *reference, struct domain *domain)
{
    const GPtrArray *points = history_points(reference->history);

    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (manifest->checkpoint && g_str_has_prefix(manifest->checkpoint, reference->tag))
            return g_strcmp0(manifest->checkpoint, reference->checkpoint) != 0 &&
                   manifest_file(manifest, CHECKPOINT_FILE) &&
                   redefine(reference, domain, manifest);
    }
    return false;
}
