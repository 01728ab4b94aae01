/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/guard.h"

#include <string.h>

#define ASK_AGAIN_MS 250

/* ---- What is put down here */

/* Of the VM whose guard file cannot be read, all that could be against a start is true. */
static struct guarded *read_guarded(const struct config *config, const char *uuid, char **why)
{
    g_autoptr(GError) error = NULL;
    struct guarded *guarded = NULL;

    if (!guarded_read(config->dir, uuid, &guarded, &error))
        *why = g_strdup(error->message);
    return guarded;
}

/* Without its store this site knows nothing, which is not the same as that there is nothing to know. */
static bool read_owner(const struct config *config, const char *uuid, struct owner **owner,
                       char **why)
{
    g_autofree char *store = g_build_filename(config->store, "store.json", NULL);
    g_autoptr(GError) error = NULL;

    if (!g_file_test(store, G_FILE_TEST_EXISTS))
        *why = g_strdup_printf("there is no store at %s, which knows whose the VM is: is its file "
                               "system mounted?",
                               config->store);
    else if (!owner_read(config->store, uuid, owner, &error))
        *why = g_strdup(error->message);
    return !*why;
}

static char *owned_text(const struct owner *owner, const struct config *config)
{
    g_autofree char *text = owner_text(owner);

    return g_strdup_printf("VM %s belongs to site %s; the copy at %s is stale. To bring it home "
                           "with all that it has written since: drctl failback %s",
                           owner->vm, text, config->site, owner->vm);
}

static bool is_ours(const struct owner *owner, const struct config *config)
{
    return !owner || strcmp(owner->site, config->site) == 0;
}

/* ---- What others know */

/* What is newer than what we have is ours from now on, of all VMs that are guarded here. It may fail: it will be
 * asked again. */
static void learn(const struct config *config, const GPtrArray *peers)
{
    g_autoptr(GPtrArray) all = guarded_list(config->dir, NULL);
    g_autoptr(GHashTable) newest = peers_newest_of_all(peers, config->site);
    g_autoptr(GPtrArray) known = g_ptr_array_new(), refused = owner_refusals_new();

    for (unsigned i = 0; all && i < all->len; i++) {
        const struct guarded *guarded = all->pdata[i];
        void *owner = g_hash_table_lookup(newest, guarded->uuid);

        if (owner)
            g_ptr_array_add(known, owner);
    }
    owners_claim(config->store, known, refused, NULL);
}

static bool any_witness(const struct config *config)
{
    for (char **witness = config->witnesses; *witness; witness++)
        if (witness_answers(*witness, GUARD_WITNESS_MS))
            return true;
    return false;
}

/* Nobody who could know better has answered. */
static bool unconfirmed(const struct config *config, const struct guarded *guarded,
                        const struct owner *owner, char **why)
{
    if (config->guard != GUARD_STRICT) {
        *why = g_strdup("no other site is known to own it, and none has answered");
        return true;
    }
    if (owner && guarded->claimed_epoch == owner->epoch) {
        *why = g_strdup("it was made this site's since the host was booted");
        return true;
    }
    if (any_witness(config)) {
        *why = g_strdup("no other site answers, but a witness does");
        return true;
    }
    *why =
        g_strdup_printf("guard = strict, and neither another site nor a witness answers to confirm "
                        "that VM %s belongs to %s. Try again when the network is up; if it runs "
                        "nowhere else: drctl fence --release %s",
                        guarded->vm, config->site, guarded->vm);
    return false;
}

/* At the boot of the host the network may come up while libvirt starts VMs already. NULL: nobody answers. */
static GPtrArray *ask_patiently(const struct config *config)
{
    int64_t until_ms = time_monotonic_ms() + GUARD_ASK_MS, left_ms = GUARD_ASK_MS;

    for (; config->remotes->len > 0 && left_ms > 0; left_ms = until_ms - time_monotonic_ms()) {
        g_autoptr(GPtrArray) peers = peers_ask(config, (unsigned)left_ms);

        if (peers_answered(peers))
            return g_steal_pointer(&peers);
        g_usleep(ASK_AGAIN_MS * 1000);
    }
    return NULL;
}

static bool ask_others(const struct config *config, const struct guarded *guarded,
                       const struct owner *owner, char **why)
{
    g_autoptr(GPtrArray) peers = peers_were_silent(config) ? NULL : ask_patiently(config);
    const struct owner *newest = peers ? peers_newest(peers, guarded->uuid, config->site) : NULL;
    uint64_t epoch = owner ? owner->epoch : 0;

    if (!peers)
        return unconfirmed(config, guarded, owner, why);
    learn(config, peers);
    if (!newest || newest->epoch < epoch || is_ours(newest, config)) {
        *why = g_strdup_printf("it belongs to this site, %s", config->site);
        return true;
    }
    *why = newest->epoch > epoch
               ? owned_text(newest, config)
               : g_strdup_printf("both %s and %s claim VM %s by the same epoch: decide by `drctl "
                                 "failover %s` at the site that shall have it",
                                 config->site, newest->site, newest->vm, newest->vm);
    return false;
}

/* ---- The decision */

static bool permits_guarded(const struct config *config, const struct guarded *guarded, bool ask,
                            char **why)
{
    AUTO(owner) owner = NULL;

    if (guarded->fenced_ms) {
        g_autofree char *time = time_format(guarded->fenced_ms);

        *why = g_strdup_printf("VM %s was fenced at %s, because it is to run at another site. To "
                               "bring it home: drctl failback %s. If it runs nowhere else: drctl "
                               "fence --release %s",
                               guarded->vm, time, guarded->vm, guarded->vm);
        return false;
    }
    if (config->guard == GUARD_OFF) {
        *why = g_strdup("guard = off");
        return true;
    }
    if (!read_owner(config, guarded->uuid, &owner, why))
        return false;
    if (!is_ours(owner, config)) {
        *why = owned_text(owner, config);
        return false;
    }
    if (ask)
        return ask_others(config, guarded, owner, why);
    *why = g_strdup("no other site is known to own it");
    return true;
}

