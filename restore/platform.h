/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a host offers to a domain that lands on it, asked once and then only read: capabilities,
 * networks, memory. In tests it is filled from texts, so the rewriting needs no libvirt.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/common.h"

struct platform {
    char *name;                 /* for findings: the host's URI */
    struct host *host;          /* borrowed; NULL in tests */
    struct xml *capabilities;   /* <capabilities> */
    struct xml *domain_support; /* <domainCapabilities> for the domain in question, or NULL */
    GHashTable *supports;       /* all that were asked for; they own domain_support then */
    GHashTable *archs;          /* name -> what platform.c has read of it; or NULL: nothing yet */
    GHashTable *networks;       /* name -> GINT_TO_POINTER(is active) */
    GHashTable *links; /* name -> GINT_TO_POINTER(exists), of those that were asked for; or NULL */
    uint64_t memory_free_bytes; /* UINT64_MAX: not known */
    unsigned cpus_used;         /* by guests that run there */
};

struct platform *platform_probe(struct host *host, GError **error);
void platform_free(struct platform *platform);
DEFINE_CLEANUP(platform)
/* Ask what this host can do for guests like DOMAIN (its <domain>), once for all that are alike in
 * that; a refusal leaves domain_support NULL, and the checks that need it are not made. */
void platform_ask_support(struct platform *platform, const struct xml_node *domain);

bool platform_has_secmodel(const struct platform *platform, const char *model);
/* The emulator for guests of ARCH, or NULL; g_free. */
char *platform_emulator(struct platform *platform, const char *arch);
bool platform_has_machine(struct platform *platform, const char *arch, const char *machine);
bool platform_has_virt_type(struct platform *platform, const char *arch, const char *type);
unsigned platform_cpus(const struct platform *platform);
unsigned platform_numa_nodes(const struct platform *platform);
/* Is there an active network, or a bridge or link, of that name? */
bool platform_has_network(const struct platform *platform, const char *name);
/* A device of the host's network name space: bridge, NIC. */
bool platform_has_link(const struct platform *platform, const char *name);
