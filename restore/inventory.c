/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/inventory.h"

/* Of one host. */
struct listing {
    struct host *host; /* borrowed */
    GPtrArray *domains;
    GHashTable *by_uuid, *by_name; /* borrow from it */
    GError *error;
};

struct inventory {
    struct listing *listings;
    unsigned n_listings;
};

static void listing_clear(struct listing *listing)
{
    g_clear_pointer(&listing->by_uuid, g_hash_table_unref);
    g_clear_pointer(&listing->by_name, g_hash_table_unref);
    g_clear_pointer(&listing->domains, g_ptr_array_unref);
    g_clear_error(&listing->error);
}

void inventory_free(struct inventory *inventory)
{
    if (!inventory)
        return;
    for (unsigned i = 0; i < inventory->n_listings; i++)
        listing_clear(&inventory->listings[i]);
    g_free(inventory->listings);
    g_free(inventory);
}

static void list(void *data)
{
    struct listing *listing = data;

    listing->domains = host_domains(listing->host, &listing->error);
    listing->by_uuid = g_hash_table_new(g_str_hash, g_str_equal);
    listing->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    for (unsigned i = 0; listing->domains && i < listing->domains->len; i++) {
        struct domain *domain = listing->domains->pdata[i];

        g_hash_table_insert(listing->by_uuid, (void *)domain_uuid(domain), domain);
        g_hash_table_insert(listing->by_name, (void *)domain_name(domain), domain);
    }
}

struct inventory *inventory_new(const GPtrArray *hosts, GError **error)
{
    AUTO(inventory) inventory = g_new0(struct inventory, 1);

    inventory->n_listings = hosts->len;
    inventory->listings = g_new0(struct listing, hosts->len);
    for (unsigned i = 0; i < hosts->len; i++)
        inventory->listings[i].host = hosts->pdata[i];
    in_parallel(inventory->listings, hosts->len, sizeof(struct listing), list);
    for (unsigned i = 0; i < hosts->len; i++)
        if (inventory->listings[i].error) {
            g_propagate_error(error, g_steal_pointer(&inventory->listings[i].error));
            return NULL;
        }
    return g_steal_pointer(&inventory);
}

/* ---- Which of several it is */

static bool is_off(struct domain *domain)
{
    enum domain_state state;

    return domain_state(domain, &state, NULL) && state == DOMAIN_OFF;
}

/* Is DOMAIN rather than BEST what the VM is now? */
static bool is_newer(struct domain *domain, const struct recovered *mark, struct domain *best,
                     const struct recovered *best_mark)
{
    bool off = is_off(domain);

    if (off != is_off(best))
        return !off;
    return mark->run && (!best_mark->run || run_is_before(best_mark->run, mark->run));
}

/* A host that comes back after its VMs were started elsewhere has them still: what runs counts, else what was
 * brought up last, else the first. */
static bool choose(GPtrArray *found, struct domain **domain, struct recovered *mark, GError **error)
{
    unsigned chosen = 0;

    *domain = NULL;
    *mark = (struct recovered){0};
    if (found->len == 0)
        return true;
    if (!domain_read_mark(found->pdata[0], mark, error))
        return false;
    for (unsigned i = 1; i < found->len; i++) {
        struct recovered other = {0};

        if (!domain_read_mark(found->pdata[i], &other, error)) {
            recovered_clear(mark);
            return false;
        }
        if (is_newer(found->pdata[i], &other, found->pdata[chosen], mark)) {
            struct recovered older = *mark;

            chosen = i;
            *mark = other;
            other = older;
        }
        recovered_clear(&other);
    }
    *domain = domain_copy(found->pdata[chosen]);
    return true;
}

static void free_domain(void *domain)
{
    domain_free(domain);
}

/* ---- As they were listed */

static void add_listed(const struct listing *listing, const char *name, const char *uuid,
                       GPtrArray *found)
{
    struct domain *domain = g_hash_table_lookup(listing->by_uuid, uuid);

    if (!domain)
        domain = g_hash_table_lookup(listing->by_name, name);
    if (domain)
        g_ptr_array_add(found, domain_copy(domain));
}

bool inventory_find(const struct inventory *inventory, const char *name, const char *uuid,
                    struct domain **domain, struct recovered *mark, GError **error)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(free_domain);

    for (unsigned i = 0; i < inventory->n_listings; i++)
        add_listed(&inventory->listings[i], name, uuid, found);
    return choose(found, domain, mark, error);
}

/* ---- As they are now */

/* *DOMAIN is NULL when there is none. */
static bool look_up(struct host *host, const char *name_or_uuid, struct domain **domain,
                    GError **error)
{
    g_autoptr(GError) cause = NULL;

    *domain = host_domain(host, name_or_uuid, &cause);
    if (*domain || error_is(cause, ERROR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}

bool host_find_domain(struct host *host, const char *name, const char *uuid, struct domain **domain,
                      GError **error)
{
    return look_up(host, uuid, domain, error) && (*domain || look_up(host, name, domain, error));
}

bool site_find_domain(const struct site *site, const char *name, const char *uuid,
                      struct domain **domain, struct recovered *mark, GError **error)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(free_domain);

    for (unsigned i = 0; i < site->hosts->len; i++) {
        struct domain *one;

        if (!host_find_domain(site->hosts->pdata[i], name, uuid, &one, error))
            return false;
        if (one)
            g_ptr_array_add(found, one);
    }
    return choose(found, domain, mark, error);
}
