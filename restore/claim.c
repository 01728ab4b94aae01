/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/recovery.h"

#include <string.h>

/* Whoever fails over waits for it. */
#define ASK_MS 10000

struct claim {
    const struct site *site; /* borrowed */
    char *run;
    GPtrArray *peers; /* of struct peer */
};

struct claim *claim_new(const struct site *site, const char *run)
{
    struct claim *claim = g_new0(struct claim, 1);

    claim->site = site;
    claim->run = g_strdup(run);
    claim->peers = peers_ask(site->config, ASK_MS);
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
    g_ptr_array_unref(claim->peers);
    g_free(claim->run);
    g_free(claim);
}

static void tell_peers(const struct claim *claim, const struct owner *owner)
{
    for (unsigned i = 0; i < claim->peers->len; i++) {
        struct peer *peer = claim->peers->pdata[i];
        g_autoptr(GError) why = NULL;

        if (peer->owners && !peer_tell(peer, owner, &why))
            progress_note(claim->site->progress, "%s does not take it that VM %s is %s's: %s",
                          peer->name, owner->vm, owner->site, why->message);
    }
}

/* A fence has taken the flag away; there may be no such domain yet. */
static bool give_autostart_back(const struct claim *claim, struct guarded *guarded, GError **error)
{
    const struct site *site = claim->site;
    AUTO(domain) domain = NULL;

    for (unsigned i = 0; i < site->hosts->len && !domain; i++)
        domain = host_domain(site->hosts->pdata[i], guarded->uuid, NULL);
    if (!domain || !guarded_uri_has_hooks(host_uri(domain_host(domain))))
        return true;
    if (!domain_set_autostart(domain, true, error))
        return false;
    guarded->autostart = false;
    return guarded_write(site->config->dir, guarded, error);
}

static bool release_guard(const struct claim *claim, const struct owner *owner, GError **error)
{
    const struct config *config = claim->site->config;
    AUTO(guarded) guarded = NULL;

    if (!guarded_claim(config->dir, owner, config->guard, error) ||
        !guarded_read(config->dir, owner->uuid, &guarded, error))
        return false;
    return !guarded || !guarded->autostart || give_autostart_back(claim, guarded, error);
}

bool claim_vm(struct claim *claim, const char *uuid, const char *vm, struct owner **owner,
              GError **error)
{
    const struct config *config = claim->site->config;
    const struct owner *newest = peers_newest(claim->peers, uuid, config->site);
    bool ours = newest && strcmp(newest->site, config->site) == 0;
    AUTO(owner) want = owner_new(uuid, vm, config->site, 0, claim->run);
    AUTO(owner) taken = NULL;

    if (!owner_take(config->store, want, newest ? newest->epoch - ours : 0, &taken, error) ||
        !release_guard(claim, taken, error))
        return false;
    tell_peers(claim, taken);
    if (owner)
        *owner = g_steal_pointer(&taken);
    return true;
}

bool claim_give(struct claim *claim, const char *uuid, const char *vm, const char *site,
                GError **error)
{
    const struct config *config = claim->site->config;
    const struct owner *newest = peers_newest(claim->peers, uuid, config->site);
    /* None of SITE's runs: it goes on with what it has. */
    AUTO(owner) want = owner_new(uuid, vm, site, 0, NULL);
    AUTO(owner) here = NULL;
    AUTO(owner) given = NULL;

    if (!owner_read(config->store, uuid, &here, error))
        return false;
    if (here && strcmp(here->site, site) == 0) {
        tell_peers(claim, here);
        return true;
    }
    if (!here || strcmp(here->site, config->site) != 0 ||
        (newest && newest->epoch >= here->epoch && strcmp(newest->site, config->site) != 0)) {
        progress_note(claim->site->progress,
                      "%s: it is not this site's any more, so it is not given to %s", vm, site);
        return true;
    }
    if (!owner_take(config->store, want, here->epoch, &given, error))
        return false;
    tell_peers(claim, given);
    return true;
}
