/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of failover: a vApp of two VMs, db and app, whose site is lost. */
#pragma once

#include "tests/recovery-lab.h"

#define SHOP                                                                                       \
    "[vapp]\nname = %1$s\n[vm %1$s-db]\norder = 1\n[vm %1$s-app]\norder = 2\nafter = "             \
    "%1$s-db\n%2$s\n"
#define NIC "<interface type='mcast'><source address='230.0.0.1' port='5558'/></interface>"
#define BRIDGE_NIC                                                                                 \
    "<interface type='bridge'><source bridge='no-such-br'/><mac address='52:54:00:0a:0b:0c'/>"     \
    "<model type='virtio'/></interface>"

/* A site that has points of both VMs of vApp NAME, whose own site is lost. */
struct shop {
    struct lab *lab;
    char *name;
    struct lost_guest *guests[3]; /* db, app, NULL */
};

G_GNUC_UNUSED static inline void shop_free(struct shop *shop)
{
    lab_free(shop->lab);
    g_free(shop->name);
    for (unsigned i = 0; shop->guests[i]; i++)
        lost_guest_free(shop->guests[i]);
    g_free(shop);
}
DEFINE_CLEANUP(shop)

/* EXTRA are keys of the app. */
G_GNUC_UNUSED static inline void shop_publish(const struct shop *shop, const char *extra)
{
    g_autofree char *text = g_strdup_printf(SHOP, shop->name, extra);

    publish(shop->lab, shop->name, text, shop->guests);
}

G_GNUC_UNUSED static inline struct shop *shop_new(const char *name, const char *extra)
{
    struct shop *shop = g_new0(struct shop, 1);
    g_autofree char *db = g_strconcat(name, "-db", NULL);
    g_autofree char *app = g_strconcat(name, "-app", NULL);

    shop->lab = lab_open(name);
    shop->name = g_strdup(name);
    shop->guests[0] = lost_guest(shop->lab, db, BRIDGE_NIC);
    shop->guests[1] = lost_guest(shop->lab, app, NIC);
    shop_publish(shop, extra);
    return shop;
}

G_GNUC_UNUSED static inline const struct failover_vm *planned(const struct failover_plan *plan,
                                                              unsigned i)
{
    return plan->vms->pdata[i];
}

G_GNUC_UNUSED static inline const struct vapp_result *
result_of(const struct failover_result *result, unsigned i)
{
    return result->vms->pdata[i];
}

G_GNUC_UNUSED static inline bool has_finding(const struct failover_vm *vm, const char *part)
{
    for (unsigned i = 0; i < vm->findings->len; i++)
        if (strstr(vm->findings->pdata[i], part))
            return true;
    return false;
}
