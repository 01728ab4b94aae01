/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "metadata/config-private.h"
#include "metadata/host-files.h"

#define NAME_MAX_BYTES 63
#define RETRY_DEFAULT_MS (INT64_C(10) * 60 * 1000)
#define RETRY_MAX_MS (INT64_C(24) * 3600 * 1000)
#define LIMIT_KEY "limit"

static const char *const guard_names[] = {"off", "known", "strict", NULL};

const char *guard_mode_name(enum guard_mode mode)
{
    return guard_names[mode];
}

bool site_name_is_valid(const char *name)
{
    size_t len = strlen(name);

    return len >= 1 && len <= NAME_MAX_BYTES &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len && name[0] != '-' &&
           name[len - 1] != '-' && strcmp(name, "local") != 0;
}

static void remote_free(void *data)
{
    struct remote *remote = data;

    g_free(remote->name);
    g_free(remote->user);
    g_free(remote->host);
    g_free(remote->key);
    g_free(remote->known_hosts);
    g_free(remote->store);
    limit_free(remote->limit);
    g_free(remote->limit_file);
    g_free(remote);
}

void config_free(struct config *config)
{
    if (!config)
        return;
    g_free(config->dir);
    g_free(config->path);
    g_free(config->site);
    g_strfreev(config->libvirt_uris);
    g_strfreev(config->witnesses);
    g_strfreev(config->host_files);
    g_free(config->secret_values);
    g_free(config->store);
    g_free(config->images);
    g_free(config->scratch);
    g_free(config->run_dir);
    calendar_free(config->verify_at);
    calendar_free(config->prune_at);
    g_free(config->metrics);
    web_config_clear(&config->web);
    g_ptr_array_unref(config->remotes);
    g_ptr_array_unref(config->protections);
    g_ptr_array_unref(config->copies);
    g_ptr_array_unref(config->alerts);
    g_free(config);
}

char *config_default_dir(void)
{
    if (geteuid() == 0)
        return g_strdup("/etc/drctl");
    return g_build_filename(g_get_user_config_dir(), "drctl", NULL);
}

static struct config *config_new(const char *dir)
{
    struct config *config = g_new0(struct config, 1);
    bool root = geteuid() == 0;
    g_autofree char *data =
        root ? g_strdup("/var/lib/drctl") : g_build_filename(g_get_user_data_dir(), "drctl", NULL);

    config->dir = g_canonicalize_filename(dir, NULL);
    config->path = g_build_filename(config->dir, "drctl.conf", NULL);
    config->libvirt_uris = g_new0(char *, 2);
    config->libvirt_uris[0] = g_strdup(root ? "qemu:///system" : "qemu:///session");
    config->store = g_build_filename(data, "store", NULL);
    config->images = g_build_filename(data, "images", NULL);
    config->scratch = g_build_filename(data, "scratch", NULL);
    config->run_dir = g_build_filename(root ? "/run" : g_get_user_runtime_dir(), "drctl", NULL);
    config->chain_depth = CONFIG_CHAIN_DEPTH;
    config->guard = GUARD_KNOWN;
    config->jobs = CONFIG_JOBS;
    config->host_jobs = CONFIG_HOST_JOBS;
    config->link_jobs = CONFIG_LINK_JOBS;
    config->store_jobs = CONFIG_STORE_JOBS;
    web_config_init(&config->web, config->dir);
    config->witnesses = g_new0(char *, 1);
    config->remotes = g_ptr_array_new_with_free_func(remote_free);
    config->protections = g_ptr_array_new_with_free_func(protection_free);
    config->copies = g_ptr_array_new_with_free_func(copy_rule_free);
    config->alerts = g_ptr_array_new_with_free_func(alert_free);
    return config;
}

bool config_read_path(const struct reader *reader, const char *key, const char *base, char **out,
                      GError **error)
{
    g_autofree char *text = NULL;

    if (!keyfile_string(reader->keyfile, reader->group, key, &text, error))
        return false;
    if (!text)
        return true;
    if (text[0] == '~')
        return keyfile_fail(reader->keyfile, reader->group, key, error,
                            "'%s': ~ is not expanded here: write the whole path", text);
    if (!base && !g_path_is_absolute(text))
        return keyfile_fail(reader->keyfile, reader->group, key, error,
                            "'%s' is not absolute: write the whole path", text);
    g_free(*out);
    *out = g_canonicalize_filename(text, base);
    return true;
}

