/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"

#include <stdio.h>
#include <unistd.h>

#define SSH_KEYGEN_TIMEOUT_S 60

static char *default_site_name(void)
{
    g_autofree char *name = g_ascii_strdown(g_get_host_name(), -1);

    g_strcanon(name, "abcdefghijklmnopqrstuvwxyz0123456789-", '-');
    return g_steal_pointer(&name);
}

/* Made under a temporary name: a key that exists is whole. */
static bool make_key(const struct config *config, GError **error)
{
    g_autofree char *key = g_build_filename(config->dir, SITE_KEY_FILE, NULL);
    g_autofree char *public = g_strconcat(key, ".pub", NULL);
    g_autofree char *temporary = g_strdup_printf("%s/.tmp-key-%d", config->dir, (int)getpid());
    g_autofree char *temporary_public = g_strconcat(temporary, ".pub", NULL);
    g_autofree char *comment = g_strconcat("drctl@", config->site, NULL);
    const char *argv[] = {"ssh-keygen", "-q",    "-t", "ed25519", "-N", "",
                          "-C",         comment, "-f", temporary, NULL};

    if (g_file_test(key, G_FILE_TEST_EXISTS))
        return true;
    return process_run(argv, SSH_KEYGEN_TIMEOUT_S, NULL, error) &&
           path_rename(temporary_public, public, error) && path_rename(temporary, key, error);
}

static void print_next_steps(const struct config *config)
{
    printf("Site %s is ready.\n\n"
           "  configuration   %s\n"
           "  store           %s\n"
           "  libvirt         %s\n\n"
           "Next, on the site whose VMs you protect:\n"
           "  1. pair it with the other one:      drctl site add NAME ADDRESS\n"
           "  2. say what to protect:             edit %s, then: drctl config check\n"
           "  3. take the first recovery points:  drctl replicate\n",
           config->site, config->path, config->store, config->libvirt_uris[0], config->path);
}

/* An init that was killed half-way is finished by the next one, and a lost key is made anew; a site
 * that is whole is a conflict.
 */
static bool cmd_init(struct context *context, GError **error)
{
    g_autofree char *site_name = default_site_name();
    const char *site = option_value(context, "site");
    struct config_init init = {
        .dir = context->config_dir,
        .site = site ? site : site_name,
        .libvirt = option_value(context, "libvirt"),
        .store = option_value(context, "store"),
        .images = option_value(context, "images"),
    };
    g_autofree char *path = g_build_filename(context->config_dir, "drctl.conf", NULL);
    bool exists = g_file_test(path, G_FILE_TEST_EXISTS);
    g_autofree char *store_json = NULL, *key = NULL;
    const struct config *config;

    if (!exists && !config_init(&init, error))
        return false;
    config = context_config(context, error);
    if (!config)
        return false;
    key = g_build_filename(config->dir, SITE_KEY_FILE, NULL);
    store_json = g_build_filename(config->store, "store.json", NULL);
    if (exists && g_file_test(store_json, G_FILE_TEST_EXISTS) &&
        g_file_test(key, G_FILE_TEST_EXISTS))
        return fail(error, ERROR_CONFLICT,
                    "%s exists: this site is already set up; edit it, then: drctl config check",
                    config->path);
    if (!make_key(config, error) || (!g_file_test(store_json, G_FILE_TEST_EXISTS) &&
                                     !store_create(config->store, config->site, error)))
        return false;
    print_next_steps(config);
    return true;
}

static const struct option init_options[] = {
    {"site", "NAME", "name of this site; default: the host's name"},
    {"libvirt", "URI", "libvirt host; default: qemu:///system for root, else qemu:///session"},
    {"store", "DIR", "where the recovery points of other sites will lie"},
    {"images", "DIR", "where disks of VMs that are recovered here will lie"},
    {0},
};

const struct command init_commands[] = {
    {
        .name = "init",
        .args = "",
        .flags = COMMAND_NO_CONFIG | COMMAND_CHANGES,
        .summary = "make this host a site: configuration, store, key",
        .text =
            "Writes a commented drctl.conf, makes an empty store and a key pair with which this\n"
            "site will log in at others. Changes nothing that is there already.",
        .options = init_options,
        .run = cmd_init,
    },
    {0},
};
