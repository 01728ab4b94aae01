/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/elsewhere.h"
#include "drctl/output.h"
#include "drctl/resume.h"
#include "drctl/wizard.h"

#include <stdio.h>
#include <unistd.h>

static json_t *result_json(const struct restore_result *result)
{
    json_t *json = json_object(), *paths = json_array();

    json_set_string(json, "run", result->run);
    json_set_string(json, "vm", result->vm);
    json_set_string(json, "uuid", result->uuid);
    json_set_string(json, "point", result->point);
    for (char **path = result->paths; path && *path; path++)
        json_array_append_new(paths, json_string(*path));
    json_object_set_new(json, "paths", paths);
    json_object_set_new(json, "lost", lost_disks_json(result->lost));
    return json;
}

static void print_result(const struct restore_request *request, const struct restore_result *result)
{
    if (request->to_dir)
        printf("Point %s of %s is in %s:\n", result->point, result->vm, request->to_dir);
    else if (request->over)
        printf("VM %s is as it was at point %s%s. What it was before is kept. Its disks are:\n",
               result->vm, result->point, request->start ? ", and runs" : "");
    else
        printf("Point %s is VM %s (%s)%s:\n", result->point, result->vm, result->uuid,
               request->start ? ", which runs" : "");
    for (char **path = result->paths; *path; path++)
        printf("  %s\n", *path);
    for (unsigned i = 0; i < result->lost->len; i++) {
        g_autofree char *text = lost_disk_text(result->lost->pdata[i]);

        printf("It is not whole, reads of what is lost are I/O errors: %s\n", text);
    }
    if (!request->to_dir && !request->start)
        printf("Start it with: virsh start %s\n", result->vm);
    if (request->over)
        printf("If it is good: drctl restore %1$s --commit; to go back: drctl restore %1$s "
               "--rollback\n",
               result->vm);
}

static bool check_request(const struct restore_request *request, GError **error)
{
    if (!!request->as + !!request->to_dir + request->over != 1)
        return fail(
            error, ERROR_USAGE,
            "restore to what? Either --as NAME (a new VM), or --to-dir DIR (plain files), or "
            "--over (the VM itself)");
    if (request->start && request->to_dir)
        return fail(error, ERROR_USAGE, "--start goes with --as NAME or --over");
    if (request->stop && !request->over)
        return fail(error, ERROR_USAGE, "--stop goes with --over");
    if ((request->storage || request->host) && !request->as)
        return fail(error, ERROR_USAGE, "--storage and --host go with --as NAME");
    return true;
}

static bool ask(void *context, const char *point, const char *text, GError **error)
{
    g_autofree char *question = g_strdup_printf(
        "\nPoint %s is not whole: %s.\n"
        "It can be restored nevertheless: reads of what is lost will be I/O errors.\n"
        "Type \"accept damage\" for that:",
        point, text);

    progress_terminal_end(((struct context *)context)->progress);
    return confirm(question, "accept damage", "--accept-damage", error);
}