/* Points are pulled from the socket of a local QEMU, so other drivers cannot work. */
static bool check_uris(const struct reader *reader, GError **error)
{
    for (char **uri = reader->config->libvirt_uris; *uri; uri++)
        if (!g_str_has_prefix(*uri, "qemu") || !g_uri_is_valid(*uri, G_URI_FLAGS_NONE, NULL))
            return keyfile_fail(reader->keyfile, reader->group, "libvirt", error,
                                "'%s' is not a libvirt URI of QEMU, such as qemu:///system", *uri);
    return true;
}

static bool is_inside(const char *path, const char *dir)
{
    return g_str_has_prefix(path, dir) && (path[strlen(dir)] == '\0' || path[strlen(dir)] == '/');
}

/* What is in the store is never written again; disks that guests write to cannot lie there. */
static bool check_directories(const struct reader *reader, GError **error)
{
    const struct config *config = reader->config;
    const struct keyfile *keyfile = reader->keyfile;

    if (is_inside(config->images, config->store))
        return keyfile_fail(keyfile, reader->group, "images", error,
                            "%s lies in the store: choose a directory outside", config->images);
    if (is_inside(config->scratch, config->store))
        return keyfile_fail(keyfile, reader->group, "scratch", error,
                            "%s lies in the store: choose a directory outside", config->scratch);
    if (strcmp(config->scratch, config->images) == 0)
        return keyfile_fail(keyfile, reader->group, "scratch", error,
                            "%s is the directory of images too: choose another", config->scratch);
    if (strlen(config->run_dir) > CONFIG_RUN_DIR_MAX)
        return keyfile_fail(keyfile, reader->group, "run-dir", error,
                            "%s is longer than %d bytes, too long for the paths of sockets in it: "
                            "choose a shorter one",
                            config->run_dir, CONFIG_RUN_DIR_MAX);
    return true;
}

static bool read_site_name(const struct reader *reader, GError **error)
{
    struct config *config = reader->config;

    if (!keyfile_string(reader->keyfile, reader->group, "name", &config->site, error))
        return false;
    if (!config->site)
        return keyfile_fail(reader->keyfile, reader->group, "name", error,
                            "is missing: the name of this site, such as dc1");
    if (!site_name_is_valid(config->site))
        return keyfile_fail(reader->keyfile, reader->group, "name", error,
                            "'%s' is not a site name: use a-z, 0-9 and -, and not 'local'",
                            config->site);
    return true;
}

bool config_read_keep(const struct reader *reader, struct retention *keep, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) problem = NULL;

    if (!keyfile_string(reader->keyfile, reader->group, "keep", &text, error))
        return false;
    if (text && !retention_parse(text, keep, &problem))
        return keyfile_fail(reader->keyfile, reader->group, "keep", error, "%s", problem->message);
    return true;
}

static bool read_chain_depth(const struct reader *reader, GError **error)
{
    int64_t depth = reader->config->chain_depth;

    if (!keyfile_number(reader->keyfile, reader->group, "chain-depth", 2, CONFIG_CHAIN_DEPTH_MAX,
                        &depth, error))
        return false;
    reader->config->chain_depth = (unsigned)depth;
    return true;
}

static bool check_witness(const struct reader *reader, const char *witness, GError **error)
{
    g_autofree char *user = NULL, *host = NULL;
    g_autoptr(GError) problem = NULL;
    uint16_t port;

    if (strchr(witness, '@') || !strrchr(witness, ':') || g_str_has_suffix(witness, "]"))
        return keyfile_fail(reader->keyfile, reader->group, "witness", error,
                            "'%s' is not HOST:PORT", witness);
    return address_parse(witness, &user, &host, &port, &problem) ||
           keyfile_fail(reader->keyfile, reader->group, "witness", error, "%s", problem->message);
}

