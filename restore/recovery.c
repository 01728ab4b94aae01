/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/recovery.h"

#include <string.h>

#define DEFINITION_MAX_BYTES (4u << 20)
/* Of the file beside the directory of the overlays. */
#define ASIDE_SUFFIX ".aside.xml"

void recovery_free(struct recovery *recovery)
{
    if (!recovery)
        return;
    g_free(recovery->name);
    g_free(recovery->uuid);
    g_free(recovery->uri);
    g_free(recovery->images);
    g_free(recovery->definition);
    g_free(recovery->adopted);
    g_free(recovery->subject);
    origin_free(recovery->origin);
    customization_free(recovery->customization);
    g_free(recovery->before);
    g_free(recovery->run);
    g_free(recovery->dir);
    g_free(recovery->link);
    g_free(recovery);
}

/* ---- Hosts and the domains that are there */

struct qemu_user host_qemu_user(struct host *host)
{
    struct qemu_user user = {0};

    user.other = host_qemu_identity(host, &user.uid, &user.gid);
    return user;
}

bool domain_read_mark(struct domain *domain, struct recovered *mark, GError **error)
{
    g_autofree char *xml = domain_xml(domain, DOMAIN_XML_INACTIVE, error);

    if (xml)
        recovered_read(xml, mark);
    return xml != NULL;
}

bool fail_stranger(struct domain *domain, const char *name, GError **error)
{
    enum domain_state state = DOMAIN_OFF;

    domain_state(domain, &state, NULL);
    return fail(error, ERROR_CONFLICT,
                "VM %s (%s, %s) exists at %s and was not recovered by drctl: if it is not needed, "
                "remove it (virsh undefine %s), or give it another name and UUID",
                domain_name(domain), domain_uuid(domain), domain_state_name(state),
                host_uri(domain_host(domain)), name);
}

/* The domain at the recovery's host, which must be ours; *DOMAIN is NULL when there is none. */
static bool find_own(struct recovery *recovery, struct domain **domain, GError **error)
{
    const char *run = recovery->adopted ? recovery->adopted : recovery->run;
    AUTO(domain) found = NULL;
    struct recovered mark = {0};
    bool is_ours;

    *domain = NULL;
    if (!host_find_domain(recovery->host, recovery->name, recovery->uuid, &found, error))
        return false;
    if (!found)
        return true;
    if (!domain_read_mark(found, &mark, error))
        return false;
    is_ours = g_strcmp0(mark.run, run) == 0;
    recovered_clear(&mark);
    if (!is_ours)
        return fail_stranger(found, recovery->name, error);
    *domain = g_steal_pointer(&found);
    return true;
}

static const char *subject_of(const struct recovery *recovery)
{
    return recovery->subject ? recovery->subject : recovery->name;
}

/* ---- Planning */

static void leave_out(const struct recovery *recovery, struct xml_node *domain,
                      struct findings *findings)
{
    g_auto(GStrv) targets = origin_left_out(recovery->origin);

    for (char **target = targets; *target; target++)
        remark(findings, "disk %s is left out: the VM gets no such disk", *target);
    rewrite_leave_out(domain, targets);
}

bool recovery_adapt(struct recovery *recovery, struct platform *platform, bool as_copy,
                    struct findings *findings, GError **error)
{
    g_autofree char *what =
        g_strdup_printf("domain.xml of point %s", recovery->origin->manifest->point);
    AUTO(xml) xml = definition_parse(recovery->origin->definition, what, error);
    AUTO(xml)
    before = recovery->before ? definition_parse(recovery->before, "the old copy", NULL) : NULL;
    g_autoptr(GPtrArray) lost = origin_lost(recovery->origin);
    struct rewrite rewrite;

