/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "drctl/ask.h"
#include "drctl/failover-plan.h"
#include "drctl/output.h"
#include "drctl/verification.h"
#include "drctl/wizard.h"

#define ASK_SITES_MS 3000

/* Something that could be failed over: a recovery plan, a vApp, or a VM that is in neither. */
struct candidate {
    char *name;
    const char *what;
    GPtrArray *vms; /* char *: their names */
    /* Of the points and owners of its VMs. */
    char *site;        /* where they come from; NULL: there is no point */
    int64_t oldest_ms; /* of the newest point of each */
    unsigned with_points, here;
};

struct survey {
    struct context *context;
    struct site site;
    GPtrArray *points;  /* of struct manifest, newest first */
    GHashTable *newest; /* name of a VM -> struct manifest, borrowed from POINTS */
    GPtrArray *candidates;
    json_t *runs; /* of run_list() */
};

static void candidate_free(void *data)
{
    struct candidate *candidate = data;

    g_free(candidate->name);
    g_ptr_array_unref(candidate->vms);
    g_free(candidate->site);
    g_free(candidate);
}

static void survey_clear(struct survey *survey)
{
    g_clear_pointer(&survey->newest, g_hash_table_unref);
    g_clear_pointer(&survey->candidates, g_ptr_array_unref);
    g_clear_pointer(&survey->points, g_ptr_array_unref);
    g_clear_pointer(&survey->runs, json_decref);
}
#define AUTO_SURVEY __attribute__((cleanup(survey_clear))) struct survey

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

/* Those that can be started come first, then by name. */
static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *const *left = a, *const *right = b;
    bool left_done = (*left)->here == (*left)->vms->len;
    bool right_done = (*right)->here == (*right)->vms->len;

    if (left_done != right_done)
        return left_done ? 1 : -1;
    return strcmp((*left)->name, (*right)->name);
}

static bool survey_make(struct survey *survey, GError **error)
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
    g_ptr_array_sort(survey->candidates, compare_candidates);
    return survey->candidates->len > 0 ||
           fail(
               error, ERROR_NOT_FOUND,
               "nothing can be failed over: there is no recovery point and no vApp of another site "
               "in %s; they come with `drctl replicate` there",
               survey->context->config->store);
}

/* --- both sites ------------------------------------------------------------------------------ */

static void print_sites(const struct survey *survey)
{
    const struct config *config = survey->context->config;
    g_autoptr(GPtrArray) peers = peers_ask(config, ASK_SITES_MS);
    g_autofree char *free_text = NULL;
    uint64_t free_bytes, total_bytes;

    if (disk_space(config->images, &free_bytes, &total_bytes, NULL))
        free_text = bytes_format(free_bytes);
    printf("\nSite %s, here: %u host%s, %s free for disks.\n", config->site,
           survey->site.hosts->len, survey->site.hosts->len == 1 ? "" : "s",
           free_text ? free_text : "?");
    for (unsigned i = 0; i < peers->len; i++) {
        const struct peer *peer = peers->pdata[i];

        if (peer->owners)
            printf("  Site %s ANSWERS: its VMs may still run.\n", peer->name);
        else
            print_wrapped("  ", "Site %s does not answer: %s.", peer->name, peer->why);
    }
}

/* --- which one ------------------------------------------------------------------------------- */

/* Then all is decided already, and the same command goes on with it. */
static bool is_interrupted(const struct survey *survey, const struct candidate *candidate)
{
    const json_t *run;
    size_t i;

    json_array_foreach(survey->runs, i, run)
    {
        if (g_strcmp0(json_get_string(run, "kind"), "failover") == 0 &&
            g_strcmp0(json_get_string(run, "title"), candidate->name) == 0 &&
            g_strcmp0(json_get_string(run, "state"), run_state_name(RUN_INTERRUPTED)) == 0)
            return true;
    }
    return false;
}

/* What is known of its last check, without asking the hosts; g_free, or NULL. */
static char *check_text(const struct survey *survey, const struct candidate *candidate)
{
    g_autoptr(GPtrArray) no_hosts = g_ptr_array_new();
    struct site site = survey->site;
    AUTO(preflight) preflight = NULL;
    g_autofree char *expired = NULL;
    g_autofree char *age = NULL;

    site.hosts = no_hosts;
    if (!preflight_load(&site, candidate->name, &preflight, &expired, NULL) || !preflight)
        return NULL;
    if (preflight->blocked > 0)
        return g_strdup_printf("%u cannot start", preflight->blocked);
    if (expired)
        return g_strdup("check expired");
    age = wizard_age(preflight->checked_ms);
    return g_strdup_printf("checked %s ago", age);
}

static char *state_text(const struct survey *survey, const struct candidate *candidate)
{
    char *check;

    if (is_interrupted(survey, candidate))
        return g_strdup("INTERRUPTED, goes on");
    if (candidate->here == candidate->vms->len)
        return g_strdup("belongs to this site");
    if (candidate->with_points < candidate->vms->len)
        return g_strdup_printf("%u without a point", candidate->vms->len - candidate->with_points);
    check = check_text(survey, candidate);
    return check ? check : g_strdup("never checked");
}

