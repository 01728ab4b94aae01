/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/output.h"

#include <stdio.h>

static json_t *result_json(const struct archive_result *result)
{
    json_t *json = json_object(), *vms = json_array();

    json_set_string(json, "name", result->name);
    json_object_set_new(json, "is_vapp", json_boolean(result->is_vapp));
    json_set_string(json, "vapp_path", result->vapp_path);
    for (unsigned i = 0; i < result->vms->len; i++) {
        const struct archive_vm *vm = result->vms->pdata[i];
        json_t *entry = json_object();

        json_set_string(entry, "vm", vm->vm);
        json_set_string(entry, "uuid", vm->uuid);
        json_set_string(entry, "point", vm->point);
        json_set_u64(entry, "bytes", vm->bytes);
        json_object_set_new(entry, "was_already", json_boolean(vm->present));
        json_array_append_new(vms, entry);
    }
    json_object_set_new(json, "vms", vms);
    return json;
}

static void print_vms(const struct archive_result *result)
{
    static const char *const headers[] = {"VM", "POINT", ">BYTES", "", NULL};
    AUTO(table) table = table_new(headers);

    for (unsigned i = 0; i < result->vms->len; i++) {
        const struct archive_vm *vm = result->vms->pdata[i];
        g_autofree char *bytes = bytes_format(vm->bytes);

        table_row(table,
                  (const char *[]){vm->vm, vm->point, bytes, vm->present ? "is here already" : ""});
    }
    table_print(table);
}

/* --- export ---------------------------------------------------------------------------------- */

static bool cmd_export(struct context *context, GError **error)
{
    struct export_request request = {
        .name = context->args[0],
        .file = context->args[1],
        .point = option_value(context, "point"),
    };
    struct archive_result result = {0};
    json_auto_t *json = NULL;
    struct site site;

    if (!context_site(context, false, &site, error) ||
        !export_archive(&site, &request, &result, error))
        return false;
    progress_terminal_end(context->progress);
    json = result_json(&result);
    if (context->json) {
        print_json(json);
    } else {
        printf("%s %s is in %s:\n", result.is_vapp ? "vApp" : "VM", result.name, request.file);
        print_vms(&result);
        printf("At another site: drctl import %s\n", request.file);
    }
    archive_result_clear(&result);
    return true;
}

static const struct option export_options[] = {
    {"point", "POINT", "this recovery point of the VM; default: the newest"},
    {0},
};

/* --- import ---------------------------------------------------------------------------------- */

static void print_import(const struct import_request *request, const struct archive_result *result)
{
    if (request->dry_run) {
        printf("%s is whole. It would bring in %s %s:\n", request->file,
               result->is_vapp ? "vApp" : "VM", result->name);
        print_vms(result);
        if (result->vapp_path)
            printf("and define the vApp in %s\n", result->vapp_path);
        return;
    }
    printf("%s %s can be brought up here, from:\n", result->is_vapp ? "vApp" : "VM", result->name);
    print_vms(result);
    if (result->vapp_path)
        printf("The vApp is defined in %s\n", result->vapp_path);
    printf("Start it: drctl failover %s; or beside what is there: drctl restore %s --as NAME\n",
           result->name, ((const struct archive_vm *)result->vms->pdata[0])->vm);
}

static bool cmd_import(struct context *context, GError **error)
{
    struct import_request request = {
        .file = context->args[0],
        .as = option_value(context, "as"),
        .dry_run = option_set(context, "dry-run"),
    };
    struct archive_result result = {0};
    struct site site;
    bool done = context_site(context, false, &site, error) &&
                import_archive(&site, &request, &result, error);

    if (done) {
        progress_terminal_end(context->progress);
        if (context->json) {
            json_auto_t *json = result_json(&result);

            print_json(json);
        } else {
            print_import(&request, &result);
        }
    }
    archive_result_clear(&result);
    return done;
}

static const struct option import_options[] = {
    {"as", "NAME", "what the VM of an OVA, if it is one, is called here"},
    {"dry-run", NULL, "check the whole file and say what it would bring in; change nothing"},
    {0},
};

const struct command archive_commands[] = {
    {
        .name = "export",
        .args = "VM|VAPP FILE",
        .min_args = 2,
        .max_args = 2,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "a VM or a vApp as one file",
        .text = "Writes a recovery point of the VM, or of each VM of the vApp, into FILE.tar.zst: "
                "its\n"
                "disks, each as one qcow2 image, its definition and checksums. `drctl import`\n"
                "takes it in at another site; tar, qemu-img and virsh can use it as well.\n"
                "FILE.ova is for other platforms. The points are verified first.",
        .options = export_options,
        .run = cmd_export,
    },
    {
        .name = "import",
        .args = "FILE",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "take in what `drctl export` has written, or an OVA",
        .text = "The whole file is checked before anything is written. What it holds becomes "
                "recovery\n"
                "points of this site's store, from which `drctl failover` and `drctl restore` "
                "start.",
        .options = import_options,
        .run = cmd_import,
    },
    {0},
};
