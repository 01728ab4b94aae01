/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a key that is bound to sites may see and say: their points, VMs, owners and pool bundles. Whose a VM
 * is, the points that are there tell; there is no second record of it that could be wrong. A VM without
 * points is whose its owner is, or, without an owner, the first one's who sends a point of it.
 */
#include <string.h>

#include "replicator/local.h"
#include "replicator/session.h"

struct namespace *namespace_new(const char *const *sites, const char *own_site)
{
    struct namespace *self;

    if (!sites)
        return NULL;
    self = g_new0(struct namespace, 1);
    self->sites = g_strdupv((char **)sites);
    self->text = g_strjoinv(",", self->sites);
    self->own_site = g_strdup(own_site);
    return self;
}

void namespace_free(struct namespace *self)
{
    if (!self)
        return;
    g_strfreev(self->sites);
    g_free(self->text);
    g_free(self->own_site);
    g_free(self);
}

bool namespace_has_site(const struct namespace *self, const char *site)
{
    return !self || g_strv_contains((const char *const *)self->sites, site);
}

/* That of the store takes VMs over, and then owns them and has points of them, too. */
static bool may_be_of(const struct namespace *self, const char *site)
{
    return namespace_has_site(self, site) || strcmp(site, self->own_site) == 0;
}

enum whose { OURS, OTHERS, NOBODYS };

/* What one more point says of its VM, of which WHOSE is known. */
static enum whose whose_after(const struct namespace *self, enum whose whose,
                              const struct manifest *point)
{
    if (!may_be_of(self, point->site))
        return OTHERS;
    return whose == NOBODYS && namespace_has_site(self, point->site) ? OURS : whose;
}

/* Of the VMs in POINTS: uuid -> enum whose. One of which only the store's own site has points is not ours. */
static GHashTable *whose_are(const struct namespace *self, const GPtrArray *points)
{
    GHashTable *found = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *point = points->pdata[i];
        void *known;
        enum whose whose = g_hash_table_lookup_extended(found, point->uuid, NULL, &known)
                               ? (enum whose)GPOINTER_TO_UINT(known)
                               : NOBODYS;

        if (whose != OTHERS)
            whose = whose_after(self, whose, point);
        g_hash_table_insert(found, point->uuid, GUINT_TO_POINTER(whose));
    }
    return found;
}

static bool find_whose(const struct session *session, const char *vm_uuid, enum whose *whose,
                       GError **error)
{
    const struct namespace *self = session->namespace;
    g_autoptr(GPtrArray) points = store_points(session->local, vm_uuid, error);
    AUTO(owner) owner = NULL;

    if (!points)
        return false;
    if (points->len > 0) {
        g_autoptr(GHashTable) found = whose_are(self, points);

        *whose = GPOINTER_TO_UINT(g_hash_table_lookup(found, vm_uuid)) == OURS ? OURS : OTHERS;
        return true;
    }
    if (!owner_read(((const struct local_store *)session->local)->path, vm_uuid, &owner, error))
        return false;
    *whose = NOBODYS;
    if (owner)
        *whose = namespace_has_site(self, owner->site) ? OURS : OTHERS;
    return true;
}

static bool fail_site(const struct namespace *self, const char *what, const char *site,
                      GError **error)
{
    return fail(error, ERROR_AUTH,
                "%s is of site %s, and this key is only for %s: use the key of that site, or name "
                "both in --site of its line in authorized_keys there",
                what, site, self->text);
}

bool session_check_site(const struct session *self, const char *what, const char *site,
                        GError **error)
{
    return namespace_has_site(self->namespace, site) ||
           fail_site(self->namespace, what, site, error);
}

bool session_check_vm(const struct session *self, const char *vm_uuid, GError **error)
{
    enum whose whose = OURS;

    if (!self->namespace || !uuid_is_valid(vm_uuid))
        return true;
    return find_whose(self, vm_uuid, &whose, error) &&
           (whose != OTHERS ||
            fail(error, ERROR_AUTH,
                 "VM %s is not of %s, and this key is only for that (drctl serve --site): if it "
                 "has moved between sites, name all of them in --site in authorized_keys there",
                 vm_uuid, self->namespace->text));
}

bool session_check_manifest(const struct session *self, const struct manifest *manifest,
                            GError **error)
{
    if (!self->namespace)
        return true;
    if (!session_check_site(self, "the point", manifest->site, error) ||
        !session_check_vm(self, manifest->uuid, error))
        return false;
    /* An image shows what it is based on. */
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];

        if (disk->base_vm && !session_check_vm(self, disk->base_vm, error)) {
            g_prefix_error(error, "disk %s is based on another VM: ", disk->target);
            return false;
        }
    }
    return true;
}

bool session_check_owner(const struct session *self, const struct owner *owner, GError **error)
{
    if (!self->namespace)
        return true;
    if (!may_be_of(self->namespace, owner->site))
        return fail_site(self->namespace, "the owner of the VM", owner->site, error);
    return session_check_vm(self, owner->uuid, error);
}

bool session_check_bundle(const struct session *self, const void *data, size_t len, GError **error)
{
    AUTO(bundle) bundle = NULL;
    g_autoptr(GPtrArray) owners = NULL;

    if (!self->namespace)
        return true;
    bundle = bundle_unpack(data, len, "the pool bundle", error);
    if (!bundle || !session_check_site(self, "the pool bundle", bundle->id->site, error))
        return false;
    owners = bundle_owners(bundle, error);
    for (unsigned i = 0; owners && i < owners->len; i++)
        if (!session_check_owner(self, owners->pdata[i], error))
            return false;
    return owners != NULL;
}

void session_hide_points(const struct session *self, GPtrArray *points)
{
    g_autoptr(GHashTable) whose = NULL;
    unsigned shown = 0;

    if (!self->namespace)
        return;
    whose = whose_are(self->namespace, points);
    for (unsigned i = 0; i < points->len; i++) {
        struct manifest *point = points->pdata[i];

        if (GPOINTER_TO_UINT(g_hash_table_lookup(whose, point->uuid)) != OURS)
            continue;
        points->pdata[i] = points->pdata[shown];
        points->pdata[shown++] = point;
    }
    g_ptr_array_set_size(points, (int)shown);
}

bool session_shows_owner(const struct session *self, const struct owner *owner)
{
    enum whose whose = OURS;

    return !self->namespace || (find_whose(self, owner->uuid, &whose, NULL) && whose == OURS);
}
