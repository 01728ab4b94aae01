/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of test failovers: a lost vApp whose guests have a screen, and no system that could answer. */
#pragma once

#include "tests/recovery-shop.h"

#define TEST_VAPP                                                                                  \
    "[vapp]\nname = %1$s\n[vm %1$s-db]\norder = 1\nready-timeout = 1s\n[vm %1$s-app]\norder = 2\n" \
    "after = %1$s-db\nready-timeout = 1s\n%2$s\n"
#define SCREEN "<video><model type='vga' vram='16384'/></video>"

/* EXTRA are keys of the app. */
G_GNUC_UNUSED static inline struct shop *test_shop_new(const char *name, const char *extra)
{
    struct shop *shop = g_new0(struct shop, 1);
    g_autofree char *db = g_strconcat(name, "-db", NULL);
    g_autofree char *app = g_strconcat(name, "-app", NULL);
    g_autofree char *text = g_strdup_printf(TEST_VAPP, name, extra);

    shop->lab = lab_open(name);
    shop->name = g_strdup(name);
    shop->guests[0] = lost_guest(shop->lab, db, BRIDGE_NIC SCREEN);
    shop->guests[1] = lost_guest(shop->lab, app, NIC SCREEN);
    publish(shop->lab, name, text, shop->guests);
    return shop;
}

/* A plan to test NAME, from the points that CHOICE (may be NULL) says. */
G_GNUC_UNUSED static inline struct failover_plan *
test_plan_new(const struct site *site, const char *name, const struct failover_request *choice,
              GError **error)
{
    struct failover_request request = choice ? *choice : (struct failover_request){0};

    request.name = name;
    request.test = true;
    return failover_plan_make(site, &request, error);
}

G_GNUC_UNUSED static inline struct failover_plan *
test_plan_of(const struct shop *shop, const struct failover_request *choice)
{
    g_autoptr(GError) error = NULL;
    struct failover_plan *plan = test_plan_new(&shop->lab->site, shop->name, choice, &error);

    unit_ok(plan != NULL, error);
    return plan;
}

/* Is there a domain of a test of NAME? */
G_GNUC_UNUSED static inline bool test_domain_is_left(const struct lab *lab, const char *name)
{
    g_autofree char *prefix = g_strconcat(name, "-test-", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) domains = host_domains(lab->hosts->pdata[0], &error);
    bool found = false;

    unit_ok(domains != NULL, error);
    for (unsigned i = 0; i < domains->len; i++)
        found |= g_str_has_prefix(domain_name(domains->pdata[i]), prefix);
    return found;
}

/* Nothing is left of a test but evidence. */
G_GNUC_UNUSED static inline void assert_test_is_gone(const struct shop *shop)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) images = dir_list(shop->lab->config->images, &error);

    ck_assert(!test_domain_is_left(shop->lab, shop->name));
    unit_ok(images != NULL, error);
    ck_assert_uint_eq(g_strv_length(images), 0);
}

/* The state of the newest run. */
G_GNUC_UNUSED static inline char *newest_run_state(const struct lab *lab)
{
    json_auto_t *runs = run_list(lab->catalog, NULL);

    return g_strdup(json_get_string(json_array_get(runs, 0), "state"));
}
