/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/candidates.h"

#include <stdio.h>
#include <string.h>

#include "drctl/output.h"

static void candidate_free(void *data)
{
    struct candidate *candidate = data;

    g_free(candidate->name);
    g_ptr_array_unref(candidate->vms);
    g_free(candidate->site);
    g_free(candidate);
}

bool candidate_is_here(const struct candidate *candidate)
{
    return candidate->here == candidate->vms->len;
}

void survey_clear(struct survey *survey)
{
    g_clear_pointer(&survey->newest, g_hash_table_unref);
    g_clear_pointer(&survey->candidates, g_ptr_array_unref);
    g_clear_pointer(&survey->points, g_ptr_array_unref);
    g_clear_pointer(&survey->runs, json_decref);
    g_clear_pointer(&survey->peers, g_ptr_array_unref);
}

/* --- what there is --------------------------------------------------------------------------- */

static struct candidate *candidate_named(const struct survey *survey, const char *name)
{
    for (unsigned i = 0; i < survey->candidates->len; i++) {
        struct candidate *candidate = survey->candidates->pdata[i];

        if (g_str_equal(candidate->name, name))
            return candidate;
    }
    return NULL;
}

static struct candidate *add_candidate(struct survey *survey, const char *name, const char *what)
{
    struct candidate *candidate = g_new0(struct candidate, 1);

    candidate->name = g_strdup(name);
    candidate->what = what;
    candidate->vms = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(survey->candidates, candidate);
    return candidate;
}

/* One that nobody has claimed belongs to whoever takes points of it. */
static bool is_owned_here(const struct survey *survey, const struct manifest *newest)
{
    const struct config *config = survey->context->config;
    AUTO(owner) owner = NULL;

    return owner_read(config->store, newest->uuid, &owner, NULL) &&
           g_str_equal(owner ? owner->site : newest->site, config->site);
}

static void add_vm(const struct survey *survey, struct candidate *candidate, const char *vm)
{
    const struct manifest *newest = g_hash_table_lookup(survey->newest, vm);

    g_ptr_array_add(candidate->vms, g_strdup(vm));
    if (!newest)
        return;
    if (!candidate->site)
        candidate->site = g_strdup(newest->site);
    if (candidate->with_points++ == 0 || newest->time_ms < candidate->oldest_ms)
        candidate->oldest_ms = newest->time_ms;
    candidate->here += is_owned_here(survey, newest);
}

static const struct vapp *vapp_named(const GPtrArray *vapps, const char *name)
{
    for (unsigned i = 0; i < vapps->len; i++) {
        const struct vapp *vapp = vapps->pdata[i];

        if (g_str_equal(vapp->name, name))
            return vapp;
    }
    return NULL;
}

static void add_vapp(const struct survey *survey, struct candidate *candidate,
                     const struct vapp *vapp)
{
    for (unsigned i = 0; i < vapp->vms->len; i++)
        add_vm(survey, candidate, ((const struct vapp_vm *)vapp->vms->pdata[i])->name);
}

/* One that cannot be read is told, and keeps nobody from the others. */
static void add_plans(struct survey *survey, const GPtrArray *vapps)
{
    g_autoptr(GError) cause = NULL;
    g_autoptr(GPtrArray) plans = recovery_plan_load_all(survey->context->config->dir, &cause);

    if (!plans)
        fprintf(stderr, "Recovery plans are left out: %s\n", cause->message);
    for (unsigned i = 0; plans && i < plans->len; i++) {
        const struct recovery_plan *plan = plans->pdata[i];
        struct candidate *candidate = add_candidate(survey, plan->name, "plan");

        for (char **name = plan->vapps; *name; name++) {
            const struct vapp *vapp = vapp_named(vapps, *name);

            if (vapp)
                add_vapp(survey, candidate, vapp);
            else
                add_vm(survey, candidate, *name);
        }
    }
}

static void add_vapps(struct survey *survey, const GPtrArray *vapps)
{
    for (unsigned i = 0; i < vapps->len; i++) {
        const struct vapp *vapp = vapps->pdata[i];

        if (!candidate_named(survey, vapp->name))
            add_vapp(survey, add_candidate(survey, vapp->name, "vApp"), vapp);
    }
}