static bool read_guard(const struct reader *reader, GError **error)
{
    struct config *config = reader->config;
    unsigned mode = config->guard;

    if (!keyfile_word(reader->keyfile, reader->group, "guard", guard_names, &mode, error) ||
        !keyfile_list(reader->keyfile, reader->group, "witness", &config->witnesses, error))
        return false;
    for (char **witness = config->witnesses; *witness; witness++)
        if (!check_witness(reader, *witness, error))
            return false;
    config->guard = (enum guard_mode)mode;
    return true;
}

static bool read_hydrate(const struct reader *reader, GError **error)
{
    struct config *config = reader->config;
    g_autofree char *rate = NULL;
    g_autoptr(GError) problem = NULL;

    if (!keyfile_switch(reader->keyfile, reader->group, "hydrate", &config->hydrate, error) ||
        !keyfile_string(reader->keyfile, reader->group, "hydrate-limit", &rate, error))
        return false;
    return !rate || rate_parse(rate, &config->hydrate_rate, &problem) ||
           keyfile_fail(reader->keyfile, reader->group, "hydrate-limit", error, "%s",
                        problem->message);
}

static bool read_host_files(const struct reader *reader, GError **error)
{
    struct config *config = reader->config;

    if (!keyfile_list(reader->keyfile, reader->group, "host-files", &config->host_files, error))
        return false;
    for (char **path = config->host_files; path && *path; path++)
        if (!host_path_is_valid(*path))
            return keyfile_fail(reader->keyfile, reader->group, "host-files", error,
                                "'%s' is not a whole path, such as /etc/libvirt", *path);
    return true;
}

static bool read_site(const struct reader *reader, GError **error)
{
    static const char *const keys[] = {"name",       "libvirt",       "store",   "images",
                                       "scratch",    "run-dir",       "keep",    "chain-depth",
                                       "guard",      "witness",       "hydrate", "hydrate-limit",
                                       "host-files", "secret-values", NULL};
    struct config *config = reader->config;

    return keyfile_check_keys(reader->keyfile, reader->group, keys, error) &&
           read_site_name(reader, error) &&
           keyfile_list(reader->keyfile, reader->group, "libvirt", &config->libvirt_uris, error) &&
           check_uris(reader, error) &&
           config_read_path(reader, "store", NULL, &config->store, error) &&
           config_read_path(reader, "images", NULL, &config->images, error) &&
           config_read_path(reader, "scratch", NULL, &config->scratch, error) &&
           config_read_path(reader, "run-dir", NULL, &config->run_dir, error) &&
           config_read_keep(reader, &config->keep, error) && read_chain_depth(reader, error) &&
           read_guard(reader, error) && read_hydrate(reader, error) &&
           read_host_files(reader, error) &&
           config_read_path(reader, "secret-values", config->dir, &config->secret_values, error) &&
           check_directories(reader, error);
}

static bool read_address(const struct reader *reader, struct remote *remote, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) problem = NULL;

    if (!keyfile_string(reader->keyfile, reader->group, "address", &text, error))
        return false;
    if (!text)
        return keyfile_fail(reader->keyfile, reader->group, "address", error,
                            "is missing: [user@]host[:port]");
    if (!address_parse(text, &remote->user, &remote->host, &remote->port, &problem))
        return keyfile_fail(reader->keyfile, reader->group, "address", error, "%s",
                            problem->message);
    return true;
}

static bool read_window(const struct reader *reader, const char *key, struct limit *limit,
                        GError **error)
{
    g_autofree char *window = g_strstrip(g_strdup(key + strlen(LIMIT_KEY)));
    g_autofree char *rate = NULL;
    g_autoptr(GError) problem = NULL;

    if (!keyfile_string(reader->keyfile, reader->group, key, &rate, error))
        return false;
    return limit_add_window(limit, window, rate, &problem) ||
           keyfile_fail(reader->keyfile, reader->group, key, error, "%s", problem->message);
}

static bool read_windows(const struct reader *reader, struct limit *limit, GError **error)
{
    g_auto(GStrv) keys = keyfile_keys(reader->keyfile, reader->group);

    for (char **key = keys; *key; key++)
        if (g_str_has_prefix(*key, LIMIT_KEY " ") && !read_window(reader, *key, limit, error))
            return false;
    return true;
}

