/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "drctl/ask.h"
#include "drctl/verification.h"
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

static bool choose_point(struct context *context, const GPtrArray *points, const char *uuid,
                         GError **error)
{
    static const char *const headers[] = {"POINT", ">AGE", "TIME", "CONSISTENCY", "VERIFIED", NULL};
    AUTO(menu) menu = menu_new(headers);
    g_autoptr(GPtrArray) offered = g_ptr_array_new();
    unsigned index;

    if (option_set(context, "point"))
        return true;
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];
        AUTO_VERDICT verdict = {0};
        g_autofree char *verified = NULL;
        g_autofree char *time = time_format_local(manifest->time_ms);
        g_autofree char *age = wizard_age(manifest->time_ms);

        if (!g_str_equal(manifest->uuid, uuid))
            continue;
        verdict_of(context, manifest, &verdict);
        verified = verdict_text(&verdict);
        g_ptr_array_add(offered, points->pdata[i]);
        menu_add(menu, (const char *[]){manifest->point, age, time,
                                        consistency_name(manifest->consistency), verified});
    }
    if (!menu_ask(menu, "Which recovery point?", &index, error))
        return false;
    wizard_set_option(context, "point", ((const struct manifest *)offered->pdata[index])->point);
    return true;
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

static bool ask_target(struct context *context, const char *vm, GError **error)
{
    static const char *const headers[] = {"TO", "", NULL};
    AUTO(menu) menu = menu_new(headers);
    unsigned index;

    if (option_set(context, "as") || option_set(context, "to-dir") || option_set(context, "over"))
        return true;
    menu_add(menu, (const char *[]){"vm", "a new VM beside the other; nothing is copied first"});
    menu_add(menu, (const char *[]){"files", "plain qcow2 files and domain.xml; needs no libvirt"});
    if (!menu_ask(menu, "To what?", &index, error))
        return false;
    return index == 0 ? ask_new_vm(context, vm, error) : ask_directory(context, error);
}

static bool ask_last(const struct context *context, GError **error)
{
    bool good;

    wizard_show_command(context, false);
    if (!ask_yes("\nNothing that is there is overwritten. Go on?", true, &good, error))
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
           choose_point(context, points, newest->uuid, error) &&
           ask_target(context, newest->vm, error) && ask_last(context, error);
}
