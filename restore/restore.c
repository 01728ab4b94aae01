/* SPDX-License-Identifier: Apache-2.0 */
/* A point as another VM beside the original. */
#include "restore/over.h"
#include "restore/request.h"
#include "restore/storage.h"

#include <string.h>

void restore_result_clear(struct restore_result *result)
{
    g_clear_pointer(&result->run, g_free);
    g_clear_pointer(&result->vm, g_free);
    g_clear_pointer(&result->uuid, g_free);
    g_clear_pointer(&result->point, g_free);
    g_clear_pointer(&result->paths, g_strfreev);
    g_clear_pointer(&result->lost, g_ptr_array_unref);
}

/* ---- Points that are not whole */

static bool is_accepted(const struct restore_request *request, const struct origin *origin,
                        GError **error)
{
    g_autoptr(GPtrArray) lost = origin_lost(origin);
    g_autofree char *text = lost_disks_text(lost);

    if (lost->len == 0 || request->accept_damage)
        return true;
    if (request->ask)
        return request->ask(request->context, origin->manifest->point, text, error);
    return fail(error, ERROR_INTEGRITY,
                "point %s is not whole: %s. " LOST_WAY_OUT
                "; or restore it nevertheless (--accept-damage): reads of what is lost are I/O "
                "errors",
                origin->manifest->point, text, origin->manifest->vm);
}

struct origin *request_origin_again(const struct site *site, const json_t *plan, GError **error)
{
    const char *uuid = json_get_string(plan, "uuid"), *point = json_get_string(plan, "point");
    const char *disks = json_get_string(plan, "disks");
    g_autoptr(GPtrArray) lost = lost_disks_parse(json_object_get(plan, "lost"), error);
    AUTO(origin) origin = NULL;

    if (!lost)
        return NULL;
    if (lost->len == 0 && !disks)
        return origin_open(site, uuid, point, error);
    origin = origin_open_damaged(site, uuid, point, error);
    return origin && origin_only(origin, disks, error) && origin_accept(origin, lost, error)
               ? g_steal_pointer(&origin)
               : NULL;
}

struct origin *request_origin(const struct site *site, const struct restore_request *request,
                              GError **error)
{
    AUTO(manifest) newest = origin_find_vm(site, request->vm, error);
    AUTO(findings) findings = findings_new();
    AUTO(origin) origin = NULL;

    if (!newest)
        return NULL;
    origin = request->point ? origin_open_damaged(site, newest->uuid, request->point, error)
                            : origin_newest(site, newest->uuid, findings, error);
    request_note(site, request->vm, findings);
    if (origin && origin_only(origin, request->disks, error) && is_accepted(request, origin, error))
        return g_steal_pointer(&origin);
    g_prefix_error(error, "cannot restore %s: ", newest->vm);
    return NULL;
}

void request_note(const struct site *site, const char *vm, const struct findings *findings)
{
    for (unsigned i = 0; i < findings->remarks->len; i++)
        progress_note(site->progress, "%s: %s", vm, (char *)findings->remarks->pdata[i]);
}

bool request_matches(const struct restore_request *request, const json_t *plan, const char *run,
                     GError **error)
{
    const char *name = json_get_string(plan, "vm");
    const char *uuid = json_get_string(plan, "uuid");
    const char *point = json_get_string(plan, "point");

    if (!name || !uuid || !point)
        return fail(error, ERROR_INTEGRITY, "the plan of run %s names no VM or point", run);
    if (request->over != json_is_true(json_object_get(plan, "over")) ||
        g_strcmp0(request->disks, json_get_string(plan, "disks")) != 0 ||
        g_strcmp0(request->storage, json_get_string(plan, "storage")) != 0 ||
        (request->host && g_strcmp0(request->host, json_get_string(plan, "host")) != 0))
        return fail(error, ERROR_CONFLICT,
                    "run %s was interrupted while it restored %s otherwise: finish it first, with "
                    "`drctl run resume %s`",
                    run, name, run);
    if ((strcmp(request->vm, name) == 0 || strcmp(request->vm, uuid) == 0) &&
        (!request->point || strcmp(request->point, point) == 0))
        return true;
    return fail(error, ERROR_CONFLICT,
                "run %s was interrupted while it restored point %s of %s there: finish it first, "
                "with --point %s",
                run, point, name, point);
}

