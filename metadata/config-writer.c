/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "metadata/config.h"

/* A sentence of explanation starts with "# ", a setting that is commented out with "#": taking away
 * the "#" makes it work. Arguments: site, libvirt, store, images, scratch, run-dir. */
static const char template[] =
    "# drctl.conf: what this site is, which other sites it knows and what it protects.\n"
    "# Every key is described in drctl.conf(5); check changes with `drctl config check`.\n"
    "# Lines that start with # are comments. What is commented out as key = value is the default\n"
    "# or an example.\n"
    "\n"
    "[site]\n"
    "# The name of this site, at all sites the same: a-z, 0-9 and -.\n"
    "name = %s\n"
    "\n"
    "# The libvirt hosts of this site, separated by ';'.\n"
    "libvirt = %s\n"
    "\n"
    "# Recovery points of other sites, and the journal of this one. It wants a file system of its "
    "own\n"
    "# that is not the one of the protected VMs.\n"
    "store = %s\n"
    "\n"
    "# Disks of VMs that are restored or failed over here.\n"
    "images = %s\n"
    "\n"
    "# What guests overwrite while a point is being read is kept here until it has been read. A "
    "full\n"
    "# file system here makes QEMU pause the guest, so leave room.\n"
    "#scratch = %s\n"
    "\n"
    "# Sockets; a short path, at most 60 bytes.\n"
    "#run-dir = %s\n"
    "\n"
    "# Which points stay in the store, see RETENTION in drctl.conf(5); without it all.\n"
    "#keep = last=24 hourly=48 daily=14 weekly=8 monthly=12 yearly=3\n"
    "# Chains longer than this are shortened by `drctl prune`.\n"
    "#chain-depth = 32\n"
    "\n"
    "# Files of this machine that go with the pool metadata, for the day on which it is lost.\n"
    "#host-files = /etc/libvirt; /etc/network/interfaces\n"
    "# Values of libvirt's secrets, too, sealed with the passphrase in this file (mode 0600). Keep "
    "it\n"
    "# elsewhere as well: without it nobody can read them again.\n"
    "#secret-values = passphrase\n"
    "\n"
    "# Copy the disks of VMs that were failed over to here off their points, by itself and in the\n"
    "# background; `drctl hydrate` does it at any time. At most that much a second, all together.\n"
    "#hydrate = no\n"
    "#hydrate-limit = 100MiB/s\n"
    "\n"
    "# Another site that recovery points can be sent to. `drctl site add NAME ADDRESS` appends "
    "such a\n"
    "# group, asks you to confirm the host key and prints the line for the other site's\n"
    "# authorized_keys.\n"
    "#[remote other-site]\n"
    "# [user@]host[:port]; an IPv6 address in brackets.\n"
    "#address = root@192.0.2.10:22\n"
    "# Relative paths start at this directory.\n"
    "#key = id_ed25519\n"
    "#known-hosts = known_hosts\n"
    "# Where the store is there, if not where the drctl.conf of that site says.\n"
    "#store = /var/lib/drctl/store\n"
    "# How long a point waits for a link that was lost.\n"
    "#retry = 10min\n"
    "# Bandwidth, in both directions together; any number of windows, the first that fits wins.\n"
    "#limit = 20MiB/s\n"
    "#limit mon..fri 08:00-18:00 = 5MiB/s\n"
    "\n"
    "# VMs that are replicated by `drctl replicate`. What belongs together and starts in an order "
    "is a\n"
    "# vApp, NAME.vapp in this directory, see drctl-vapp(5); single VMs are listed as vms.\n"
    "#[protection shop]\n"
    "#vms = db; app; web\n"
    "# or: vapp = shop; vms take patterns and tags, too: web-*; tag:prod. `drctl protect` appends\n"
    "# such groups.\n"
    "# The name of a [remote], or local for the store of this site.\n"
    "#destination = local\n"
    "# Ask the guest agent to freeze the file systems: off, try (go on without), or require.\n"
    "#quiesce = try\n"
    "#quiesce-timeout = 10s\n"
    "# Catch all its VMs at one instant: off, try, or require.\n"
    "#group = try\n"
    "# zstd level 1 to 19; 1 is nearly always the best for the time it takes.\n"
    "#compression = 1\n"
    "# Which of its points stay at the destination; without it all.\n"
    "#keep = last=24 daily=14 weekly=8\n";

/* What GKeyFile would read differently than it was meant. */
static bool check_plain(const char *value, GError **error)
{
    for (const char *at = value; at && *at; at++)
        if (g_ascii_iscntrl(*at) || *at == '\\')
            return fail(error, ERROR_CONFIG,
                        "'%s' cannot be written to drctl.conf: it has a control character or a "
                        "backslash in it",
                        value);
    return true;
}

static char *fill_template(const struct config_init *init, const struct config *defaults)
{
    return g_strdup_printf(
        template, init->site, init->libvirt ? init->libvirt : defaults->libvirt_uris[0],
        init->store ? init->store : defaults->store, init->images ? init->images : defaults->images,
        defaults->scratch, defaults->run_dir);
}

static struct config *parse_defaults(const char *dir, const char *site, GError **error)
{
    g_autofree char *text = g_strdup_printf("[site]\nname = %s\n", site);

    return config_parse(text, strlen(text), dir, error);
}

/* mkdir -p with exactly MODE, whatever the umask: QEMU's user must be able to go through. */
static bool make_dir(const char *path, mode_t mode, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);

    if (g_file_test(path, G_FILE_TEST_IS_DIR))
        return true;
    if (!make_dir(parent, mode, error) || !dir_make(path, mode, error))
        return false;
    if (chmod(path, mode) < 0)
        return fail_errno(error, errno, "cannot set the mode of %s", path);
    return true;
}

