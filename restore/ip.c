/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/ip.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

static unsigned family_bits(int family)
{
    return family == AF_INET ? 32 : 128;
}

bool ip_is_address(const char *text, int *family)
{
    uint8_t bytes[16];

    *family = strchr(text, ':') ? AF_INET6 : AF_INET;
    return inet_pton(*family, text, bytes) == 1;
}

bool ip_prefix_parse(const char *text, struct ip_prefix *prefix)
{
    const char *slash = strchr(text, '/');
    g_autofree char *address = slash ? g_strndup(text, (size_t)(slash - text)) : NULL;
    struct ip_prefix read = {0};
    uint64_t bits;

    if (!address || !ip_is_address(address, &read.family) ||
        !g_ascii_string_to_unsigned(slash + 1, 10, 1, family_bits(read.family), &bits, NULL))
        return false;
    inet_pton(read.family, address, read.bytes);
    read.bits = (unsigned)bits;
    *prefix = read;
    return true;
}

char *ip_address(const struct ip_prefix *prefix)
{
    char text[INET6_ADDRSTRLEN] = "";

    inet_ntop(prefix->family, prefix->bytes, text, sizeof(text));
    return g_strdup(text);
}

char *ip_prefix_text(const struct ip_prefix *prefix)
{
    g_autofree char *address = ip_address(prefix);

    return g_strdup_printf("%s/%u", address, prefix->bits);
}

/* The bits of byte I that belong to a network of BITS. */
static uint8_t network_mask(unsigned bits, unsigned i)
{
    if (bits >= (i + 1) * 8)
        return 0xff;
    return bits <= i * 8 ? 0 : (uint8_t)(0xff << (8 - bits % 8));
}

bool ip_prefix_is_network(const struct ip_prefix *prefix)
{
    for (unsigned i = 0; i < family_bits(prefix->family) / 8; i++)
        if (prefix->bytes[i] & ~network_mask(prefix->bits, i))
            return false;
    return true;
}

bool ip_prefix_contains(const struct ip_prefix *network, const struct ip_prefix *address)
{
    if (network->family != address->family)
        return false;
    for (unsigned i = 0; i < family_bits(network->family) / 8; i++)
        if ((network->bytes[i] ^ address->bytes[i]) & network_mask(network->bits, i))
            return false;
    return true;
}

bool ip_prefix_is_link_local(const struct ip_prefix *prefix)
{
    struct ip_prefix network;

    ip_prefix_parse(prefix->family == AF_INET ? "169.254.0.0/16" : "fe80::/10", &network);
    return ip_prefix_contains(&network, prefix);
}

bool ip_rule_parse(const char *text, struct ip_rule *rule, const char **problem)
{
    const char *arrow = strstr(text, "->");
    g_autofree char *from = arrow ? g_strstrip(g_strndup(text, (size_t)(arrow - text))) : NULL;
    g_autofree char *to = arrow ? g_strstrip(g_strdup(arrow + 2)) : NULL;
    struct ip_rule read;

    if (!arrow || !ip_prefix_parse(from, &read.from) || !ip_prefix_parse(to, &read.to))
        *problem = "is not NETWORK/BITS -> NETWORK/BITS, such as 192.0.2.0/24 -> 198.51.100.0/24";
    else if (read.from.family != read.to.family || read.from.bits != read.to.bits)
        *problem = "the two networks are not of the same kind and length, so that the host part "
                   "cannot be kept";
    else if (!ip_prefix_is_network(&read.from) || !ip_prefix_is_network(&read.to))
        *problem = "an address is not that of a network: the bits behind the prefix are not zero";
    else {
        *rule = read;
        return true;
    }
    return false;
}

char *ip_rule_text(const struct ip_rule *rule)
{
    g_autofree char *from = ip_prefix_text(&rule->from);
    g_autofree char *to = ip_prefix_text(&rule->to);

    return g_strdup_printf("%s -> %s", from, to);
}

struct ip_prefix ip_rule_apply(const struct ip_rule *rule, const struct ip_prefix *address)
{
    struct ip_prefix moved = *address;

    for (unsigned i = 0; i < family_bits(moved.family) / 8; i++) {
        uint8_t mask = network_mask(rule->to.bits, i);

        moved.bytes[i] = (uint8_t)((rule->to.bytes[i] & mask) | (address->bytes[i] & ~mask));
    }
    return moved;
}
