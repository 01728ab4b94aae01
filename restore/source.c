/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/source.h"

#include <string.h>

#include "restore/inventory.h"
#include "restore/origin.h"

void source_clear(struct source *source)
{
    vapp_free(source->order);
    g_free(source->site);
    g_clear_pointer(&source->uuids, g_hash_table_unref);
    g_free(source->time);
    *source = (struct source){0};
}

/* ---- Bundles */

struct bundles {
    const struct site *site;
    GHashTable *by_site; /* name -> struct bundle, or NULL: it has none that can be read */
};

static void bundle_free_element(void *bundle)
{
    bundle_free(bundle);
}

struct bundles *bundles_new(const struct site *site)
{
    struct bundles *bundles = g_new0(struct bundles, 1);

    bundles->site = site;
    bundles->by_site = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, bundle_free_element);
    return bundles;
}

void bundles_free(struct bundles *bundles)
{
    if (!bundles)
        return;
    g_hash_table_unref(bundles->by_site);
    g_free(bundles);
}

/* Borrowed, or NULL. */
static const struct bundle *bundle_of(struct bundles *bundles, const char *from)
{
    g_autoptr(GError) cause = NULL;
    struct bundle *bundle;
    void *known;

    if (g_hash_table_lookup_extended(bundles->by_site, from, NULL, &known))
        return known;
    bundle = bundle_fetch(bundles->site->store, from, &cause);
    if (!bundle && !error_is(cause, ERROR_NOT_FOUND))
        progress_note(bundles->site->progress, "pool metadata of site %s is left out: %s", from,
                      cause->message);
    g_hash_table_insert(bundles->by_site, g_strdup(from), bundle);
    return bundle;
}

/* ---- Who knows it */

/* The vApp or VM NAME in BUNDLE; *ORDER is NULL when the bundle does not know it. */
static bool find_in_bundle(const struct bundle *bundle, const char *name, struct vapp **order,
                           GError **error)
{
    g_autofree char *path = g_strdup_printf("vapps/%s.vapp", name);
    g_autofree char *what = g_strdup_printf("%s of site %s", path, bundle->id->site);
    const char *text = bundle_member(bundle, path);

    *order = NULL;
    if (text)
        *order = vapp_parse(text, strlen(text), what, error);
    else if (g_hash_table_contains(bundle->vms, name))
        *order = vapp_single(name);
    return !text || *order;
}

static bool is_vapp(const struct vapp *order)
{
    return order->text && *order->text;
}

/* When several sites know the name: a vApp before a lone VM, another site before this one, then the
 * newest bundle. */
static bool is_better(const struct source *a, const struct source *b)
{
    if (!b->order)
        return true;
    if (is_vapp(a->order) != is_vapp(b->order))
        return is_vapp(a->order);
    if (a->is_own != b->is_own)
        return b->is_own;
    return strcmp(a->time, b->time) > 0;
}

static bool try_bundle(struct bundles *bundles, const char *from, const char *name,
                       struct source *best, GError **error)
{
    const struct bundle *bundle = bundle_of(bundles, from);
    AUTO_SOURCE found = {0};
    struct source old = *best;

    if (!bundle)
        return true;
    if (!find_in_bundle(bundle, name, &found.order, error))
        return false;
    found.site = g_strdup(from);
    found.uuids = g_hash_table_ref(bundle->vms);
    found.is_own = strcmp(from, bundles->site->config->site) == 0;
    found.time = g_strdup(bundle->id->time);
    if (!found.order || !is_better(&found, best))
        return true;
    *best = found;
    found = old;
    return true;
}

static bool find_in_bundles(struct bundles *bundles, const char *name, const char *only,
                            struct source *source, GError **error)
{
    g_autofree char *pool = g_build_filename(bundles->site->config->store, "pool", NULL);
    g_auto(GStrv) sites = dir_list(pool, error);

    for (char **from = sites; from && *from; from++)
        if (site_name_is_valid(*from) && (!only || strcmp(*from, only) == 0) &&
            !try_bundle(bundles, *from, name, source, error))
            return false;
    return sites != NULL;
}

