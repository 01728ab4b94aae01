/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/jobs.h"
#include "drctl/output.h"

#include <stdio.h>
#include <string.h>

#define NAME_BYTES 60 /* with a number behind it no longer than a name may be */

/* One invocation. */
struct protecting {
    struct context *context;
    struct config *before; /* drctl.conf as it is */
    GPtrArray *already;    /* of struct protected_vm: what it protects */
    char **exclude;
    struct config_protection group;
    char *name, *text;
    GPtrArray *vms; /* of struct protected_vm: what the new one protects */
};

static void protecting_clear(struct protecting *protecting)
{
    g_clear_pointer(&protecting->vms, g_ptr_array_unref);
    g_clear_pointer(&protecting->already, g_ptr_array_unref);
    g_strfreev(protecting->exclude);
    config_free(protecting->before);
    g_free(protecting->name);
    g_free(protecting->text);
}
#define AUTO_PROTECTING __attribute__((cleanup(protecting_clear))) struct protecting

/* --- what is written --------------------------------------------------------------------------- */

/* "web-*" -> "web" */
static char *name_from(const char *entry)
{
    char *name = g_ascii_strdown(entry, MIN((gssize)strlen(entry), NAME_BYTES));
    char *to = name;

    for (const char *from = name; *from; from++) {
        bool plain = g_ascii_isalnum(*from);

        if (plain || (to > name && to[-1] != '-'))
            *to++ = plain ? *from : '-';
    }
    while (to > name && to[-1] == '-')
        to--;
    *to = '\0';
    return name;
}

static bool choose_name(struct protecting *protecting, GError **error)
{
    const struct context *context = protecting->context;
    const char *asked = option_value(context, "name");
    g_autofree char *base =
        asked ? g_strdup(asked) : name_from(context->args[0] ? context->args[0] : "all");

    if (asked && config_protection(protecting->before, asked, NULL))
        return fail(error, ERROR_CONFLICT,
                    "%s has a [protection %s] already: choose another --name, or edit it",
                    protecting->before->path, asked);
    if (!site_name_is_valid(base))
        return fail(error, ERROR_USAGE,
                    "what shall it be called? Add --name NAME, of a-z, 0-9 and -");
    protecting->name = g_strdup(base);
    for (unsigned n = 2; config_protection(protecting->before, protecting->name, NULL); n++) {
        g_free(protecting->name);
        protecting->name = g_strdup_printf("%s-%u", base, n);
    }
    return true;
}

/* The only other site, or this one where there is no other; NULL with --like: as the template says. */
static bool choose_destination(struct protecting *protecting, GError **error)
{
    const GPtrArray *remotes = protecting->before->remotes;
    const char *to = option_value(protecting->context, "to");

    if (to && !g_str_equal(to, "local") && !config_remote(protecting->before, to, error))
        return false;
    if (!to && !protecting->group.like) {
        if (remotes->len > 1)
            return fail(error, ERROR_USAGE,
                        "%s knows several sites: say --to which one its points shall go",
                        protecting->before->path);
        to = remotes->len == 1 ? ((const struct remote *)remotes->pdata[0])->name : "local";
    }
    protecting->group.destination = to;
    return true;
}

/* Where the template says where it goes. */
static const char *destination_of(const struct protecting *protecting, const struct config *config)
{
    const struct protection *protection = config_protection(config, protecting->name, NULL);

    return protection->destination;
}

/* The group, and the configuration with it becomes that of the context. */
static bool make_group(struct protecting *protecting, GError **error)
{
    static char *everything[] = {(char *)"*", NULL};
    struct context *context = protecting->context;

    protecting->group.name = protecting->name;
    protecting->group.vms = option_set(context, "all") ? everything : context->args;
    protecting->group.exclude = protecting->exclude;
    protecting->group.rpo = option_value(context, "rpo");
    protecting->group.at = option_value(context, "at");
    protecting->group.keep = option_value(context, "keep");
    protecting->text = config_protection_text(&protecting->group, error);
    if (!protecting->text)
        return false;
    context->config = config_with_group(protecting->before, protecting->text, error);
    return context->config != NULL;
}

/* --- what it means ----------------------------------------------------------------------------- */

static bool check_names(struct protecting *protecting, GError **error)
{
    GPtrArray *hosts = context_hosts(protecting->context, error);

    if (!hosts)
        return false;
    for (char **name = protecting->context->args; *name; name++) {
        AUTO(domain) domain = selection_is_pattern(*name) ? NULL : find_domain(hosts, *name, error);

        if (!selection_is_pattern(*name) && !domain)
            return false;
    }
    return true;
}

/* By a pattern it would be that of the new one, which names it. */
static bool names(const struct protection *protection, const char *vm)
{
    return protection->vapp || g_strv_contains((const char *const *)protection->vms, vm);
}

