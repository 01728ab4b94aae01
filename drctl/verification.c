/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/verification.h"

static char *dir_of(struct context *context, const struct manifest *point)
{
    return store_point_dir(context->config->store, point->uuid, point->point);
}

static char *key_of(const struct manifest *point)
{
    return g_strconcat(point->uuid, "/", point->point, NULL);
}

/* Every layer below this point is there, and what this point needs of it is not damaged. */
static bool check_chains(struct context *context, const struct manifest *point, GError **error)
{
    for (unsigned i = 0; i < point->disks->len; i++) {
        const struct manifest_disk *disk = point->disks->pdata[i];
        g_auto(GStrv) chain =
            store_chain(context->store, point->uuid, point->point, disk->target, error);

        if (!chain || !snapshot_chain_is_whole(chain, error))
            return false;
    }
    return true;
}

static void remember(struct context *context, const struct manifest *point, const GError *damage)
{
    json_auto_t *json = json_object();
    g_autofree char *time = time_format(time_now_ms());
    g_autofree char *key = key_of(point);

    json_set_string(json, "time", time);
    json_object_set_new(json, "ok", json_boolean(!damage));
    json_set_string(json, "error", damage ? damage->message : NULL);
    catalog_put(context->catalog, CATALOG_VERIFIED, key, json, NULL);
}

/* A note that cannot be made is told: the point would be trusted. */
static void note(struct context *context, const char *dir, const struct damage *damage)
{
    g_autoptr(GError) why = NULL;
    bool noted = damage->files->len ? damage_save(dir, damage, &why) : damage_forget(dir, &why);

    if (!noted)
        progress_note(context->progress, "the damage of %s cannot be noted: %s", dir, why->message);
}

bool verify_point(struct context *context, const struct manifest *point, GError **damage,
                  GError **error)
{
    g_autofree char *dir = dir_of(context, point);
    AUTO(damage) found = damage_new();
    g_autofree char *text = NULL;

    if (!store_find_damage(dir, point, context->progress, found, error) ||
        !snapshot_find_damage(dir, point, context->progress, found, error))
        return false;
    note(context, dir, found);
    if (found->files->len) {
        text = damage_text(found);
        fail(damage, ERROR_INTEGRITY, "%s", text);
    } else {
        check_chains(context, point, damage);
    }
    remember(context, point, *damage);
    return true;
}

void note_unreadable(struct context *context, const struct manifest *point, const GError *why)
{
    g_autofree char *dir = dir_of(context, point);
    AUTO(damage) damage = damage_new();

    damage_add(damage, MANIFEST_NAME, why->message);
    note(context, dir, damage);
    remember(context, point, why);
}

void verdict_clear(struct verdict *verdict)
{
    g_clear_pointer(&verdict->damage, g_free);
    g_clear_pointer(&verdict->proof, proof_free);
}

void verdict_of(struct context *context, const struct manifest *point, struct verdict *verdict)
{
    g_autofree char *dir = dir_of(context, point);
    g_autofree char *key = key_of(point);
    AUTO(damage) damage = NULL;
    json_auto_t *json = NULL;
    g_autoptr(GError) why = NULL;
    const char *time;

    *verdict = (struct verdict){.proof = proof_load(dir)};
    if (!damage_load(dir, &damage, &why))
        verdict->damage = g_strdup(why->message);
    else if (damage)
        verdict->damage = damage_text(damage);
    if (catalog_get(context->catalog, CATALOG_VERIFIED, key, &json, NULL) && json &&
        (time = json_get_string(json, "time")))
        time_parse(time, &verdict->verified_ms, NULL);
}

char *verdict_text(const struct verdict *verdict)
{
    if (verdict->damage)
        return g_strdup("DAMAGED");
    return verdict->verified_ms ? time_format_local(verdict->verified_ms) : NULL;
}

json_t *proof_json(const struct proof *proof)
{
    g_autofree char *time = proof ? time_format(proof->time_ms) : NULL;
    json_t *json;

    if (!proof)
        return json_null();
    json = json_object();
    json_set_string(json, "run", proof->run);
    json_set_string(json, "time", time);
    json_set_string(json, "verdict", proof_verdict_name(proof->verdict));
    if (proof->rto_seconds > 0)
        json_set_real(json, "rto_seconds", proof->rto_seconds);
    else
        json_set_string(json, "rto_seconds", NULL);
    return json;
}