    if (!xml)
        return false;
    leave_out(recovery, xml_root(xml), findings);
    platform_ask_support(platform, xml_root(xml));
    rewrite = (struct rewrite){.domain = xml_root(xml),
                               .manifest = recovery->origin->manifest,
                               .platform = platform,
                               .findings = findings,
                               .lost = lost,
                               .plan = recovery->plan,
                               .before = before ? xml_root(before) : NULL,
                               .vm = subject_of(recovery)};
    /* First, so that files of the original are not in the way. */
    if (recovery->bubble)
        bubble_take(recovery->bubble, &rewrite, recovery->name, recovery->uuid);
    else if (as_copy)
        rewrite_rename(xml_root(xml), recovery->name, recovery->uuid, findings);
    rewrite_adapt(&rewrite);
    /* What was looked for at the hosts is what gets defined, whatever the file says. */
    rewrite_identify(xml_root(xml), recovery->name, recovery->uuid);
    g_free(recovery->definition);
    recovery->definition = xml_dump(xml);
    return true;
}

void recovery_check_chains(const struct recovery *recovery, struct findings *findings)
{
    for (unsigned i = 0; i < recovery->origin->disks->len; i++) {
        const struct origin_disk *disk = recovery->origin->disks->pdata[i];
        unsigned layers = g_strv_length(disk->chain);

        if (layers > OVERLAY_MAX_LAYERS)
            remark(findings,
                   "disk %s is a chain of %u points, too long to start from: it is copied first",
                   disk->target, layers);
        else if (disk->lost && disk->lost->unreadable)
            remark(findings,
                   "disk %s: QEMU cannot open its images, so what is left of them is copied first",
                   disk->target);
    }
}

/* The points' own directories are opened by the grant step; what is above them, of every VM that a
 * layer is of, must be open. */
static bool check_passage_to_layers(const struct recovery *recovery, const struct qemu_user *user,
                                    GError **error)
{
    for (unsigned i = 0; i < recovery->origin->disks->len; i++) {
        const struct origin_disk *disk = recovery->origin->disks->pdata[i];

        for (char **file = disk->chain; *file; file++) {
            g_autofree char *point_dir = g_path_get_dirname(*file);
            g_autofree char *vm_dir = g_path_get_dirname(point_dir);

            if (!overlay_check_passage(vm_dir, user, error))
                return false;
        }
    }
    return true;
}

const char *recovery_images(const struct recovery *recovery, const struct config *config)
{
    return recovery->images ? recovery->images : config->images;
}

void recovery_check_access(const struct recovery *recovery, const struct site *site,
                           struct findings *findings)
{
    struct host *host = site_host(site, recovery->uri, NULL);
    struct qemu_user user = host ? host_qemu_user(host) : (struct qemu_user){0};
    g_autoptr(GError) cause = NULL;

    if (!check_passage_to_layers(recovery, &user, &cause) ||
        !overlay_check_passage(recovery_images(recovery, site->config), &user, &cause))
        block(findings, "%s", cause->message);
}

/* ---- Steps */

/* Beside the directory of the run; g_free. */
static char *aside_path(const struct recovery *recovery)
{
    return g_strconcat(recovery->dir, ASIDE_SUFFIX, NULL);
}

/* The definition that was put aside, NULL when there is none; g_free. */
static char *read_aside(const struct recovery *recovery)
{
    g_autofree char *path = aside_path(recovery);
    char *text = NULL;

    return recovery->aside && file_read(path, DEFINITION_MAX_BYTES, &text, NULL, NULL) ? text
                                                                                       : NULL;
}

/* Only the definition goes, and is kept as a file: the disks and the NVRAM stay where they are. */
static bool set_aside(struct recovery *recovery, struct domain *domain, GError **error)
{
    g_autofree char *path = aside_path(recovery);
    g_autofree char *xml = domain_xml(domain, DOMAIN_XML_INACTIVE, error);
    g_autofree char *text = NULL;
    enum domain_state state;
    bool autostart;

    if (!xml || !domain_state(domain, &state, error) ||
        !domain_autostart(domain, &autostart, error))
        return false;
    if (state != DOMAIN_OFF)
        return fail(error, ERROR_CONFLICT, "the old copy of %s is %s now, it must be off",
                    recovery->name, domain_state_name(state));
    recovery->aside_host = domain_host(domain);
    text = g_strconcat(xml, autostart ? HOST_AUTOSTARTS : "", NULL);
    return dir_make(recovery->site->config->images, 0711, error) &&
           file_write(path, text, strlen(text), 0600, error) && domain_forget(domain, error);
}

