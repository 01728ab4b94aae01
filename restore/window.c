/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/window.h"

#include <string.h>

#include "restore/plan.h"

static void vm_free(void *data)
{
    struct window_vm *vm = data;

    g_free(vm->name);
    g_free(vm->uuid);
    g_free(vm->host);
    g_free(vm->images);
    g_free(vm);
}

static struct window *window_new(void)
{
    struct window *window = g_new0(struct window, 1);

    window->vms = g_ptr_array_new_with_free_func(vm_free);
    return window;
}

void window_free(struct window *window)
{
    if (!window)
        return;
    g_free(window->run);
    g_free(window->name);
    g_free(window->from);
    g_ptr_array_unref(window->vms);
    g_free(window);
}

static void add_vm(struct window *window, const char *name, const char *uuid, const char *host,
                   const char *images)
{
    struct window_vm *vm = g_new0(struct window_vm, 1);

    vm->name = g_strdup(name);
    vm->uuid = g_strdup(uuid);
    vm->host = g_strdup(host);
    vm->images = g_strdup(images);
    g_ptr_array_add(window->vms, vm);
}

/* ---- As JSON */

bool window_is_due(const struct window *window)
{
    return window->until_ms > 0 && window->until_ms <= time_now_ms();
}

static const char *const timeout_names[] = {"commit", "rollback"};

const char *window_timeout_name(const struct commit_policy *policy)
{
    return timeout_names[policy->rolls_back];
}

json_t *window_json(const struct window *window)
{
    json_t *json = json_object(), *vms = json_array();
    g_autofree char *until = window->until_ms ? time_format(window->until_ms) : NULL;

    json_set_string(json, "run", window->run);
    json_set_string(json, "name", window->name);
    json_set_string(json, "from", window->from);
    json_set_string(json, "until", until);
    json_set_string(json, "on_timeout", window_timeout_name(&window->policy));
    json_object_set_new(json, "due", json_boolean(window_is_due(window)));
    for (unsigned i = 0; i < window->vms->len; i++) {
        const struct window_vm *vm = window->vms->pdata[i];
        json_t *entry = json_object();

        json_set_string(entry, "vm", vm->name);
        json_set_string(entry, "uuid", vm->uuid);
        json_set_string(entry, "host", vm->host);
        json_set_string(entry, "images", vm->images);
        json_array_append_new(vms, entry);
    }
    json_object_set_new(json, "vms", vms);
    return json;
}

/* What the catalog has is more than what people see. */
static json_t *record_of(const struct window *window)
{
    json_t *json = window_json(window);

    json_set_u64(json, "after_ms", (uint64_t)window->policy.after_ms);
    json_object_set_new(json, "hydrate", json_boolean(window->hydrate));
    return json;
}

static bool read_vms(struct window *window, const json_t *json, GError **error)
{
    json_t *vms;
    const json_t *value;
    size_t i;

    if (!json_need_array(json, "vms", &vms, error))
        return false;
    json_array_foreach(vms, i, value)
    {
        const char *name, *uuid, *host;

        if (!json_need_string(value, "vm", &name, error) ||
            !json_need_string(value, "uuid", &uuid, error) ||
            !json_need_string(value, "host", &host, error))
            return false;
        add_vm(window, name, uuid, host, json_get_string(value, "images"));
    }
    return true;
}

static struct window *window_read(const json_t *json, GError **error)
{
    AUTO(window) window = window_new();
    const char *run, *name, *from, *until = json_get_string(json, "until");
    uint64_t after_ms;

    if (!json_need_string(json, "run", &run, error) ||
        !json_need_string(json, "name", &name, error) ||
        !json_need_string(json, "from", &from, error) ||
        !json_need_u64(json, "after_ms", &after_ms, error) ||
        !json_need_bool(json, "hydrate", &window->hydrate, error) ||
        (until && !time_parse(until, &window->until_ms, error)) || !read_vms(window, json, error))
        return NULL;
    window->run = g_strdup(run);
    window->name = g_strdup(name);
    window->from = g_strdup(from);
    window->policy.after_ms = (int64_t)after_ms;
    window->policy.rolls_back =
        g_strcmp0(json_get_string(json, "on_timeout"), timeout_names[1]) == 0;
    return g_steal_pointer(&window);
}

/* ---- In the catalog */

static bool save(struct catalog *catalog, const struct window *window, GError **error)
{
    json_auto_t *json = record_of(window);

    return catalog_put(catalog, CATALOG_WINDOWS, window->run, json, error);
}

