/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/jobs.h"
#include "drctl/guard.h"
#include "drctl/output.h"
#include "drctl/vm-results.h"

#include <stdio.h>

static json_t *vm_json(const struct vapp_vm *vm)
{
    json_t *json = json_object(), *after = json_array();

    json_set_string(json, "vm", vm->name);
    json_set_u64(json, "order", vm->order);
    for (char **name = vm->after; *name; name++)
        json_array_append_new(after, json_string(*name));
    json_object_set_new(json, "after", after);
    json_set_string(json, "ready", vm->ready_text);
    json_set_real(json, "delay_seconds", (double)vm->delay_ms / 1000);
    json_set_real(json, "ready_timeout_seconds", (double)vm->ready_timeout_ms / 1000);
    json_set_real(json, "ready_interval_seconds", (double)vm->ready_interval_ms / 1000);
    if (vm->ready_retries == READY_RETRIES_ANY)
        json_set_string(json, "ready_retries", NULL);
    else
        json_set_u64(json, "ready_retries", vm->ready_retries);
    return json;
}

static json_t *vapp_json(const struct vapp *vapp)
{
    json_t *json = json_object(), *vms = json_array();

    json_set_string(json, "vapp", vapp->name);
    json_set_string(json, "path", vapp->path);
    for (unsigned i = 0; i < vapp->vms->len; i++)
        json_array_append_new(vms, vm_json(vapp->vms->pdata[i]));
    json_object_set_new(json, "vms", vms);
    return json;
}

/* "db, app, web" in start order; g_free */
static char *vm_names(const struct vapp *vapp)
{
    GString *names = g_string_new(NULL);

    for (unsigned i = 0; i < vapp->vms->len; i++)
        g_string_append_printf(names, "%s%s", i ? ", " : "",
                               ((struct vapp_vm *)vapp->vms->pdata[i])->name);
    return g_string_free(names, FALSE);
}

static bool cmd_vapp_list(struct context *context, GError **error)
{
    static const char *const headers[] = {"VAPP", "VMS IN START ORDER", "FILE", NULL};
    AUTO(table) table = table_new(headers);
    json_auto_t *list = json_array();
    struct site site;
    g_autoptr(GPtrArray) vapps =
        context_site(context, false, &site, error) ? site_vapps(&site, error) : NULL;

    if (!vapps)
        return false;
    for (unsigned i = 0; i < vapps->len; i++) {
        const struct vapp *vapp = vapps->pdata[i];
        g_autofree char *names = vm_names(vapp);

        json_array_append_new(list, vapp_json(vapp));
        table_row(table, (const char *[]){vapp->name, names, vapp->path});
    }
    if (context->json)
        print_json(list);
    else if (vapps->len > 0)
        table_print(table);
    else
        fprintf(stderr,
                "No vApp is known here; this site's own are %s/*.vapp, see drctl-vapp(5).\n",
                context->config->dir);
    return true;
}

static struct vapp *named_vapp(struct context *context, GError **error)
{
    struct site site;

    return context_site(context, false, &site, error) ? site_vapp(&site, context->args[0], error)
                                                      : NULL;
}

/* That is acted on here; or a single VM that is here. */
static struct vapp *named_vapp_or_vm(struct context *context, GError **error)
{
    g_autoptr(GError) unknown = NULL;
    struct site site;
    struct vapp *vapp;
    AUTO(domain) domain = NULL;

    if (!context_site(context, true, &site, error))
        return NULL;
    vapp = site_vapp_here(&site, context->args[0], &unknown);
    if (vapp)
        return vapp;
    if (error_is(unknown, ERROR_NOT_FOUND))
        domain = find_domain(context->hosts, context->args[0], NULL);
    if (domain)
        return vapp_single(domain_name(domain));
    g_propagate_error(error, g_steal_pointer(&unknown));
    return NULL;
}

static bool cmd_vapp_show(struct context *context, GError **error)
{
    static const char *const headers[] = {">ORDER",   "VM",     "AFTER", "READY",
                                          ">TIMEOUT", ">DELAY", NULL};
    AUTO(vapp) vapp = named_vapp(context, error);
    AUTO(table) table = table_new(headers);

    if (!vapp)
        return false;
    if (context->json) {
        json_auto_t *json = vapp_json(vapp);

        print_json(json);
        return true;
    }
    for (unsigned i = 0; i < vapp->vms->len; i++) {
        const struct vapp_vm *vm = vapp->vms->pdata[i];
        g_autofree char *order = g_strdup_printf("%u", vm->order);
        g_autofree char *after = g_strjoinv(", ", vm->after);
        g_autofree char *timeout = duration_format((double)vm->ready_timeout_ms / 1000);
        g_autofree char *delay = duration_format((double)vm->delay_ms / 1000);

        table_row(table, (const char *[]){order, vm->name, *after ? after : NULL, vm->ready_text,
                                          vm->ready == READY_NONE ? NULL : timeout,
                                          vm->delay_ms ? delay : NULL});
    }
    table_print(table);
    return true;
}

