/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/protected-plan.h"

json_t *protected_plan_json(const struct protected_vm *vm, const struct point_plan *plan)
{
    json_t *json = json_object(), *disks = json_array(), *skipped = json_array();

    json_set_string(json, "vm", vm->vm);
    json_set_string(json, "destination", vm->protection->destination);
    json_set_string(json, "base", plan->base);
    json_set_string(json, "reason", plan->reason);
    json_object_set_new(json, "disks", disks);
    json_object_set_new(json, "skipped", skipped);
    for (unsigned i = 0; i < plan->disks->len; i++) {
        const struct point_disk *disk = plan->disks->pdata[i];
        json_t *entry = json_object();

        json_set_string(entry, "target", disk->target);
        json_set_string(entry, "mode", disk_mode_name(disk->mode));
        if (disk->read_is_known)
            json_set_u64(entry, "dirty_bytes", disk->read_bytes);
        json_array_append_new(disks, entry);
    }
    for (char **text = plan->skipped; *text; text++)
        json_array_append_new(skipped, json_string(*text));
    return json;
}

void protected_plan_rows(struct table *table, const struct protected_vm *vm,
                         const struct point_plan *plan)
{
    for (unsigned i = 0; i < plan->disks->len; i++) {
        const struct point_disk *disk = plan->disks->pdata[i];
        g_autofree char *bytes = disk->read_is_known            ? bytes_format(disk->read_bytes)
                                 : disk->mode == DISK_INCREMENT ? g_strdup("what was written to")
                                                                : g_strdup("all that is allocated");

        table_row(table, (const char *[]){vm->vm, disk->target, vm->protection->destination,
                                          disk_mode_name(disk->mode), bytes, plan->reason});
    }
}
