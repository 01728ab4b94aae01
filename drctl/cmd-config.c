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

static bool check_keys(const struct config *config, GError **error)
{
    for (unsigned i = 0; i < config->remotes->len; i++) {
        const struct remote *remote = config->remotes->pdata[i];

        if (!g_file_test(remote->key, G_FILE_TEST_IS_REGULAR))
            return fail(error, ERROR_CONFIG,
                        "%s: [remote %s] key: %s does not exist; make it with: ssh-keygen -t "
                        "ed25519 -N '' -f %s",
                        config->path, remote->name, remote->key, remote->key);
        if (!g_file_test(remote->known_hosts, G_FILE_TEST_IS_REGULAR))
            return fail(error, ERROR_CONFIG,
                        "%s: [remote %s] known-hosts: %s does not exist; trust the host with: "
                        "drctl site add %s",
                        config->path, remote->name, remote->known_hosts, remote->name);
    }
    return true;
}

static bool cmd_config_check(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);
    g_autoptr(GPtrArray) vapps = config ? vapp_load_all(config->dir, error) : NULL;

    if (!vapps || !check_protections(config, vapps, error) || !check_keys(config, error))
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
