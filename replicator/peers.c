/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replicator/replicator.h"
#include "replicator/tcp.h"

/* What is in the run directory is gone when the host is booted. */
#define SILENCE_NAME "peers-silent"
#define SILENCE_S 30

/* The answer of one that is asked. */
struct answer {
    struct store *store;
    GPtrArray *owners;
};

static void remote_copy_free(void *data)
{
    struct remote *remote = data;

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

static void answer_free(void *data)
{
    struct answer *answer = data;

    store_free(answer->store);
    g_ptr_array_unref(answer->owners);
    g_free(answer);
}

static void *ask(void *data, GError **error)
{
    AUTO(store) store = store_open_remote(data, error);
    GPtrArray *owners = store ? store_owners(store, error) : NULL;
    struct answer *answer = owners ? g_new0(struct answer, 1) : NULL;

    if (answer)
        *answer = (struct answer){g_steal_pointer(&store), owners};
    return answer;
}

static struct answer *answer_of(const struct peer *peer, gint64 until_us, GError **error)
{
    return errand_wait(peer->asking, until_us, error);
}

static void fill_peer(struct peer *peer, gint64 until_us)
{
    g_autoptr(GError) why = NULL;
    const struct answer *answer = answer_of(peer, until_us, &why);

    if (answer) {
        peer->owners = g_ptr_array_ref(answer->owners);
        return;
    }
    peer->refuses = error_is(why, ERROR_AUTH);
    peer->why = g_strdup(why->message);
}

static void peer_free(void *data)
{
    struct peer *peer = data;

    g_clear_pointer(&peer->owners, g_ptr_array_unref);
    errand_free(peer->asking);
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
        const struct remote *remote = config->remotes->pdata[i];
        struct peer *peer = g_new0(struct peer, 1);

        peer->asking =
            errand_new("drctl-peer", ask, remote_copy(remote), remote_copy_free, answer_free);
        peer->name = g_strdup(remote->name);
        g_ptr_array_add(peers, peer);
    }
    for (unsigned i = 0; i < peers->len; i++)
        fill_peer(peers->pdata[i], until_us);
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

GHashTable *peers_newest_of_all(const GPtrArray *peers, const char *site)
{
    GHashTable *newest = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < peers->len; i++) {
        const struct peer *peer = peers->pdata[i];

        for (unsigned k = 0; peer->owners && k < peer->owners->len; k++) {
            struct owner *owner = peer->owners->pdata[k];

            if (is_newer(owner, g_hash_table_lookup(newest, owner->uuid), site))
                g_hash_table_insert(newest, owner->uuid, owner);
        }
    }
    return newest;
}

const struct owner *peers_newest(const GPtrArray *peers, const char *uuid, const char *site)
{
    g_autoptr(GHashTable) newest = peers_newest_of_all(peers, site);

    return g_hash_table_lookup(newest, uuid);
}

bool peer_tell(struct peer *peer, const GPtrArray *owners, GPtrArray *refused, GError **error)
{
    if (!peer->owners)
        return fail(error, ERROR_NETWORK, "%s: %s", peer->name, peer->why);
    return store_put_owners(answer_of(peer, 0, error)->store, owners, refused, error);
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