static bool check_already(struct protecting *protecting, GError **error)
{
    for (unsigned i = 0; i < protecting->vms->len; i++) {
        const struct protected_vm *vm = protecting->vms->pdata[i];

        for (unsigned k = 0; k < protecting->already->len; k++) {
            const struct protected_vm *other = protecting->already->pdata[k];

            if (g_str_equal(other->vm, vm->vm) && names(other->protection, vm->vm) &&
                g_str_equal(other->protection->destination, vm->protection->destination))
                return fail(error, ERROR_CONFLICT,
                            "VM %s goes to %s by [protection %s] already: name another site by "
                            "--to, or leave it out",
                            vm->vm, vm->protection->destination, other->protection->name);
        }
    }
    return true;
}

static bool find_vms(struct protecting *protecting, GError **error)
{
    struct context *context = protecting->context;
    char *name[] = {protecting->name, NULL};

    protecting->vms = protected_vms(context, name, error);
    if (!protecting->vms)
        return false;
    if (protecting->vms->len == 0)
        return fail_empty(context->config,
                          config_protection(context->config, protecting->name, NULL), error);
    return check_already(protecting, error);
}

/* --- the command ------------------------------------------------------------------------------- */

static bool check_arguments(const struct context *context, GError **error)
{
    const char *why;

    if (option_set(context, "all") == (context->args[0] != NULL))
        return fail(error, ERROR_USAGE,
                    "protect what? Name VMs, patterns such as 'web-*' or tag:NAME, or give --all");
    for (char **entry = context->args; *entry; entry++)
        if (!selection_is_valid(*entry, &why))
            return fail(error, ERROR_USAGE, "'%s' %s", *entry, why);
    return true;
}

static void read_exclude(struct protecting *protecting)
{
    const char *list = option_value(protecting->context, "exclude");
    g_auto(GStrv) entries = g_strsplit(list ? list : "", ";", -1);
    g_autoptr(GPtrArray) exclude = g_ptr_array_new();

    for (char **entry = entries; *entry; entry++)
        if (*g_strstrip(*entry))
            g_ptr_array_add(exclude, g_strdup(*entry));
    g_ptr_array_add(exclude, NULL);
    protecting->exclude = (char **)g_ptr_array_free(g_steal_pointer(&exclude), FALSE);
}

static void print_result(const struct protecting *protecting, bool written)
{
    const struct config *config = protecting->context->config;
    json_auto_t *json = json_object();
    json_t *vms = json_array();

    for (unsigned i = 0; i < protecting->vms->len; i++)
        json_array_append_new(
            vms, json_string(((const struct protected_vm *)protecting->vms->pdata[i])->vm));
    json_set_string(json, "protection", protecting->name);
    json_set_string(json, "destination", destination_of(protecting, config));
    json_object_set_new(json, "vms", vms);
    json_object_set_new(json, "written", json_boolean(written));
    if (protecting->context->json) {
        print_json(json);
        return;
    }
    printf("%s %s:\n\n%s\nIt covers now:", written ? "Added to" : "Would be added to", config->path,
           protecting->text);
    for (unsigned i = 0; i < protecting->vms->len; i++)
        printf("%s %s", i ? "," : "", ((const struct protected_vm *)protecting->vms->pdata[i])->vm);
    printf("\n");
    if (written)
        printf("Its first points: drctl replicate %s\n", protecting->name);
}

static bool protect(struct protecting *protecting, GError **error)
{
    struct context *context = protecting->context;
    char *none[] = {NULL};
    bool dry_run = option_set(context, "dry-run");

    if (!check_arguments(context, error) || !context_config(context, error))
        return false;
    protecting->already = protected_vms(context, none, error);
    protecting->before = context->config;
    context->config = NULL;
    protecting->group.like = option_value(context, "like");
    read_exclude(protecting);
    if (!protecting->already || !choose_name(protecting, error) ||
        !choose_destination(protecting, error) || !make_group(protecting, error) ||
        !check_names(protecting, error) || !find_vms(protecting, error) ||
        (!dry_run && !config_add_group(protecting->before, protecting->text, error)))
        return false;
    print_result(protecting, !dry_run);
    return true;
}

static bool cmd_protect(struct context *context, GError **error)
{
    AUTO_PROTECTING protecting = {.context = context};

    return protect(&protecting, error);
}

static const struct option protect_options[] = {
    {"all", NULL, "all VMs of this site that are not protected there, also those to come"},
    {"exclude", "LIST", "what patterns shall not mean: names, patterns, tags, separated by ';'"},
    {"name", "NAME", "of the protection; default: made of the first name"},
    {"to", "REMOTE", "where points go; default: the only other site, or else local"},
    {"like", "TEMPLATE", "all else as in [template TEMPLATE]"},
    {"rpo", "TIME", "how old the newest point may be, such as 15min"},
    {"at", "WHEN", "when the daemon takes points, such as 02:00"},
    {"keep", "POLICY", "which points stay, such as 'last=24 daily=14'"},
    {"dry-run", NULL, "show the group and what it covers, write nothing"},
    {0},
};

const struct command protect_commands[] = {
    {
        .name = "protect",
        .args = "[VM|PATTERN|tag:NAME]...",
        .max_args = -1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "add a protection for VMs, patterns of names, tags or all",
        .text = "Appends a [protection NAME] group to drctl.conf; what is there stays as it is. "
                "Points\nare taken by `drctl replicate` and `drctl daemon`.",
        .options = protect_options,
        .run = cmd_protect,
    },
    {0},
};
