/* SPDX-License-Identifier: Apache-2.0 */
#include "web/server.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* No script, nothing from elsewhere, no frame around us; nothing is kept in caches. */
static const char *const common_headers[] = {
    "Content-Security-Policy",
    ("default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
     "frame-ancestors 'none'"),
    "X-Content-Type-Options",
    "nosniff",
    "X-Frame-Options",
    "DENY",
    "Referrer-Policy",
    "same-origin",
    "Cross-Origin-Opener-Policy",
    "same-origin",
    "Cross-Origin-Resource-Policy",
    "same-origin",
};
#define PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* A connection that is open, and until when. */
struct line {
    int fd;
    int64_t until_ms; /* monotonic */
};

struct server {
    struct MHD_Daemon *daemon;
    bool tls;
    void (*answer)(void *context, const struct request *request, struct reply *reply);
    void *context;
    GMutex mutex;
    GHashTable *lines; /* of struct line */
};

/* A request that is coming in. */
struct upload {
    GString *body;
    bool too_long;
};

const char *server_cookie_name(bool tls)
{
    return tls ? "__Host-drctl" : "drctl";
}

/* --- connections ------------------------------------------------------------------------------ */

static void line_until(struct server *self, struct line *line, int64_t ms)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->mutex);

    line->until_ms = time_monotonic_ms() + ms;
}

/* The socket is closed after that, so nobody else has got its number while it is in our table. */
static void line_gone(struct server *self, struct line *line)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->mutex);

    g_hash_table_remove(self->lines, line);
}

static void notify_connection(void *context, struct MHD_Connection *connection, void **socket,
                              enum MHD_ConnectionNotificationCode code)
{
    struct server *self = context;
    struct line *line = *socket;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        line_gone(self, line);
        return;
    }
    line = g_new0(struct line, 1);
    line->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    *socket = line;
    line_until(self, line, SERVER_REQUEST_MS);
    g_mutex_lock(&self->mutex);
    g_hash_table_add(self->lines, line);
    g_mutex_unlock(&self->mutex);
}

static struct line *line_of(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

void server_look(struct server *self)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->mutex);
    int64_t now_ms = time_monotonic_ms();
    GHashTableIter iter;
    void *key;

    g_hash_table_iter_init(&iter, self->lines);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        if (now_ms >= ((struct line *)key)->until_ms)
            shutdown(((struct line *)key)->fd, SHUT_RDWR);
}

/* --- requests --------------------------------------------------------------------------------- */

static const char *header(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static enum MHD_Result add_argument(void *context, enum MHD_ValueKind kind, const char *key,
                                    const char *value)
{
    GHashTable *query = context;

    if (value && g_hash_table_size(query) < REQUEST_FIELDS_MAX && g_utf8_validate(key, -1, NULL) &&
        g_utf8_validate(value, -1, NULL) && !g_hash_table_contains(query, key))
        g_hash_table_insert(query, g_strdup(key), g_strdup(value));
    return MHD_YES;
}

static void peer_text(struct MHD_Connection *connection, char text[INET6_ADDRSTRLEN])
{
    const struct sockaddr *address =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;
    const void *number = address->sa_family == AF_INET6
                             ? (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr
                             : (const void *)&((const struct sockaddr_in *)address)->sin_addr;

    if (!inet_ntop(address->sa_family, number, text, INET6_ADDRSTRLEN))
        g_strlcpy(text, "unknown", INET6_ADDRSTRLEN);
}

static bool is_certified(const struct server *self, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        self->tls ? MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION) : NULL;

    return info && tls_is_certified(info->tls_session);
}

static void ask(struct server *self, struct MHD_Connection *connection, const char *path, bool post,
                const struct upload *upload, struct reply *reply)
{
    g_autoptr(GHashTable) query = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autoptr(GHashTable) form = post ? form_parse(upload->body->str, upload->body->len) : NULL;
    char peer[INET6_ADDRSTRLEN];
    struct request request = {
        .post = post,
        .path = path,
        .peer = peer,
        .authorization = header(connection, MHD_HTTP_HEADER_AUTHORIZATION),
        .origin = header(connection, MHD_HTTP_HEADER_ORIGIN),
        .host = header(connection, MHD_HTTP_HEADER_HOST),
        .session =
            MHD_lookup_connection_value(connection, MHD_COOKIE_KIND, server_cookie_name(self->tls)),
        .certified = is_certified(self, connection),
        .query = query,
        .form = form,
    };

    peer_text(connection, peer);
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, add_argument, query);
    self->answer(self->context, &request, reply);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void unref_bytes(void *bytes)
{
    g_bytes_unref(bytes);
}

static void add_headers(struct MHD_Response *response, const struct reply *reply)
{
    GHashTableIter iter;
    void *name, *value;

    for (unsigned i = 0; i < G_N_ELEMENTS(common_headers); i += 2)
        MHD_add_response_header(response, common_headers[i], common_headers[i + 1]);
    if (!g_hash_table_contains(reply->headers, MHD_HTTP_HEADER_CACHE_CONTROL))
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (reply->type)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->type);
    g_hash_table_iter_init(&iter, reply->headers);
    while (g_hash_table_iter_next(&iter, &name, &value))
        MHD_add_response_header(response, name, value);
}

