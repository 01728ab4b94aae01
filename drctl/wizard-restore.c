/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "drctl/ask.h"
#include "drctl/jobs.h"
#include "drctl/output.h"
#include "drctl/wizard-points.h"
#include "drctl/wizard.h"

/* --- which VM -------------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    const struct manifest *const *left = a, *const *right = b;
    int order = strcmp((*left)->vm, (*right)->vm);

    return order ? order : strcmp((*left)->uuid, (*right)->uuid);
}

/* The newest point of each VM, by name, and how many there are: of POINTS of the local store, newest first. */
static GPtrArray *newest_of_each(const GPtrArray *points, GHashTable *counts)
{
    GPtrArray *newest = g_ptr_array_new();

    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];
        unsigned count = GPOINTER_TO_UINT(g_hash_table_lookup(counts, manifest->uuid));

        if (count == 0)
            g_ptr_array_add(newest, points->pdata[i]);
        g_hash_table_insert(counts, manifest->uuid, GUINT_TO_POINTER(count + 1));
    }
    g_ptr_array_sort(newest, compare_names);
    return newest;
}

static bool is_ambiguous(const GPtrArray *vms, const char *name)
{
    unsigned count = 0;

    for (unsigned i = 0; i < vms->len; i++)
        count += g_str_equal(((const struct manifest *)vms->pdata[i])->vm, name);
    return count > 1;
}

static bool choose_vm(struct context *context, const GPtrArray *points,
                      const struct manifest **chosen, GError **error)
{
    static const char *const headers[] = {"VM", "FROM", ">POINTS", "NEWEST", ">AGE", NULL};
    g_autoptr(GHashTable) counts = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) vms = newest_of_each(points, counts);
    AUTO(menu) menu = menu_new(headers);
    unsigned index;

    for (unsigned i = 0; i < vms->len; i++) {
        const struct manifest *manifest = vms->pdata[i];
        g_autofree char *count =
            g_strdup_printf("%u", GPOINTER_TO_UINT(g_hash_table_lookup(counts, manifest->uuid)));
        g_autofree char *time = time_format_local(manifest->time_ms);
        g_autofree char *age = wizard_age(manifest->time_ms);

        menu_add(menu, (const char *[]){manifest->vm, manifest->site, count, time, age});
    }
    if (!menu_ask(menu, "Which VM is to be brought back?", &index, error))
        return false;
    *chosen = vms->pdata[index];
    wizard_set_argument(context,
                        is_ambiguous(vms, (*chosen)->vm) ? (*chosen)->uuid : (*chosen)->vm);
    return true;
}

/* --- which point ----------------------------------------------------------------------------- */

/* What was asked for, or the newest; NULL for one that is not there, of which the command will tell. */
static const struct manifest *chosen_point(const struct context *context, const GPtrArray *points,
                                           const struct manifest *newest)
{
    const char *point = option_value(context, "point");

    if (!point)
        return newest;
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (g_str_equal(manifest->uuid, newest->uuid) && g_str_equal(manifest->point, point))
            return manifest;
    }
    return NULL;
}

/* --- to what --------------------------------------------------------------------------------- */

static bool ask_new_vm(struct context *context, const char *vm, GError **error)
{
    g_autofree char *preset = g_strdup_printf("%s-restored", vm);
    g_autofree char *name = ask_text("Name of the new VM", preset, error);
    bool start = false;

    if (!name || !ask_yes("Start it, beside the one that may run?", false, &start, error))
        return false;
    wizard_set_option(context, "as", name);
    if (start)
        wizard_set_option(context, "start", NULL);
    return true;
}

static bool ask_directory(struct context *context, GError **error)
{
    g_autofree char *dir = ask_text("Into which new directory", NULL, error);
    g_autofree char *path = dir ? g_canonicalize_filename(dir, NULL) : NULL;

    if (path)
        wizard_set_option(context, "to-dir", path);
    return path != NULL;
}

/* The VM itself, if it is here: without libvirt nobody knows, and files can be had all the same. */
static struct domain *find_itself(struct context *context, const char *uuid)
{
    GPtrArray *hosts = context_hosts(context, NULL);

    return hosts ? find_domain(hosts, uuid, NULL) : NULL;
}

/* Its plug is not pulled unless somebody says so. */
static bool ask_stop(struct context *context, struct domain *domain, GError **error)
{
    enum domain_state state = DOMAIN_OFF;
    g_autofree char *question = NULL;
    bool stop = false;

    if (option_set(context, "stop") || !domain || !domain_state(domain, &state, NULL) ||
        state == DOMAIN_OFF)
        return true;
    question = g_strdup_printf("It is %s. Pull its plug first?", domain_state_name(state));
    if (!ask_yes(question, false, &stop, error))
        return false;
    if (!stop)
        return fail(error, ERROR_CANCELLED, "left: nothing was changed (virsh shutdown %s)",
                    domain_name(domain));
    wizard_set_option(context, "stop", NULL);
    return true;
}

