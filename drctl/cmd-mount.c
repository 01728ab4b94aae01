/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/output.h"

#include <stdio.h>

#define LOOK_US 200000

static json_t *result_json(const struct mount_result *result)
{
    json_t *json = json_object(), *disks = json_array();

    json_set_string(json, "vm", result->vm);
    json_set_string(json, "point", result->point);
    for (unsigned i = 0; i < result->disks->len; i++) {
        const struct mounted_disk *disk = result->disks->pdata[i];
        json_t *entry = json_object();

        json_set_string(entry, "disk", disk->target);
        json_set_string(entry, "uri", disk->uri);
        json_set_string(entry, "socket", disk->socket);
        json_set_u64(entry, "virtual_bytes", disk->virtual_bytes);
        json_array_append_new(disks, entry);
    }
    json_object_set_new(json, "disks", disks);
    return json;
}

static void print_result(const struct mount_result *result)
{
    const struct mounted_disk *first = result->disks->len ? result->disks->pdata[0] : NULL;

    printf("Point %s of %s, read-only, until Ctrl-C:\n", result->point, result->vm);
    for (unsigned i = 0; i < result->disks->len; i++) {
        const struct mounted_disk *disk = result->disks->pdata[i];
        g_autofree char *bytes = bytes_format(disk->virtual_bytes);

        printf("  %s  %s  (%s)\n", disk->target, disk->uri, bytes);
    }
    if (first)
        printf("For example: nbdinfo '%s', or as root:\n"
               "  modprobe nbd && nbd-client -unix %s -N %s -R /dev/nbd0 && "
               "mount -o ro /dev/nbd0p1 /mnt\n",
               first->uri, first->socket, first->target);
}

static bool cmd_mount(struct context *context, GError **error)
{
    struct mount_request request = {
        .what = context->args[0],
        .point = option_value(context, "point"),
        .disk = option_value(context, "disk"),
    };
    struct mount_result result = {0};
    struct site site;
    bool done = context_site(context, false, &site, error);
    AUTO(mount) mount = done ? mount_new(&site, &request, &result, error) : NULL;

    if (mount) {
        json_auto_t *json = result_json(&result);

        progress_terminal_end(context->progress);
        if (context->json)
            print_json_line(json);
        else
            print_result(&result);
        fflush(stdout);
    }
    mount_result_clear(&result);
    while (mount && interrupt_check(NULL)) {
        if (!mount_runs(mount, error))
            return false;
        g_usleep(LOOK_US);
    }
    return mount != NULL;
}

static const struct option mount_options[] = {
    {"point", "POINT", "this recovery point of the VM; default: the newest"},
    {"disk", "DISK", "only this disk, such as vda"},
    {0},
};

const struct command mount_commands[] = {
    {
        .name = "mount",
        .args = "VM|POINT",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "the disks of a recovery point over NBD, read-only",
        .text = "Serves the disks at unix sockets that only the same user can reach, says how each "
                "is\n"
                "called, and goes on until it is interrupted. The point stays as long.",
        .options = mount_options,
        .run = cmd_mount,
    },
    {0},
};
