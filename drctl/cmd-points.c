/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/damage-map.h"
#include "drctl/output.h"
#include "drctl/verification.h"

#include <stdio.h>

/* The name that VM_UUID has in STORE, or its UUID; g_free. */
static char *vm_name(struct store *store, const char *vm_uuid)
{
    g_autoptr(GPtrArray) points = store_points(store, vm_uuid, NULL);

    if (!points || points->len == 0)
        return g_strdup(vm_uuid);
    return g_strdup(((const struct manifest *)points->pdata[0])->vm);
}

/* The newest point that MANIFEST stands on, and whose it is if it is of another VM; g_free. */
static char *base_text(struct store *store, const struct manifest *manifest)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];
        g_autofree char *name = NULL;

        if (!disk->base_vm || !g_str_equal(disk->base, manifest->base))
            continue;
        name = vm_name(store, disk->base_vm);
        return g_strdup_printf("%s of %s", disk->base, name);
    }
    return g_strdup(manifest->base ? manifest->base : "full");
}

/* "-" where nobody has looked since the commit; g_free. */
static char *verified_text(const struct verdict *verdict, const struct lack *lack)
{
    bool needs_damaged = lack->culprits && lack->culprits->len > 0;

    return needs_damaged && !verdict->damage ? g_strdup("BASE DAMAGED") : verdict_text(verdict);
}

/* "-" where no test has used it; g_free. */
static char *proof_text(const struct proof *proof)
{
    if (!proof)
        return NULL;
    return proof->verdict == PROOF_PASSED ? time_format_local(proof->time_ms)
                                          : g_strdup(proof_verdict_name(proof->verdict));
}

static void point_row(struct table *table, struct store *store, const struct manifest *manifest,
                      const struct verdict *verdict, const struct lack *lack, int64_t now)
{
    g_autofree char *base = base_text(store, manifest);
    g_autofree char *verified = verified_text(verdict, lack);
    g_autofree char *proven = proof_text(verdict->proof);
    g_autofree char *time = time_format_local(manifest->time_ms);
    g_autofree char *age = duration_format((double)(now - manifest->time_ms) / 1000);
    g_autofree char *changed = bytes_format(manifest_changed_bytes(manifest));
    g_autofree char *stored = bytes_format(manifest_stored_bytes(manifest));

    table_row(table, (const char *[]){manifest->vm, manifest->point, time, age,
                                      consistency_name(manifest->consistency), changed, stored,
                                      base, manifest->site, verified, proven});
}

static json_t *point_json(const struct manifest *manifest, const char *dir,
                          const struct verdict *verdict, const struct lack *lack)
{
    json_t *json = manifest_summary(manifest, dir);
    const struct proof *proof = verdict->proof;
    g_autofree char *time = verdict->verified_ms ? time_format(verdict->verified_ms) : NULL;
    g_autofree char *proven =
        proof && proof->verdict == PROOF_PASSED ? time_format(proof->time_ms) : NULL;

    json_set_string(json, "verified", time);
    json_set_string(json, "damage", verdict->damage);
    lack_to_json(lack, manifest, json);
    json_set_string(json, "proven", proven);
    json_object_set_new(json, "tested", proof_json(verdict->proof));
    return json;
}

static bool print_points(struct context *context, struct store *store, GPtrArray *points,
                         GError **error)
{
    static const char *const headers[] = {"VM",          "POINT",    "TIME",    ">AGE",
                                          "CONSISTENCY", ">CHANGED", ">STORED", "BASE",
                                          "FROM",        "VERIFIED", "PROVEN",  NULL};
    const char *vm = context->args[0];
    bool local = store == context->store;
    AUTO(table) table = table_new(headers);
    AUTO(damage_map) map = local ? damage_map_new(context, points) : NULL;
    json_auto_t *list = json_array();
    int64_t now = time_now_ms();

    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];
        g_autofree char *dir =
            local ? store_point_dir(context->config->store, manifest->uuid, manifest->point) : NULL;
        AUTO_VERDICT verdict = {0};
        AUTO_LACK lack = {0};

        if (local) {
            verdict_of(context, manifest, &verdict);
            damage_map_look(map, manifest, &lack);
        }
        json_array_append_new(list, point_json(manifest, dir, &verdict, &lack));
        point_row(table, store, manifest, &verdict, &lack, now);
    }
    if (vm && json_array_size(list) == 0)
        return fail(error, ERROR_NOT_FOUND, "there is no recovery point of %s in %s%s", vm,
                    local ? "this site's store" : "that site's store",
                    local && context->config->remotes->len > 0
                        ? "; those that it has sent: drctl points --at REMOTE"
                        : "");
    if (context->json)
        print_json(list);
    else if (json_array_size(list) > 0)
        table_print(table);
    if (map)
        damage_map_note(map, context->progress);
    if (json_array_size(list) > 0 || context->json)
        return true;
    if (local && context->config->remotes->len > 0)
        fputs("This site's store holds no recovery points. Those that it has sent: drctl points "
              "--at REMOTE\n",
              stderr);
    else
        fputs("The store holds no recovery points yet.\n", stderr);
    return true;
}

static bool remote_points(struct context *context, const char *name, GError **error)
{
    bool known = config_remote(context->config, name, error) != NULL;
    AUTO(store) store = known ? context_open(context, name, error) : NULL;
    g_autoptr(GPtrArray) points = store ? store_points(store, context->args[0], error) : NULL;

    return points && print_points(context, store, points, error);
}

static void note_damaged_of(struct context *context, const char *vm)
{
    g_auto(GStrv) damaged = store_damaged_points(context->store, vm, NULL);

    for (char **entry = damaged; entry && *entry; entry++)
        progress_note(context->progress, "damaged: %s", *entry);
}

/* A point whose manifest cannot be read is in no list; it is not passed over in silence. Where there are
 * very many VMs, looking for one by its name is what takes the time: those of POINTS are known by now. */
static void note_damaged(struct context *context, GPtrArray *points)
{
    g_autoptr(GHashTable) vms = g_hash_table_new(g_str_hash, g_str_equal);

    if (!context->args[0] || !points || points->len == 0) {
        note_damaged_of(context, context->args[0]);
        return;
    }
    for (unsigned i = 0; i < points->len; i++) {
        char *uuid = ((struct manifest *)points->pdata[i])->uuid;

        if (g_hash_table_add(vms, uuid))
            note_damaged_of(context, uuid);
    }
}

static bool cmd_points(struct context *context, GError **error)
{
    const char *at = option_value(context, "at");

    if (!context_config(context, error))
        return false;
    if (at)
        return remote_points(context, at, error);
    if (!context_store(context, error))
        return false;
    g_autoptr(GPtrArray) points = store_points(context->store, context->args[0], error);

    note_damaged(context, points);
    return points && print_points(context, context->store, points, error);
}

static const struct option points_options[] = {
    {"at", "REMOTE", "the points in that site's store instead of this one's"},
    {0},
};

const struct command points_commands[] = {
    {
        .name = "points",
        .args = "[VM]",
        .max_args = 1,
        .flags = COMMAND_JSON,
        .summary = "list recovery points",
        .options = points_options,
        .run = cmd_points,
    },
    {0},
};
