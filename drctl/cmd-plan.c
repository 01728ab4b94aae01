/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/failover-plan.h"
#include "drctl/output.h"
#include "drctl/runbook.h"
#include "drctl/testing.h"
#include "drctl/windows.h"

#include <stdio.h>
#include <string.h>

/* --- the last check -------------------------------------------------------------------------- */

static char *verdict_text(const struct preflight *preflight)
{
    if (preflight->blocked > 0)
        return g_strdup_printf("%u of %u VMs cannot start", preflight->blocked, preflight->vms);
    return g_strdup_printf("%u VM%s can start", preflight->vms, preflight->vms == 1 ? "" : "s");
}

/* "3 VMs can start, checked 2 h 5 min ago" */
static char *check_text(const struct preflight *preflight, const char *expired)
{
    g_autofree char *verdict = preflight ? verdict_text(preflight) : NULL;
    g_autofree char *age =
        preflight ? duration_format((double)(time_now_ms() - preflight->checked_ms) / 1000) : NULL;

    if (!preflight)
        return g_strdup("never checked");
    if (expired)
        return g_strdup_printf("checked %s ago, %s", age, expired);
    return g_strdup_printf("%s, checked %s ago", verdict, age);
}

/* A site without a host that answers has plans all the same. */
static bool plan_site(struct context *context, struct site *site, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (!context_hosts(context, &cause)) {
        if (!context->config) {
            g_propagate_error(error, g_steal_pointer(&cause));
            return false;
        }
        fprintf(stderr, "hosts are not looked at: %s\n", cause->message);
    }
    if (!context_site(context, false, site, error))
        return false;
    if (cause)
        g_ptr_array_set_size(site->hosts, 0);
    return true;
}

static json_t *check_json(const struct preflight *preflight, const char *expired)
{
    json_t *json = preflight ? preflight_json(preflight) : json_null();

    if (preflight)
        json_set_string(json, "expired", expired);
    return json;
}

/* --- list ------------------------------------------------------------------------------------ */

static json_t *texts_json(char *const *texts)
{
    json_t *array = json_array();

    for (; texts && *texts; texts++)
        json_array_append_new(array, json_string(*texts));
    return array;
}

static json_t *head_json(const struct recovery_plan *plan)
{
    json_t *json = json_object();

    json_set_string(json, "plan", plan->name);
    json_set_string(json, "path", plan->path);
    json_object_set_new(json, "vapps", texts_json(plan->vapps));
    json_set_string(json, "site", plan->site);
    json_set_string(json, "storage", plan->storage);
    json_object_set_new(json, "contacts", texts_json(plan->contacts));
    json_object_set_new(json, "notes", texts_json(plan->notes));
    if (plan->hydrate < 0)
        json_set_string(json, "hydrate", NULL);
    else
        json_object_set_new(json, "hydrate", json_boolean(plan->hydrate == 1));
    commit_policy_json(&plan->commit, json);
    return json;
}

static void list_plan(const struct site *site, const struct recovery_plan *plan, const json_t *runs,
                      json_t *list, struct table *table)
{
    g_autofree char *tested = testing_text(runs, plan);
    AUTO(preflight) preflight = NULL;
    g_autofree char *expired = NULL;
    g_autofree char *vapps = g_strjoinv(", ", plan->vapps);
    g_autofree char *check = NULL;
    g_autoptr(GError) cause = NULL;
    json_t *json = head_json(plan);

    if (preflight_load(site, plan->name, &preflight, &expired, &cause))
        check = check_text(preflight, expired);
    else
        check = g_strdup(cause->message);
    json_object_set_new(json, "check", check_json(preflight, expired));
    json_set_string(json, "problem", cause ? cause->message : NULL);
    testing_describe(runs, plan, json);
    json_array_append_new(list, json);
    table_row(table, (const char *[]){plan->name, vapps, plan->site, tested, check});
}

static bool cmd_plan_list(struct context *context, GError **error)
{
    static const char *const headers[] = {"PLAN", "VAPPS", "FROM", "TESTED", "CHECK", NULL};
    AUTO(table) table = table_new(headers);
    json_auto_t *list = json_array();
    json_auto_t *runs = NULL;
    struct site site;
    g_autoptr(GPtrArray) plans =
        plan_site(context, &site, error) ? recovery_plan_load_all(site.config->dir, error) : NULL;

    if (!plans || !(runs = run_list(site.catalog, error)))
        return false;
    for (unsigned i = 0; i < plans->len; i++)
        list_plan(&site, plans->pdata[i], runs, list, table);
    if (context->json)
        print_json(list);
    else if (plans->len > 0)
        table_print(table);
    else
        fprintf(stderr,
                "There is no recovery plan in %s: each vApp has the default one; `drctl plan new "
                "VAPP` writes one.\n",
                context->config->dir);
    return true;
}