static bool step_aside(void *context, GError **error)
{
    struct recovery *recovery = context;
    AUTO(domain) domain = NULL;
    struct recovered mark;
    bool is_ours;

    if (!site_find_domain(recovery->site, recovery->uuid, recovery->uuid, &domain, &mark, error))
        return false;
    is_ours = g_strcmp0(mark.run, recovery->run) == 0;
    recovered_clear(&mark);
    return !domain || is_ours || set_aside(recovery, domain, error);
}

bool recovery_bring_back(struct host *host, const char *dir, GError **error)
{
    g_autofree char *path = g_strconcat(dir, ASIDE_SUFFIX, NULL);
    g_autofree char *text = NULL;
    AUTO(domain) domain = NULL;

    if (!g_file_test(path, G_FILE_TEST_EXISTS))
        return true;
    if (!file_read(path, DEFINITION_MAX_BYTES, &text, NULL, error))
        return false;
    domain = host_define(host, text, error);
    return domain && domain_set_autostart(domain, g_str_has_suffix(text, HOST_AUTOSTARTS), error) &&
           tree_remove(path, error);
}

static bool undo_aside(void *context, GError **error)
{
    const struct recovery *recovery = context;
    struct host *host = recovery->aside_host ? recovery->aside_host : recovery->host;

    return !recovery->aside || recovery_bring_back(host, recovery->dir, error);
}

static bool step_grant(void *context, GError **error)
{
    struct recovery *recovery = context;
    struct qemu_user user = host_qemu_user(recovery->host);

    return overlay_grant(recovery->origin, &user, error);
}

static bool step_overlay(void *context, GError **error)
{
    struct recovery *recovery = context;
    struct qemu_user user = host_qemu_user(recovery->host);

    return overlay_create(recovery->dir, recovery->link, recovery->origin, &user, error);
}

static bool undo_overlay(void *context, GError **error)
{
    struct recovery *recovery = context;

    return overlay_remove(recovery->dir, recovery->link, error);
}

static void free_texts(void *texts)
{
    g_strfreev(texts);
}

/* The definition with its disks on the overlays of this run; g_free. */
static char *placed_definition(const struct recovery *recovery, GError **error)
{
    const struct origin *origin = recovery->origin;
    const struct manifest *manifest = origin->manifest;
    AUTO(xml) xml = xml_parse(recovery->definition, "the planned definition", error);
    g_autofree struct placement_disk *disks = g_new0(struct placement_disk, origin->disks->len);
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) chains = g_ptr_array_new_with_free_func(free_texts);
    g_autofree char *nvram = overlay_nvram_path(recovery->dir);
    struct recovered mark = {manifest->site, manifest->uuid, manifest->point, recovery->run};
    struct placement placement = {
        .disks = disks,
        .n_disks = origin->disks->len,
        .nvram = origin->nvram ? nvram : NULL,
        .keep_owners = host_manages_owners(recovery->host),
        .origin = &mark,
    };

    if (!xml)
        return NULL;
    for (unsigned i = 0; i < origin->disks->len; i++) {
        const struct origin_disk *disk = origin->disks->pdata[i];
        char *path = overlay_path(recovery->dir, disk->target);
        char **chain = overlay_chain(recovery->dir, disk);

        g_ptr_array_add(paths, path);
        g_ptr_array_add(chains, chain);
        disks[i] = (struct placement_disk){disk->target, path, (const char *const *)chain};
    }
    rewrite_place(xml_root(xml), &placement);
    return xml_dump(xml);
}