/* This site's own *.vapp; a name that is not there is fine. */
static bool find_in_config(const struct site *site, const char *name, struct source *source,
                           GError **error)
{
    g_autoptr(GError) cause = NULL;

    source->order = vapp_find(site->config->dir, name, &cause);
    if (source->order || error_is(cause, ERROR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}

/* A VM of which there are points, though no bundle tells about it. */
static bool find_in_points(const struct site *site, const char *name, struct source *source,
                           GError **error)
{
    g_autoptr(GError) cause = NULL;
    AUTO(manifest) manifest = origin_find_vm(site, name, &cause);

    if (manifest) {
        source->order = vapp_single(manifest->vm);
        source->site = g_strdup(manifest->site);
        source->uuids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        g_hash_table_insert(source->uuids, g_strdup(manifest->vm), g_strdup(manifest->uuid));
        return true;
    }
    if (!error_is(cause, ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    return fail(error, ERROR_NOT_FOUND,
                "neither a vApp nor a VM %s is known here: no site's pool metadata has it, nor "
                "has %s, and there is no recovery point of such a VM; `drctl points` lists them",
                name, site->config->dir);
}

bool source_find(struct bundles *bundles, const char *name, const char *from, struct source *source,
                 GError **error)
{
    if (!find_in_bundles(bundles, name, from, source, error))
        return false;
    if (!source->order && !find_in_config(bundles->site, name, source, error))
        return false;
    return source->order || find_in_points(bundles->site, name, source, error);
}

/* ---- vApps for those who only want to look at, start or stop them */

/* *FROM (g_free): the site whose it is, NULL: this site's own. */
static struct vapp *find_vapp(struct bundles *bundles, const char *name, char **from,
                              GError **error)
{
    const struct site *site = bundles->site;
    AUTO_SOURCE source = {0};
    AUTO_SOURCE other = {0};

    *from = NULL;
    if (!find_in_config(site, name, &source, error))
        return NULL;
    if (source.order)
        return g_steal_pointer(&source.order);
    if (!find_in_bundles(bundles, name, NULL, &other, error))
        return NULL;
    if (other.order && is_vapp(other.order)) {
        *from = g_steal_pointer(&other.site);
        return g_steal_pointer(&other.order);
    }
    fail(error, ERROR_NOT_FOUND,
         "there is no vApp %s: neither %s/*.vapp nor any site's pool metadata has it; `drctl vapp "
         "list` shows all",
         name, site->config->dir);
    return NULL;
}

struct vapp *site_vapp(const struct site *site, const char *name, GError **error)
{
    AUTO(bundles) bundles = bundles_new(site);
    g_autofree char *from = NULL;

    return find_vapp(bundles, name, &from, error);
}

/* What runs in a guest to tell whether it is ready must be of those who have the guest in hand anyway. */
static bool check_came_from(const struct site *site, const struct vapp *vapp, const char *from,
                            GError **error)
{
    AUTO(inventory) inventory = from ? inventory_new(site->hosts, error) : NULL;

    if (from && !inventory)
        return false;
    for (unsigned i = 0; from && i < vapp->vms->len; i++) {
        const char *name = ((const struct vapp_vm *)vapp->vms->pdata[i])->name;
        AUTO(domain) domain = NULL;
        struct recovered mark;
        bool other;

        if (!inventory_find(inventory, name, name, &domain, &mark, error))
            return false;
        other = domain && g_strcmp0(mark.site, from) != 0;
        recovered_clear(&mark);
        if (other)
            return fail(error, ERROR_CONFLICT,
                        "vApp %s is known here from site %s, but VM %s did not come from there: "
                        "write %s.vapp in %s",
                        vapp->name, from, name, vapp->name, site->config->dir);
    }
    return true;
}

struct vapp *site_vapp_here(const struct site *site, const char *name, GError **error)
{
    AUTO(bundles) bundles = bundles_new(site);
    g_autofree char *from = NULL;
    AUTO(vapp) vapp = find_vapp(bundles, name, &from, error);

    return vapp && check_came_from(site, vapp, from, error) ? g_steal_pointer(&vapp) : NULL;
}

static bool is_known(const GPtrArray *vapps, const char *name)
{
    for (unsigned i = 0; i < vapps->len; i++)
        if (strcmp(((struct vapp *)vapps->pdata[i])->name, name) == 0)
            return true;
    return false;
}

/* The vApps of site FROM that are not in VAPPS yet. */
static bool add_vapps_of(struct bundles *bundles, const char *from, GPtrArray *vapps,
                         GError **error)
{
    const struct bundle *bundle = bundle_of(bundles, from);
    g_auto(GStrv) names = bundle ? bundle_names(bundle, "vapps") : NULL;

    for (char **name = names; name && *name; name++) {
        g_autofree char *whose = NULL;
        struct vapp *vapp =
            is_known(vapps, *name) ? NULL : find_vapp(bundles, *name, &whose, error);

        if (vapp)
            g_ptr_array_add(vapps, vapp);
        else if (!is_known(vapps, *name))
            return false;
    }
    return true;
}

GPtrArray *site_vapps(const struct site *site, GError **error)
{
    g_autofree char *pool = g_build_filename(site->config->store, "pool", NULL);
    g_autoptr(GPtrArray) vapps = vapp_load_all(site->config->dir, error);
    g_auto(GStrv) sites = vapps ? dir_list(pool, error) : NULL;
    AUTO(bundles) bundles = bundles_new(site);

    for (char **from = sites; from && *from; from++)
        if (site_name_is_valid(*from) && !add_vapps_of(bundles, *from, vapps, error))
            return NULL;
    return sites ? g_steal_pointer(&vapps) : NULL;
}
