/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/guard.h"
#include "drctl/jobs.h"
#include "drctl/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOOKS_DIR "/etc/libvirt/hooks"
#define HOOK_MODE 0755
#define HOOK_MAX_BYTES 65536

static const char *hooks_dir(const struct context *context)
{
    const char *dir = option_value(context, "hooks");

    return dir ? dir : HOOKS_DIR;
}

/* ---- The hook */

static bool is_executable(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    return g_file_test(path, G_FILE_TEST_IS_REGULAR) && access(path, X_OK) == 0;
}

/* libvirt looks for hooks once, when it starts. */
static bool has_hooks(const char *hooks)
{
    g_autofree char *dir = g_build_filename(hooks, "qemu.d", NULL);
    g_auto(GStrv) names = dir_list(dir, NULL);

    for (char **name = names; name && *name; name++)
        if (is_executable(dir, *name))
            return true;
    return is_executable(hooks, "qemu");
}

/* libvirt runs whatever lies in qemu.d, so what is not whole yet lies beside it. */
static bool write_hook(const char *hooks, const char *text, GError **error)
{
    g_autofree char *path = guard_hook_path(hooks);
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *fresh = g_build_filename(hooks, ".50-drctl.new", NULL);

    if (!dir_make(dir, HOOK_MODE, error) ||
        !file_write(fresh, text, strlen(text), HOOK_MODE, error))
        return false;
    if (rename(fresh, path) < 0)
        return fail(error, ERROR_IO, "cannot move %s to %s: %s", fresh, path, g_strerror(errno));
    return dir_sync(dir, error);
}

/* "missing", "other" (of another drctl or configuration), "installed" */
static const char *hook_state(const struct config *config, const char *hooks)
{
    g_autofree char *path = guard_hook_path(hooks);
    g_autofree char *text = NULL, *want = guard_hook_text(config, NULL);

    if (!is_executable(hooks, "qemu.d/50-drctl") ||
        !file_read(path, HOOK_MAX_BYTES, &text, NULL, NULL))
        return "missing";
    return g_strcmp0(text, want) == 0 ? "installed" : "other";
}

static bool any_host_has_hooks(const struct config *config)
{
    for (char **uri = config->libvirt_uris; *uri; uri++)
        if (guarded_uri_has_hooks(*uri))
            return true;
    return false;
}

/* ---- install */

static void note_hosts(struct context *context)
{
    for (char **uri = context->config->libvirt_uris; *uri; uri++) {
        if (!guarded_uri_has_hooks(*uri))
            progress_note(
                context->progress,
                "%s runs no hooks: drctl starts no VM there that belongs to another site, and "
                "holds their autostart (drctl guard start), but a start by virsh or another "
                "program is not refused",
                *uri);
        else if (!strstr(*uri, "///"))
            progress_note(
                context->progress,
                "%s is another machine: install the guard there too, with this configuration",
                *uri);
    }
}

static void watch_protected(struct context *context, GPtrArray *vms, unsigned *watched)
{
    for (unsigned i = 0; i < vms->len; i++) {
        const struct protected_vm *vm = vms->pdata[i];
        g_autoptr(GError) why = NULL;
        AUTO(domain) domain = find_domain(context->hosts, vm->vm, &why);

        if (domain && guard_watch(context->config, domain, &why))
            ++*watched;
        else
            progress_note(context->progress, "%s is not guarded: %s", vm->vm, why->message);
    }
}

static bool install_hook(struct context *context, GError **error)
{
    const char *hooks = hooks_dir(context);
    bool first = !has_hooks(hooks);
    g_autofree char *path = guard_hook_path(hooks);
    g_autofree char *text = guard_hook_text(context->config, error);

    if (!text || !write_hook(hooks, text, error))
        return false;
    printf("%s is installed.\n", path);
    if (first)
        puts(
            "It is the first hook of this host, and libvirt looks for hooks when it starts: reload "
            "it "
            "once,\nsystemctl reload libvirtd (or virtqemud). `drctl guard status` says whether it "
            "calls the hook.");
    return true;
}

static bool cmd_guard_install(struct context *context, GError **error)
{
    char *all[] = {NULL};
    const struct config *config = context_config(context, error);
    g_autoptr(GPtrArray) vms = config ? protected_vms(context, all, error) : NULL;
    unsigned watched = 0;

    if (!vms)
        return false;
    if (config->guard == GUARD_OFF)
        return fail(error, ERROR_CONFIG, "%s says guard = off: set it to known or strict first",
                    config->path);
    if (vms->len > 0 && !context_hosts(context, error))
        return false;
    watch_protected(context, vms, &watched);
    note_hosts(context);
    if (any_host_has_hooks(config) && !install_hook(context, error))
        return false;
    printf("%u VMs are guarded, guard = %s.\n", watched, guard_mode_name(config->guard));
    return true;
}

