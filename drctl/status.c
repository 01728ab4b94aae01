/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/status.h"

#include <string.h>

#include "drctl/damage-map.h"
#include "drctl/hydration.h"
#include "drctl/jobs.h"
#include "drctl/output.h"
#include "drctl/ownership.h"
#include "drctl/schedule.h"
#include "drctl/testing.h"

/* --- what this site protects ------------------------------------------------------------------ */

static json_t *last_result(struct context *context, struct domain *domain, const char *destination)
{
    g_autofree char *key = replication_key(domain_uuid(domain), destination);
    json_t *record = NULL;

    catalog_get(context->catalog, CATALOG_REPLICATION, key, &record, NULL);
    return record;
}

static void describe_lag(struct domain *domain, const json_t *record, json_t *json)
{
    const char *checkpoint = record ? json_get_string(record, "checkpoint") : NULL;
    uint64_t bytes;

    if (domain && checkpoint && snapshot_dirty_bytes(domain, checkpoint, &bytes))
        json_set_u64(json, "lag_bytes", bytes);
    else
        json_set_string(json, "lag_bytes", NULL);
}

static void describe_age(const char *time, json_t *json)
{
    int64_t ms;

    if (time && time_parse(time, &ms, NULL))
        json_set_real(json, "age_seconds", (double)(time_now_ms() - ms) / 1000);
    else
        json_set_string(json, "age_seconds", NULL);
}

static const char *state_of(const json_t *record, const char *error)
{
    if (error)
        return "failed";
    return record && json_get_string(record, "point") ? "ok" : "no point yet";
}

/* Also where there is no point: then it is violated from the beginning. */
static void describe_rpo(const struct protection *protection, const json_t *record,
                         const char *time, json_t *json)
{
    struct rpo rpo = {.target_ms = protection->rpo_ms, .took_ms = rpo_slowest_ms(record)};

    if (!protection->rpo_ms) {
        json_set_string(json, "rpo_seconds", NULL);
        json_set_string(json, "rpo_state", NULL);
        return;
    }
    if (time)
        time_parse(time, &rpo.newest_ms, NULL);
    json_set_real(json, "rpo_seconds", (double)rpo.target_ms / 1000);
    json_set_string(json, "rpo_state", rpo_state_name(rpo_state_at(&rpo, time_now_ms())));
}

/* When the daemon takes the next one; null when it does not. */
static void describe_next(const GPtrArray *schedule, const struct protection *protection,
                          json_t *json)
{
    g_autofree char *key = g_strconcat("replicate/", protection->name, NULL);

    json_set_string(json, "next", NULL);
    for (unsigned i = 0; i < schedule->len; i++) {
        const struct scheduled *job = schedule->pdata[i];

        if (g_str_equal(job->key, key) && job->due_ms != INT64_MAX)
            json_set_time(json, "next", MAX(job->due_ms, time_now_ms()));
    }
}

static void set_number(json_t *json, const char *key, bool known, double value)
{
    json_object_set_new(json, key, known ? json_real(value) : json_null());
}

/* How the last points went. */
static void describe_habits(const json_t *record, json_t *json)
{
    const json_t *took = json_array_get(json_object_get(record, "took"), 0), *unusual;
    const json_t *pace = json_object_get(record, "pace");
    double bytes = pace_bytes(pace);

    set_number(json, "took_seconds", took != NULL, json_number_value(took));
    json_set_u64(json, "violations",
                 (uint64_t)json_integer_value(json_object_get(record, "violations")));
    set_number(json, "change_bytes_per_hour", bytes >= 0, bytes);
    json_object_set_new(json, "unusual_change", json_null());
    if (pace_is_unusual(pace, time_now_ms(), &unusual)) {
        json_t *what = json_object();

        json_set_time(what, "time", json_integer_value(json_object_get(unusual, "at")));
        json_object_set(what, "bytes_per_hour", json_object_get(unusual, "bytes"));
        json_object_set(what, "busiest_bytes_per_hour", json_object_get(unusual, "busiest"));
        json_object_set_new(json, "unusual_change", what);
    }
}

static json_t *protected_json(struct context *context, const GPtrArray *schedule,
                              const struct protected_vm *vm)
{
    g_autoptr(GError) missing = NULL;
    AUTO(domain) domain = find_domain(context->hosts, vm->vm, &missing);
    json_auto_t *record = domain ? last_result(context, domain, vm->protection->destination) : NULL;
    const char *error = missing  ? missing->message
                        : record ? json_get_string(record, "error")
                                 : NULL;
    const char *time = record ? json_get_string(record, "time") : NULL;
    json_t *json = json_object();

    json_set_string(json, "vm", vm->vm);
    json_set_string(json, "uuid", domain ? domain_uuid(domain) : NULL);
    json_set_string(json, "protection", vm->protection->name);
    json_set_string(json, "destination", vm->protection->destination);
    json_set_string(json, "state", state_of(record, error));
    json_set_string(json, "point", record ? json_get_string(record, "point") : NULL);
    json_set_string(json, "time", time);
    json_set_string(json, "consistency", record ? json_get_string(record, "consistency") : NULL);
    describe_age(time, json);
    describe_rpo(vm->protection, record, time, json);
    describe_next(schedule, vm->protection, json);
    describe_habits(record, json);
    describe_lag(domain, record, json);
    json_set_string(json, "error", error);
    /* Without a domain nobody knows its UUID. */
    json_set_string(json, "owner", NULL);
    json_set_u64(json, "epoch", 0);
    json_set_string(json, "since", NULL);
    json_set_string(json, "problem", NULL);
    if (domain && ownership_describe(context->config, domain_uuid(domain), domain, json))
        json_set_string(json, "state", "stale");
    return json;
}