/* Root's guests run as another user who must reach images and scratch files, but need not see what
 * else is there; an ordinary user's guests are that user. */
static bool make_dirs(const struct config *config, GError **error)
{
    g_autofree char *store_parent = g_path_get_dirname(config->store);
    mode_t mode = geteuid() == 0 ? 0711 : 0700;

    return make_dir(store_parent, mode, error) && make_dir(config->images, mode, error) &&
           make_dir(config->scratch, mode, error) && make_dir(config->run_dir, mode, error);
}

/* Only the last component is ours alone: /etc must stay as open as it is. */
static bool make_config_dir(const char *dir, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(dir);

    return make_dir(parent, geteuid() == 0 ? 0755 : 0700, error) && make_dir(dir, 0700, error);
}

static bool write_new(const struct config *config, const char *text, GError **error)
{
    if (g_file_test(config->path, G_FILE_TEST_EXISTS))
        return fail(error, ERROR_CONFLICT,
                    "%s exists: edit it, or choose another directory with --config", config->path);
    return make_config_dir(config->dir, error) && make_dirs(config, error) &&
           file_write(config->path, text, strlen(text), 0644, error);
}

bool config_init(const struct config_init *init, GError **error)
{
    AUTO(config) defaults = NULL;
    AUTO(config) config = NULL;
    g_autofree char *text = NULL;

    if (!check_plain(init->site, error) || !check_plain(init->libvirt, error) ||
        !check_plain(init->store, error) || !check_plain(init->images, error))
        return false;
    defaults = parse_defaults(init->dir, init->site, error);
    if (!defaults)
        return false;
    text = fill_template(init, defaults);
    config = config_parse(text, strlen(text), init->dir, error);
    return config && write_new(config, text, error);
}

/* *TEXT (g_string_free) is drctl.conf with GROUP at its end. */
static struct config *append(const struct config *config, const char *group, GString **text,
                             GError **error)
{
    g_autofree char *old = NULL;
    size_t len;

    if (!file_read(config->path, CONFIG_MAX_BYTES, &old, &len, error))
        return NULL;
    *text = g_string_new_len(old, (gssize)len);
    if (len > 0 && old[len - 1] != '\n')
        g_string_append_c(*text, '\n');
    g_string_append_printf(*text, "\n%s", group);
    return config_parse((*text)->str, (*text)->len, config->dir, error);
}

struct config *config_with_group(const struct config *config, const char *group, GError **error)
{
    g_autoptr(GString) text = NULL;

    return append(config, group, &text, error);
}

bool config_write_file(const char *path, const char *text, GError **error)
{
    g_autofree char *real = realpath(path, NULL);
    struct stat st = {.st_mode = 0644};

    if ((!real && errno != ENOENT) || (real && stat(real, &st) < 0))
        return fail_errno(error, errno, "cannot open %s", path);
    return file_write(real ? real : path, text, strlen(text), st.st_mode & 07777, error);
}

bool config_add_group(const struct config *config, const char *group, GError **error)
{
    g_autoptr(GString) text = NULL;
    AUTO(config) after = append(config, group, &text, error);

    return after && config_write_file(config->path, text->str, error);
}

bool config_add_remote(const struct config *config, const char *name, const char *address,
                       const char *store, GError **error)
{
    AUTO(config) before = NULL;
    g_autofree char *group =
        g_strdup_printf("[remote %s]\naddress = %s\n%s%s%s", name, address, store ? "store = " : "",
                        store ? store : "", store ? "\n" : "");

    if (!check_plain(name, error) || !check_plain(address, error) || !check_plain(store, error))
        return false;
    before = config_load(config->dir, error);
    if (!before)
        return false;
    if (config_remote(before, name, NULL))
        return fail(error, ERROR_CONFLICT, "%s has a [remote %s] already: edit or remove it",
                    config->path, name);
    return config_add_group(config, group, error);
}

/* A ';' in a name would be taken for the end of it. */
static bool append_list(GString *text, const char *key, char *const *list, GError **error)
{
    if (!list || !*list)
        return true;
    g_string_append_printf(text, "%s = ", key);
    for (char *const *item = list; *item; item++) {
        if (strchr(*item, ';'))
            return fail(error, ERROR_CONFIG,
                        "'%s' cannot be written to drctl.conf: it has a ';' in it", *item);
        if (!check_plain(*item, error))
            return false;
        g_string_append_printf(text, "%s%s", item == list ? "" : "; ", *item);
    }
    g_string_append_c(text, '\n');
    return true;
}

static bool append_value(GString *text, const char *key, const char *value, GError **error)
{
    if (!check_plain(value, error))
        return false;
    if (value)
        g_string_append_printf(text, "%s = %s\n", key, value);
    return true;
}

char *config_protection_text(const struct config_protection *protection, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);

    if (!check_plain(protection->name, error))
        return NULL;
    g_string_append_printf(text, "[protection %s]\n", protection->name);
    if (!append_list(text, "vms", protection->vms, error) ||
        !append_list(text, "exclude", protection->exclude, error) ||
        !append_value(text, "like", protection->like, error) ||
        !append_value(text, "destination", protection->destination, error) ||
        !append_value(text, "rpo", protection->rpo, error) ||
        !append_value(text, "at", protection->at, error) ||
        !append_value(text, "keep", protection->keep, error))
        return NULL;
    return g_string_free(g_steal_pointer(&text), FALSE);
}
