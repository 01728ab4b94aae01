/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/plan.h"

#include <string.h>

/* ---- To the journal */

static json_t *texts_to_json(const GPtrArray *texts)
{
    json_t *array = json_array();

    for (unsigned i = 0; i < texts->len; i++)
        json_array_append_new(array, json_string(texts->pdata[i]));
    return array;
}

static json_t *recovery_to_json(const struct recovery *recovery)
{
    json_t *json;

    if (!recovery)
        return json_null();
    json = json_object();
    json_set_string(json, "name", recovery->name);
    json_set_string(json, "uuid", recovery->uuid);
    json_set_string(json, "adopted", recovery->adopted);
    json_set_string(json, "images", recovery->images);
    json_set_string(json, "definition", recovery->definition);
    json_object_set_new(json, "customization", customization_to_json(recovery->customization));
    json_object_set_new(json, "aside", json_boolean(recovery->aside));
    return json;
}

static json_t *vm_to_json(const struct failover_vm *vm)
{
    json_t *json = json_object();
    g_autofree char *time = vm->point ? time_format(vm->point_time_ms) : NULL;

    json_set_string(json, "vm", vm->name);
    json_set_string(json, "uuid", vm->uuid);
    json_set_u64(json, "order", vm->order);
    json_set_string(json, "point", vm->point);
    json_set_string(json, "time", time);
    json_set_string(json, "consistency", vm->point ? consistency_name(vm->consistency) : NULL);
    json_object_set_new(json, "findings", texts_to_json(vm->findings));
    json_object_set_new(json, "blocked", json_boolean(vm->blocked));
    json_object_set_new(json, "lost", lost_disks_json(vm->lost));
    json_object_set_new(json, "accepts_damage", json_boolean(vm->accepts_damage));
    json_set_string(json, "host", vm->host);
    json_object_set_new(json, "domain", recovery_to_json(vm->recovery));
    return json;
}

static json_t *parts_to_json(const GPtrArray *parts)
{
    json_t *array = json_array();

    for (unsigned i = 0; i < parts->len; i++) {
        const struct plan_part *part = parts->pdata[i];
        json_t *json = json_object();

        json_set_string(json, "name", part->name);
        json_set_string(json, "definition", part->definition);
        json_array_append_new(array, json);
    }
    return array;
}

json_t *plan_to_json(const struct failover_plan *plan)
{
    json_t *json = json_object();
    json_t *vms = json_array();

    json_set_string(json, "vapp", plan->vapp);
    json_set_string(json, "site", plan->site);
    json_object_set_new(json, "parts", parts_to_json(plan->parts));
    json_object_set_new(json, "skipped", texts_to_json(plan->skipped));
    json_object_set_new(json, "hydrate", json_boolean(plan->hydrate));
    json_set_u64(json, "commit_after_ms", (uint64_t)plan->commit.after_ms);
    json_object_set_new(json, "rolls_back", json_boolean(plan->commit.rolls_back));
    json_object_set_new(json, "silent", silent_hosts_json(plan->silent));
    for (unsigned i = 0; i < plan->vms->len; i++)
        json_array_append_new(vms, vm_to_json(plan->vms->pdata[i]));
    json_object_set_new(json, "vms", vms);
    return json;
}

/* ---- And back */

static void read_texts(GPtrArray *texts, const json_t *array)
{
    const json_t *value;
    size_t i;

    json_array_foreach(array, i, value) if (json_is_string(value))
        g_ptr_array_add(texts, g_strdup(json_string_value(value)));
}

static void block_vm(struct failover_vm *vm, const char *why)
{
    vm->blocked = true;
    g_ptr_array_add(vm->findings, g_strdup(why));
}

/* A plan of a version that knew nothing of it has lost nothing. */
static bool read_lost(struct failover_vm *vm, const json_t *json, GError **error)
{
    GPtrArray *lost = lost_disks_parse(json_object_get(json, "lost"), error);

    if (!lost)
        return false;
    g_ptr_array_unref(vm->lost);
    vm->lost = lost;
    vm->accepts_damage = json_is_true(json_object_get(json, "accepts_damage"));
    return true;
}

/* What was accepted is what is made unreadable, whether it has been healed since or not: a part of it may
 * be made already. */
static struct origin *open_origin(const struct site *site, const struct failover_vm *vm,
                                  GError **error)
{
    AUTO(origin) origin = NULL;

    if (!vm->accepts_damage)
        return origin_open(site, vm->uuid, vm->point, error);
    origin = origin_open_damaged(site, vm->uuid, vm->point, error);
    return origin && origin_accept(origin, vm->lost, error) ? g_steal_pointer(&origin) : NULL;
}