static bool step_define(void *context, GError **error)
{
    struct recovery *recovery = context;
    AUTO(domain) domain = NULL;
    g_autofree char *xml = NULL, *aside = read_aside(recovery);

    if (!find_own(recovery, &domain, error))
        return false;
    if (!domain) {
        xml = placed_definition(recovery, error);
        domain = xml ? host_define(recovery->host, xml, error) : NULL;
    }
    /* Who decides that it starts is the one who recovers, not the next boot of the host; unless that was
     * decided here before. */
    return domain &&
           domain_set_autostart(domain, aside && g_str_has_suffix(aside, HOST_AUTOSTARTS), error);
}

/* What is somebody else's is the reason why the step failed, and not ours to take back. */
static bool find_own_to_undo(struct recovery *recovery, struct domain **domain, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (find_own(recovery, domain, &cause) || error_is(cause, ERROR_CONFLICT))
        return true;
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}

static bool undo_define(void *context, GError **error)
{
    AUTO(domain) domain = NULL;

    return find_own_to_undo(context, &domain, error) && (!domain || domain_undefine(domain, error));
}

static bool make_run(struct recovery *recovery, struct domain *domain, GError **error)
{
    enum domain_state state;

    if (!domain_state(domain, &state, error))
        return false;
    if (state == DOMAIN_OFF) {
        recovery->started = true;
        return domain_start(domain, error);
    }
    return state != DOMAIN_PAUSED || domain_resume(domain, error);
}

static bool step_start(void *context, GError **error)
{
    struct recovery *recovery = context;
    AUTO(domain) domain = NULL;

    recovery->begun_start = true;
    if (!find_own(recovery, &domain, error))
        return false;
    return domain
               ? make_run(recovery, domain, error)
               : fail(error, ERROR_NOT_FOUND, "domain %s is not defined any more", recovery->name);
}

static const struct step steps[] = {
    {.name = "aside", .run = step_aside, .undo = undo_aside},
    {.name = "grant", .run = step_grant},
    {.name = "overlay", .run = step_overlay, .undo = undo_overlay},
    {.name = "define", .run = step_define, .undo = undo_define},
    {.name = "start", .run = step_start},
};

/* Of a test: what a guest has written is nobody's loss. */
static bool undo_start(void *context, GError **error)
{
    AUTO(domain) domain = NULL;

    return find_own_to_undo(context, &domain, error) && (!domain || domain_destroy(domain, error));
}

static const struct step throw_away_steps[] = {
    {.name = "grant", .run = step_grant},
    {.name = "overlay", .run = step_overlay, .undo = undo_overlay},
    {.name = "define", .run = step_define, .undo = undo_define},
    {.name = "start", .run = step_start, .undo = undo_start},
};

/* The host gets its own name for a VM at a time: two runs must not both find that a domain does
 * not exist yet. */
static struct file_lock *lock_vm(const struct recovery *recovery, GError **error)
{
    g_autofree char *name = g_strdup_printf("recovery-%s.lock", recovery->uuid);
    g_autofree char *path = g_build_filename(catalog_lock_dir(recovery->site->catalog), name, NULL);
    g_autofree char *what = g_strdup_printf("recovery of VM %s", recovery->name);

    return file_lock_take(path, what, error);
}

/* Before the start nothing was written that is worth keeping; from then on all is kept. After an
 * interrupt the same command goes on. */
static bool is_worth_undoing(const struct recovery *recovery)
{
    return !recovery->adopted && !recovery->begun_start && interrupt_check(NULL);
}

/* What was brought up before has only to start; what is not here has nothing to put aside. */
struct run_subject recovery_steps(const char *name, const struct recovery *recovery, bool start)
{
    unsigned first = recovery && recovery->adopted ? G_N_ELEMENTS(steps) - 1
                     : recovery && recovery->aside ? 0
                                                   : 1;
    unsigned end = G_N_ELEMENTS(steps) - (start ? 0 : 1);