/* What turns out to be damaged only now is looked for elsewhere, too. */
static bool execute_mended(struct context *context, const struct site *site,
                           const struct restore_request *request, struct restore_result *result,
                           GError **error)
{
    g_autoptr(GError) why = NULL;
    bool mended = false;

    if (restore_execute(site, request, result, &why))
        return true;
    if (error_is(why, ERROR_INTEGRITY) && !request->accept_damage &&
        !elsewhere_mend(context, request->vm, request->point, true, &mended, error))
        return false;
    if (mended)
        return restore_execute(site, request, result, error);
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

static bool execute(struct context *context, struct restore_request *request, GError **error)
{
    struct restore_result result = {0};
    g_autofree char *fetched = NULL;
    bool mended;
    struct site site;

    if (!context_site(context, !request->to_dir, &site, error) ||
        !elsewhere_fetch(context, request->vm, request->point, option_value(context, "from"),
                         &fetched, error))
        return false;
    if (fetched)
        request->point = fetched;
    if ((!request->accept_damage &&
         !elsewhere_mend(context, request->vm, request->point, false, &mended, error)) ||
        !execute_mended(context, &site, request, &result, error))
        return false;
    progress_terminal_end(context->progress);
    if (context->json) {
        json_auto_t *json = result_json(&result);

        print_json(json);
    } else {
        print_result(request, &result);
    }
    restore_result_clear(&result);
    return true;
}

static bool confirm_rollback(const struct context *context, GError **error)
{
    g_autofree char *question = g_strdup_printf("\nVM %1$s gets the disks back that it had before "
                                                "it was restored. What was written since is "
                                                "gone.\n"
                                                "Type \"%1$s\" for that:",
                                                context->args[0]);

    return option_set(context, "yes") || confirm(question, context->args[0], "--yes", error);
}

static bool decide(struct context *context, GError **error)
{
    bool commit = option_set(context, "commit");
    struct site site;

    if (commit == option_set(context, "rollback"))
        return fail(error, ERROR_USAGE, "either --commit or --rollback");
    if (!context_site(context, true, &site, error) ||
        (!commit && !confirm_rollback(context, error)) ||
        !restore_decide(&site, context->args[0], commit, error))
        return false;
    progress_terminal_end(context->progress);
    printf(commit ? "VM %s stays as it is.\n" : "VM %s is what it was before.\n", context->args[0]);
    return true;
}

static bool restore(struct context *context, GError **error)
{
    struct restore_request request = {
        .vm = context->args[0],
        .point = option_value(context, "point"),
        .as = option_value(context, "as"),
        .to_dir = option_value(context, "to-dir"),
        .over = option_set(context, "over"),
        .stop = option_set(context, "stop"),
        .disks = option_value(context, "disk"),
        .storage = option_value(context, "storage"),
        .host = option_value(context, "host"),
        .start = option_set(context, "start"),
        .accept_damage = option_set(context, "accept-damage"),
        .ask = !context->json && isatty(STDIN_FILENO) ? ask : NULL,
        .context = context,
    };

    if (option_set(context, "commit") || option_set(context, "rollback"))
        return decide(context, error);
    return check_request(&request, error) && execute(context, &request, error);
}

static bool cmd_restore(struct context *context, GError **error)
{
    bool decides = option_set(context, "commit") || option_set(context, "rollback");

    if (context->args[0])
        return restore(context, error);
    return decides ? fail_usage(context->command, error)
                   : wizard_run(context, wizard_restore, restore, error);
}

bool restore_resume(struct context *context, const json_t *run, GError **error)
{
    const json_t *plan = json_object_get(run, "plan");
    struct restore_request request = {
        .vm = json_get_string(plan, "uuid"),
        .point = json_get_string(plan, "point"),
        .as = json_get_string(plan, "as"),
        .to_dir = json_get_string(plan, "to_dir"),
        .over = json_is_true(json_object_get(plan, "over")),
        .stop = json_is_true(json_object_get(plan, "stop")),
        .disks = json_get_string(plan, "disks"),
        .storage = json_get_string(plan, "storage"),
        .start = json_is_true(json_object_get(plan, "start")),
    };

    if (!request.vm || !request.point)
        return fail(error, ERROR_INTEGRITY, "the plan of run %s names no VM or point",
                    json_get_string(run, "run"));
    return execute(context, &request, error);
}

static const struct option restore_options[] = {
    {"point", "POINT", "this recovery point; default: the newest"},
    {"from", "STORE", "have it from there; default: this store, or else the nearest that has it"},
    {"as", "NAME", "as a new VM of this name, with new UUID and MAC addresses"},
    {"over", NULL, "in the place of the VM itself; its present disks are kept until --commit"},
    {"disk", "DISK[,DISK]...", "only these disks"},
    {"storage", "POOL|DIR", "with --as: its disks go there; default: images of drctl.conf"},
    {"host", "URI", "with --as: at this host; default: where most memory is free"},
    {"stop", NULL, "with --over: pull the plug of the VM if it runs"},
    {"start", NULL, "start the VM"},
    {"commit", NULL, "after --over: it stays so, and what it was before is forgotten"},
    {"rollback", NULL, "after --over: the VM, which must be off, gets its old disks back"},
    {"yes", NULL, "do not ask before --rollback"},
    {"accept-damage", NULL, "restore a point that is not whole; what is lost is an I/O error"},
    {"to-dir", "DIR", "as plain, independent qcow2 files and domain.xml; needs no libvirt"},
    {0},
};

const struct command restore_commands[] = {
    {
        .name = "restore",
        .args = "[VM]",
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "bring back any recovery point",
        .text =
            "With --as the point becomes a new VM that can run beside the original; it starts on "
            "an\n"
            "overlay over the point, so nothing is copied first. With --to-dir it becomes files.\n"
            "With --over the VM itself gets disks of the point. Nothing is ever overwritten.\n"
            "On a terminal without arguments it asks for what it has to know.",
        .options = restore_options,
        .run = cmd_restore,
    },
    {0},
};