static enum MHD_Result send_reply(struct MHD_Connection *connection, const struct reply *reply)
{
    GBytes *body = reply->body ? g_bytes_ref(reply->body) : g_bytes_new_static("", 0);
    size_t len;
    const void *data = g_bytes_get_data(body, &len);
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        len, data ? (void *)data : (void *)"", unref_bytes, body);
    enum MHD_Result result;

    if (!response) {
        g_bytes_unref(body);
        return MHD_NO;
    }
    add_headers(response, reply);
    result = MHD_queue_response(connection, reply->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, const char *text)
{
    AUTO_REPLY reply = {0};

    reply_init(&reply);
    reply_text(&reply, status, "text/plain; charset=utf-8", g_strconcat(text, "\n", NULL));
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        reply_header(&reply, MHD_HTTP_HEADER_ALLOW, "GET, HEAD, POST");
    return send_reply(connection, &reply);
}

/* What is too long is not kept; what says so before it comes is refused at once. */
static bool is_too_long(struct MHD_Connection *connection)
{
    const char *text = header(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t len;

    return text && (!g_ascii_string_to_unsigned(text, 10, 0, UINT64_MAX, &len, NULL) ||
                    len > REQUEST_FORM_MAX);
}

static enum MHD_Result begin(struct MHD_Connection *connection, const char *method, void **state)
{
    struct upload *upload;

    if (!g_str_equal(method, MHD_HTTP_METHOD_GET) && !g_str_equal(method, MHD_HTTP_METHOD_HEAD) &&
        !g_str_equal(method, MHD_HTTP_METHOD_POST))
        return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET, HEAD and POST");
    if (is_too_long(connection))
        return refuse(connection, MHD_HTTP_CONTENT_TOO_LARGE, "at most 4096 bytes");
    upload = g_new0(struct upload, 1);
    upload->body = g_string_new(NULL);
    *state = upload;
    return MHD_YES;
}

static void take(struct upload *upload, const char *data, size_t *len)
{
    upload->too_long |= upload->body->len + *len > REQUEST_FORM_MAX;
    if (!upload->too_long)
        g_string_append_len(upload->body, data, (gssize)*len);
    *len = 0;
}

/* Called when the headers are there, for each part of the body, and when it has ended. */
static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *data,
                              size_t *len, void **state)
{
    struct server *self = context;
    AUTO_REPLY reply = {0};

    if (!*state)
        return begin(connection, method, state);
    if (*len > 0) {
        take(*state, data, len);
        return MHD_YES;
    }
    line_until(self, line_of(connection), SERVER_ANSWER_MS);
    if (((struct upload *)*state)->too_long)
        return refuse(connection, MHD_HTTP_CONTENT_TOO_LARGE, "at most 4096 bytes");
    reply_init(&reply);
    ask(self, connection, path, g_str_equal(method, MHD_HTTP_METHOD_POST), *state, &reply);
    return send_reply(connection, &reply);
}

static void notify_completed(void *context, struct MHD_Connection *connection, void **state,
                             enum MHD_RequestTerminationCode code)
{
    struct server *self = context;
    struct upload *upload = *state;
    struct line *line = line_of(connection);

    if (upload) {
        g_string_free(upload->body, TRUE);
        g_free(upload);
    }
    *state = NULL;
    if (line)
        line_until(self, line, SERVER_REQUEST_MS);
}

/* --- life ------------------------------------------------------------------------------------- */

/* Whoever speaks nonsense is nobody's business; what matters is told by how the server starts. */
G_GNUC_PRINTF(2, 0) static void be_silent(void *context, const char *format, va_list args)
{
}

static void add_tls(GArray *options, const struct tls_files *files)
{
    const struct MHD_OptionItem items[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, files->certificate},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, files->key},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)PRIORITIES},
        {MHD_OPTION_HTTPS_MEM_TRUST, 0, files->client_ca},
    };

    g_array_append_vals(options, items, files->client_ca ? 4 : 3);
}

static struct MHD_Daemon *start(struct server *self, const struct server_options *options)
{
    unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
                     MHD_USE_POLL | MHD_USE_ITC | MHD_USE_ERROR_LOG |
                     (options->files ? MHD_USE_TLS : 0);
    const struct MHD_OptionItem end = {MHD_OPTION_END, 0, NULL};
    g_autoptr(GArray) items = g_array_new(FALSE, TRUE, sizeof(struct MHD_OptionItem));

    if (options->files)
        add_tls(items, options->files);
    g_array_append_val(items, end);
    return MHD_start_daemon(
        flags, 0, NULL, NULL, handle, self, MHD_OPTION_EXTERNAL_LOGGER, be_silent, NULL,
        MHD_OPTION_LISTEN_SOCKET, options->fd, MHD_OPTION_NOTIFY_CONNECTION, notify_connection,
        self, MHD_OPTION_NOTIFY_COMPLETED, notify_completed, self, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)SERVER_CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)SERVER_CONNECTIONS_OF_ONE_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)SERVER_HEADERS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)(SERVER_REQUEST_MS / 1000), MHD_OPTION_THREAD_STACK_SIZE,
        (size_t)SERVER_STACK_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, items->data,
        MHD_OPTION_END);
}

struct server *server_start(const struct server_options *options, GError **error)
{
    AUTO(server) self = g_new0(struct server, 1);

    self->tls = options->files != NULL;
    self->answer = options->answer;
    self->context = options->context;
    g_mutex_init(&self->mutex);
    self->lines = g_hash_table_new_full(g_direct_hash, g_direct_equal, g_free, NULL);
    self->daemon = start(self, options);
    if (!self->daemon) {
        fail(error, ERROR_FAILED, "the server of the web page does not start");
        return NULL;
    }
    return g_steal_pointer(&self);
}

void server_free(struct server *self)
{
    if (!self)
        return;
    if (self->daemon) {
        MHD_quiesce_daemon(self->daemon);
        MHD_stop_daemon(self->daemon);
    }
    g_hash_table_unref(self->lines);
    g_mutex_clear(&self->mutex);
    g_free(self);
}
