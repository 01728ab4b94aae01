/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link over ssh by libssh2; the only file that knows libssh2. The session never blocks inside the
 * library: every wait is ours, with a deadline where there is one, and ends when the user
 * interrupts.
 */
#include <errno.h>
#include <libssh2.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "replicator/link.h"
#include "replicator/replicator.h"
#include "replicator/tcp.h"
#include "replicator/wire.h"

#define POLL_SLICE_MS 1000
#define SETUP_TIMEOUT_MS 30000 /* each of handshake, authentication, exec */
#define CLOSE_TIMEOUT_MS 5000
#define RECEIVE_WINDOW (4u << 20)
#define PUMP_SIZE 65536u
#define STDERR_KEPT 4096u
#define STDERR_LINES 3u
#define EXIT_NO_COMMAND 127

/* AES in counter mode and HMAC-SHA-256 are what CPUs have instructions for, of what libssh2 and
 * OpenSSH both know; the rest is for servers that are configured otherwise. */
#define CIPHERS "aes128-ctr,aes256-ctr,aes192-ctr"
#define MACS "hmac-sha2-256,hmac-sha2-512"

struct ssh_link {
    struct link link;
    char *name; /* of the remote */
    int fd;
    LIBSSH2_SESSION *session;
    LIBSSH2_CHANNEL *channel;
    GByteArray *inbox; /* arrived while we were writing */
    GString *errors;   /* the last of the remote stderr */
    bool broken;       /* nothing reaches the other side any more */
};

#define ED25519_FILE "/etc/ssh/ssh_host_ed25519_key.pub"
#define ECDSA_FILE "/etc/ssh/ssh_host_ecdsa_key.pub"

static const struct {
    int hostkey;
    int known;
    const char *name;
    const char *file; /* where sshd keeps it */
} key_types[] = {
    {LIBSSH2_HOSTKEY_TYPE_ED25519, LIBSSH2_KNOWNHOST_KEY_ED25519, "ssh-ed25519", ED25519_FILE},
    {LIBSSH2_HOSTKEY_TYPE_ECDSA_256, LIBSSH2_KNOWNHOST_KEY_ECDSA_256, "ecdsa-sha2-nistp256",
     ECDSA_FILE},
    {LIBSSH2_HOSTKEY_TYPE_ECDSA_384, LIBSSH2_KNOWNHOST_KEY_ECDSA_384, "ecdsa-sha2-nistp384",
     ECDSA_FILE},
    {LIBSSH2_HOSTKEY_TYPE_ECDSA_521, LIBSSH2_KNOWNHOST_KEY_ECDSA_521, "ecdsa-sha2-nistp521",
     ECDSA_FILE},
    {LIBSSH2_HOSTKEY_TYPE_RSA, LIBSSH2_KNOWNHOST_KEY_SSHRSA, "ssh-rsa",
     "/etc/ssh/ssh_host_rsa_key.pub"},
};

static void ssh_link_free(struct link *link);

static unsigned key_type_index(int hostkey)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(key_types); i++)
        if (key_types[i].hostkey == hostkey)
            return i;
    return 0; /* others are not asked for */
}

/* libssh2's own words for the last error of the session. */
static const char *ssh_text(struct ssh_link *self)
{
    char *text = NULL;

    libssh2_session_last_error(self->session, &text, NULL, 0);
    return text && *text ? text : "no reason given";
}

/* --- Waiting -------------------------------------------------------------------------------- */

/* Wait until the call that said EAGAIN can go on, at most until DEADLINE_MS (negative: for ever).
 */
static enum link_state ssh_wait(struct ssh_link *self, int64_t deadline_ms, GError **error)
{
    int directions = libssh2_session_block_directions(self->session);
    struct pollfd poll_fd = {.fd = self->fd};