/* ---- remove */

/* What must not start stays put down. */
static bool unwatch(struct context *context, struct guarded *guarded, GError **error)
{
    AUTO(domain) domain = NULL;

    if (guarded->fenced_ms) {
        progress_note(
            context->progress,
            "%s stays fenced, but nothing refuses its start any more: drctl fence --release "
            "%s",
            guarded->vm, guarded->vm);
        return true;
    }
    if (guarded->autostart)
        domain = find_domain(context->hosts, guarded->uuid, NULL);
    return (!domain || domain_set_autostart(domain, true, error)) &&
           guarded_remove(context->config->dir, guarded->uuid, error);
}

static bool cmd_guard_remove(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);
    g_autofree char *path = guard_hook_path(hooks_dir(context));
    g_autoptr(GPtrArray) all = config ? guarded_list(config->dir, error) : NULL;

    if (!all || (all->len > 0 && !context_hosts(context, error)))
        return false;
    if (unlink(path) < 0 && errno != ENOENT)
        return fail_errno(error, errno, "cannot remove %s", path);
    for (unsigned i = 0; i < all->len; i++)
        if (!unwatch(context, all->pdata[i], error))
            return false;
    puts("The guard is removed: libvirt starts every VM again, whoever owns it.");
    return true;
}

/* ---- check */

/* By UUID, as the hook asks; or by name. g_free; NULL: it is not guarded. */
static char *guarded_uuid(const struct config *config, const char *vm)
{
    g_autoptr(GPtrArray) all = guarded_list(config->dir, NULL);

    if (uuid_is_valid(vm))
        return g_strdup(vm);
    for (unsigned i = 0; all && i < all->len; i++) {
        const struct guarded *guarded = all->pdata[i];

        if (g_str_equal(guarded->vm, vm))
            return g_strdup(guarded->uuid);
    }
    return NULL;
}

static bool cmd_guard_check(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);
    g_autofree char *uuid = config ? guarded_uuid(config, context->args[0]) : NULL;
    g_autofree char *why = NULL;

    if (!config)
        return false;
    if (uuid && !guard_permits(config, uuid, true, &why))
        return fail(error, ERROR_CONFLICT, "%s", why);
    printf("%s may start here: %s\n", context->args[0],
           why ? why : "it is not guarded: drctl does not protect it here");
    return true;
}

/* ---- start */

static bool wants_start(struct domain *domain, const struct guarded *guarded)
{
    enum domain_state state;
    bool autostart = guarded->autostart;

    return domain_state(domain, &state, NULL) && state == DOMAIN_OFF &&
           (autostart || (domain_autostart(domain, &autostart, NULL) && autostart));
}

static bool start_guarded(struct context *context, const struct guarded *guarded, GError **error)
{
    AUTO(domain) domain = find_domain(context->hosts, guarded->uuid, NULL);
    g_autofree char *why = NULL;

    if (!domain || !wants_start(domain, guarded))
        return true;
    if (!guard_permits(context->config, guarded->uuid, true, &why))
        return fail(error, ERROR_CONFLICT, "%s is not started: %s", guarded->vm, why);
    progress_note(context->progress, "%s: starting", guarded->vm);
    return domain_start(domain, error);
}

static bool cmd_guard_start(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);
    g_autoptr(GPtrArray) all = config ? guarded_list(config->dir, error) : NULL;
    unsigned failed = 0;

    if (!all || !context_hosts(context, error))
        return false;
    for (unsigned i = 0; i < all->len; i++) {
        g_autoptr(GError) why = NULL;

        if (start_guarded(context, all->pdata[i], &why))
            continue;
        progress_note(context->progress, "%s", why->message);
        failed++;
    }
    return failed == 0 || fail(error, ERROR_PARTIAL, "%u VMs are not started", failed);
}

/* ---- status */

