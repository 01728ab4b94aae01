/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "replicator/sums.h"

/* "<64 hex digits>  <name>" */
static bool parse_line(char *line, GHashTable *sums)
{
    uint8_t digest[DIGEST_SIZE];
    char *name = line + DIGEST_HEX_SIZE + 1;

    if (strlen(line) <= DIGEST_HEX_SIZE + 1 || strncmp(line + DIGEST_HEX_SIZE - 1, "  ", 2) != 0)
        return false;
    line[DIGEST_HEX_SIZE - 1] = '\0';
    if (!digest_from_hex(line, digest) || !name_is_safe(name))
        return false;
    g_hash_table_insert(sums, g_strdup(name), g_strdup(line));
    return true;
}

GHashTable *sums_parse(const char *text, const char *what, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autoptr(GHashTable) sums = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

    for (unsigned i = 0; lines[i] && *lines[i]; i++)
        if (!parse_line(lines[i], sums)) {
            fail(error, ERROR_INTEGRITY, "%s: line %u is not one of sha256sum", what, i + 1);
            return NULL;
        }
    return g_steal_pointer(&sums);
}

GHashTable *sums_read(const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, SHA256SUMS_NAME, NULL);
    g_autofree char *text = NULL;

    return file_read(path, SUMS_MAX, &text, NULL, error) ? sums_parse(text, path, error) : NULL;
}

void sums_append(GString *sums, const char *name, const uint8_t digest[DIGEST_SIZE])
{
    char hex[DIGEST_HEX_SIZE];

    digest_to_hex(digest, hex);
    g_string_append_printf(sums, "%s  %s\n", hex, name);
}