    if (directions & LIBSSH2_SESSION_BLOCK_OUTBOUND)
        poll_fd.events |= POLLOUT;
    if (directions & LIBSSH2_SESSION_BLOCK_INBOUND || !poll_fd.events)
        poll_fd.events |= POLLIN;
    for (;;) {
        int64_t left = deadline_ms < 0 ? POLL_SLICE_MS : deadline_ms - time_monotonic_ms();

        if (!interrupt_check(error)) {
            self->broken = true;
            return LINK_FAILED;
        }
        if (poll(&poll_fd, 1, (int)CLAMP(left, 0, POLL_SLICE_MS)) > 0)
            return LINK_DATA;
        if (deadline_ms >= 0 && left <= 0)
            return LINK_NOTHING;
    }
}

/* Is a call that returned RC to be repeated? Waits until that makes sense. When RC stays EAGAIN,
 * waiting failed and ERROR says why. */
static bool again(struct ssh_link *self, int rc, int64_t deadline_ms, GError **error)
{
    enum link_state state;

    if (rc != LIBSSH2_ERROR_EAGAIN)
        return false;
    state = ssh_wait(self, deadline_ms, error);
    if (state == LINK_NOTHING)
        fail(error, ERROR_NETWORK,
             "%s does not answer: its sshd accepted the connection and fell silent", self->name);
    return state == LINK_DATA;
}

static int64_t setup_deadline(void)
{
    return time_monotonic_ms() + SETUP_TIMEOUT_MS;
}

/* --- Host keys ------------------------------------------------------------------------------ */

static LIBSSH2_KNOWNHOSTS *known_hosts_load(struct ssh_link *self, const struct remote *remote,
                                            GError **error)
{
    LIBSSH2_KNOWNHOSTS *hosts = libssh2_knownhost_init(self->session);

    /* No file yet is the same as an empty one: nobody is known. */
    if (g_file_test(remote->known_hosts, G_FILE_TEST_EXISTS) &&
        libssh2_knownhost_readfile(hosts, remote->known_hosts, LIBSSH2_KNOWNHOST_FILE_OPENSSH) <
            0) {
        fail(error, ERROR_CONFIG, "cannot read %s: %s", remote->known_hosts, ssh_text(self));
        libssh2_knownhost_free(hosts);
        return NULL;
    }
    return hosts;
}

static bool type_is_known(LIBSSH2_KNOWNHOSTS *hosts, const char *name, int type)
{
    struct libssh2_knownhost *host = NULL;

    while (libssh2_knownhost_get(hosts, &host, host) == 0)
        if (host->name && strcmp(host->name, name) == 0 &&
            (host->typemask & LIBSSH2_KNOWNHOST_KEY_MASK) == type)
            return true;
    return false;
}

/* A server has keys of several types; ask first for one that we can recognise, and for no others. HOSTS: NULL: none. */
static void prefer_known_types(struct ssh_link *self, LIBSSH2_KNOWNHOSTS *hosts, const char *name)
{
    g_autoptr(GString) known = g_string_new(NULL);
    g_autoptr(GString) others = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(key_types); i++)
        g_string_append_printf(hosts && type_is_known(hosts, name, key_types[i].known) ? known
                                                                                       : others,
                               "%s,", key_types[i].name);
    g_string_append(known, others->str);
    g_string_truncate(known, known->len - 1);
    libssh2_session_method_pref(self->session, LIBSSH2_METHOD_HOSTKEY, known->str);
}

static char *fingerprint(struct ssh_link *self)
{
    const char *hash = libssh2_hostkey_hash(self->session, LIBSSH2_HOSTKEY_HASH_SHA256);
    g_autofree char *base64 = NULL;

    if (!hash)
        return g_strdup("unknown");
    base64 = g_base64_encode((const unsigned char *)hash, DIGEST_SIZE);
    g_strdelimit(base64, "=", '\0');
    return g_strconcat("SHA256:", base64, NULL);
}

