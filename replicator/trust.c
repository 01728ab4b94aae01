/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/stat.h>

#include "replicator/link.h"
#include "replicator/replicator.h"

#define KNOWN_HOSTS_MAX (16u << 20)

void host_key_free(struct host_key *key)
{
    if (!key)
        return;
    g_free(key->type);
    g_free(key->fingerprint);
    g_free(key->file);
    g_free(key->known_hosts_line);
    g_free(key);
}

static bool has_line(const char *text, const char *line)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    return g_strv_contains((const char *const *)lines, line);
}

char *remote_known_name(const struct remote *remote)
{
    return remote->port == 22 ? g_strdup(remote->host)
                              : g_strdup_printf("[%s]:%u", remote->host, (unsigned)remote->port);
}

bool remote_trust(const struct remote *remote, const struct host_key *key, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) why = NULL;
    g_autofree char *old = NULL;

    if (file_read(remote->known_hosts, KNOWN_HOSTS_MAX, &old, NULL, &why))
        g_string_append(text, old);
    else if (!error_is(why, ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (text->len && text->str[text->len - 1] != '\n')
        g_string_append_c(text, '\n');
    if (has_line(text->str, key->known_hosts_line))
        return true;
    g_string_append_printf(text, "%s\n", key->known_hosts_line);
    return file_write(remote->known_hosts, text->str, text->len, 0644, error);
}