static json_t *empty_json(const struct config *config, const GPtrArray *vms)
{
    char *all[] = {NULL};
    g_autoptr(GPtrArray) empty = empty_protections(config, all, vms);
    json_t *list = json_array();

    for (unsigned i = 0; i < empty->len; i++)
        json_array_append_new(list,
                              json_string(((const struct protection *)empty->pdata[i])->name));
    return list;
}

/* What was failed over is another site's to protect. */
static bool is_ours(const struct config *config, const char *uuid)
{
    AUTO(owner) owner = NULL;

    return !owner_read(config->store, uuid, &owner, NULL) || !owner ||
           g_str_equal(owner->site, config->site);
}

static void add_unprotected(const struct config *config, const GPtrArray *present, bool running,
                            GHashTable *known, json_t *list)
{
    for (unsigned i = 0; i < present->len; i++) {
        const struct present_vm *vm = present->pdata[i];
        json_t *json;

        if (vm->runs != running || !g_hash_table_add(known, vm->name) || !is_ours(config, vm->uuid))
            continue;
        json = json_object();
        json_set_string(json, "vm", vm->name);
        json_set_string(json, "uuid", vm->uuid);
        json_object_set_new(json, "running", json_boolean(running));
        json_array_append_new(list, json);
    }
}

/* Those that run come first. The VMs of this site that have no protection; null when nobody can say. */
static json_t *unprotected_json(struct context *context, const GPtrArray *vms)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GPtrArray) present = present_vms(context, false, &why);
    g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);
    json_t *list = present ? json_array() : json_null();

    for (unsigned i = 0; i < vms->len; i++)
        g_hash_table_add(known, ((const struct protected_vm *)vms->pdata[i])->vm);
    if (present) {
        add_unprotected(context->config, present, true, known, list);
        add_unprotected(context->config, present, false, known, list);
    }
    if (why)
        progress_note(context->progress, "VMs that are not protected are not shown: %s",
                      why->message);
    return list;
}

static bool protected_list(struct context *context, struct status *status, GError **error)
{
    char *all[] = {NULL};
    g_autoptr(GPtrArray) vms = protected_vms(context, all, error);
    json_t *list = json_object_get(status->json, "protected");

    if (!vms || (vms->len > 0 && !context_hosts(context, error)))
        return false;
    for (unsigned i = 0; i < vms->len; i++)
        json_array_append_new(list, protected_json(context, status->schedule, vms->pdata[i]));
    json_object_set_new(status->json, "empty", empty_json(context->config, vms));
    json_object_set_new(status->json, "unprotected", unprotected_json(context, vms));
    return true;
}

/* --- what this site holds for others -----------------------------------------------------------
 */

/* What there is of it at this site, if a failover or a protection has brought it under our guard. */
static struct domain *guarded_domain(struct context *context, const char *uuid)
{
    AUTO(guarded) guarded = NULL;

    if (!guarded_read(context->config->dir, uuid, &guarded, NULL) || !guarded ||
        !context_hosts(context, NULL))
        return NULL;
    return find_domain(context->hosts, uuid, NULL);
}

static json_t *received_json(struct context *context, const struct manifest *newest)
{
    AUTO(domain) domain = guarded_domain(context, newest->uuid);
    json_t *json = json_object();
    g_autofree char *time = time_format(newest->time_ms);

    json_set_string(json, "vm", newest->vm);
    json_set_string(json, "uuid", newest->uuid);
    json_set_string(json, "site", newest->site);
    json_set_string(json, "point", newest->point);
    json_set_string(json, "time", time);
    json_set_string(json, "consistency", consistency_name(newest->consistency));
    describe_age(time, json);
    json_set_u64(json, "points", 0);
    json_set_u64(json, "stored_bytes", 0);
    json_set_u64(json, "damaged", 0);
    json_set_u64(json, "base_damaged", 0);
    json_set_string(json, "whole_point", NULL);
    json_set_string(json, "remedy", NULL);
    ownership_describe(context->config, newest->uuid, domain, json);
    json_set_string(json, "tested", NULL);
    json_set_string(json, "rto_seconds", NULL);
    json_set_string(json, "proven", NULL);
    return json;
}

/* When any of its points was used by a test, and the newest that is proven. Points come newest first, tests in
 * any order. */