static bool read_limit(const struct reader *reader, struct remote *remote, GError **error)
{
    g_autofree char *name = g_strconcat("limit-", remote->name, NULL);
    g_autofree char *rate = NULL;
    g_autoptr(GError) problem = NULL;

    remote->limit = limit_new();
    remote->limit_file = g_build_filename(reader->config->run_dir, name, NULL);
    if (!keyfile_string(reader->keyfile, reader->group, LIMIT_KEY, &rate, error))
        return false;
    if (rate && !limit_set(remote->limit, rate, &problem))
        return keyfile_fail(reader->keyfile, reader->group, LIMIT_KEY, error, "%s",
                            problem->message);
    return read_windows(reader, remote->limit, error);
}

static bool read_remote(const struct reader *reader, GError **error)
{
    static const char *const keys[] = {"address", "key",     "known-hosts",       "store",
                                       "retry",   LIMIT_KEY, LIMIT_KEY " WINDOW", NULL};
    const struct config *config = reader->config;
    struct remote *remote = g_new0(struct remote, 1);

    g_ptr_array_add(config->remotes, remote);
    remote->name = g_strdup(reader->name);
    remote->retry_ms = RETRY_DEFAULT_MS;
    remote->key = g_build_filename(config->dir, SITE_KEY_FILE, NULL);
    remote->known_hosts = g_build_filename(config->dir, "known_hosts", NULL);
    if (strcmp(remote->name, config->site) == 0)
        return keyfile_fail(reader->keyfile, reader->group, NULL, error,
                            "is the name of this site: a remote is another one");
    return keyfile_check_keys(reader->keyfile, reader->group, keys, error) &&
           read_address(reader, remote, error) &&
           config_read_path(reader, "key", config->dir, &remote->key, error) &&
           config_read_path(reader, "known-hosts", config->dir, &remote->known_hosts, error) &&
           config_read_path(reader, "store", NULL, &remote->store, error) &&
           keyfile_duration(reader->keyfile, reader->group, "retry", 0, RETRY_MAX_MS,
                            &remote->retry_ms, error) &&
           read_limit(reader, remote, error);
}

static const struct remote *find_remote(const struct config *config, const char *name)
{
    for (unsigned i = 0; i < config->remotes->len; i++) {
        const struct remote *remote = config->remotes->pdata[i];

        if (strcmp(remote->name, name) == 0)
            return remote;
    }
    return NULL;
}

static char *remote_names(const struct config *config)
{
    GString *names = g_string_new(NULL);

    for (unsigned i = 0; i < config->remotes->len; i++) {
        const struct remote *remote = config->remotes->pdata[i];

        g_string_append_printf(names, "%s%s", i ? ", " : "", remote->name);
    }
    return g_string_free(names, FALSE);
}

/* Of KEY of GROUP; a group may stand before its remote in the file. */
static bool check_store(const struct reader *reader, const char *group, const char *key,
                        const char *name, GError **error)
{
    g_autofree char *names = NULL;

    if (!name)
        return keyfile_fail(reader->keyfile, group, key, error,
                            "is missing: the name of a [remote], or local");
    if (strcmp(name, "local") == 0 || find_remote(reader->config, name))
        return true;
    names = remote_names(reader->config);
    return keyfile_fail(reader->keyfile, group, key, error,
                        "there is no [remote %s]; there are %s%slocal", name, names,
                        *names ? ", " : "");
}

static bool check_copy(const struct reader *reader, const struct copy_rule *rule, GError **error)
{
    g_autofree char *group = g_strdup_printf("copy %s", rule->name);

    if (!check_store(reader, group, "from", rule->from, error) ||
        !check_store(reader, group, "to", rule->to, error))
        return false;
    return strcmp(rule->from, rule->to) != 0 ||
           keyfile_fail(reader->keyfile, group, "to", error, "is where the points are already");
}

static bool check_stores(const struct reader *reader, GError **error)
{
    const struct config *config = reader->config;

    for (unsigned i = 0; i < config->protections->len; i++) {
        const struct protection *protection = config->protections->pdata[i];
        g_autofree char *group = g_strdup_printf("protection %s", protection->name);

        if (!check_store(reader, group, "destination", protection->destination, error))
            return false;
    }
    for (unsigned i = 0; i < config->copies->len; i++)
        if (!check_copy(reader, config->copies->pdata[i], error))
            return false;
    return true;
}