json_t *request_plan(const struct restore_request *request, const struct origin *origin)
{
    g_autoptr(GPtrArray) lost = origin_lost(origin);
    json_t *json = json_object();

    json_object_set_new(json, "lost", lost_disks_json(lost));
    json_set_string(json, "vm", origin->manifest->vm);
    json_set_string(json, "uuid", origin->manifest->uuid);
    json_set_string(json, "point", origin->manifest->point);
    json_set_string(json, "as", request->as);
    json_set_string(json, "to_dir", request->to_dir);
    json_set_string(json, "disks", request->disks);
    json_set_string(json, "storage", request->storage);
    json_object_set_new(json, "over", json_boolean(request->over));
    json_object_set_new(json, "stop", json_boolean(request->stop));
    json_object_set_new(json, "start", json_boolean(request->start));
    return json;
}

/* ---- As another VM */

static bool check_name(const struct site *site, const char *name, GError **error)
{
    AUTO(domain) domain = NULL;
    struct recovered mark;

    if (!vm_name_is_valid(name))
        return fail(error, ERROR_USAGE, "'%s' cannot be the name of a VM", name);
    if (site->hosts->len == 0)
        return fail(error, ERROR_CONFIG, "no libvirt host is connected: see [site] libvirt in %s",
                    site->config->path);
    if (!site_find_domain(site, name, name, &domain, &mark, error))
        return false;
    recovered_clear(&mark);
    return !domain || fail(error, ERROR_CONFLICT, "VM %s exists at %s already: use another name",
                           name, host_uri(domain_host(domain)));
}

static struct platform *roomiest_platform(const struct site *site, GError **error)
{
    AUTO(platform) best = NULL;

    for (unsigned i = 0; i < site->hosts->len; i++) {
        AUTO(platform) platform = platform_probe(site->hosts->pdata[i], error);

        if (!platform)
            return NULL;
        if (!best || platform->memory_free_bytes > best->memory_free_bytes) {
            struct platform *old = best;

            best = g_steal_pointer(&platform);
            platform = old;
        }
    }
    return g_steal_pointer(&best);
}

static struct platform *choose_platform(const struct site *site,
                                        const struct restore_request *request, GError **error)
{
    if (!request->host)
        return roomiest_platform(site, error);
    for (unsigned i = 0; i < site->hosts->len; i++)
        if (strcmp(host_uri(site->hosts->pdata[i]), request->host) == 0)
            return platform_probe(site->hosts->pdata[i], error);
    fail(error, ERROR_NOT_FOUND, "%s is none of this site's hosts: those are [site] libvirt in %s",
         request->host, site->config->path);
    return NULL;
}

/* Decide where it goes and what its definition becomes there. */
static bool plan_at(struct recovery *recovery, const struct site *site,
                    const struct restore_request *request, struct platform *platform,
                    struct findings *findings, GError **error)
{
    recovery->uri = g_strdup(platform->name);
    if (!recovery_adapt(recovery, platform, true, findings, error))
        return false;
    if (request->storage)
        storage_take(site, recovery, request->storage, findings);
    recovery_check_chains(recovery, findings);
    recovery_check_access(recovery, site, findings);
    return true;
}

static struct recovery *plan_copy(const struct site *site, const struct restore_request *request,
                                  GError **error)
{
    AUTO(recovery) recovery = g_new0(struct recovery, 1);
    AUTO(findings) findings = findings_new();
    AUTO(platform) platform = NULL;

    if (!check_name(site, request->as, error))
        return NULL;
    recovery->origin = request_origin(site, request, error);
    platform = recovery->origin ? choose_platform(site, request, error) : NULL;
    if (!platform)
        return NULL;
    recovery->name = g_strdup(request->as);
    recovery->uuid = g_uuid_string_random();
    if (!plan_at(recovery, site, request, platform, findings, error))
        return NULL;
    request_note(site, request->as, findings);
    if (findings->blockers->len == 0)
        return g_steal_pointer(&recovery);
    fail(error, ERROR_CONFLICT, "cannot restore %s as %s: %s", request->vm, request->as,
         (char *)findings->blockers->pdata[0]);
    return NULL;
}

static json_t *copy_to_json(const struct restore_request *request, const struct recovery *recovery)
{
    json_t *json = request_plan(request, recovery->origin);

    json_set_string(json, "host", recovery->uri);
    json_set_string(json, "new_uuid", recovery->uuid);
    json_set_string(json, "definition", recovery->definition);
    json_set_string(json, "images", recovery->images);
    return json;
}

static struct recovery *copy_from_json(const struct site *site, const json_t *json, GError **error)
{
    AUTO(recovery) recovery = g_new0(struct recovery, 1);
    const char *name;
    const char *uuid;
    const char *host;
    const char *definition;