/* --- show ------------------------------------------------------------------------------------ */

static const char *network_target(const struct plan_network *network)
{
    return network->disconnected ? "disconnected"
           : network->target     ? network->target
                                 : network->name;
}

static char *rules_text(const struct plan_network *network)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < network->rules->len; i++) {
        g_autofree char *rule = ip_rule_text(&g_array_index(network->rules, struct ip_rule, i));

        g_string_append_printf(text, "%s%s", i ? ", " : "", rule);
    }
    return g_strdup(text->str);
}

static json_t *network_json(const struct plan_network *network)
{
    json_t *json = json_object(), *rules = json_array();

    json_set_string(json, "network", network->name);
    json_set_string(json, "target", network->disconnected ? NULL : network_target(network));
    json_set_string(json, "test", network->test_disconnected ? "disconnected" : "isolated");
    for (unsigned i = 0; i < network->rules->len; i++) {
        g_autofree char *rule = ip_rule_text(&g_array_index(network->rules, struct ip_rule, i));

        json_array_append_new(rules, json_string(rule));
    }
    json_object_set_new(json, "addresses", rules);
    json_set_string(json, "gateway", network->gateway);
    json_object_set_new(json, "dns", texts_json(network->dns));
    return json;
}

static json_t *vm_json(const struct plan_vm *vm)
{
    json_t *json = json_object(), *addresses = json_object();

    json_set_string(json, "vm", vm->name);
    json_set_string(json, "host", vm->host);
    json_set_string(json, "storage", vm->storage);
    if (vm->memory_bytes)
        json_set_u64(json, "memory_bytes", vm->memory_bytes);
    else
        json_set_string(json, "memory_bytes", NULL);
    if (vm->cpus)
        json_set_u64(json, "cpus", vm->cpus);
    else
        json_set_string(json, "cpus", NULL);
    json_object_set_new(json, "optional", json_boolean(vm->optional));
    json_object_set_new(json, "apart", texts_json(vm->apart));
    json_object_set_new(json, "together", texts_json(vm->together));
    for (unsigned i = 0; i < vm->addresses->len; i++) {
        const struct plan_address *address = vm->addresses->pdata[i];
        g_autofree char *text = ip_prefix_text(&address->address);

        json_set_string(addresses, address->nic, text);
    }
    json_object_set_new(json, "addresses", addresses);
    json_set_string(json, "before", vm->before);
    json_set_string(json, "after", vm->after);
    json_set_string(json, "in_guest", vm->in_guest);
    json_set_real(json, "hook_timeout_seconds", (double)vm->hook_timeout_ms / 1000);
    return json;
}

static json_t *plan_json(const struct recovery_plan *plan)
{
    json_t *json = head_json(plan), *networks = json_array(), *vms = json_array();

    for (unsigned i = 0; i < plan->networks->len; i++)
        json_array_append_new(networks, network_json(plan->networks->pdata[i]));
    json_object_set_new(json, "networks", networks);
    for (unsigned i = 0; i < plan->vms->len; i++)
        json_array_append_new(vms, vm_json(plan->vms->pdata[i]));
    json_object_set_new(json, "vms", vms);
    return json;
}

static void print_networks(const struct recovery_plan *plan)
{
    static const char *const headers[] = {"NETWORK", "HERE", "ADDRESSES", NULL};
    AUTO(table) table = table_new(headers);

    for (unsigned i = 0; i < plan->networks->len; i++) {
        const struct plan_network *network = plan->networks->pdata[i];
        g_autofree char *rules = rules_text(network);

        table_row(table, (const char *[]){network->name, network_target(network),
                                          *rules ? rules : "as they are"});
    }
    if (plan->networks->len > 0) {
        puts("");
        table_print(table);
    }
}

