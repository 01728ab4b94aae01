/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/ownership.h"

#include <string.h>

/* Two copies that run are worse than one that is stale. */
static void explain_running(struct domain *domain, GError **error)
{
    enum domain_state state;

    if (!error_is(*error, ERROR_AUTH) || !domain_state(domain, &state, NULL) || state == DOMAIN_OFF)
        return;
    g_prefix_error(error, "%s RUNS HERE, AND MAY RUN TWICE (stop it: drctl fence %s): ",
                   domain_name(domain), domain_name(domain));
}

static bool check(const struct config *config, struct domain *domain, const struct owner *owner,
                  uint64_t *epoch, GError **error)
{
    struct taker taker = {config->site, 0};
    g_autoptr(GError) why = NULL;

    if (owner_is(owner, &taker, &why)) {
        *epoch = owner ? owner->epoch : 0;
        return true;
    }
    explain_running(domain, &why);
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool ownership_known(const struct config *config, struct domain *domain, uint64_t *epoch,
                     GError **error)
{
    AUTO(owner) owner = NULL;

    return owner_read(config->store, domain_uuid(domain), &owner, error) &&
           check(config, domain, owner, epoch, error);
}

static const struct owner *find_owner(const GPtrArray *owners, const char *uuid)
{
    for (unsigned i = 0; i < owners->len; i++) {
        const struct owner *owner = owners->pdata[i];

        if (strcmp(owner->uuid, uuid) == 0)
            return owner;
    }
    return NULL;
}

static bool learn(const struct config *config, struct domain *domain, const struct owner *theirs,
                  uint64_t *epoch, GError **error)
{
    if (!owner_claim(config->store, theirs, error)) {
        g_prefix_error(error, "what the destination knows of the owner of %s is not put down: ",
                       domain_name(domain));
        return false;
    }
    return check(config, domain, theirs, epoch, error);
}

bool ownership_agree(const struct config *config, struct domain *domain, struct store *destination,
                     const GPtrArray *there, uint64_t *epoch, GError **error)
{
    const struct owner *theirs = find_owner(there, domain_uuid(domain));
    AUTO(owner) ours = NULL;

    if (!owner_read(config->store, domain_uuid(domain), &ours, error))
        return false;
    if (theirs && (!ours || theirs->epoch > ours->epoch))
        return learn(config, domain, theirs, epoch, error);
    if (!ours || (theirs && theirs->epoch == ours->epoch && strcmp(theirs->site, ours->site) == 0))
        return true;
    return store_put_owner(destination, ours, error);
}

/* --- drctl status ---------------------------------------------------------------------------- */

static bool is_up(struct domain *domain)
{
    enum domain_state state;

    return domain && domain_state(domain, &state, NULL) && state != DOMAIN_OFF;
}

/* One line; NULL if all is well. g_free */
static char *problem_of(const struct config *config, const struct owner *owner,
                        struct domain *domain)
{
    g_autofree char *text = owner ? owner_text(owner) : NULL;
    AUTO(guarded) guarded = NULL;

    if (owner && strcmp(owner->site, config->site) != 0)
        return is_up(domain) ? g_strdup_printf("RUNS HERE, but belongs to %s: drctl fence %s", text,
                                               owner->vm)
               : domain ? g_strdup_printf("belongs to %s, must not start here: drctl failback %s",
                                          text, owner->vm)
                        : NULL;
    if (domain && guarded_read(config->dir, domain_uuid(domain), &guarded, NULL) && guarded &&
        guarded->fenced_ms) {
        g_autofree char *time = time_format(guarded->fenced_ms);

        return g_strdup_printf("%s since %s: drctl fence --release %s",
                               is_up(domain) ? "RUNS HERE, but was fenced" : "fenced", time,
                               guarded->vm);
    }
    return NULL;
}

bool ownership_describe(const struct config *config, const char *uuid, struct domain *domain,
                        json_t *json)
{
    AUTO(owner) owner = NULL;
    g_autoptr(GError) why = NULL;
    g_autofree char *since = NULL, *problem = NULL;

    if (owner_read(config->store, uuid, &owner, &why))
        problem = problem_of(config, owner, domain);
    else
        problem = g_strdup(why->message);
    since = owner ? time_format(owner->since_ms) : NULL;
    json_set_string(json, "owner", owner ? owner->site : NULL);
    json_set_u64(json, "epoch", owner ? owner->epoch : 0);
    json_set_string(json, "since", since);
    json_set_string(json, "problem", problem);
    return problem != NULL;
}