    if (!json_need_string(json, "as", &name, error) ||
        !json_need_string(json, "new_uuid", &uuid, error) ||
        !json_need_string(json, "host", &host, error) ||
        !json_need_string(json, "definition", &definition, error))
        return NULL;
    recovery->name = g_strdup(name);
    recovery->uuid = g_strdup(uuid);
    recovery->uri = g_strdup(host);
    recovery->definition = g_strdup(definition);
    recovery->images = g_strdup(json_get_string(json, "images"));
    recovery->origin = request_origin_again(site, json, error);
    return recovery->origin ? g_steal_pointer(&recovery) : NULL;
}

static void tell_copy(const struct recovery *recovery, struct restore_result *result)
{
    const GPtrArray *disks = recovery->origin->disks;

    result->vm = g_strdup(recovery->name);
    result->uuid = g_strdup(recovery->uuid);
    result->point = g_strdup(recovery->origin->manifest->point);
    result->paths = g_new0(char *, disks->len + 1);
    for (unsigned i = 0; i < disks->len; i++)
        result->paths[i] =
            overlay_path(recovery->dir, ((const struct origin_disk *)disks->pdata[i])->target);
}

static struct run *begin_copy(const struct site *site, const struct restore_request *request,
                              const struct recovery *recovery, const json_t *plan, GError **error)
{
    const struct run_subject todo = recovery_steps(recovery->name, recovery, request->start);
    AUTO(run) run = run_begin(site->catalog, RESTORE_KIND, request->as, plan, error);

    return run && run_declare(run, &todo, 1, error) ? g_steal_pointer(&run) : NULL;
}

static bool restore_as(const struct site *site, const struct restore_request *request,
                       struct restore_result *result, GError **error)
{
    AUTO(run) run = request_resume(site, request, request->as, error);
    AUTO(recovery) recovery = NULL;
    json_auto_t *json = NULL;

    if (!run && *error)
        return false;
    recovery = run ? copy_from_json(site, run_plan(run), error) : plan_copy(site, request, error);
    if (!recovery)
        return false;
    json = run ? NULL : copy_to_json(request, recovery);
    if (!run)
        run = begin_copy(site, request, recovery, json, error);
    if (!run)
        return false;
    result->run = g_strdup(run_id(run));
    if (!recovery_run(recovery, site, run, request->start, NULL, error))
        return request_fail(run, error);
    tell_copy(recovery, result);
    return request_done(run, recovery->origin, result, error);
}

/* ---- Both */

struct run *request_resume(const struct site *site, const struct restore_request *request,
                           const char *title, GError **error)
{
    g_autofree char *id = NULL;
    AUTO(run) run = NULL;

    if (!run_find_interrupted(site->catalog, RESTORE_KIND, title, &id, error) || !id)
        return NULL;
    run = run_resume(site->catalog, id, error);
    if (!run || !request_matches(request, run_plan(run), id, error))
        return NULL;
    progress_note(site->progress, "going on with run %s, which was interrupted", id);
    return g_steal_pointer(&run);
}

bool request_done(struct run *run, const struct origin *origin, struct restore_result *result,
                  GError **error)
{
    json_auto_t *json = json_object();

    result->lost = origin_lost(origin);
    json_object_set_new(json, "lost", lost_disks_json(result->lost));
    return run_finish(run, RUN_DONE, json, error);
}

bool request_fail(struct run *run, GError **error)
{
    /* After an interrupt the run stays open, and the same command goes on with it. */
    if (!error_is(*error, ERROR_CANCELLED))
        run_finish(run, RUN_FAILED, NULL, NULL);
    g_prefix_error(error, "run %s: ", run_id(run));
    return false;
}

bool restore_execute(const struct site *site, const struct restore_request *request,
                     struct restore_result *result, GError **error)
{
    g_autoptr(GError) cause = NULL;
    bool done;

    if (!!request->as + !!request->to_dir + request->over != 1)
        return fail(error, ERROR_USAGE,
                    "a restore is either to a new name, or to a directory, or over the VM");
    if (request->to_dir && request->start)
        return fail(error, ERROR_USAGE, "plain files in a directory cannot be started");
    if (request->storage && !storage_name_is_valid(request->storage))
        return fail(error, ERROR_USAGE, "'%s' is neither an absolute path nor the name of a pool",
                    request->storage);
    if (!request->as && (request->storage || request->host))
        return fail(error, ERROR_USAGE, "only a new VM gets a storage or a host");
    done = request->as       ? restore_as(site, request, result, &cause)
           : request->to_dir ? restore_to_dir(site, request, result, &cause)
                             : restore_over(site, request, result, &cause);
    if (!done)
        g_propagate_error(error, g_steal_pointer(&cause));
    return done;
}
