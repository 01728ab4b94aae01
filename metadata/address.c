/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "metadata/config.h"

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

static bool consists_of(const char *text, const char *letters)
{
    return *text && *text != '-' && strspn(text, letters) == strlen(text);
}

static bool parse_user(const char *address, const char **rest, char **user, GError **error)
{
    const char *at = strrchr(address, '@');

    *rest = at ? at + 1 : address;
    *user = at ? g_strndup(address, (size_t)(at - address)) : g_strdup(g_get_user_name());
    if (consists_of(*user, LETTERS "._-"))
        return true;
    return fail(error, ERROR_CONFIG, "'%s': '%s' is not the name of a user", address, *user);
}

/* *PORT is left at the text behind the host's colon, or NULL. */
static bool parse_host(const char *address, const char *rest, char **host, const char **port,
                       GError **error)
{
    bool bracket = *rest == '[';
    const char *end = bracket ? strchr(rest, ']') : strchrnul(rest, ':');

    if (bracket && (!end || (end[1] != '\0' && end[1] != ':')))
        return fail(error, ERROR_CONFIG,
                    "'%s': write an IPv6 address as [ADDRESS] or "
                    "[ADDRESS]:PORT",
                    address);
    *host = g_strndup(rest + bracket, (size_t)(end - rest) - bracket);
    end += bracket;
    *port = *end ? end + 1 : NULL;
    if (*port && !bracket && strchr(*port, ':'))
        return fail(error, ERROR_CONFIG,
                    "'%s': put an IPv6 address into brackets, as in [2001:db8::1]", address);
    if (consists_of(*host, bracket ? LETTERS ":.%" : LETTERS ".-"))
        return true;
    return fail(error, ERROR_CONFIG, "'%s': '%s' is not a host", address, *host);
}

bool address_parse(const char *text, char **user, char **host, uint16_t *port, GError **error)
{
    g_autofree char *parsed_user = NULL, *parsed_host = NULL;
    const char *rest, *port_text = NULL;
    uint64_t number = 22;

    if (!parse_user(text, &rest, &parsed_user, error) ||
        !parse_host(text, rest, &parsed_host, &port_text, error))
        return false;
    if (port_text && !g_ascii_string_to_unsigned(port_text, 10, 1, UINT16_MAX, &number, NULL))
        return fail(error, ERROR_CONFIG, "'%s': '%s' is not a port from 1 to 65535", text,
                    port_text);
    *user = g_steal_pointer(&parsed_user);
    *host = g_steal_pointer(&parsed_host);
    *port = (uint16_t)number;
    return true;
}