bool guard_permits(const struct config *config, const char *uuid, bool ask, char **why)
{
    g_autofree char *damage = NULL;
    AUTO(guarded) guarded = read_guarded(config, uuid, &damage);

    *why = NULL;
    if (damage) {
        *why = g_steal_pointer(&damage);
        return false;
    }
    if (!guarded) {
        *why = g_strdup("it is not guarded: drctl does not protect it here");
        return true;
    }
    return permits_guarded(config, guarded, ask, why);
}

/* ---- Watching and fencing */

/* As the caller is about to clear the flag, it is put down first. */
static bool hold_autostart(const struct config *config, struct domain *domain,
                           struct guarded *guarded, GError **error)
{
    bool autostart;

    /* A domain without a definition has none. */
    if (!domain_autostart(domain, &autostart, NULL) || !autostart)
        return true;
    guarded->autostart = true;
    return guarded_write(config->dir, guarded, error) && domain_set_autostart(domain, false, error);
}

bool guard_watch(const struct config *config, struct domain *domain, GError **error)
{
    AUTO(guarded) guarded = NULL;

    if (config->guard == GUARD_OFF)
        return true;
    if (!guarded_arm(config->dir, domain_uuid(domain), domain_name(domain), config->guard, error))
        return false;
    if (guarded_uri_has_hooks(host_uri(domain_host(domain))))
        return true;
    return guarded_read(config->dir, domain_uuid(domain), &guarded, error) && guarded &&
           hold_autostart(config, domain, guarded, error);
}

bool guard_fence(const struct config *config, struct domain *domain, GError **error)
{
    AUTO(guarded) guarded = NULL;

    /* One that is damaged is replaced: it must be fenced now. */
    guarded_read(config->dir, domain_uuid(domain), &guarded, NULL);
    if (!guarded)
        guarded = guarded_new(domain_uuid(domain), domain_name(domain), config->guard);
    if (!guarded->fenced_ms)
        guarded->fenced_ms = time_now_ms();
    guarded->claimed_epoch = 0;
    return guarded_write(config->dir, guarded, error) &&
           hold_autostart(config, domain, guarded, error) && domain_destroy(domain, error);
}

/* ---- The hook */

/* Only what every system has, and nothing that can fail is in the way of a VM without a file of ours. */
static const char hook_template[] =
    "#!/bin/sh\n"
    "# drctl's guard, made by `drctl guard install`: it refuses the start of VMs that belong to "
    "another\n"
    "# site, see drctl(1). VMs that drctl does not protect have no file in $guard, and are let "
    "through.\n"
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
    "drctl=%s\n"
    "config=%s\n"
    "store=%s\n"
    "site=%s\n"
    "guard=$config/guard\n"
    "[ \"$2\" = prepare ] || exit 0\n"
    "{ true >\"$guard/called\"; } 2>/dev/null\n"
    "uuid=$(sed -n -e '/<uuid>/{' -e 's/.*<uuid>\\([0-9a-f-]*\\)<.*/\\1/p' -e ':rest' -e n -e 'b "
    "rest' -e '}')\n"
    "[ -n \"$uuid\" ] && [ -e \"$guard/$uuid\" ] || exit 0\n"
    "refuse() {\n"
    "    echo \"drctl: start of $vm refused: $1\" >&2\n"
    "    exit 1\n"
    "}\n"
    "vm=$1\n"
    "answer=$(timeout -k 2 15 \"$drctl\" --config \"$config\" guard check --quiet \"$uuid\" 2>&1 "
    "</dev/null)\n"
    "case $? in\n"
    "0) exit 0 ;;\n"
    "1) refuse \"${answer#drctl: }\" ;;\n"
    "esac\n"
    "# drctl cannot tell; the files can.\n"
    "mode=$(sed -n 's/^mode=//p' \"$guard/$uuid\")\n"
    "grep -q '^fenced=' \"$guard/$uuid\" && refuse \"it was fenced ($guard/$uuid)\"\n"
    "[ \"$mode\" = off ] && exit 0\n"
    "[ -e \"$store/store.json\" ] || refuse \"there is no store at $store: is its file system "
    "mounted?\"\n"
    "if [ -e \"$store/owners/$uuid.json\" ] &&\n"
    "    ! grep -qF \"\\\"site\\\": \\\"$site\\\"\" \"$store/owners/$uuid.json\"; then\n"
    "    refuse \"another site owns it ($store/owners/$uuid.json)\"\n"
    "fi\n"
    "[ \"$mode\" = known ] && exit 0\n"
    "refuse \"guard = strict, and drctl cannot tell whether this site owns it: ${answer#drctl: "
    "}\"\n";

char *guard_hook_text(const struct config *config, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *program = g_file_read_link("/proc/self/exe", &why);
    g_autofree char *drctl = program ? g_shell_quote(program) : NULL;
    g_autofree char *dir = g_shell_quote(config->dir);
    g_autofree char *store = g_shell_quote(config->store);
    g_autofree char *site = g_shell_quote(config->site);

    if (!drctl) {
        fail(error, ERROR_IO, "cannot find the path of this program: %s", why->message);
        return NULL;
    }
    return g_strdup_printf(hook_template, drctl, dir, store, site);
}

char *guard_hook_path(const char *hooks_dir)
{
    return g_build_filename(hooks_dir, "qemu.d", "50-drctl", NULL);
}