/* *WINDOW is NULL when RUN has none. */
static bool load(struct catalog *catalog, const char *run, struct window **window, GError **error)
{
    json_auto_t *json = NULL;

    *window = NULL;
    if (!catalog_get(catalog, CATALOG_WINDOWS, run, &json, error))
        return false;
    if (json)
        *window = window_read(json, error);
    return !json || *window;
}

bool window_open(const struct site *site, const struct failover_plan *plan, const char *run,
                 GError **error)
{
    AUTO(window) window = window_new();

    if (plan->commit.after_ms == 0)
        return true;
    window->run = g_strdup(run);
    window->name = g_strdup(plan->vapp);
    window->from = g_strdup(plan->site);
    window->policy = plan->commit;
    window->hydrate = plan->hydrate;
    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];

        /* What an earlier run brought up is not this one's to remove. */
        if (!vm->blocked && vm->recovery && !vm->recovery->adopted)
            add_vm(window, vm->recovery->name, vm->recovery->uuid, vm->recovery->uri,
                   vm->recovery->images);
    }
    return window->vms->len == 0 || save(site->catalog, window, error);
}

bool window_start(const struct site *site, const char *run, GError **error)
{
    AUTO(window) window = NULL;

    if (!load(site->catalog, run, &window, error))
        return false;
    if (!window)
        return true;
    window->until_ms = time_now_ms() + window->policy.after_ms;
    return save(site->catalog, window, error);
}

bool window_is_open(struct catalog *catalog, const char *run)
{
    json_auto_t *json = NULL;

    /* When nobody can tell, it is. */
    return !catalog_get(catalog, CATALOG_WINDOWS, run, &json, NULL) || json;
}

static void free_element(void *data)
{
    window_free(data);
}

struct listing {
    GPtrArray *windows;
    GError *error;
};

static bool add_window(const char *key, json_t *value, void *data)
{
    struct listing *listing = data;
    struct window *window = window_read(value, &listing->error);

    if (window)
        g_ptr_array_add(listing->windows, window);
    else
        g_prefix_error(&listing->error, "the window of run %s: ", key);
    return window != NULL;
}

GPtrArray *window_list(struct catalog *catalog, GError **error)
{
    g_autoptr(GPtrArray) windows = g_ptr_array_new_with_free_func(free_element);
    struct listing listing = {.windows = windows};

    if (!catalog_each(catalog, CATALOG_WINDOWS, "", add_window, &listing, error))
        return NULL;
    if (!listing.error)
        return g_steal_pointer(&windows);
    g_propagate_error(error, listing.error);
    return NULL;
}

GPtrArray *windows_of(struct catalog *catalog, const char *name, GError **error)
{
    g_autoptr(GPtrArray) all = window_list(catalog, error);
    g_autoptr(GPtrArray) own = g_ptr_array_new_with_free_func(free_element);

    for (unsigned i = all ? all->len : 0; i-- > 0;)
        if (strcmp(((const struct window *)all->pdata[i])->name, name) == 0)
            g_ptr_array_add(own, g_ptr_array_steal_index(all, i));
    if (own->len > 0)
        return g_steal_pointer(&own);
    if (all)
        fail(error, ERROR_NOT_FOUND,
             "no failover of %s is waiting to be committed; `drctl status` lists those that are",
             name);
    return NULL;
}

/* ---- Ending one */

/* Nobody else commits or rolls back failovers of NAME; ERROR_CONFLICT. */
static struct file_lock *window_lock(const struct site *site, const char *name, GError **error)
{
    g_autofree char *path = plan_lock_path(site, "window", name);
    g_autofree char *what =
        g_strdup_printf("cannot commit or roll back the failover of %s now: it", name);

    return file_lock_take(path, what, error);
}

/* Somebody may have ended it since it was listed, a timer perhaps. */
static bool check_open(const struct site *site, const struct window *window, GError **error)
{
    AUTO(window) now = NULL;

    if (!load(site->catalog, window->run, &now, error))
        return false;
    return now || fail(error, ERROR_NOT_FOUND,
                       "the failover of %s (run %s) was committed or rolled back meanwhile",
                       window->name, window->run);
}

/* ---- Committing */