/* --- start and stop -------------------------------------------------------------------------- */

typedef void vapp_report_fn(void *context, const struct vapp_result *result);
typedef bool vapp_action_fn(const struct vapp *vapp, GPtrArray *hosts, vapp_report_fn *report,
                            void *context, GPtrArray **results, GError **error);

static bool act(struct context *context, const char *verb, vapp_action_fn *action,
                vapp_report_fn *report, GError **error)
{
    AUTO(vapp) vapp = named_vapp_or_vm(context, error);
    g_autoptr(GPtrArray) results = NULL;
    json_auto_t *json = json_object();
    bool ok;

    if (!vapp)
        return false;
    ok = action(vapp, context->hosts, report, context, &results, error);
    if (!results)
        return false;
    progress_terminal_end(context->progress);
    json_set_string(json, "vapp", vapp->name);
    json_set_string(json, "action", verb);
    json_object_set_new(json, "vms", vm_results_json(results));
    if (context->json)
        print_json(json);
    else
        vm_results_print(results, NULL);
    return ok;
}

/* Libvirt's hook would refuse them as well, but there is none in session mode; and a vApp without some of its
 * VMs is not what was asked for. */
static bool check_guard(struct context *context, GError **error)
{
    AUTO(vapp) vapp = named_vapp_or_vm(context, error);

    if (!vapp)
        return false;
    for (unsigned i = 0; i < vapp->vms->len; i++) {
        const struct vapp_vm *vm = vapp->vms->pdata[i];
        AUTO(domain) domain = find_domain(context->hosts, vm->name, NULL);
        g_autofree char *why = NULL;

        if (domain && !guard_permits(context->config, domain_uuid(domain), true, &why))
            return fail(error, ERROR_CONFLICT, "nothing is started: %s", why);
    }
    return true;
}

static bool cmd_vapp_start(struct context *context, GError **error)
{
    return check_guard(context, error) &&
           act(context, "start", vapp_start_domains, vm_result_note, error);
}

static bool cmd_vapp_stop(struct context *context, GError **error)
{
    return act(context, "stop", vapp_stop_domains, vm_stop_note, error);
}

/* --- status ---------------------------------------------------------------------------------- */

static void status_of_vm(struct context *context, const struct vapp_vm *vm, json_t *list,
                         struct table *table)
{
    g_autoptr(GError) error = NULL;
    AUTO(domain) domain = find_domain(context->hosts, vm->name, &error);
    enum domain_state state = DOMAIN_OFF;
    bool known = domain && domain_state(domain, &state, &error);
    bool ready = known && state == DOMAIN_RUNNING && vapp_is_ready(vm, domain);
    const char *text = !domain ? "not here" : known ? domain_state_name(state) : "unknown";
    g_autofree char *order = g_strdup_printf("%u", vm->order);
    json_t *json = json_object();

    json_set_string(json, "vm", vm->name);
    json_set_string(json, "uuid", domain ? domain_uuid(domain) : NULL);
    json_set_u64(json, "order", vm->order);
    json_set_string(json, "state", text);
    json_object_set_new(json, "ready", json_boolean(ready));
    json_set_string(json, "error", error ? error->message : NULL);
    json_array_append_new(list, json);
    table_row(table, (const char *[]){order, vm->name, text, ready ? "yes" : "no",
                                      error ? error->message : ""});
}

static bool cmd_vapp_status(struct context *context, GError **error)
{
    static const char *const headers[] = {">ORDER", "VM", "STATE", "READY", "PROBLEM", NULL};
    AUTO(vapp) vapp = named_vapp_or_vm(context, error);
    AUTO(table) table = table_new(headers);
    json_auto_t *list = json_array();

    if (!vapp)
        return false;
    for (unsigned i = 0; i < vapp->vms->len; i++)
        status_of_vm(context, vapp->vms->pdata[i], list, table);
    if (context->json)
        print_json(list);
    else
        table_print(table);
    return true;
}

/* --------------------------------------------------------------------------------------------- */

const struct command vapp_commands[] = {
    {
        .name = "vapp list",
        .args = "",
        .flags = COMMAND_JSON,
        .summary = "the vApps that this site has or has been told of",
        .run = cmd_vapp_list,
    },
    {
        .name = "vapp show",
        .args = "VAPP",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON,
        .summary = "the VMs of a vApp in the order in which they start",
        .run = cmd_vapp_show,
    },
    {
        .name = "vapp start",
        .args = "VAPP|VM",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "start the VMs of a vApp in order and wait until each is ready",
        .text =
            "VMs that run already are left alone. Exit status 3 when some VM did not come up, 1\n"
            "when none did.",
        .run = cmd_vapp_start,
    },
    {
        .name = "vapp stop",
        .args = "VAPP|VM",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "shut the VMs of a vApp down in reverse order",
        .run = cmd_vapp_stop,
    },
    {
        .name = "vapp status",
        .args = "VAPP|VM",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON,
        .summary = "which VMs of a vApp run and are ready",
        .run = cmd_vapp_status,
    },
    {0},
};
