/* SPDX-License-Identifier: Apache-2.0 */
#include "web/access.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define TOKEN_FILE_MAX 4096
#define SECRET_BYTES 32
#define PEERS_MAX 1024

struct peer {
    unsigned failures;
    int64_t since_ms; /* of the first one; of too many, the last */
};

struct access {
    char *token_file;
    GMutex mutex;
    GHashTable *sessions; /* digest of the cookie, as hex -> when it began, int64_t */
    GHashTable *peers;    /* network -> struct peer: those who have failed */
};

struct access *access_new(const char *token_file)
{
    struct access *self = g_new0(struct access, 1);

    self->token_file = g_strdup(token_file);
    g_mutex_init(&self->mutex);
    self->sessions = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->peers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return self;
}

void access_free(struct access *self)
{
    if (!self)
        return;
    g_hash_table_unref(self->sessions);
    g_hash_table_unref(self->peers);
    g_mutex_clear(&self->mutex);
    g_free(self->token_file);
    g_free(self);
}

/* --- secrets ---------------------------------------------------------------------------------- */

/* g_free */
static char *digest_of(const char *purpose, const char *text)
{
    AUTO(digest) digest = digest_new();
    uint8_t bytes[DIGEST_SIZE];
    char *hex = g_malloc(DIGEST_HEX_SIZE);

    digest_update(digest, purpose, strlen(purpose) + 1);
    digest_update(digest, text, strlen(text));
    digest_final(digest, bytes);
    digest_to_hex(bytes, hex);
    return hex;
}

bool access_same(const char *a, const char *b)
{
    g_autofree char *first = a ? digest_of("compare", a) : NULL;
    g_autofree char *second = b ? digest_of("compare", b) : NULL;

    return first && second && strcmp(first, second) == 0;
}

/* g_free */
static char *random_secret(void)
{
    uint8_t bytes[SECRET_BYTES];
    char *hex = g_malloc(DIGEST_HEX_SIZE);

    /* Up to 256 bytes are not interrupted, and come as soon as the kernel has some. */
    if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
        g_error("the kernel has no random numbers: %s", g_strerror(errno));
    digest_to_hex(bytes, hex);
    return hex;
}

bool access_token_make(const char *path, GError **error)
{
    g_autofree char *secret = NULL;
    g_autofree char *line = NULL;

    if (g_file_test(path, G_FILE_TEST_EXISTS))
        return true;
    secret = random_secret();
    line = g_strconcat(secret, "\n", NULL);
    return file_write(path, line, strlen(line), 0600, error);
}

char *access_token_read(const char *path, GError **error)
{
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    g_autofree char *text = g_malloc0(TOKEN_FILE_MAX + 1);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        fail_errno(error, errno, "cannot read the token of the web page in %s", path);
        return NULL;
    }
    if (!S_ISREG(st.st_mode) || st.st_mode & 077) {
        fail(error, ERROR_CONFIG, "the token in %s is open to others: chmod 600 %s", path, path);
        return NULL;
    }
    if (read(fd, text, TOKEN_FILE_MAX) < 0) {
        fail_errno(error, errno, "cannot read the token of the web page in %s", path);
        return NULL;
    }
    g_strstrip(text);
    text[strcspn(text, "\r\n")] = '\0';
    if (strlen(text) >= ACCESS_TOKEN_MIN)
        return g_steal_pointer(&text);
    fail(error, ERROR_CONFIG,
         "the token in %s has less than %d characters: remove the file, and the next start of the "
         "daemon makes a new one",
         path, ACCESS_TOKEN_MIN);
    return NULL;
}

/* --- those who try ---------------------------------------------------------------------------- */

/* Whoever has one IPv6 address has all of its network. g_free */
static char *network_of(const char *peer)
{
    struct in6_addr six;
    char text[INET6_ADDRSTRLEN];

    if (inet_pton(AF_INET6, peer, &six) != 1 || IN6_IS_ADDR_V4MAPPED(&six))
        return g_strdup(peer);
    memset(six.s6_addr + 8, 0, 8);
    return g_strdup(inet_ntop(AF_INET6, &six, text, sizeof(text)));
}

static gboolean peer_is_forgotten(void *key, void *value, void *now_ms)
{
    return *(int64_t *)now_ms - ((struct peer *)value)->since_ms >= ACCESS_FAILURES_MS;
}

/* Who comes from very many networks at once is not told apart any more. */
static struct peer *peer_find(struct access *self, const char *address, bool add, int64_t now_ms)
{
    g_autofree char *network = network_of(address);
    struct peer *peer;

    g_hash_table_foreach_remove(self->peers, peer_is_forgotten, &now_ms);
    if (!g_hash_table_contains(self->peers, network) &&
        g_hash_table_size(self->peers) >= PEERS_MAX) {
        g_free(network);
        network = g_strdup("others");
    }
    peer = g_hash_table_lookup(self->peers, network);
    if (!peer && add) {
        peer = g_memdup2(&(struct peer){.since_ms = now_ms}, sizeof(struct peer));
        g_hash_table_insert(self->peers, g_steal_pointer(&network), peer);
    }
    return peer;
}

enum access_answer access_try(struct access *self, const char *address, const char *token,
                              int64_t now_ms, GError **error)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->mutex);
    struct peer *peer = peer_find(self, address, false, now_ms);
    g_autofree char *right = NULL;

    if (peer && peer->failures >= ACCESS_FAILURES_MAX)
        return ACCESS_LATER;
    right = access_token_read(self->token_file, error);
    if (!right)
        return ACCESS_CLOSED;
    if (access_same(right, token))
        return ACCESS_GRANTED;
    peer = peer_find(self, address, true, now_ms);
    if (++peer->failures == ACCESS_FAILURES_MAX)
        peer->since_ms = now_ms;
    return ACCESS_REFUSED;
}

/* --- sessions --------------------------------------------------------------------------------- */

static gboolean session_is_over(void *key, void *value, void *now_ms)
{
    return *(int64_t *)now_ms - *(int64_t *)value >= ACCESS_SESSION_MS;
}

static void drop_oldest(struct access *self)
{
    const char *oldest = NULL;
    int64_t oldest_ms = INT64_MAX;
    GHashTableIter iter;
    void *key, *value;

    g_hash_table_iter_init(&iter, self->sessions);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        if (*(int64_t *)value < oldest_ms) {
            oldest_ms = *(int64_t *)value;
            oldest = key;
        }
    }
    if (oldest)
        g_hash_table_remove(self->sessions, oldest);
}

char *access_begin(struct access *self, int64_t now_ms)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->mutex);
    char *cookie = random_secret();

    g_hash_table_foreach_remove(self->sessions, session_is_over, &now_ms);
    if (g_hash_table_size(self->sessions) >= ACCESS_SESSIONS_MAX)
        drop_oldest(self);
    g_hash_table_insert(self->sessions, digest_of("session", cookie),
                        g_memdup2(&now_ms, sizeof(now_ms)));
    return cookie;
}

bool access_goes_on(struct access *self, const char *cookie, int64_t now_ms)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->mutex);
    g_autofree char *key = cookie ? digest_of("session", cookie) : NULL;

    g_hash_table_foreach_remove(self->sessions, session_is_over, &now_ms);
    return key && g_hash_table_contains(self->sessions, key);
}

void access_end(struct access *self, const char *cookie)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->mutex);
    g_autofree char *key = cookie ? digest_of("session", cookie) : NULL;

    if (key)
        g_hash_table_remove(self->sessions, key);
}

char *access_form_token(const char *cookie)
{
    return digest_of("form", cookie);
}