/* All but [site]. */
static bool read_other(struct reader *reader, GError **error)
{
    static const struct {
        const char *prefix;
        bool (*read)(const struct reader *reader, GError **error);
    } kinds[] = {
        {"remote ", read_remote},
        {"protection ", config_read_protection},
        {"template ", config_read_template},
        {"copy ", config_read_copy},
        {"alert ", config_read_alert},
    };

    if (strcmp(reader->group, "daemon") == 0)
        return config_read_daemon(reader, error);
    if (strcmp(reader->group, "web") == 0)
        return config_read_web(reader, error);
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (!g_str_has_prefix(reader->group, kinds[i].prefix))
            continue;
        reader->name = reader->group + strlen(kinds[i].prefix);
        if (!site_name_is_valid(reader->name))
            return keyfile_fail(reader->keyfile, reader->group, NULL, error,
                                "'%s' is not a name: use a-z, 0-9 and -, and not 'local'",
                                reader->name);
        return kinds[i].read(reader, error);
    }
    return keyfile_fail(reader->keyfile, reader->group, NULL, error,
                        "there is no such group; there are [site], [daemon], [web], [remote NAME], "
                        "[protection NAME], [template NAME], [copy NAME] and [alert NAME]");
}

static bool read_groups(struct reader *reader, GError **error)
{
    char **groups = keyfile_groups(reader->keyfile);

    reader->group = "site";
    if (!g_strv_contains((const char *const *)groups, "site"))
        return keyfile_fail(reader->keyfile, "site", NULL, error,
                            "is missing: it needs at least name = NAME");
    if (!read_site(reader, error))
        return false;
    for (char **group = groups; *group; group++) {
        reader->group = *group;
        if (strcmp(*group, "site") != 0 && !read_other(reader, error))
            return false;
    }
    return check_stores(reader, error);
}

struct config *config_parse(const char *text, size_t len, const char *dir, GError **error)
{
    AUTO(config) config = config_new(dir);
    AUTO(keyfile) keyfile = keyfile_parse(text, len, config->path, error);
    struct reader reader = {.keyfile = keyfile, .config = config};

    if (!keyfile || !read_groups(&reader, error))
        return NULL;
    return g_steal_pointer(&config);
}

struct config *config_load(const char *dir, GError **error)
{
    g_autofree char *absolute = g_canonicalize_filename(dir, NULL);
    g_autofree char *path = g_build_filename(absolute, "drctl.conf", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) problem = NULL;
    size_t len;

    if (!file_read(path, CONFIG_MAX_BYTES, &text, &len, &problem)) {
        if (error_is(problem, ERROR_NOT_FOUND))
            fail(error, ERROR_CONFIG,
                 "%s does not exist: make a site with `drctl init`, or name the directory of "
                 "another with --config",
                 path);
        else
            fail(error, ERROR_CONFIG, "%s", problem->message);
        return NULL;
    }
    return config_parse(text, len, absolute, error);
}

const struct remote *config_remote(const struct config *config, const char *name, GError **error)
{
    const struct remote *remote = find_remote(config, name);
    g_autofree char *names = NULL;

    if (remote)
        return remote;
    names = remote_names(config);
    if (*names)
        fail(error, ERROR_NOT_FOUND, "%s has no remote '%s'; there are %s", config->path, name,
             names);
    else
        fail(error, ERROR_NOT_FOUND,
             "%s has no remote '%s', nor any other: add it with `drctl site add`", config->path,
             name);
    return NULL;
}

const struct protection *config_protection(const struct config *config, const char *name,
                                           GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (unsigned i = 0; i < config->protections->len; i++) {
        const struct protection *protection = config->protections->pdata[i];

        if (strcmp(protection->name, name) == 0)
            return protection;
        g_string_append_printf(names, "%s%s", i ? ", " : "; there are ", protection->name);
    }
    fail(error, ERROR_NOT_FOUND, "%s has no protection '%s'%s", config->path, name,
         names->len ? names->str : ", nor any other: add a [protection NAME]");
    return NULL;
}