static bool choose(struct survey *survey, const struct candidate **chosen, GError **error)
{
    static const char *const headers[] = {"NAME", "WHAT", "FROM", ">VMS", ">LOST", "STATE", NULL};
    AUTO(menu) menu = menu_new(headers);
    unsigned index;

    for (unsigned i = 0; i < survey->candidates->len; i++) {
        const struct candidate *candidate = survey->candidates->pdata[i];
        g_autofree char *vms = g_strdup_printf("%u", candidate->vms->len);
        g_autofree char *state = state_text(survey, candidate);
        g_autofree char *lost = candidate->with_points ? wizard_age(candidate->oldest_ms) : NULL;

        menu_add(menu, (const char *[]){candidate->name, candidate->what, candidate->site, vms,
                                        lost, state});
    }
    if (!menu_ask(menu, "Which one is to start here?", &index, error))
        return false;
    *chosen = survey->candidates->pdata[index];
    return true;
}

/* --- what it is started from, and where ------------------------------------------------------ */

static void print_points(const struct survey *survey, const struct candidate *candidate)
{
    static const char *const headers[] = {"VM",          "NEWEST POINT", ">AGE",
                                          "CONSISTENCY", "VERIFIED",     NULL};
    AUTO(table) table = table_new(headers);

    for (unsigned i = 0; i < candidate->vms->len; i++) {
        const char *vm = candidate->vms->pdata[i];
        const struct manifest *newest = g_hash_table_lookup(survey->newest, vm);
        AUTO_VERDICT verdict = {0};
        g_autofree char *age = NULL;
        g_autofree char *verified = NULL;

        if (newest) {
            verdict_of(survey->context, newest, &verdict);
            age = wizard_age(newest->time_ms);
        }
        verified = verdict_text(&verdict);
        table_row(table, (const char *[]){vm, newest ? newest->point : "none", age,
                                          newest ? consistency_name(newest->consistency) : NULL,
                                          verified});
    }
    putchar('\n');
    table_print(table);
}

static void print_networks(const struct recovery_plan *plan)
{
    for (unsigned i = 0; i < plan->networks->len; i++) {
        const struct plan_network *network = plan->networks->pdata[i];

        printf("Network %s: %s here.\n", network->name,
               network->disconnected ? "no cable"
               : network->target     ? network->target
                                     : "the same");
    }
}

/* Is there one that can be done without? */
static bool has_optional(const struct recovery_plan *plan)
{
    for (unsigned i = 0; i < plan->vms->len; i++)
        if (((const struct plan_vm *)plan->vms->pdata[i])->optional)
            return true;
    return false;
}

static bool ask_optional(struct context *context, const struct recovery_plan *plan, GError **error)
{
    bool skip = false;

    if (!has_optional(plan) || option_set(context, "skip-optional"))
        return true;
    if (!ask_yes("\nLeave out the VMs that the plan can do without?", false, &skip, error))
        return false;
    if (skip)
        wizard_set_option(context, "skip-optional", NULL);
    return true;
}

static bool look_closer(struct survey *survey, const struct candidate *candidate, GError **error)
{
    struct context *context = survey->context;
    AUTO(recovery_plan) plan = NULL;
    AUTO(preflight) preflight = NULL;

    wizard_set_argument(context, candidate->name);
    if (is_interrupted(survey, candidate))
        return true;
    print_points(survey, candidate);
    puts("\nLooking at the hosts ...");
    plan = recovery_plan_find(context->config->dir, candidate->name, error);
    preflight = plan ? preflight_run(&survey->site, candidate->name, error) : NULL;
    if (!preflight)
        return false;
    print_networks(plan);
    preflight_print_space(preflight);
    /* What is found of single VMs stands in the plan that follows. */
    preflight_print_findings(preflight, false);
    if (!ask_optional(context, plan, error))
        return false;
    putchar('\n');
    return true;
}

static void print_intro(const struct context *context)
{
    if (option_set(context, "test")) {
        puts("Tries whether VMs of another site would start here, with copies that are removed\n"
             "again. Questions come first. q or Ctrl-C leaves at any time.");
        return;
    }
    puts(option_set(context, "planned") ? "Moves VMs here that run at another site now."
                                        : "Starts the VMs of a lost site here.");
    puts("Questions come first: nothing is changed before you type a name at the end.\n"
         "q or Ctrl-C leaves at any time.");
}

bool wizard_failover(struct context *context, GError **error)
{
    AUTO_SURVEY survey = {.context = context};
    const struct candidate *candidate;

    print_intro(context);
    if (!survey_make(&survey, error))
        return false;
    print_sites(&survey);
    return choose(&survey, &candidate, error) && look_closer(&survey, candidate, error);
}
