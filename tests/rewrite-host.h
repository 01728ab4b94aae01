/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host as rewriting sees it, from texts; no libvirt is needed. It has KVM in system mode, two CPUs
 * and one NUMA node; network "prod" is active, "asleep" is not.
 */
#pragma once

#include "restore/platform.h"

#define REWRITE_HOST_CAPABILITIES                                                                  \
    "<capabilities><host><topology><cells num='1'><cell id='0'><cpus num='2'><cpu id='0'/>"        \
    "<cpu id='1'/></cpus></cell></cells></topology><secmodel><model>apparmor</model></secmodel>"   \
    "<secmodel><model>dac</model></secmodel></host><guest><os_type>hvm</os_type>"                  \
    "<arch name='x86_64'><emulator>/usr/bin/qemu-system-x86_64</emulator>"                         \
    "<machine maxCpus='255'>pc-i440fx-7.2</machine>"                                               \
    "<machine canonical='pc-i440fx-7.2' maxCpus='255'>pc</machine>"                                \
    "<machine maxCpus='288'>pc-q35-7.2</machine>"                                                  \
    "<machine canonical='pc-q35-7.2' maxCpus='288'>q35</machine>"                                  \
    "<domain type='qemu'/><domain type='kvm'/></arch></guest></capabilities>"

static inline struct platform *rewrite_host(void)
{
    struct platform *platform = g_new0(struct platform, 1);

    platform->capabilities = xml_parse(REWRITE_HOST_CAPABILITIES, "capabilities", NULL);
    platform->networks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_insert(platform->networks, g_strdup("prod"), GINT_TO_POINTER(true));
    g_hash_table_insert(platform->networks, g_strdup("asleep"), GINT_TO_POINTER(false));
    return platform;
}