/* Of several VMs of one name only the one with the newest point is offered. */
static void add_lone_vms(struct survey *survey)
{
    g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < survey->candidates->len; i++) {
        const struct candidate *candidate = survey->candidates->pdata[i];

        g_hash_table_add(known, candidate->name);
        for (unsigned k = 0; k < candidate->vms->len; k++)
            g_hash_table_add(known, candidate->vms->pdata[k]);
    }
    for (unsigned i = 0; i < survey->points->len; i++) {
        const struct manifest *manifest = survey->points->pdata[i];

        if (g_hash_table_add(known, manifest->vm))
            add_vm(survey, add_candidate(survey, manifest->vm, "VM"), manifest->vm);
    }
}

static unsigned rank_of(const struct candidate *candidate)
{
    return candidate->interrupted || candidate->move_interrupted ? 0
           : candidate_is_here(candidate)                        ? 2
                                                                 : 1;
}

/* What Enter alone chooses is what is begun, else something that can be started. */
static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *const *left = a, *const *right = b;
    int order = (int)rank_of(*left) - (int)rank_of(*right);

    return order ? order : strcmp((*left)->name, (*right)->name);
}

static void look_for_interrupted(struct survey *survey)
{
    for (unsigned i = 0; i < survey->candidates->len; i++) {
        struct candidate *candidate = survey->candidates->pdata[i];

        candidate->interrupted = runs_have_interrupted(survey->runs, "failover", candidate->name);
        candidate->move_interrupted =
            runs_have_interrupted(survey->runs, "planned", candidate->name);
    }
}

bool survey_make(struct survey *survey, GError **error)
{
    g_autoptr(GPtrArray) vapps = NULL;

    survey->candidates = g_ptr_array_new_with_free_func(candidate_free);
    survey->newest = g_hash_table_new(g_str_hash, g_str_equal);
    if (!context_site_in_need(survey->context, &survey->site, error))
        return false;
    survey->runs = run_list(survey->site.catalog, error);
    survey->points = survey->runs ? store_points(survey->site.store, NULL, error) : NULL;
    vapps = survey->points ? site_vapps(&survey->site, error) : NULL;
    if (!vapps)
        return false;
    for (unsigned i = survey->points->len; i-- > 0;) {
        struct manifest *manifest = survey->points->pdata[i];

        g_hash_table_insert(survey->newest, manifest->vm, manifest);
    }
    add_plans(survey, vapps);
    add_vapps(survey, vapps);
    add_lone_vms(survey);
    look_for_interrupted(survey);
    g_ptr_array_sort(survey->candidates, compare_candidates);
    return survey->candidates->len > 0 ||
           fail(
               error, ERROR_NOT_FOUND,
               "nothing can be failed over: there is no recovery point and no vApp of another site "
               "in %s; they come with `drctl replicate` there",
               survey->context->config->store);
}

/* --- both sites ------------------------------------------------------------------------------ */

GPtrArray *sites_ask_and_print(const struct site *site)
{
    const struct config *config = site->config;
    GPtrArray *peers = peers_ask(config, ASK_SITES_MS);
    g_autofree char *free_text = NULL;
    uint64_t free_bytes, total_bytes;

    if (disk_space(config->images, &free_bytes, &total_bytes, NULL))
        free_text = bytes_format(free_bytes);
    printf("\nSite %s, here: %u host%s, %s free for disks.\n", config->site, site->hosts->len,
           site->hosts->len == 1 ? "" : "s", free_text ? free_text : "?");
    for (unsigned i = 0; i < peers->len; i++) {
        const struct peer *peer = peers->pdata[i];

        if (peer->owners)
            printf("  Site %s ANSWERS: its VMs may still run.\n", peer->name);
        else
            print_wrapped("  ", "Site %s does not answer: %s.", peer->name, peer->why);
    }
    return peers;
}

bool runs_have_interrupted(const json_t *runs, const char *kind, const char *title)
{
    const json_t *run;
    size_t i;

    json_array_foreach((json_t *)runs, i, run)
    {
        if (g_strcmp0(json_get_string(run, "kind"), kind) == 0 &&
            g_strcmp0(json_get_string(run, "title"), title) == 0 &&
            g_strcmp0(json_get_string(run, "state"), run_state_name(RUN_INTERRUPTED)) == 0)
            return true;
    }
    return false;
}
