/* SPDX-License-Identifier: Apache-2.0 */
/* Is what drctl.conf names there? */
#include <errno.h>
#include <sys/stat.h>

#include "metadata/config.h"
#include "metadata/secret-value.h"

/* ssh refuses private keys that others may read, and so does everybody who looks after them. */
static bool check_key(const struct config *config, const struct remote *remote, GError **error)
{
    struct stat st;

    if (stat(remote->key, &st) < 0)
        return fail(error, ERROR_CONFIG, "%s: [remote %s] key: %s: %s", config->path, remote->name,
                    remote->key, g_strerror(errno));
    if (!S_ISREG(st.st_mode))
        return fail(error, ERROR_CONFIG, "%s: [remote %s] key: %s is not a file", config->path,
                    remote->name, remote->key);
    if (st.st_mode & 077)
        return fail(error, ERROR_CONFIG, "%s: [remote %s] key: %s is open to others: chmod 600 %s",
                    config->path, remote->name, remote->key, remote->key);
    return true;
}

/* What is not named is made when the page is begun. */
static bool check_web(const struct config *config, GError **error)
{
    const struct web_config *web = &config->web;
    const char *const files[] = {"certificate", web->own_certificate ? web->certificate : NULL,
                                 "key",         web->own_certificate ? web->key : NULL,
                                 "client-ca",   web->client_ca};

    for (unsigned i = 0; i < G_N_ELEMENTS(files); i += 2)
        if (files[i + 1] && !g_file_test(files[i + 1], G_FILE_TEST_IS_REGULAR))
            return fail(error, ERROR_CONFIG, "%s: [web] %s: there is no file %s", config->path,
                        files[i], files[i + 1]);
    return true;
}

static bool check_directory(const struct config *config, const char *key, const char *path,
                            GError **error)
{
    if (g_file_test(path, G_FILE_TEST_IS_DIR))
        return true;
    return fail(error, ERROR_CONFIG, "%s: [site] %s: there is no directory %s", config->path, key,
                path);
}

static bool check_passphrase(const struct config *config, GError **error)
{
    uint8_t key[SEAL_KEY_SIZE];

    if (!config->secret_values || secret_key_load(config->secret_values, config->site, key, error))
        return true;
    g_prefix_error(error, "%s: [site] ", config->path);
    return false;
}

bool config_check_files(const struct config *config, GError **error)
{
    if (!check_directory(config, "store", config->store, error) ||
        !check_directory(config, "images", config->images, error) ||
        !check_directory(config, "scratch", config->scratch, error) ||
        !check_passphrase(config, error) || !check_web(config, error))
        return false;
    for (unsigned i = 0; i < config->remotes->len; i++) {
        const struct remote *remote = config->remotes->pdata[i];

        if (!check_key(config, remote, error))
            return false;
        if (!g_file_test(remote->known_hosts, G_FILE_TEST_IS_REGULAR))
            return fail(error, ERROR_CONFIG,
                        "%s: [remote %s] known-hosts: there is no file %s: `drctl site add` makes "
                        "it",
                        config->path, remote->name, remote->known_hosts);
    }
    return true;
}
