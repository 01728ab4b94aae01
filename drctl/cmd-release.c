/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/jobs.h"
#include "drctl/output.h"

static json_t *release_json(struct domain *domain, const struct release *release)
{
    json_t *json = json_object(), *checkpoints = json_array(), *bitmaps = json_array();

    json_set_string(json, "vm", domain_name(domain));
    json_set_string(json, "uuid", domain_uuid(domain));
    json_object_set_new(json, "running", json_boolean(release->running));
    json_object_set_new(json, "checkpoints", checkpoints);
    json_object_set_new(json, "bitmaps", bitmaps);
    for (char **name = release->checkpoints; *name; name++)
        json_array_append_new(checkpoints, json_string(*name));
    for (unsigned i = 0; i < release->bitmaps->len; i++) {
        const struct release_bitmap *bitmap = release->bitmaps->pdata[i];
        json_t *entry = json_object();

        json_set_string(entry, "disk", bitmap->target);
        json_set_string(entry, "image", bitmap->image);
        json_set_string(entry, "bitmap", bitmap->name);
        json_array_append_new(bitmaps, entry);
    }
    return json;
}

static void print_table(const struct release *release)
{
    static const char *const headers[] = {"KIND", "DISK", "NAME", NULL};
    AUTO(table) table = table_new(headers);

    for (char **name = release->checkpoints; *name; name++)
        table_row(table, (const char *[]){"checkpoint", NULL, *name});
    for (unsigned i = 0; i < release->bitmaps->len; i++) {
        const struct release_bitmap *bitmap = release->bitmaps->pdata[i];

        table_row(table, (const char *[]){"bitmap", bitmap->target, bitmap->name});
    }
    table_print(table);
}

static void print_release(struct context *context, struct domain *domain,
                          const struct release *release)
{
    bool nothing = !*release->checkpoints && release->bitmaps->len == 0;
    json_auto_t *json = release_json(domain, release);

    if (context->json)
        print_json(json);
    else if (!nothing)
        print_table(release);
    if (nothing)
        progress_note(context->progress, "%s has no checkpoint or bitmap of drctl",
                      domain_name(domain));
    else
        progress_note(
            context->progress,
            "%s: nothing of drctl %s a revert to an internal snapshot%s. The next point to "
            "each destination reads all that its disks hold",
            domain_name(domain), option_set(context, "dry-run") ? "else would hinder" : "hinders",
            option_set(context, "dry-run") ? " once these are removed" : " any more");
}

static bool cmd_release(struct context *context, GError **error)
{
    bool ready = context_catalog(context, error) && context_hosts(context, error);
    AUTO(domain) domain = ready ? find_domain(context->hosts, context->args[0], error) : NULL;
    struct release release = {0};

    if (!domain)
        return false;
    struct point_request request = {
        .domain = domain,
        .catalog = context->catalog,
        .site = context->config->site,
        .run_dir = context->config->run_dir,
        .scratch_dir = context->config->scratch,
        .progress = context->progress,
    };

    if (!snapshot_release(&request, option_set(context, "dry-run"), &release, error)) {
        g_prefix_error(error, "%s: ", domain_name(domain));
        return false;
    }
    print_release(context, domain, &release);
    release_clear(&release);
    return true;
}

static const struct option release_options[] = {
    {"dry-run", NULL, "say what would be removed; change nothing"},
    {0},
};

const struct command release_commands[] = {
    {
        .name = "release",
        .args = "VM",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "remove our checkpoints and bitmaps from a VM, for a revert to a snapshot",
        .text =
            "A VM whose disks have dirty bitmaps cannot be reverted to an internal snapshot. This\n"
            "removes all of ours, whether it runs or is off. The recovery points stay, and the "
            "next\n"
            "one goes on from them, but must read the disks as a whole.",
        .options = release_options,
        .run = cmd_release,
    },
    {0},
};