static bool check_host_key(struct ssh_link *self, const struct remote *remote,
                           LIBSSH2_KNOWNHOSTS *hosts, const char *name, GError **error)
{
    g_autofree char *print = fingerprint(self);
    size_t len = 0;
    int type = 0, result = LIBSSH2_KNOWNHOST_CHECK_FAILURE;
    const char *key = libssh2_session_hostkey(self->session, &len, &type);

    /* No key type in the mask: a known host that comes with a key of another type has changed. */
    if (key)
        result = libssh2_knownhost_check(
            hosts, name, key, len, LIBSSH2_KNOWNHOST_TYPE_PLAIN | LIBSSH2_KNOWNHOST_KEYENC_RAW,
            NULL);
    if (result == LIBSSH2_KNOWNHOST_CHECK_MATCH)
        return true;
    if (result == LIBSSH2_KNOWNHOST_CHECK_NOTFOUND)
        return fail(error, ERROR_AUTH,
                    "the host key of %s (%s) is not in %s: it is %s; compare that with the other "
                    "side's `ssh-keygen -lf %s` and trust it by `drctl site add %s %s@%s`",
                    remote->name, name, remote->known_hosts, print,
                    key_types[key_type_index(type)].file, remote->name, remote->user, name);
    if (result == LIBSSH2_KNOWNHOST_CHECK_MISMATCH)
        return fail(
            error, ERROR_AUTH,
            "the host key of %s (%s) is not the one in %s: it is %s now; somebody may be in "
            "between. If that host was reinstalled, remove its line from that file and trust "
            "the new key by `drctl site add %s %s@%s`",
            remote->name, name, remote->known_hosts, print, remote->name, remote->user, name);
    return fail(error, ERROR_AUTH, "cannot check the host key of %s: %s", remote->name,
                ssh_text(self));
}

/* --- Connecting ----------------------------------------------------------------------------- */

static void init_library(void)
{
    static gsize done;

    if (g_once_init_enter(&done)) {
        libssh2_init(0);
        g_once_init_leave(&done, 1);
    }
}

static const struct link_ops ssh_link_ops;

static struct ssh_link *ssh_link_new(const struct remote *remote, GError **error)
{
    int fd = tcp_connect(remote->host, remote->port, error);
    struct ssh_link *self;

    if (fd < 0) {
        g_prefix_error(error, "%s: ", remote->name);
        return NULL;
    }
    init_library();
    self = g_new0(struct ssh_link, 1);
    self->link.ops = &ssh_link_ops;
    self->name = g_strdup(remote->name);
    self->fd = fd;
    self->inbox = g_byte_array_new();
    self->errors = g_string_new(NULL);
    self->session = libssh2_session_init();
    libssh2_session_set_blocking(self->session, 0);
    for (int method = LIBSSH2_METHOD_CRYPT_CS; method <= LIBSSH2_METHOD_CRYPT_SC; method++)
        libssh2_session_method_pref(self->session, method, CIPHERS);
    for (int method = LIBSSH2_METHOD_MAC_CS; method <= LIBSSH2_METHOD_MAC_SC; method++)
        libssh2_session_method_pref(self->session, method, MACS);
    return self;
}

static bool handshake(struct ssh_link *self, GError **error)
{
    int64_t deadline_ms = setup_deadline();
    int rc;

    do
        rc = libssh2_session_handshake(self->session, self->fd);
    while (again(self, rc, deadline_ms, error));
    if (rc == 0)
        return true;
    self->broken = true;
    if (rc == LIBSSH2_ERROR_EAGAIN)
        return false;
    return fail(error, ERROR_NETWORK,
                "%s: no ssh connection: %s; is there an OpenSSH server at that "
                "address and port?",
                self->name, ssh_text(self));
}

/* Connected, with the host key known and checked. */
static bool meet(struct ssh_link *self, const struct remote *remote, GError **error)
{
    g_autofree char *name = remote_known_name(remote);
    LIBSSH2_KNOWNHOSTS *hosts = known_hosts_load(self, remote, error);
    bool ok;

    if (!hosts)
        return false;
    prefer_known_types(self, hosts, name);
    ok = handshake(self, error) && check_host_key(self, remote, hosts, name, error);
    libssh2_knownhost_free(hosts);
    return ok;
}

