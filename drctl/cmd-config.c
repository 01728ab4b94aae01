/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"

#include <stdio.h>

/* Does each protection name what there is? */
static bool check_protections(const struct config *config, GPtrArray *vapps, GError **error)
{
    for (unsigned i = 0; i < config->protections->len; i++) {
        const struct protection *protection = config->protections->pdata[i];
        bool found = !protection->vapp;

        for (unsigned k = 0; k < vapps->len && !found; k++)
            found = g_str_equal(((struct vapp *)vapps->pdata[k])->name, protection->vapp);
        if (!found)
            return fail(error, ERROR_CONFIG,
                        "%s: [protection %s] vapp: there is no vApp \"%s\" in %s/*.vapp",
                        config->path, protection->name, protection->vapp, config->dir);
    }
    return true;
}

static bool cmd_config_check(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);
    g_autoptr(GPtrArray) vapps = config ? vapp_load_all(config->dir, error) : NULL;

    if (!vapps || !check_protections(config, vapps, error) || !config_check_files(config, error))
        return false;
    printf("%s: site %s, %u remote%s, %u protection%s, %u vApp%s: correct\n", config->path,
           config->site, config->remotes->len, config->remotes->len == 1 ? "" : "s",
           config->protections->len, config->protections->len == 1 ? "" : "s", vapps->len,
           vapps->len == 1 ? "" : "s");
    return true;
}

const struct command config_commands[] = {
    {
        .name = "config check",
        .args = "",
        .summary = "check drctl.conf and all vApp files",
        .text = "Reads drctl.conf and every *.vapp beside it as any command would, and checks what "
                "they\n"
                "name: keys, known hosts, vApps. Touches neither libvirt nor the network.",
        .run = cmd_config_check,
    },
    {0},
};
