/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "drctl/ask.h"
#include "drctl/candidates.h"
#include "drctl/failover-options.h"
#include "drctl/failover-plan.h"
#include "drctl/output.h"
#include "drctl/wizard-points.h"
#include "drctl/wizard-source.h"
#include "drctl/wizard.h"

/* --- which one ------------------------------------------------------------------------------- */

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

    if (candidate->interrupted)
        return g_strdup("INTERRUPTED, goes on");
    if (candidate->move_interrupted)
        return g_strdup("MOVE INTERRUPTED");
    if (candidate_is_here(candidate))
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

/* --- how it is started, and where ------------------------------------------------------------- */

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

static bool read_window(const struct context *context, GError **error)
{
    struct commit_policy policy = {0};
    bool said;

    return failover_read_policy(context, &policy, &said, error);
}

/* Also "0 s". */
static bool has_window(const struct context *context)
{
    struct commit_policy policy = {0};
    bool said;

    return failover_read_policy(context, &policy, &said, NULL) && policy.after_ms > 0;
}

/* A recovery plan may have said it. */
static bool ask_window(struct context *context, const struct recovery_plan *plan, GError **error)
{
    bool rolls_back = false;

    if (plan->commit.after_ms > 0 || option_set(context, "commit-after"))
        return true;
    puts("\nUntil it is committed, a failover can be taken back: drctl rollback.");
    if (!wizard_ask_option(context, "commit-after",
                           "For how long, such as 30min? 0s commits it at once", "0s", read_window,
                           error))
        return false;
    if (!has_window(context)) {
        g_hash_table_remove(context->options, "commit-after");
        return true;
    }
    if (!option_set(context, "on-timeout") &&
        !ask_yes("Take it back by itself when nobody commits it until then?", false, &rolls_back,
                 error))
        return false;
    if (rolls_back)
        wizard_set_option(context, "on-timeout", "rollback");
    return true;
}

static bool is_disaster(const struct context *context)
{
    return !option_set(context, "planned") && !option_set(context, "test");
}

/* What the hosts, and the recovery plan, have to say about it. */
static bool look_closer(struct survey *survey, const struct candidate *candidate, GError **error)
{
    struct context *context = survey->context;
    AUTO(recovery_plan) plan = NULL;
    AUTO(preflight) preflight = NULL;

    puts("\nLooking at the hosts ...");
    fflush(stdout);
    plan = recovery_plan_find(context->config->dir, candidate->name, error);
    preflight = plan ? preflight_run(&survey->site, candidate->name, error) : NULL;
    if (!preflight)
        return false;
    print_networks(plan);
    preflight_print_space(preflight);
    /* What is found of single VMs stands in the plan that follows. */
    preflight_print_findings(preflight, false);
    if ((!option_set(context, "planned") && !ask_optional(context, plan, error)) ||
        (is_disaster(context) && !ask_window(context, plan, error)))
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
    puts(option_set(context, "planned")
             ? "Moves VMs here that run at another site now."
             : "Starts VMs of another site here: it is lost, or they move, or it is only tried.");
    puts("Questions come first: nothing real changes before you type a name at the end.\n"
         "q or Ctrl-C leaves at any time.");
}

bool wizard_failover(struct context *context, GError **error)
{
    AUTO_SURVEY survey = {.context = context};
    const struct candidate *candidate;

    print_intro(context);
    if (!survey_make(&survey, error))
        return false;
    survey.peers = sites_ask_and_print(&survey.site);
    if (!choose(&survey, &candidate, error))
        return false;
    wizard_set_argument(context, candidate->name);
    /* Then all is decided already, and the same command goes on with it. */
    if (candidate->interrupted) {
        putchar('\n');
        return true;
    }
    wizard_points_print(&survey, candidate);
    return wizard_ask_how(&survey, candidate, error) &&
           wizard_points_ask(&survey, candidate, error) && look_closer(&survey, candidate, error);
}