static bool auth_fail(struct ssh_link *self, const struct remote *remote, int rc, GError **error)
{
    g_autofree char *public_path = g_strconcat(remote->key, ".pub", NULL);
    g_autofree char *public_key = NULL;

    if (rc == LIBSSH2_ERROR_FILE)
        return fail(error, ERROR_CONFIG,
                    "cannot use the key %s: %s; it must be an OpenSSH key without a passphrase, as "
                    "`drctl init` makes it",
                    remote->key, ssh_text(self));
    if (rc == LIBSSH2_ERROR_SOCKET_DISCONNECT || rc == LIBSSH2_ERROR_SOCKET_RECV ||
        rc == LIBSSH2_ERROR_SOCKET_SEND)
        return fail(error, ERROR_NETWORK, "%s: the connection was lost while logging in: %s",
                    self->name, ssh_text(self));
    if (file_read(public_path, PUMP_SIZE, &public_key, NULL, NULL))
        g_strstrip(public_key);
    return fail(error, ERROR_AUTH,
                "%s refuses our key %s for user %s; put this line into ~%s/.ssh/authorized_keys "
                "there: restrict,command=\"drctl serve --append-only\" %s",
                self->name, remote->key, remote->user, remote->user,
                public_key ? public_key : "(content of the .pub file)");
}

static bool authenticate(struct ssh_link *self, const struct remote *remote, GError **error)
{
    int64_t deadline_ms = setup_deadline();
    int rc;

    if (access(remote->key, R_OK) < 0)
        return fail(error, ERROR_CONFIG, "cannot read the key %s: %s; `drctl init` makes one",
                    remote->key, g_strerror(errno));
    do
        rc = libssh2_userauth_publickey_fromfile(self->session, remote->user, NULL, remote->key,
                                                 NULL);
    while (again(self, rc, deadline_ms, error));
    if (rc == 0)
        return true;
    return rc == LIBSSH2_ERROR_EAGAIN ? false : auth_fail(self, remote, rc, error);
}

static bool open_channel(struct ssh_link *self, int64_t deadline_ms, GError **error)
{
    int rc;

    do {
        self->channel =
            libssh2_channel_open_ex(self->session, "session", strlen("session"), RECEIVE_WINDOW,
                                    LIBSSH2_CHANNEL_PACKET_DEFAULT, NULL, 0);
        rc = self->channel ? 0 : libssh2_session_last_errno(self->session);
    } while (again(self, rc, deadline_ms, error));
    if (rc != 0 && rc != LIBSSH2_ERROR_EAGAIN)
        fail(error, ERROR_NETWORK, "%s: no ssh channel: %s", self->name, ssh_text(self));
    return rc == 0;
}

static bool run_serve(struct ssh_link *self, const struct remote *remote, GError **error)
{
    int64_t deadline_ms = setup_deadline();
    g_autofree char *path = remote->store ? g_shell_quote(remote->store) : NULL;
    g_autofree char *command =
        path ? g_strconcat("drctl serve --store ", path, NULL) : g_strdup("drctl serve");
    int rc;

    if (!open_channel(self, deadline_ms, error))
        return false;
    do
        rc = libssh2_channel_exec(self->channel, command);
    while (again(self, rc, deadline_ms, error));
    if (rc != 0 && rc != LIBSSH2_ERROR_EAGAIN)
        fail(error, ERROR_NETWORK, "%s: its sshd does not run `%s` for us: %s", self->name, command,
             ssh_text(self));
    return rc == 0;
}

struct link *link_ssh_open(const struct remote *remote, GError **error)
{
    struct ssh_link *self = ssh_link_new(remote, error);

    if (!self)
        return NULL;
    if (meet(self, remote, error) && authenticate(self, remote, error) &&
        run_serve(self, remote, error))
        return &self->link;
    ssh_link_free(&self->link);
    return NULL;
}

struct host_key *remote_host_key(const struct remote *remote, GError **error)
{
    struct ssh_link *self = ssh_link_new(remote, error);
    struct host_key *host_key = NULL;