static bool ask_over(struct context *context, struct domain *domain, GError **error)
{
    bool start = false;

    if (!ask_stop(context, domain, error))
        return false;
    if (option_set(context, "start"))
        return true;
    if (!ask_yes("Start it with the disks of the point?", false, &start, error))
        return false;
    if (start)
        wizard_set_option(context, "start", NULL);
    return true;
}

static bool choose_target(struct context *context, const struct manifest *newest,
                          struct domain *domain, GError **error)
{
    static const char *const headers[] = {"TO", "", NULL};
    AUTO(menu) menu = menu_new(headers);
    unsigned index;

    menu_add(menu, (const char *[]){"vm", "a new VM beside the other; nothing is copied first"});
    menu_add(menu, (const char *[]){"files", "plain qcow2 files and domain.xml; needs no libvirt"});
    if (domain)
        menu_add(menu, (const char *[]){
                           "over",
                           "the VM itself goes back; its disks of now are kept until you decide"});
    if (!menu_ask(menu, "To what?", &index, error))
        return false;
    if (index == 0)
        return ask_new_vm(context, newest->vm, error);
    if (index == 1)
        return ask_directory(context, error);
    wizard_set_option(context, "over", NULL);
    return true;
}

static bool ask_target(struct context *context, const struct manifest *newest, GError **error)
{
    bool said = option_set(context, "as") || option_set(context, "to-dir");
    AUTO(domain) domain = said ? NULL : find_itself(context, newest->uuid);

    if (!said && !option_set(context, "over") && !choose_target(context, newest, domain, error))
        return false;
    return !option_set(context, "over") || ask_over(context, domain, error);
}

/* --- which disks ----------------------------------------------------------------------------- */

static bool has_disks(const struct manifest *manifest, const char *names, GError **error)
{
    g_auto(GStrv) wanted = g_strsplit(names, ",", -1);

    for (char **name = wanted; *name; name++)
        if (!manifest_disk(manifest, *name))
            return fail(error, ERROR_USAGE, "There is no disk \"%s\" in this point.", *name);
    return true;
}

/* A new VM gets all of them. */
static bool ask_disks(struct context *context, const struct manifest *manifest, GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);

    if (option_set(context, "as") || option_set(context, "disk") || !manifest ||
        manifest->disks->len < 2)
        return true;
    for (unsigned i = 0; i < manifest->disks->len; i++)
        g_string_append_printf(names, "%s%s", i ? "," : "",
                               ((const struct manifest_disk *)manifest->disks->pdata[i])->target);
    putchar('\n');
    print_wrapped("", "The point has the disks %s.", names->str);
    for (;;) {
        g_autofree char *answer = ask_text("Which of them, such as vda,vdb", "all", error);
        g_autoptr(GError) why = NULL;

        if (!answer || g_ascii_strcasecmp(answer, "all") == 0)
            return answer != NULL;
        if (has_disks(manifest, answer, &why)) {
            wizard_set_option(context, "disk", answer);
            return true;
        }
        fprintf(stderr, "%s\n", why->message);
    }
}

/* --- the end --------------------------------------------------------------------------------- */

static bool ask_last(const struct context *context, GError **error)
{
    bool over = option_set(context, "over"), good;
    g_autofree char *question =
        over ? g_strdup_printf("\nWhat it is now is kept: `drctl restore %s --rollback` brings it "
                               "back,\nuntil --commit. Go on?",
                               context->args[0])
             : g_strdup("\nNothing that is there is overwritten. Go on?");

    wizard_show_command(context, false);
    if (!ask_yes(question, !over, &good, error))
        return false;
    return good || fail(error, ERROR_CANCELLED, "left: nothing was changed");
}

bool wizard_restore(struct context *context, GError **error)
{
    const struct manifest *newest;
    g_autoptr(GPtrArray) points = NULL;

    puts("Brings back a recovery point, beside what is there. q or Ctrl-C leaves at any\n"
         "question, and nothing is changed.");
    if (context_store(context, error))
        points = store_points(context->store, NULL, error);
    if (!points)
        return false;
    if (points->len == 0)
        return fail(error, ERROR_NOT_FOUND,
                    "there are no recovery points in %s; those that it has sent: drctl points --at "
                    "REMOTE",
                    context->config->store);
    return choose_vm(context, points, &newest, error) &&
           (option_set(context, "point") ||
            wizard_point_ask_one(context, points, newest->uuid, error)) &&
           ask_target(context, newest, error) &&
           ask_disks(context, chosen_point(context, points, newest), error) &&
           ask_last(context, error);
}
