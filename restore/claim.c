/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/inventory.h"

#include <string.h>

/* Whoever fails over waits for it. */
#define ASK_MS 10000

struct claim {
    const struct site *site; /* borrowed */
    char *run;
    GPtrArray *peers;   /* of struct peer */
    GHashTable *newest; /* UUID -> struct owner, as they know it; borrows from them */
    GPtrArray *wanted;  /* of struct owner: with the epoch that ours must be above */
};

struct claim *claim_new(const struct site *site, const char *run)
{
    struct claim *claim = g_new0(struct claim, 1);

    claim->site = site;
    claim->run = g_strdup(run);
    claim->peers = peers_ask(site->config, ASK_MS);
    claim->newest = peers_newest_of_all(claim->peers, site->config->site);
    claim->wanted = owners_new();
    for (unsigned i = 0; i < claim->peers->len; i++) {
        const struct peer *peer = claim->peers->pdata[i];

        if (!peer->owners)
            progress_note(
                site->progress,
                "%s cannot be told whose the VMs are now: %s; it learns that when it asks",
                peer->name, peer->why);
    }
    return claim;
}

void claim_free(struct claim *claim)
{
    if (!claim)
        return;
    g_ptr_array_unref(claim->wanted);
    g_hash_table_unref(claim->newest);
    g_ptr_array_unref(claim->peers);
    g_free(claim->run);
    g_free(claim);
}

static void tell_peer(const struct claim *claim, struct peer *peer, const GPtrArray *owners)
{
    g_autoptr(GPtrArray) refused = owner_refusals_new();
    g_autoptr(GError) why = NULL;

    if (!peer_tell(peer, owners, refused, &why))
        progress_note(claim->site->progress, "%s does not take it whose the VMs are: %s",
                      peer->name, why->message);
    for (unsigned i = 0; i < refused->len; i++) {
        const struct owner_refusal *refusal = refused->pdata[i];

        progress_note(claim->site->progress, "%s does not take it whose VM %s is: %s", peer->name,
                      refusal->uuid, refusal->why->message);
    }
}

static void tell_peers(const struct claim *claim, const GPtrArray *owners)
{
    for (unsigned i = 0; i < claim->peers->len; i++) {
        struct peer *peer = claim->peers->pdata[i];

        if (peer->owners)
            tell_peer(claim, peer, owners);
    }
}

/* A fence has taken the flag away; there may be no such domain yet. */
static bool give_autostart_back(const struct claim *claim, const struct inventory *inventory,
                                struct guarded *guarded, GError **error)
{
    AUTO(domain) domain = NULL;
    struct recovered mark;

    inventory_find(inventory, guarded->uuid, guarded->uuid, &domain, &mark, NULL);
    recovered_clear(&mark);
    if (!domain || !guarded_uri_has_hooks(host_uri(domain_host(domain))))
        return true;
    if (!domain_set_autostart(domain, true, error))
        return false;
    guarded->autostart = false;
    return guarded_write(claim->site->config->dir, guarded, error);
}

static bool release_guards(const struct claim *claim, const GPtrArray *owners, GError **error)
{
    const struct config *config = claim->site->config;
    g_autoptr(GPtrArray) all = guarded_claim(config->dir, owners, config->guard, error);
    AUTO(inventory) inventory = NULL;

    for (unsigned i = 0; all && i < all->len; i++) {
        struct guarded *guarded = all->pdata[i];

        if (!guarded->autostart)
            continue;
        if (!inventory)
            inventory = inventory_new(claim->site->hosts, error);
        if (!inventory || !give_autostart_back(claim, inventory, guarded, error))
            return false;
    }
    return all != NULL;
}

void claim_add(struct claim *claim, const char *uuid, const char *vm)
{
    const struct config *config = claim->site->config;
    const struct owner *newest = g_hash_table_lookup(claim->newest, uuid);
    bool ours = newest && strcmp(newest->site, config->site) == 0;

    g_ptr_array_add(claim->wanted, owner_new(uuid, vm, config->site,
                                             newest ? newest->epoch - ours : 0, claim->run));
}

bool claim_take(struct claim *claim, GPtrArray **owners, GError **error)
{
    g_autoptr(GPtrArray) taken = owners_take(claim->site->config->store, claim->wanted, error);

    /* Whoever has several of them asks for the next. */
    g_ptr_array_set_size(claim->wanted, 0);
    if (!taken || !release_guards(claim, taken, error))
        return false;
    tell_peers(claim, taken);
    if (owners)
        *owners = g_steal_pointer(&taken);
    return true;
}

static bool tell_one(const struct claim *claim, struct owner *owner)
{
    g_autoptr(GPtrArray) one = g_ptr_array_new();

    g_ptr_array_add(one, owner);
    tell_peers(claim, one);
    return true;
}

bool claim_give(struct claim *claim, const char *uuid, const char *vm, const char *site,
                GError **error)
{
    const struct config *config = claim->site->config;
    const struct owner *newest = g_hash_table_lookup(claim->newest, uuid);
    /* None of SITE's runs: it goes on with what it has. */
    AUTO(owner) want = owner_new(uuid, vm, site, 0, NULL);
    AUTO(owner) here = NULL;
    AUTO(owner) given = NULL;

    if (!owner_read(config->store, uuid, &here, error))
        return false;
    if (here && strcmp(here->site, site) == 0)
        return tell_one(claim, here);
    if (!here || strcmp(here->site, config->site) != 0 ||
        (newest && newest->epoch >= here->epoch && strcmp(newest->site, config->site) != 0)) {
        progress_note(claim->site->progress,
                      "%s: it is not this site's any more, so it is not given to %s", vm, site);
        return true;
    }
    return owner_take(config->store, want, here->epoch, &given, error) && tell_one(claim, given);
}
