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

static struct domain *listed(const struct inventory *inventory, const char *name, const char *uuid)
{
    struct domain *domain = NULL;

    for (unsigned i = 0; i < inventory->n_listings && !domain; i++) {
        const struct listing *listing = &inventory->listings[i];

        domain = g_hash_table_lookup(listing->by_uuid, uuid);
        if (!domain)
            domain = g_hash_table_lookup(listing->by_name, name);
    }
    return domain;
}

bool inventory_find(const struct inventory *inventory, const char *name, const char *uuid,
                    struct domain **domain, struct recovered *mark, GError **error)
{
    struct domain *found = listed(inventory, name, uuid);

    *domain = NULL;
    *mark = (struct recovered){0};
    if (!found)
        return true;
    if (!domain_read_mark(found, mark, error))
        return false;
    *domain = domain_copy(found);
    return true;
}