static json_t *guarded_json(const struct config *config, const struct guarded *guarded)
{
    json_t *json = json_object();
    AUTO(owner) owner = NULL;
    g_autofree char *why = NULL;
    bool permitted = guard_permits(config, guarded->uuid, false, &why);

    owner_read(config->store, guarded->uuid, &owner, NULL);
    json_set_string(json, "vm", guarded->vm);
    json_set_string(json, "uuid", guarded->uuid);
    json_set_string(json, "owner", owner ? owner->site : NULL);
    json_set_u64(json, "epoch", owner ? owner->epoch : 0);
    json_object_set_new(json, "fenced", json_boolean(guarded->fenced_ms != 0));
    json_object_set_new(json, "autostart_held", json_boolean(guarded->autostart));
    json_object_set_new(json, "may_start", json_boolean(permitted));
    json_set_string(json, "why", why);
    return json;
}

/* When libvirt has called the hook last; NULL: never. g_free */
static char *last_call(const struct config *config)
{
    g_autofree char *path = g_build_filename(config->dir, "guard", "called", NULL);
    struct stat st;

    return stat(path, &st) == 0 ? time_format((int64_t)st.st_mtime * 1000) : NULL;
}

static void print_status(const json_t *status)
{
    static const char *const headers[] = {"VM", "OWNER", ">EPOCH", "MAY START", "WHY", NULL};
    AUTO(table) table = table_new(headers);
    const char *called = json_get_string(status, "called");
    size_t i;
    json_t *vm;

    printf("Guard %s; hook %s, called by libvirt last: %s\n\n", json_get_string(status, "mode"),
           json_get_string(status, "hook"),
           called ? called : "never (reload libvirtd if it was just installed)");
    json_array_foreach(json_object_get(status, "vms"), i, vm)
    {
        g_autofree char *epoch = g_strdup_printf("%" JSON_INTEGER_FORMAT,
                                                 json_integer_value(json_object_get(vm, "epoch")));
        const char *owner = json_get_string(vm, "owner");

        table_row(table,
                  (const char *[]){json_get_string(vm, "vm"), owner ? owner : "this site", epoch,
                                   json_is_true(json_object_get(vm, "may_start")) ? "yes" : "no",
                                   json_get_string(vm, "why")});
    }
    table_print(table);
}

static bool cmd_guard_status(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);
    g_autoptr(GPtrArray) all = config ? guarded_list(config->dir, error) : NULL;
    json_auto_t *status = json_object();
    g_autofree char *called = NULL;
    json_t *vms = json_array();

    json_object_set_new(status, "vms", vms);
    if (!all)
        return false;
    called = last_call(config);
    json_set_string(status, "mode", guard_mode_name(config->guard));
    json_set_string(status, "hook", hook_state(config, hooks_dir(context)));
    json_set_string(status, "called", called);
    for (unsigned i = 0; i < all->len; i++)
        json_array_append_new(vms, guarded_json(config, all->pdata[i]));
    if (context->json)
        print_json(status);
    else
        print_status(status);
    return true;
}

/* ---- the commands */

static const struct option hooks_options[] = {
    {"hooks", "DIR", "where this libvirt looks for hooks; default: " HOOKS_DIR},
    {0},
};

const struct command guard_commands[] = {
    {
        .name = "guard install",
        .args = "",
        .flags = COMMAND_CHANGES,
        .summary = "refuse the start of VMs that belong to another site",
        .text = "Installs libvirt's qemu hook, which asks `drctl guard check` before a guarded VM "
                "starts,\nand guards all protected VMs. VMs that drctl does not protect are let "
                "through whatever\nhappens. Safe to repeat.",
        .options = hooks_options,
        .run = cmd_guard_install,
    },
    {
        .name = "guard remove",
        .args = "",
        .flags = COMMAND_CHANGES,
        .summary = "remove the hook, and guard nothing any more",
        .options = hooks_options,
        .run = cmd_guard_remove,
    },
    {
        .name = "guard check",
        .args = "VM",
        .min_args = 1,
        .max_args = 1,
        .summary = "may this VM start here? Exit status 0: yes, 1: no",
        .text = "Asks the other sites, for 5 seconds at most, and puts down what they know. Needs "
                "neither\nlibvirt nor the catalog. It is what the hook calls, with the VM's UUID.",
        .run = cmd_guard_check,
    },
    {
        .name = "guard start",
        .args = "",
        .flags = COMMAND_CHANGES,
        .summary = "start the VMs with autostart that this site owns",
        .text =
            "For the time after a boot: where libvirt runs no hooks, drctl holds the autostart of "
            "guarded\nVMs; and with guard = strict it may refuse them as long as no other site "
            "can be asked.",
        .run = cmd_guard_start,
    },
    {
        .name = "guard status",
        .args = "",
        .flags = COMMAND_JSON,
        .summary = "the hook, and what it would say of each guarded VM",
        .options = hooks_options,
        .run = cmd_guard_status,
    },
    {0},
};