static void hydrate(const struct site *site, const struct window *window)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (unsigned i = 0; i < window->vms->len; i++)
        g_ptr_array_add(names, ((const struct window_vm *)window->vms->pdata[i])->uuid);
    if (window->hydrate)
        hydration_after_failover(site, names);
}

bool window_commit(const struct site *site, const struct window *window, GError **error)
{
    AUTO(file_lock) lock = window_lock(site, window->name, error);
    json_auto_t *plan = window_json(window);
    AUTO(run) run = NULL;
    bool ended;

    if (!lock || !check_open(site, window, error) ||
        !run_has_ended(site->catalog, window->run, &ended, error))
        return false;
    if (!ended)
        return fail(
            error, ERROR_CONFLICT,
            "run %s has not ended: `drctl run resume %s` ends it, `drctl rollback %s` takes "
            "it back",
            window->run, window->run, window->name);
    run = run_begin(site->catalog, COMMIT_KIND, window->name, plan, error);
    if (!run || !catalog_remove(site->catalog, CATALOG_WINDOWS, window->run, error) ||
        !run_finish(run, RUN_DONE, NULL, error))
        return false;
    hydrate(site, window);
    return true;
}

/* ---- Rolling back */

struct rollback {
    const struct site *site;
    const struct window *window;
    const struct window_vm *vm;
    struct claim *claim;
};

/* The directory of its overlays; g_free. */
static char *overlays_of(const struct rollback *rollback)
{
    const struct window_vm *vm = rollback->vm;
    const char *images = vm->images ? vm->images : rollback->site->config->images;

    return overlay_dir(images, vm->name, vm->uuid, rollback->window->run);
}

/* Is the VM with this MARK, which has the place of the failover's, to be left alone? An old copy that made room for
 * it comes back, but not before its disks are gone. */
static bool is_another(const struct rollback *rollback, const struct recovered *mark)
{
    g_autofree char *dir = overlays_of(rollback);

    return run_is_before(rollback->window->run, mark->run) || g_file_test(dir, G_FILE_TEST_EXISTS);
}

/* The VM as the failover has made it; *DOMAIN is NULL when it is gone. *IS_TAKEN: another one has its place, and
 * perhaps its disks. One that only has its name is nobody's business. */
static bool find_own(const struct rollback *rollback, struct domain **domain, bool *is_taken,
                     GError **error)
{
    const struct window_vm *vm = rollback->vm;
    AUTO(domain) found = NULL;
    struct recovered mark;
    bool ours;

    *domain = NULL;
    if (!site_find_domain(rollback->site, vm->uuid, vm->uuid, &found, &mark, error))
        return false;
    ours = g_strcmp0(mark.run, rollback->window->run) == 0;
    *is_taken = found && !ours && is_another(rollback, &mark);
    recovered_clear(&mark);
    if (ours)
        *domain = g_steal_pointer(&found);
    return true;
}

static bool step_stop(void *context, GError **error)
{
    const struct rollback *rollback = context;
    AUTO(domain) domain = NULL;
    bool is_taken;

    if (!find_own(rollback, &domain, &is_taken, error))
        return false;
    if (domain)
        return domain_destroy(domain, error);
    progress_note(rollback->site->progress, "%s: the VM that run %s brought up is not here",
                  rollback->vm->name, rollback->window->run);
    return true;
}

/* The definition goes first: there is never one whose disks are gone. An old copy that made room comes back. */
static bool step_remove(void *context, GError **error)
{
    const struct rollback *rollback = context;
    const struct window_vm *vm = rollback->vm;
    struct host *host = site_host(rollback->site, vm->host, error);
    AUTO(domain) domain = NULL;
    g_autofree char *dir = overlays_of(rollback);
    g_autofree char *link =
        overlay_dir(rollback->site->config->images, vm->name, vm->uuid, rollback->window->run);
    bool is_taken;

    if (!host || !find_own(rollback, &domain, &is_taken, error))
        return false;
    if (is_taken)
        return true;
    /* It may have been started again since it was stopped. */
    return (!domain || (domain_destroy(domain, error) && domain_undefine(domain, error))) &&
           overlay_remove(dir, link, error) && recovery_bring_back(host, dir, error);
}

static bool step_give(void *context, GError **error)
{
    const struct rollback *rollback = context;
    const struct window_vm *vm = rollback->vm;
    const char *site = rollback->window->from;
    AUTO(domain) domain = NULL;
    g_autofree char *dir = overlays_of(rollback);
    bool is_taken;

    if (!find_own(rollback, &domain, &is_taken, error))
        return false;
    if (!is_taken)
        return claim_give(rollback->claim, vm->uuid, vm->name, site, error);
    progress_note(rollback->site->progress,
                  "%s: another VM has its place here: it is left alone, with what lies in %s, and "
                  "is not given to %s",
                  vm->name, dir, site);
    return true;
}

