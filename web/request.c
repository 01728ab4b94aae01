/* SPDX-License-Identifier: Apache-2.0 */
#include "web/request.h"

#include <string.h>

void reply_init(struct reply *reply)
{
    *reply = (struct reply){
        .headers = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free),
    };
}

void reply_clear(struct reply *reply)
{
    g_clear_pointer(&reply->body, g_bytes_unref);
    g_clear_pointer(&reply->headers, g_hash_table_unref);
}

void reply_header(struct reply *reply, const char *name, const char *value)
{
    g_hash_table_replace(reply->headers, (void *)name, g_strdup(value));
}

void reply_text(struct reply *reply, unsigned status, const char *type, char *text)
{
    g_clear_pointer(&reply->body, g_bytes_unref);
    reply->status = status;
    reply->type = type;
    reply->body = g_bytes_new_take(text, strlen(text));
}

/* Decoded, or NULL: what is no UTF-8, or has an end in it. g_free */
static char *decode(const char *from, size_t len)
{
    g_autofree char *text = g_strndup(from, len);
    g_autofree char *decoded = g_uri_unescape_string(g_strdelimit(text, "+", ' '), NULL);

    return decoded && g_utf8_validate(decoded, -1, NULL) ? g_steal_pointer(&decoded) : NULL;
}

GHashTable *form_parse(const char *text, size_t len)
{
    g_autoptr(GHashTable) form = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    const char *end = text + len;

    if (len > REQUEST_FORM_MAX || memchr(text, '\0', len))
        return NULL;
    while (text < end) {
        const char *stop = memchr(text, '&', (size_t)(end - text));
        size_t pair = (size_t)((stop ? stop : end) - text);
        const char *equals = memchr(text, '=', pair);
        g_autofree char *name = NULL, *value = NULL;

        if (!equals)
            return NULL;
        name = decode(text, (size_t)(equals - text));
        value = decode(equals + 1, pair - (size_t)(equals + 1 - text));
        if (!name || !value || g_hash_table_size(form) >= REQUEST_FIELDS_MAX)
            return NULL;
        if (!g_hash_table_contains(form, name))
            g_hash_table_insert(form, g_steal_pointer(&name), g_steal_pointer(&value));
        text += MIN(pair + 1, (size_t)(end - text));
    }
    return g_steal_pointer(&form);
}

const char *bearer_of(const char *authorization)
{
    static const char scheme[] = "Bearer ";

    if (!authorization || g_ascii_strncasecmp(authorization, scheme, strlen(scheme)) != 0)
        return NULL;
    authorization += strlen(scheme);
    return authorization + strspn(authorization, " ");
}

/* What has TLS for us, and stands before us, has its own scheme. */
bool origin_is_ours(const char *origin, const char *host, bool tls)
{
    const char *from = NULL;

    if (origin && g_str_has_prefix(origin, "https://"))
        from = origin + strlen("https://");
    else if (origin && !tls && g_str_has_prefix(origin, "http://"))
        from = origin + strlen("http://");
    return from && host && g_ascii_strcasecmp(from, host) == 0;
}

/* Browsers take a backslash for a slash, and leave control characters out. */
bool place_is_ours(const char *text)
{
    if (!text || text[0] != '/' || text[1] == '/')
        return false;
    for (const char *c = text; *c; c++)
        if (*c == '\\' || *c <= ' ' || *c > '~')
            return false;
    return true;
}

bool argument_is_safe(const char *text)
{
    if (!text || !*text || *text == '-' || strlen(text) > 255 || !g_utf8_validate(text, -1, NULL))
        return false;
    for (const char *c = text; *c; c++)
        if (g_ascii_iscntrl(*c))
            return false;
    return true;
}