/* What is not as it was, in words; NULL: nothing. g_free */
static char *vm_text(const struct plan_vm *vm)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *memory = bytes_format(vm->memory_bytes);
    g_autofree char *apart = g_strjoinv(", ", vm->apart);
    g_autofree char *together = g_strjoinv(", ", vm->together);

    if (vm->optional)
        g_ptr_array_add(words, g_strdup("optional"));
    if (vm->memory_bytes)
        g_ptr_array_add(words, g_strdup_printf("%s of memory", memory));
    if (vm->cpus)
        g_ptr_array_add(words, g_strdup_printf("%u CPU%s", vm->cpus, vm->cpus == 1 ? "" : "s"));
    if (*apart)
        g_ptr_array_add(words, g_strdup_printf("apart from %s", apart));
    if (*together)
        g_ptr_array_add(words, g_strdup_printf("together with %s", together));
    if (vm->storage)
        g_ptr_array_add(words, g_strdup_printf("disks in %s", vm->storage));
    if (vm->addresses->len > 0)
        g_ptr_array_add(words, g_strdup("addresses of its own"));
    if (vm->before || vm->after || vm->in_guest)
        g_ptr_array_add(words, g_strdup("hooks"));
    g_ptr_array_add(words, NULL);
    return words->len > 1 ? g_strjoinv("; ", (char **)words->pdata) : NULL;
}

static void print_vms(const struct recovery_plan *plan)
{
    static const char *const headers[] = {"VM", "HOST", "CHANGES", NULL};
    AUTO(table) table = table_new(headers);

    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct plan_vm *vm = plan->vms->pdata[i];
        g_autofree char *text = vm_text(vm);

        table_row(table, (const char *[]){vm->name, vm->host ? vm->host : "any", text});
    }
    if (plan->vms->len > 0) {
        puts("");
        table_print(table);
    }
}

static void print_plan(const struct recovery_plan *plan, const json_t *runs,
                       const struct preflight *preflight, const char *expired)
{
    g_autofree char *tested = testing_text(runs, plan);
    g_autofree char *vapps = g_strjoinv(", then ", plan->vapps);
    g_autofree char *check = check_text(preflight, expired);
    g_autofree char *policy = commit_policy_text(&plan->commit, plan->name);

    printf("Plan %s (%s) brings up %s%s%s.\n", plan->name,
           plan->path ? plan->path : "the default: there is no file", vapps,
           plan->site ? " of site " : "", plan->site ? plan->site : "");
    if (plan->storage)
        printf("The disks go to %s.\n", plan->storage);
    if (policy)
        printf("Its failovers are not committed at once: %s.\n", policy);
    print_networks(plan);
    print_vms(plan);
    printf("\nLast tested: %s.\nCheck: %s.\n", tested, check);
}

static bool cmd_plan_show(struct context *context, GError **error)
{
    struct site site;
    AUTO(recovery_plan)
    plan = plan_site(context, &site, error)
               ? recovery_plan_find(site.config->dir, context->args[0], error)
               : NULL;
    AUTO(preflight) preflight = NULL;
    json_auto_t *runs = NULL;
    g_autofree char *expired = NULL;

    if (!plan || !recovery_plan_is_known(&site, plan, error) ||
        !preflight_load(&site, plan->name, &preflight, &expired, error) ||
        !(runs = run_list(site.catalog, error)))
        return false;
    if (context->json) {
        json_auto_t *json = plan_json(plan);

        json_object_set_new(json, "check", check_json(preflight, expired));
        testing_describe(runs, plan, json);
        print_json(json);
    } else {
        print_plan(plan, runs, preflight, expired);
    }
    return true;
}

/* --- new ------------------------------------------------------------------------------------- */

static bool cmd_plan_new(struct context *context, GError **error)
{
    struct site site;
    g_autofree char *text = context_site(context, true, &site, error)
                                ? recovery_plan_draft(&site, context->args[0], error)
                                : NULL;
    g_autofree char *path = NULL;

    if (!text)
        return false;
    if (option_set(context, "dry-run")) {
        fputs(text, stdout);
        return true;
    }
    if (!recovery_plan_write(site.config->dir, context->args[0], text, &path, error))
        return false;
    printf("%s\n", path);
    fprintf(stderr, "Edit it, then: drctl plan check %s\n", context->args[0]);
    return true;
}

/* --- check ----------------------------------------------------------------------------------- */