/* The names of the steps are journaled. None of the VMs runs here any more before the first is given away. */
static const struct step stop_steps[] = {{"stop", step_stop, NULL}, {"remove", step_remove, NULL}};
static const struct step give_steps[] = {{"give", step_give, NULL}};

static bool do_steps(struct rollback *rollback, struct run *run, const struct step *steps,
                     size_t n_steps, GError **error)
{
    const GPtrArray *vms = rollback->window->vms;

    for (unsigned i = vms->len; i-- > 0;) {
        rollback->vm = vms->pdata[i];
        if (!run_steps(run, rollback->vm->name, steps, n_steps, rollback, error))
            return false;
    }
    return true;
}

static bool declare(struct run *run, const struct window *window, GError **error)
{
    unsigned n_vms = window->vms->len;
    g_autofree struct run_subject *subjects = g_new0(struct run_subject, 2 * n_vms);

    for (unsigned i = 0; i < n_vms; i++) {
        const char *name = ((const struct window_vm *)window->vms->pdata[n_vms - 1 - i])->name;

        subjects[i] = (struct run_subject){name, stop_steps, G_N_ELEMENTS(stop_steps)};
        subjects[n_vms + i] = (struct run_subject){name, give_steps, G_N_ELEMENTS(give_steps)};
    }
    return run_declare(run, subjects, 2 * n_vms, error);
}

/* Anew, or the one that was interrupted while it rolled back the same failover. */
static struct run *begin(const struct site *site, const struct window *window, GError **error)
{
    json_auto_t *plan = record_of(window);
    g_autofree char *id = NULL;
    AUTO(window) old = NULL;
    AUTO(run) run = NULL;

    if (!run_find_interrupted(site->catalog, ROLLBACK_KIND, window->name, &id, error))
        return NULL;
    old = id ? window_of_rollback(site, id, error) : NULL;
    if (id && !old)
        return NULL;
    if (old && strcmp(old->run, window->run) == 0)
        return run_resume(site->catalog, id, error);
    if (!check_open(site, window, error))
        return NULL;
    run = run_begin(site->catalog, ROLLBACK_KIND, window->name, plan, error);
    return run && declare(run, window, error) ? g_steal_pointer(&run) : NULL;
}

/* A failover that was interrupted is not gone on with once it is taken back. */
static bool cancel_failover(const struct site *site, const struct window *window, GError **error)
{
    AUTO(run) run = NULL;
    bool ended;

    if (!run_has_ended(site->catalog, window->run, &ended, error))
        return false;
    if (ended)
        return true;
    run = run_resume(site->catalog, window->run, error);
    return run && run_finish(run, RUN_CANCELLED, NULL, error);
}

bool window_roll_back(const struct site *site, const struct window *window, char **run,
                      GError **error)
{
    AUTO(file_lock) lock = window_lock(site, window->name, error);
    AUTO(file_lock) failovers = lock ? failover_lock(site, window->name, error) : NULL;
    struct rollback rollback = {.site = site, .window = window};
    AUTO(run) doing = NULL;
    AUTO(claim) claim = NULL;

    if (!failovers || !cancel_failover(site, window, error))
        return false;
    doing = begin(site, window, error);
    if (!doing)
        return false;
    if (run)
        *run = g_strdup(run_id(doing));
    if (!do_steps(&rollback, doing, stop_steps, G_N_ELEMENTS(stop_steps), error))
        return false;
    rollback.claim = claim = claim_new(site, run_id(doing));
    return do_steps(&rollback, doing, give_steps, G_N_ELEMENTS(give_steps), error) &&
           catalog_remove(site->catalog, CATALOG_WINDOWS, window->run, error) &&
           run_finish(doing, RUN_DONE, NULL, error);
}

struct window *window_of_rollback(const struct site *site, const char *run, GError **error)
{
    json_auto_t *shown = run_show(site->catalog, run, error);
    struct window *window = shown ? window_read(json_object_get(shown, "plan"), error) : NULL;

    if (shown && !window)
        g_prefix_error(error, "the plan of run %s: ", run);
    return window;
}
