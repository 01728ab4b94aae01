/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/output.h"

#include <stdio.h>
#include <string.h>

static const char *const kind_names[] = {"file", "directory", "link", "other"};

/* Whatever bytes a guest gives a name; g_free. */
static char *name_text(const char *name)
{
    char *text = g_utf8_make_valid(name, -1);

    for (char *c = text; *c; c++)
        if (g_ascii_iscntrl(*c))
            *c = '?';
    return text;
}

static json_t *systems_json(const struct files_result *result)
{
    json_t *systems = json_array();

    for (unsigned i = 0; i < result->systems->len; i++) {
        const struct file_system *system = result->systems->pdata[i];
        json_t *entry = json_object();

        json_set_u64(entry, "partition", system->partition);
        json_set_string(entry, "type", system->type);
        json_set_u64(entry, "offset", system->offset);
        json_set_u64(entry, "bytes", system->bytes);
        json_array_append_new(systems, entry);
    }
    return systems;
}

static json_t *result_json(const struct files_result *result)
{
    json_t *json = json_object(), *files = json_array();

    json_set_string(json, "vm", result->vm);
    json_set_string(json, "point", result->point);
    json_object_set_new(json, "partitions", systems_json(result));
    for (unsigned i = 0; i < result->entries->len; i++) {
        const struct file_entry *file = result->entries->pdata[i];
        g_autofree char *path = name_text(file->path);
        g_autofree char *copy = file->copy ? name_text(file->copy) : NULL;
        json_t *entry = json_object();

        json_set_string(entry, "path", path);
        json_set_string(entry, "kind", kind_names[file->kind]);
        json_set_u64(entry, "bytes", file->bytes);
        json_set_string(entry, "copy", copy);
        json_array_append_new(files, entry);
    }
    json_object_set_new(json, "files", files);
    json_set_u64(json, "missed", result->missed);
    return json;
}

static void print_systems(const struct files_result *result)
{
    static const char *const headers[] = {">PARTITION", "TYPE", ">SIZE", NULL};
    AUTO(table) table = table_new(headers);

    for (unsigned i = 0; i < result->systems->len; i++) {
        const struct file_system *system = result->systems->pdata[i];
        g_autofree char *number = g_strdup_printf("%u", system->partition);
        g_autofree char *bytes = bytes_format(system->bytes);

        table_row(table, (const char *[]){number, system->type, bytes});
    }
    table_print(table);
}

static void print_files(const struct files_result *result)
{
    static const char *const headers[] = {"KIND", ">SIZE", "PATH", "COPIED TO", NULL};
    AUTO(table) table = table_new(headers);

    for (unsigned i = 0; i < result->entries->len; i++) {
        const struct file_entry *file = result->entries->pdata[i];
        g_autofree char *path = name_text(file->path);
        g_autofree char *copy = file->copy ? name_text(file->copy) : NULL;
        g_autofree char *bytes = file->kind == FILE_PLAIN ? bytes_format(file->bytes) : NULL;

        table_row(table, (const char *[]){kind_names[file->kind], bytes, path, copy});
    }
    table_print(table);
}

/* "VM:DISK"; *DISK lies in WHAT, which is cut there. */
static bool parse_subject(char *what, const char **disk, GError **error)
{
    char *colon = strrchr(what, ':');

    if (!colon || colon == what || !colon[1])
        return fail(error, ERROR_USAGE,
                    "which disk? As VM:DISK or POINT:DISK, such as db:vda; `drctl points --json` "
                    "lists them");
    *colon = '\0';
    *disk = colon + 1;
    return true;
}

static bool parse_partition(struct files_request *request, const char *text, GError **error)
{
    uint64_t number;

    if (!text)
        return true;
    if (!g_ascii_string_to_unsigned(text, 10, 0, 1000, &number, NULL))
        return fail(error, ERROR_USAGE, "--partition %s: a number is meant", text);
    request->has_partition = true;
    request->partition = (unsigned)number;
    return true;
}

static bool execute(struct context *context, const struct files_request *request, GError **error)
{
    struct files_result result = {0};
    struct site site;
    bool done =
        context_site(context, false, &site, error) && files_execute(&site, request, &result, error);

    progress_terminal_end(context->progress);
    if (done && context->json) {
        json_auto_t *json = result_json(&result);

        print_json(json);
    } else if (done) {
        if (*request->paths)
            print_files(&result);
        else
            print_systems(&result);
    }
    if (done && result.missed)
        done = fail(error, ERROR_PARTIAL, "%u files or directories are not whole, see above",
                    result.missed);
    files_result_clear(&result);
    return done;
}

static bool cmd_files(struct context *context, GError **error)
{
    struct files_request request = {
        .what = context->args[0],
        .point = option_value(context, "point"),
        .paths = context->args + 1,
        .to_dir = option_value(context, "to"),
    };

    if (!parse_subject(context->args[0], &request.disk, error) ||
        !parse_partition(&request, option_value(context, "partition"), error))
        return false;
    if (request.to_dir && !*request.paths)
        return fail(error, ERROR_USAGE, "--to needs at least one path");
    return execute(context, &request, error);
}

static const struct option files_options[] = {
    {"point", "POINT", "this recovery point of the VM; default: the newest"},
    {"partition", "NUMBER", "of the disk; default: the only one with files that can be read"},
    {"to", "DIR", "copy the files, and all that is in directories, into this directory"},
    {0},
};

const struct command files_commands[] = {
    {
        .name = "files",
        .args = "VM:DISK|POINT:DISK [PATH]...",
        .min_args = 1,
        .max_args = -1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "single files out of a recovery point",
        .text = "Lists the files, or with --to copies them. Without a path it shows the partitions "
                "of\n"
                "the disk. Reads ext2, ext3 and ext4, of which nothing is mounted.",
        .options = files_options,
        .run = cmd_files,
    },
    {0},
};
