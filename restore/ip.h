/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPv4 and IPv6 addresses with their prefix, and the rule that moves them from one network to
 * another: the network part is replaced, the host part is kept (192.0.2.17 by "192.0.2.0/24 ->
 * 198.51.100.0/24" becomes 198.51.100.17).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct ip_prefix {
    int family; /* AF_INET or AF_INET6 */
    unsigned bits;
    uint8_t bytes[16]; /* the address, network order; 4 of them for IPv4 */
};

/* A network that stands for another one, of the same family and length. */
struct ip_rule {
    struct ip_prefix from, to;
};

/* "198.51.100.10/24"; the host part may be anything. */
bool ip_prefix_parse(const char *text, struct ip_prefix *prefix);
/* The address without its prefix; g_free. */
char *ip_address(const struct ip_prefix *prefix);
/* "198.51.100.10/24"; g_free. */
char *ip_prefix_text(const struct ip_prefix *prefix);
bool ip_is_address(const char *text, int *family);
/* Are the bits behind the prefix zero: is it a network? */
bool ip_prefix_is_network(const struct ip_prefix *prefix);
/* fe80::/10 or 169.254.0.0/16? */
bool ip_prefix_is_link_local(const struct ip_prefix *prefix);
bool ip_prefix_contains(const struct ip_prefix *network, const struct ip_prefix *address);

/* "192.0.2.0/24 -> 198.51.100.0/24"; *PROBLEM (constant) says what is wrong. */
bool ip_rule_parse(const char *text, struct ip_rule *rule, const char **problem);
/* "192.0.2.0/24 -> 198.51.100.0/24"; g_free. */
char *ip_rule_text(const struct ip_rule *rule);
/* ADDRESS, which is in RULE's from-network, in its to-network. */
struct ip_prefix ip_rule_apply(const struct ip_rule *rule, const struct ip_prefix *address);