    if (!self)
        return NULL;
    prefer_known_types(self, NULL, NULL);
    if (handshake(self, error)) {
        size_t len = 0;
        int type = 0;
        const char *key = libssh2_session_hostkey(self->session, &len, &type);
        g_autofree char *base64 = g_base64_encode((const unsigned char *)key, len);
        g_autofree char *name = remote_known_name(remote);

        host_key = g_new0(struct host_key, 1);
        host_key->type = g_strdup(key_types[key_type_index(type)].name);
        host_key->file = g_strdup(key_types[key_type_index(type)].file);
        host_key->fingerprint = fingerprint(self);
        host_key->known_hosts_line = g_strdup_printf("%s %s %s", name, host_key->type, base64);
    }
    ssh_link_free(&self->link);
    return host_key;
}

/* --- The link ------------------------------------------------------------------------------- */

static bool fail_broken(struct ssh_link *self, GError **error)
{
    self->broken = true;
    return fail(error, ERROR_NETWORK, "the ssh connection broke: %s", ssh_text(self));
}

/* Window adjustments go out while reading. One that is half sent must be finished before anything
 * else may be sent, so a read is repeated until nothing of it is left. */
static ssize_t channel_read(struct ssh_link *self, int stream, void *data, size_t len,
                            GError **error)
{
    ssize_t n;

    for (;;) {
        n = libssh2_channel_read_ex(self->channel, stream, data, len);
        if (n != LIBSSH2_ERROR_EAGAIN ||
            !(libssh2_session_block_directions(self->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND))
            break;
        if (ssh_wait(self, -1, error) == LINK_FAILED)
            return LIBSSH2_ERROR_SOCKET_NONE;
    }
    if (n < 0 && n != LIBSSH2_ERROR_EAGAIN)
        fail_broken(self, error);
    return n;
}

/* Keep the end of what the remote command says on stderr. */
static void drain_errors(struct ssh_link *self)
{
    char buffer[1024];
    ssize_t n;

    while (!self->broken &&
           (n = channel_read(self, SSH_EXTENDED_DATA_STDERR, buffer, sizeof(buffer), NULL)) > 0) {
        g_string_append_len(self->errors, buffer, n);
        if (self->errors->len > STDERR_KEPT)
            g_string_erase(self->errors, 0, (ssize_t)(self->errors->len - STDERR_KEPT));
    }
}

/* While the window is shut: take in what the other side says, which may be why. */
static bool pump(struct ssh_link *self, GError **error)
{
    g_autofree char *buffer = g_malloc(PUMP_SIZE);
    ssize_t n;

    while ((n = channel_read(self, 0, buffer, PUMP_SIZE, error)) > 0)
        if (self->inbox->len < WIRE_HEADER + WIRE_PAYLOAD_MAX)
            g_byte_array_append(self->inbox, (uint8_t *)buffer, (unsigned)n);
    if (n < 0 && n != LIBSSH2_ERROR_EAGAIN)
        return false;
    drain_errors(self);
    if (libssh2_channel_eof(self->channel))
        return fail(error, ERROR_NETWORK, "the other side takes nothing any more");
    return true;
}

static bool ssh_link_write(struct link *link, const void *data, size_t len, GError **error)
{
    struct ssh_link *self = (struct ssh_link *)link;

    /* A fast link never waits. */
    if (!interrupt_check(error))
        return false;
    for (size_t done = 0; done < len;) {
        ssize_t n = libssh2_channel_write(self->channel, (const char *)data + done, len - done);

        if (n > 0) {
            done += (size_t)n;
            continue;
        }
        if (n < 0 && n != LIBSSH2_ERROR_EAGAIN)
            return fail_broken(self, error);
        /* With a packet half sent nothing else may be; without one it is the window that is shut,
         * and the pump may have opened it. */
        if (!(libssh2_session_block_directions(self->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND)) {
            if (!pump(self, error))
                return false;
            if (libssh2_channel_window_write(self->channel) > 0)
                continue;
        }
        if (ssh_wait(self, -1, error) == LINK_FAILED)
            return false;
    }
    return true;
}

static size_t take_from_inbox(struct ssh_link *self, void *data, size_t len)
{
    size_t n = MIN(len, self->inbox->len);

    if (n) {
        memcpy(data, self->inbox->data, n);
        g_byte_array_remove_range(self->inbox, 0, (unsigned)n);
    }
    return n;
}

static enum link_state ssh_link_read(struct link *link, void *data, size_t len, int timeout_ms,
                                     size_t *got, GError **error)
{
    struct ssh_link *self = (struct ssh_link *)link;
    int64_t deadline_ms = timeout_ms < 0 ? -1 : time_monotonic_ms() + timeout_ms;

    *got = take_from_inbox(self, data, len);
    if (*got)
        return LINK_DATA;
    for (;;) {
        ssize_t n = channel_read(self, 0, data, len, error);
        enum link_state state;

        if (n > 0) {
            *got = (size_t)n;
            return LINK_DATA;
        }
        if (n < 0 && n != LIBSSH2_ERROR_EAGAIN)
            return LINK_FAILED;
        /* What came meanwhile lies in the library, where poll(2) does not see it. */
        drain_errors(self);
        if (libssh2_poll_channel_read(self->channel, 0))
            continue;
        if (libssh2_channel_eof(self->channel))
            return LINK_END;
        if (timeout_ms == 0)
            return LINK_NOTHING;
        state = ssh_wait(self, deadline_ms, error);
        if (state != LINK_DATA)
            return state;
    }
}

/* The remote command's exit is told after the end of its output. */
static bool wait_closed(struct ssh_link *self)
{
    int64_t deadline_ms = time_monotonic_ms() + CLOSE_TIMEOUT_MS;
    int rc;

    do {
        drain_errors(self);
        rc = self->broken ? LIBSSH2_ERROR_SOCKET_NONE : libssh2_channel_wait_closed(self->channel);
    } while (again(self, rc, deadline_ms, NULL));
    return rc == 0;
}

static char *ssh_link_last_words(struct link *link)
{
    struct ssh_link *self = (struct ssh_link *)link;
    bool closed = !self->broken && libssh2_channel_eof(self->channel) && wait_closed(self);
    g_autofree char *errors = text_last_lines(self->errors->str, STDERR_LINES);
    const char *colon = *errors ? ": " : "";
    char *signal = NULL;
    g_autofree char *words = NULL;
    int status;

    if (!closed)
        return *errors ? g_steal_pointer(&errors) : NULL;
    status = libssh2_channel_get_exit_status(self->channel);
    libssh2_channel_get_exit_signal(self->channel, &signal, NULL, NULL, NULL, NULL, NULL);
    if (signal)
        words = g_strdup_printf("its `drctl serve` was killed by SIG%s%s%s", signal, colon, errors);
    else
        words =
            g_strdup_printf("its `drctl serve` ended with status %d%s%s%s", status, colon, errors,
                            status == EXIT_NO_COMMAND ? "; is drctl installed there?" : "");
    if (signal)
        libssh2_free(self->session, signal);
    return g_steal_pointer(&words);
}

/* Let `drctl serve` see the end of our input, and wait for its own: what it held is free when we
 * return. */
static void say_goodbye(struct ssh_link *self)
{
    libssh2_session_set_blocking(self->session, 1);
    libssh2_session_set_timeout(self->session, CLOSE_TIMEOUT_MS);
    if (self->channel && libssh2_channel_send_eof(self->channel) == 0)
        libssh2_channel_close(self->channel);
    libssh2_session_disconnect(self->session, "done");
}

static void ssh_link_free(struct link *link)
{
    struct ssh_link *self = (struct ssh_link *)link;

    if (!self->broken)
        say_goodbye(self);
    /* From here on the library must not wait for anybody. */
    shutdown(self->fd, SHUT_RDWR);
    libssh2_session_set_blocking(self->session, 1);
    libssh2_session_set_timeout(self->session, 1);
    if (self->channel)
        libssh2_channel_free(self->channel);
    libssh2_session_free(self->session);
    close(self->fd);
    g_byte_array_unref(self->inbox);
    g_string_free(self->errors, TRUE);
    g_free(self->name);
    g_free(self);
}

static const struct link_ops ssh_link_ops = {
    .write = ssh_link_write,
    .read = ssh_link_read,
    .last_words = ssh_link_last_words,
    .free = ssh_link_free,
};