static bool read_recovery(const struct site *site, struct failover_vm *vm, const json_t *json,
                          GError **error)
{
    AUTO(recovery) recovery = g_new0(struct recovery, 1);
    const json_t *customization = json_object_get(json, "customization");
    const char *name;
    const char *uuid;
    g_autoptr(GError) cause = NULL;

    if (json_is_object(customization)) {
        recovery->customization = customization_from_json(customization, error);
        if (!recovery->customization)
            return false;
    }
    if (!json_need_string(json, "name", &name, error) ||
        !json_need_string(json, "uuid", &uuid, error))
        return false;
    recovery->name = g_strdup(name);
    recovery->uuid = g_strdup(uuid);
    recovery->uri = g_strdup(vm->host);
    recovery->adopted = g_strdup(json_get_string(json, "adopted"));
    recovery->images = g_strdup(json_get_string(json, "images"));
    recovery->definition = g_strdup(json_get_string(json, "definition"));
    recovery->aside = json_is_true(json_object_get(json, "aside"));
    if (!recovery->adopted)
        recovery->origin = open_origin(site, vm, &cause);
    if (!recovery->adopted && !recovery->origin)
        block_vm(vm, cause->message);
    else
        vm->recovery = g_steal_pointer(&recovery);
    return true;
}

static bool read_vm(const struct site *site, struct failover_vm *vm, const json_t *json,
                    GError **error)
{
    const char *time = json_get_string(json, "time");
    json_t *domain = json_object_get(json, "domain");

    vm->uuid = g_strdup(json_get_string(json, "uuid"));
    vm->point = g_strdup(json_get_string(json, "point"));
    vm->host = g_strdup(json_get_string(json, "host"));
    consistency_parse(json_get_string(json, "consistency"), &vm->consistency);
    read_texts(vm->findings, json_object_get(json, "findings"));
    if (!read_lost(vm, json, error) || !json_need_bool(json, "blocked", &vm->blocked, error) ||
        (time && !time_parse(time, &vm->point_time_ms, error)))
        return false;
    if (vm->blocked || !json_is_object(domain))
        return true;
    if (!vm->uuid || !vm->point || !vm->host)
        return fail(error, ERROR_INTEGRITY, "VM %s has no uuid, point or host", vm->name);
    return read_recovery(site, vm, domain, error);
}

static bool read_vms(const struct site *site, struct failover_plan *plan, const json_t *json,
                     GError **error)
{
    json_t *vms;
    const json_t *value;
    size_t i;

    if (!json_need_array(json, "vms", &vms, error))
        return false;
    json_array_foreach(vms, i, value)
    {
        const char *name = json_get_string(value, "vm");
        const struct vapp_vm *vm = name ? vapp_vm(plan->order, name) : NULL;

        if (!vm)
            return fail(error, ERROR_INTEGRITY, "VM %zu is not of the vApp", i + 1);
        g_ptr_array_add(plan->vms, failover_vm_new(vm));
        if (!read_vm(site, plan->vms->pdata[i], value, error))
            return false;
    }
    if (plan->vms->len != plan->order->vms->len)
        return fail(error, ERROR_INTEGRITY, "a VM of the vApp is missing");
    return true;
}

static bool read_parts(struct failover_plan *plan, const json_t *json, GError **error)
{
    const json_t *parts = json_object_get(json, "parts");
    const json_t *value;
    size_t i;

    if (!parts)
        plan_add_part(plan, plan->vapp, json_get_string(json, "definition"));
    json_array_foreach(parts, i, value)
    {
        const char *name;

        if (!json_need_string(value, "name", &name, error))
            return false;
        plan_add_part(plan, name, json_get_string(value, "definition"));
    }
    read_texts(plan->skipped, json_object_get(json, "skipped"));
    return plan->parts->len > 0 ? plan_make_order(plan, error)
                                : fail(error, ERROR_INTEGRITY, "it has no vApp");
}

static bool read_plan(const struct site *site, struct failover_plan *plan, const json_t *json,
                      GError **error)
{
    const char *vapp;
    const char *from;

    if (!json_need_string(json, "vapp", &vapp, error) ||
        !json_need_string(json, "site", &from, error))
        return false;
    plan->vapp = g_strdup(vapp);
    plan->site = g_strdup(from);
    plan->hydrate = json_is_true(json_object_get(json, "hydrate"));
    plan->commit.after_ms = json_integer_value(json_object_get(json, "commit_after_ms"));
    plan->commit.rolls_back = json_is_true(json_object_get(json, "rolls_back"));
    silent_hosts_read(plan->silent, json_object_get(json, "silent"));
    return read_parts(plan, json, error) && read_vms(site, plan, json, error);
}

struct failover_plan *plan_from_run(const struct site *site, const char *run, GError **error)
{
    AUTO(failover_plan) plan = plan_new();
    json_auto_t *record = run_show(site->catalog, run, error);
    json_t *json;

    if (!record)
        return NULL;
    plan->resumes = g_strdup(run);
    if (!json_need_object(record, "plan", &json, error) || !read_plan(site, plan, json, error)) {
        g_prefix_error(error, "the plan of run %s: ", run);
        return NULL;
    }
    return g_steal_pointer(&plan);
}
