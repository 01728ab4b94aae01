/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replicator/replicator.h"
#include "replicator/tcp.h"

/* What is in the run directory is gone when the host is booted. */
#define SILENCE_NAME "peers-silent"
#define SILENCE_S 30

/* One that is asked. Who asks may lose patience; the thread that waits for the answer keeps all that it needs. */
struct asking {
    gatomicrefcount refs;
    struct remote *remote; /* a copy: the configuration may be gone by then */
    GMutex lock;
    GCond done;
    bool answered; /* or failed */
    struct store *store;
    GPtrArray *owners;
    GError *error;
};

static void remote_copy_free(struct remote *remote)
{
    g_free(remote->name);
    g_free(remote->user);
    g_free(remote->host);
    g_free(remote->key);
    g_free(remote->known_hosts);
    g_free(remote->store);
    g_free(remote);
}

/* Without its limit: these are a few small frames, and somebody waits for them. */
static struct remote *remote_copy(const struct remote *remote)
{
    struct remote *copy = g_new0(struct remote, 1);

    copy->name = g_strdup(remote->name);
    copy->user = g_strdup(remote->user);
    copy->host = g_strdup(remote->host);
    copy->port = remote->port;
    copy->key = g_strdup(remote->key);
    copy->known_hosts = g_strdup(remote->known_hosts);
    copy->store = g_strdup(remote->store);
    return copy;
}

static void asking_unref(struct asking *asking)
{
    if (!g_atomic_ref_count_dec(&asking->refs))
        return;
    store_free(asking->store);
    g_clear_pointer(&asking->owners, g_ptr_array_unref);
    g_clear_error(&asking->error);
    remote_copy_free(asking->remote);
    g_mutex_clear(&asking->lock);
    g_cond_clear(&asking->done);
    g_free(asking);
}

static void *ask(void *data)
{
    struct asking *asking = data;
    GError *error = NULL;
    struct store *store = store_open_remote(asking->remote, &error);
    GPtrArray *owners = store ? store_owners(store, &error) : NULL;

    g_mutex_lock(&asking->lock);
    asking->store = store;
    asking->owners = owners;
    asking->error = error;
    asking->answered = true;
    g_cond_signal(&asking->done);
    g_mutex_unlock(&asking->lock);
    asking_unref(asking);
    return NULL;
}

static struct asking *asking_new(const struct remote *remote)
{
    struct asking *asking = g_new0(struct asking, 1);

    g_atomic_ref_count_init(&asking->refs);
    asking->remote = remote_copy(remote);
    g_mutex_init(&asking->lock);
    g_cond_init(&asking->done);
    g_atomic_ref_count_inc(&asking->refs);
    g_thread_unref(g_thread_new("drctl-peer", ask, asking));
    return asking;
}

static void fill_peer(struct peer *peer, struct asking *asking, gint64 until_us)
{
    g_mutex_lock(&asking->lock);
    while (!asking->answered && g_cond_wait_until(&asking->done, &asking->lock, until_us))
        ;
    if (asking->answered && asking->owners)
        peer->owners = g_ptr_array_ref(asking->owners);
    else
        peer->why = g_strdup(asking->error ? asking->error->message
                                           : "no answer within the time that there is");
    g_mutex_unlock(&asking->lock);
}

static void peer_free(void *data)
{
    struct peer *peer = data;

    g_clear_pointer(&peer->owners, g_ptr_array_unref);
    asking_unref(peer->asking);
    g_free(peer->name);
    g_free(peer->why);
    g_free(peer);
}

/* --- Silence ---------------------------------------------------------------------------------- */

static char *silence_path(const struct config *config)
{
    return g_build_filename(config->run_dir, SILENCE_NAME, NULL);
}

bool peers_were_silent(const struct config *config)
{
    g_autofree char *path = silence_path(config);
    int64_t now_s = time_now_ms() / 1000;
    struct stat st;

    return stat(path, &st) == 0 && st.st_mtime <= now_s && now_s - st.st_mtime < SILENCE_S;
}

/* Only to be quicker: it may fail. */
static void remember_silence(const struct config *config, bool silent)
{
    g_autofree char *path = silence_path(config);

    if (silent)
        file_write(path, "", 0, 0600, NULL);
    else
        unlink(path);
}

/* --- Asking all ------------------------------------------------------------------------------- */

GPtrArray *peers_ask(const struct config *config, unsigned timeout_ms)
{
    gint64 until_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    GPtrArray *peers = g_ptr_array_new_with_free_func(peer_free);

    for (unsigned i = 0; i < config->remotes->len; i++) {
        struct peer *peer = g_new0(struct peer, 1);

        peer->asking = asking_new(config->remotes->pdata[i]);
        peer->name = g_strdup(peer->asking->remote->name);
        g_ptr_array_add(peers, peer);
    }
    for (unsigned i = 0; i < peers->len; i++) {
        struct peer *peer = peers->pdata[i];

        fill_peer(peer, peer->asking, until_us);
    }
    remember_silence(config, peers->len > 0 && !peers_answered(peers));
    return peers;
}

bool peers_answered(const GPtrArray *peers)
{
    for (unsigned i = 0; i < peers->len; i++)
        if (((const struct peer *)peers->pdata[i])->owners)
            return true;
    return false;
}

static bool is_newer(const struct owner *owner, const struct owner *newest, const char *site)
{
    if (!newest || owner->epoch != newest->epoch)
        return !newest || owner->epoch > newest->epoch;
    return strcmp(newest->site, site) == 0;
}

const struct owner *peers_newest(const GPtrArray *peers, const char *uuid, const char *site)
{
    const struct owner *newest = NULL;

    for (unsigned i = 0; i < peers->len; i++) {
        const struct peer *peer = peers->pdata[i];

        for (unsigned k = 0; peer->owners && k < peer->owners->len; k++) {
            const struct owner *owner = peer->owners->pdata[k];

            if (strcmp(owner->uuid, uuid) == 0 && is_newer(owner, newest, site))
                newest = owner;
        }
    }
    return newest;
}

bool peer_tell(struct peer *peer, const struct owner *owner, GError **error)
{
    if (!peer->owners)
        return fail(error, ERROR_NETWORK, "%s: %s", peer->name, peer->why);
    return store_put_owner(peer->asking->store, owner, error);
}

bool witness_answers(const char *witness, unsigned timeout_ms)
{
    g_autofree char *user = NULL, *host = NULL;
    uint16_t port;
    AUTO_FD fd = -1;

    if (address_parse(witness, &user, &host, &port, NULL))
        fd = tcp_connect_within(host, port, (int)timeout_ms, NULL);
    return fd >= 0;
}
