/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/guard.h"
#include "drctl/jobs.h"
#include "drctl/output.h"

#include <stdio.h>

/* The VMs of vApp NAME, or the VM; char *. */
static GPtrArray *named_vms(const struct site *site, const char *name, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) why = NULL;
    AUTO(vapp) vapp = site_vapp_here(site, name, &why);

    if (!vapp && !error_is(why, ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    if (!vapp)
        g_ptr_array_add(names, g_strdup(name));
    for (unsigned i = 0; vapp && i < vapp->vms->len; i++)
        g_ptr_array_add(names, g_strdup(((const struct vapp_vm *)vapp->vms->pdata[i])->name));
    return g_steal_pointer(&names);
}

/* ---- One VM */

struct fencing {
    struct context *context;
    struct claim *claim; /* to release; NULL: to fence */
    json_t *results;
    unsigned failed;
};

static bool fence_one(struct fencing *fencing, const char *name, json_t *json, GError **error)
{
    struct context *context = fencing->context;
    AUTO(domain) domain = find_domain(context->hosts, name, error);
    enum domain_state state;

    if (!domain || !domain_state(domain, &state, error))
        return false;
    json_set_string(json, "uuid", domain_uuid(domain));
    json_set_string(json, "was", domain_state_name(state));
    if (option_set(context, "dry-run"))
        return true;
    if (!fencing->claim)
        return guard_fence(context->config, domain, error);
    claim_add(fencing->claim, domain_uuid(domain), name);
    return claim_take(fencing->claim, NULL, error);
}

static void fence(struct fencing *fencing, const char *name)
{
    g_autoptr(GError) why = NULL;
    json_t *json = json_object();

    json_set_string(json, "vm", name);
    if (!fence_one(fencing, name, json, &why)) {
        fencing->failed++;
        progress_note(fencing->context->progress, "%s: %s", name, why->message);
    }
    json_set_string(json, "error", why ? why->message : NULL);
    json_array_append_new(fencing->results, json);
}

/* ---- The command */

static void print_results(const struct context *context, json_t *results)
{
    static const char *const headers[] = {"VM", "WAS", "NOW", NULL};
    AUTO(table) table = table_new(headers);
    const char *now = option_set(context, "dry-run")   ? "not changed"
                      : option_set(context, "release") ? "may start here"
                                                       : "off, and must not start here";
    size_t i;
    json_t *json;

    json_array_foreach(results, i, json)
        table_row(table, (const char *[]){json_get_string(json, "vm"), json_get_string(json, "was"),
                                          json_get_string(json, "error") ? "FAILED" : now});
    table_print(table);
}

static bool confirm_fence(struct context *context, const char *name, GError **error)
{
    bool release = option_set(context, "release");
    g_autofree char *question = g_strdup_printf(
        release
            ? "%s is to belong to this site: it must not run at any other.\nType its name (%s):"
            : "The plug of %s is pulled, and it cannot start here any more.\nType its name (%s):",
        name, name);

    return option_set(context, "yes") || option_set(context, "dry-run") ||
           confirm(question, name, "--yes", error);
}

static bool cmd_fence(struct context *context, GError **error)
{
    const char *name = context->args[0];
    json_auto_t *results = json_array();
    struct fencing fencing = {.context = context, .results = results};
    struct site site;

    if (!context_site(context, true, &site, error))
        return false;
    g_autoptr(GPtrArray) names = named_vms(&site, name, error);

    if (!names || !confirm_fence(context, name, error))
        return false;
    if (option_set(context, "release") && !option_set(context, "dry-run"))
        fencing.claim = claim_new(&site, NULL);
    for (unsigned i = 0; i < names->len; i++)
        fence(&fencing, names->pdata[i]);
    claim_free(fencing.claim);
    if (context->json)
        print_json(results);
    else
        print_results(context, results);
    if (fencing.failed == 0)
        return true;
    return fail(error, fencing.failed == names->len ? ERROR_FAILED : ERROR_PARTIAL,
                "%u of %u VMs could not be %s", fencing.failed, names->len,
                option_set(context, "release") ? "released" : "fenced");
}

static const struct option fence_options[] = {
    {"release", NULL, "take it back: the VM belongs to this site, and may start here"},
    {"yes", NULL, "do not ask"},
    {"dry-run", NULL, "say which VMs, change nothing"},
    {0},
};

const struct command fence_commands[] = {
    {
        .name = "fence",
        .args = "VM|VAPP",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "stop VMs here for good, because they run at another site",
        .text =
            "Puts down that the VM must not start here, takes its autostart away, and pulls its "
            "plug. The\nguard (drctl guard install) refuses its start until the VM comes home "
            "(drctl failback) or\nis failed over to here, or until --release, which makes this "
            "site "
            "its owner by a newer epoch.",
        .options = fence_options,
        .run = cmd_fence,
    },
    {0},
};
