/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/vm-results.h"

#include "drctl/output.h"

static double seconds_of(const struct vapp_result *result)
{
    return result->started_ms && result->finished_ms
               ? (double)(result->finished_ms - result->started_ms) / 1000
               : 0;
}

void vm_result_note(void *data, const struct vapp_result *result)
{
    struct context *context = data;
    g_autofree char *took = duration_format(seconds_of(result));

    switch (result->state) {
    case VAPP_VM_DONE:
        if (!result->was_already)
            progress_note(context->progress, "%s: done after %s", result->vm->name, took);
        break;
    case VAPP_VM_FAILED:
    case VAPP_VM_SKIPPED:
        progress_note(context->progress, "%s: %s: %s", result->vm->name,
                      vapp_vm_state_name(result->state), result->error);
        break;
    case VAPP_VM_STARTING:
    case VAPP_VM_UP:
        progress_note(context->progress, "%s: %s", result->vm->name,
                      vapp_vm_state_name(result->state));
        break;
    case VAPP_VM_WAITING:
        break;
    }
}

void vm_stop_note(void *data, const struct vapp_result *result)
{
    struct context *context = data;

    if (result->state == VAPP_VM_STARTING)
        progress_note(context->progress, "%s: stopping", result->vm->name);
    else
        vm_result_note(data, result);
}

json_t *vm_results_json(GPtrArray *results)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < results->len; i++) {
        const struct vapp_result *result = results->pdata[i];
        json_t *json = json_object();

        json_set_string(json, "vm", result->vm->name);
        json_set_string(json, "state", vapp_vm_state_name(result->state));
        json_object_set_new(json, "was_already", json_boolean(result->was_already));
        json_set_real(json, "seconds", seconds_of(result));
        json_set_string(json, "error", result->error);
        json_array_append_new(list, json);
    }
    return list;
}

void vm_results_print(GPtrArray *results, const double *rto_seconds)
{
    static const char *const headers[] = {">ORDER", "VM", "STATE", ">TOOK", "PROBLEM", NULL};
    static const char *const run_headers[] = {">ORDER", "VM",      "STATE", ">TOOK",
                                              ">RTO",   "PROBLEM", NULL};
    AUTO(table) table = table_new(rto_seconds ? run_headers : headers);

    for (unsigned i = 0; i < results->len; i++) {
        const struct vapp_result *result = results->pdata[i];
        g_autofree char *order = g_strdup_printf("%u", result->vm->order);
        g_autofree char *took = duration_format(seconds_of(result));
        double rto_s = rto_seconds ? rto_seconds[i] : 0;
        g_autofree char *rto = rto_s > 0 ? duration_format(rto_s) : NULL;
        bool nothing_done = result->was_already || !result->finished_ms;
        const char *problem = result->error         ? result->error
                              : result->was_already ? "was so already"
                                                    : "";

        table_row(table, (const char *[]){
                             order, result->vm->name, vapp_vm_state_name(result->state),
                             nothing_done ? NULL : took, rto_seconds ? rto : problem, problem});
    }
    table_print(table);
}