static void note_test(const char *store, json_t *json, const struct manifest *manifest)
{
    g_autofree char *dir = store_point_dir(store, manifest->uuid, manifest->point);
    AUTO(proof) proof = proof_load(dir);
    g_autofree char *time = proof ? time_format(proof->time_ms) : NULL;
    const char *last = json_get_string(json, "tested");

    if (proof && (!last || strcmp(time, last) > 0)) {
        json_set_string(json, "tested", time);
        set_number(json, "rto_seconds", proof->rto_seconds > 0, proof->rto_seconds);
    }
    if (proof && proof->verdict == PROOF_PASSED && !json_get_string(json, "proven"))
        json_set_string(json, "proven", manifest->point);
}

static void add(json_t *json, const char *key, uint64_t number)
{
    json_set_u64(json, key, (uint64_t)json_integer_value(json_object_get(json, key)) + number);
}

static void count_point(struct damage_map *map, json_t *json, const struct manifest *manifest)
{
    AUTO_LACK lack = {0};
    g_autofree char *remedy = NULL;
    bool needs_damaged;

    damage_map_look(map, manifest, &lack);
    needs_damaged = lack.culprits->len > 0;
    remedy = lack_remedy(&lack, manifest);
    add(json, "points", 1);
    add(json, "stored_bytes", manifest_stored_bytes(manifest));
    add(json, "damaged", lack.damaged);
    add(json, "base_damaged", !lack.damaged && needs_damaged);
    if (!lack.damaged && !needs_damaged && !json_get_string(json, "whole_point"))
        json_set_string(json, "whole_point", manifest->point);
    if (remedy && !json_get_string(json, "remedy"))
        json_set_string(json, "remedy", remedy);
}

static bool received_list(struct context *context, json_t *list, GError **error)
{
    g_autoptr(GHashTable) by_uuid = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) points =
        context_store(context, error) ? store_points(context->store, NULL, error) : NULL;

    if (!points)
        return false;
    AUTO(damage_map) map = damage_map_new(context, points);
    /* Newest first: the first of each VM is its newest. */
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];
        json_t *json = g_hash_table_lookup(by_uuid, manifest->uuid);

        if (!json) {
            json = received_json(context, manifest);
            json_array_append_new(list, json);
            g_hash_table_insert(by_uuid, manifest->uuid, json);
        }
        count_point(map, json, manifest);
        note_test(context->config->store, json, manifest);
    }
    damage_map_note(map, context->progress);
    return true;
}

/* --- what was recovered here -------------------------------------------------------------------- */

/* Who only wants to know how old points are must not need libvirt for that. */
static GPtrArray *recovered_vms(struct context *context)
{
    char *all[] = {NULL};
    g_autoptr(GError) why = NULL;
    GPtrArray *hydrations = NULL;
    struct site site;

    if (hydration_is_possible(context->config) && context_site(context, true, &site, &why))
        hydrations = hydration_find(&site, all, &why);
    if (why)
        progress_note(context->progress, "VMs that were recovered here are not shown: %s",
                      why->message);
    return hydrations ? hydrations : g_ptr_array_new();
}

/* --- all ------------------------------------------------------------------------------------- */

static bool uncommitted_list(struct context *context, struct status *status, GError **error)
{
    json_t *list = json_array();

    json_object_set_new(status->json, "uncommitted", list);
    status->windows = window_list(context->catalog, error);
    for (unsigned i = 0; status->windows && i < status->windows->len; i++)
        json_array_append_new(list, window_json(status->windows->pdata[i]));
    return status->windows != NULL;
}

static bool store_json(struct context *context, struct status *status, GError **error)
{
    json_t *json = json_object();
    uint64_t free_bytes, total_bytes;
    double days = -1;

    json_object_set_new(status->json, "store", json);
    if (!disk_space(context->config->store, &free_bytes, &total_bytes, error) ||
        !space_days_left(context->catalog, free_bytes, time_now_ms(), &days, error))
        return false;
    json_set_u64(json, "free_bytes", free_bytes);
    json_set_u64(json, "total_bytes", total_bytes);
    set_number(json, "days_left", days >= 0, days);
    return true;
}

bool status_make(struct context *context, struct status *status, GError **error)
{
    json_t *received = json_array();

    *status = (struct status){.json = json_object()};
    json_object_set_new(status->json, "protected", json_array());
    json_object_set_new(status->json, "received", received);
    if (!context_catalog(context, error))
        return false;
    status->schedule = schedule_make(context, &status->wrong, error);
    if (!status->schedule || !store_json(context, status, error) ||
        !received_list(context, received, error) || !protected_list(context, status, error) ||
        !uncommitted_list(context, status, error))
        return false;
    json_set_string(status->json, "site", context->config->site);
    testing_remind(context);
    status->recovered = recovered_vms(context);
    json_object_set_new(status->json, "recovered", hydrations_json(status->recovered));
    return true;
}

void status_clear(struct status *status)
{
    g_clear_pointer(&status->json, json_decref);
    g_clear_pointer(&status->schedule, g_ptr_array_unref);
    g_clear_pointer(&status->wrong, g_ptr_array_unref);
    g_clear_pointer(&status->windows, g_ptr_array_unref);
    g_clear_pointer(&status->recovered, g_ptr_array_unref);
}