    return (struct run_subject){name, steps + first, end - first};
}

static bool do_steps(struct recovery *recovery, struct run *run, bool start, GError **error)
{
    struct run_subject todo = recovery_steps(subject_of(recovery), recovery, start);
    g_autoptr(GError) cause = NULL;
    g_autoptr(GError) undo_cause = NULL;

    if (run_steps(run, todo.name, todo.steps, todo.n_steps, recovery, &cause))
        return true;
    if (is_worth_undoing(recovery) &&
        !run_undo(run, todo.name, todo.steps, todo.n_steps, recovery, &undo_cause))
        progress_note(recovery->site->progress, "%s: cannot clean up: %s", recovery->name,
                      undo_cause->message);
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}

/* All steps may be done since long ago: the domain need not run any more. */
static bool find_result(struct recovery *recovery, bool start, struct domain **domain,
                        GError **error)
{
    AUTO(domain) found = NULL;

    if (!find_own(recovery, &found, error))
        return false;
    if (!found)
        return fail(error, ERROR_NOT_FOUND, "domain %s was removed since it was recovered",
                    recovery->name);
    if (start && !make_run(recovery, found, error))
        return false;
    if (domain)
        *domain = g_steal_pointer(&found);
    return true;
}

/* From here on it is of RUN. */
static struct file_lock *enter(struct recovery *recovery, const struct site *site, struct run *run,
                               GError **error)
{
    recovery->site = site;
    recovery->host = site_host(site, recovery->uri, error);
    if (!recovery->run) {
        recovery->run = g_strdup(run_id(run));
        recovery->dir = overlay_dir(recovery_images(recovery, site->config), recovery->name,
                                    recovery->uuid, recovery->run);
        recovery->link =
            overlay_dir(site->config->images, recovery->name, recovery->uuid, recovery->run);
    }
    return recovery->host ? lock_vm(recovery, error) : NULL;
}

bool recovery_run(struct recovery *recovery, const struct site *site, struct run *run, bool start,
                  struct domain **domain, GError **error)
{
    AUTO(file_lock) lock = enter(recovery, site, run, error);

    return lock && do_steps(recovery, run, start, error) &&
           find_result(recovery, start, domain, error);
}

bool recovery_remove(struct recovery *recovery, const struct site *site, struct run *run,
                     GError **error)
{
    AUTO(file_lock) lock = enter(recovery, site, run, error);

    return lock && run_undo(run, subject_of(recovery), throw_away_steps,
                            G_N_ELEMENTS(throw_away_steps), recovery, error);
}

/* ---- Until it is ready */

struct wait {
    const struct vapp_vm *vm;
    struct domain *domain;
};

static bool step_ready(void *context, GError **error)
{
    struct wait *wait = context;

    return vapp_wait_ready(wait->vm, wait->domain, error);
}

const struct step recovery_ready = {.name = "ready", .run = step_ready};

bool recovery_wait_ready(const struct recovery *recovery, struct run *run, const struct vapp_vm *vm,
                         struct domain *domain, GError **error)
{
    struct wait wait = {vm, domain};
    int64_t done_ms;

    if (!run_step_done(run, subject_of(recovery), &recovery_ready, &done_ms, error))
        return false;
    /* A console does not print again what it has printed. */
    if (done_ms && !recovery->started && (vm->ready == READY_LOG || vapp_is_ready(vm, domain)))
        return true;
    return run_again(run, subject_of(recovery), &recovery_ready, &wait, error);
}

bool recovery_rto(const struct recovery *recovery, struct run *run, double *seconds, GError **error)
{
    int64_t ready_ms;

    if (!run_step_done(run, subject_of(recovery), &recovery_ready, &ready_ms, error))
        return false;
    *seconds = ready_ms ? (double)MAX(ready_ms - run_started_ms(run), 1) / 1000 : 0;
    return true;
}