static void print_hosts(const struct preflight *preflight)
{
    static const char *const headers[] = {"HOST", ">VMS", ">CPUS", ">MEMORY", ">FREE", NULL};
    AUTO(table) table = table_new(headers);

    for (unsigned i = 0; i < preflight->hosts->len; i++) {
        const struct preflight_host *host = preflight->hosts->pdata[i];
        g_autofree char *vms = g_strdup_printf("%u", host->vms);
        g_autofree char *cpus = g_strdup_printf("%u", host->cpus);
        g_autofree char *memory = bytes_format(host->memory_bytes);
        g_autofree char *left =
            host->free_bytes == UINT64_MAX ? NULL : bytes_format(host->free_bytes);

        table_row(table, (const char *[]){host->name, vms, cpus, memory, left});
    }
    table_print(table);
}

static void print_check(const struct preflight *preflight)
{
    g_autofree char *verdict = verdict_text(preflight);

    print_hosts(preflight);
    puts("");
    preflight_print_space(preflight);
    if (preflight->findings->len > 0)
        puts("");
    preflight_print_findings(preflight, true);
    printf("\n%s: %s.\n", preflight->plan, verdict);
}

static bool cmd_plan_check(struct context *context, GError **error)
{
    struct site site;
    AUTO(preflight)
    preflight = context_site_in_need(context, &site, error)
                    ? preflight_run(&site, context->args[0], error)
                    : NULL;

    if (!preflight)
        return false;
    if (context->json) {
        json_auto_t *json = preflight_json(preflight);

        print_json(json);
    } else {
        print_check(preflight);
    }
    fflush(stdout);
    if (preflight->blocked == 0)
        return true;
    return fail(error, preflight->blocked < preflight->vms ? ERROR_PARTIAL : ERROR_FAILED,
                "plan %s: %u of %u VMs cannot start here", preflight->plan, preflight->blocked,
                preflight->vms);
}

/* --- runbook --------------------------------------------------------------------------------- */

#define RUNBOOK_MODE 0644 /* it is for a drawer */

static bool cmd_plan_runbook(struct context *context, GError **error)
{
    const char *path = option_value(context, "html");
    struct site site;
    AUTO(recovery_plan)
    plan = context_site(context, false, &site, error)
               ? recovery_plan_find(site.config->dir, context->args[0], error)
               : NULL;
    AUTO(sheet) sheet = NULL;
    g_autofree char *text = NULL;

    if (!plan || !recovery_plan_is_known(&site, plan, error))
        return false;
    sheet = runbook_sheet(&site, plan, error);
    if (!sheet)
        return false;
    text = path ? sheet_html(sheet) : sheet_plain(sheet);
    if (path)
        return file_write(path, text, strlen(text), RUNBOOK_MODE, error);
    fputs(text, stdout);
    return true;
}

/* --------------------------------------------------------------------------------------------- */

static const struct option runbook_options[] = {
    {"html", "FILE", "write it into FILE instead, a page that needs nothing else and prints well"},
    {0},
};

static const struct option new_options[] = {
    {"dry-run", NULL, "print the plan, write nothing"},
    {0},
};

const struct command plan_commands[] = {
    {
        .name = "plan list",
        .args = "",
        .flags = COMMAND_JSON,
        .summary = "the recovery plans of this site, and whether they were checked",
        .run = cmd_plan_list,
    },
    {
        .name = "plan show",
        .args = "PLAN|VAPP",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON,
        .summary = "what a recovery plan says, and its last check",
        .run = cmd_plan_show,
    },
    {
        .name = "plan new",
        .args = "VAPP|VM",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_CHANGES,
        .summary = "write a recovery plan, made of what is known about the VMs",
        .text = "Goes into the configuration directory; an existing plan is never replaced.",
        .options = new_options,
        .run = cmd_plan_new,
    },
    {
        .name = "plan runbook",
        .args = "PLAN|VAPP",
        .min_args = 1,
        .max_args = 1,
        .summary = "all that somebody must know to carry out a plan, for paper",
        .text = "What is brought up, from where, in which order, who is to be called, each "
                "command, and\n"
                "what to do by hand where there is no drctl. Print it anew when the plan changes.",
        .options = runbook_options,
        .run = cmd_plan_runbook,
    },
    {
        .name = "plan check",
        .args = "PLAN|VAPP",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON,
        .summary = "would the VMs of a plan start here, now? Touches nothing",
        .text =
            "Compares them with what the hosts can do: machine types, CPUs, firmware, networks,\n"
            "memory, space. Each finding has its remedy. The result is kept and expires when\n"
            "the plan, the VMs or the hosts change. Exit status 3 when some VM cannot start,\n"
            "1 when none can.",
        .run = cmd_plan_check,
    },
    {0},
};
