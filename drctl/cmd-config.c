/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"

#include <stdio.h>

/* NAME may be NULL. */
static const struct vapp *find_vapp(GPtrArray *vapps, const char *name)
{
    for (unsigned i = 0; name && i < vapps->len; i++) {
        const struct vapp *vapp = vapps->pdata[i];

        if (g_str_equal(vapp->name, name))
            return vapp;
    }
    return NULL;
}

/* Does each protection name what there is? */
static bool check_protections(const struct config *config, GPtrArray *vapps, GError **error)
{
    for (unsigned i = 0; i < config->protections->len; i++) {
        const struct protection *protection = config->protections->pdata[i];

        if (protection->vapp && !find_vapp(vapps, protection->vapp))
            return fail(error, ERROR_CONFIG,
                        "%s: [protection %s] vapp: there is no vApp \"%s\" in %s/*.vapp",
                        config->path, protection->name, protection->vapp, config->dir);
    }
    return true;
}

/* A chain of points at a destination is made by one protection, with its quiesce and compression. A name goes
 * before patterns. */
static bool check_vm(const struct config *config, const struct protection *protection,
                     const char *vm, GHashTable *seen, GError **error)
{
    char *place = g_strdup_printf("%s at %s", vm, protection->destination);
    const struct protection *other = g_hash_table_lookup(seen, place);

    if (other)
        fail(error, ERROR_CONFIG,
             "%s: [protection %s] %s: VM %s goes to %s by [protection %s] already: once is enough",
             config->path, protection->name, protection->vapp ? "vapp" : "vms", vm,
             protection->destination, other->name);
    g_hash_table_insert(seen, place, (void *)protection);
    return !other;
}

static bool check_overlaps(const struct config *config, GPtrArray *vapps, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (unsigned i = 0; i < config->protections->len; i++) {
        const struct protection *protection = config->protections->pdata[i];
        const struct vapp *vapp = find_vapp(vapps, protection->vapp);

        for (char **vm = protection->vms; vm && *vm; vm++)
            if (!check_vm(config, protection, *vm, seen, error))
                return false;
        for (unsigned k = 0; vapp && k < vapp->vms->len; k++)
            if (!check_vm(config, protection, ((struct vapp_vm *)vapp->vms->pdata[k])->name, seen,
                          error))
                return false;
    }
    return true;
}

static bool cmd_config_check(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);
    g_autoptr(GPtrArray) vapps = config ? vapp_load_all(config->dir, error) : NULL;
    g_autoptr(GPtrArray) plans = vapps ? recovery_plan_load_all(config->dir, error) : NULL;

    g_autofree char *counted = plans && plans->len > 0 ? g_strdup_printf(", %u plan%s", plans->len,
                                                                         plans->len == 1 ? "" : "s")
                                                       : g_strdup("");

    if (!plans || !check_protections(config, vapps, error) ||
        !check_overlaps(config, vapps, error) || !config_check_files(config, error))
        return false;
    printf("%s: site %s, %u remote%s, %u protection%s, %u vApp%s%s: correct\n", config->path,
           config->site, config->remotes->len, config->remotes->len == 1 ? "" : "s",
           config->protections->len, config->protections->len == 1 ? "" : "s", vapps->len,
           vapps->len == 1 ? "" : "s", counted);
    return true;
}

const struct command config_commands[] = {
    {
        .name = "config check",
        .args = "",
        .summary = "check drctl.conf, all vApp files and recovery plans",
        .text = "Reads drctl.conf and every *.vapp and *.plan beside it as any command would, and "
                "checks what "
                "they\n"
                "name: keys, known hosts, vApps. Touches neither libvirt nor the network.",
        .run = cmd_config_check,
    },
    {0},
};
