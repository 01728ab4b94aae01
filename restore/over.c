/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A point in the place of the VM that it is of: the VM keeps its definition, and gets overlays over the point for
 * disks. What it had before stays as it is, beside them, until somebody decides: the definition in before.xml of
 * the overlays' directory, whose presence says that it is undecided.
 */
#include <string.h>

#include "restore/over.h"
#include "restore/request.h"

#define BEFORE_NAME "before.xml"
#define BEFORE_MAX_BYTES (16u << 20)

struct over {
    const struct site *site;
    const struct origin *origin;
    struct host *host; /* borrowed from the site */
    char *name;        /* of the VM, now */
    char *uuid;
    char *dir;
    bool all;   /* disks of the point */
    bool stop;  /* its plug may be pulled */
    bool stuck; /* nobody knows which definition it has */
    bool begun_start;
};

static void over_clear(struct over *self)
{
    g_free(self->name);
    g_free(self->uuid);
    g_free(self->dir);
}
#define AUTO_OVER __attribute__((cleanup(over_clear))) struct over

static struct domain *find_domain(const struct site *site, const char *uuid, GError **error)
{
    AUTO(domain) domain = NULL;
    struct recovered mark;

    if (!site_find_domain(site, uuid, uuid, &domain, &mark, error))
        return NULL;
    recovered_clear(&mark);
    if (!domain)
        fail(
            error, ERROR_NOT_FOUND,
            "VM %s is at no host of this site, so there is nothing to restore over: use --as NAME, "
            "or drctl failover",
            uuid);
    return g_steal_pointer(&domain);
}

static char *before_path(const struct over *self)
{
    return g_build_filename(self->dir, BEFORE_NAME, NULL);
}

static struct domain *own_domain(const struct over *self, GError **error)
{
    return host_domain(self->host, self->uuid, error);
}

/* ---- Before anything is done */

static bool check_state(struct domain *domain, bool stop, GError **error)
{
    enum domain_state state;

    if (!domain_state(domain, &state, error))
        return false;
    /* It would go on with the memory of the disks that it had. */
    if (state == DOMAIN_OFF && domain_is_saved(domain))
        return fail(
            error, ERROR_CONFLICT,
            "the memory of VM %s is saved, which belongs to its present disks: start it once, or "
            "virsh managedsave-remove %s",
            domain_name(domain), domain_name(domain));
    return state == DOMAIN_OFF || stop ||
           fail(error, ERROR_CONFLICT,
                "VM %s is %s: shut it down first (virsh shutdown %s), or let --stop pull its plug",
                domain_name(domain), domain_state_name(state), domain_name(domain));
}

static bool check_disks(const struct over *self, struct domain *domain, GError **error)
{
    g_autofree char *text = domain_xml(domain, DOMAIN_XML_INACTIVE, error);
    AUTO(xml) xml = text ? xml_parse(text, "the definition of the VM", error) : NULL;

    for (unsigned i = 0; xml && i < self->origin->disks->len; i++) {
        const char *target = ((const struct origin_disk *)self->origin->disks->pdata[i])->target;
        g_autofree char *xpath = g_strdup_printf("devices/disk[target/@dev='%s']", target);

        if (!xml_find(xml_root(xml), xpath))
            return fail(
                error, ERROR_CONFLICT,
                "VM %s has no disk %s any more: name those that are to be restored, by --disk, "
                "or restore --as NAME",
                self->name, target);
    }
    return xml != NULL;
}

/* The directory of a restore of this VM that nobody has decided about; g_free. NULL: there is none. */
static char *find_undecided(const struct site *site, const char *uuid)
{
    g_auto(GStrv) names = dir_list(site->config->images, NULL);

    for (char **name = names; name && *name; name++) {
        g_autofree char *dir = g_build_filename(site->config->images, *name, NULL);
        g_autofree char *path = g_build_filename(dir, BEFORE_NAME, NULL);
        g_autofree char *text = NULL;
        g_autofree char *found = NULL;
        AUTO(xml) xml = NULL;

        if (!file_read(path, BEFORE_MAX_BYTES, &text, NULL, NULL))
            continue;
        xml = xml_parse(text, path, NULL);
        found = xml ? xml_string(xml_root(xml), "uuid") : NULL;
        if (g_strcmp0(found, uuid) == 0)
            return g_steal_pointer(&dir);
    }
    return NULL;
}

static bool check(const struct over *self, const struct restore_request *request, GError **error)
{
    g_autofree char *undecided = find_undecided(self->site, self->uuid);
    AUTO(domain) domain = own_domain(self, error);
    AUTO(findings) findings = findings_new();
    struct recovery recovery = {.origin = (struct origin *)self->origin,
                                .uri = (char *)host_uri(self->host)};

    if (!domain)
        return false;
    if (undecided)
        return fail(error, ERROR_CONFLICT,
                    "VM %s was restored before, and what it had then is kept still: first `drctl "
                    "restore %s --commit` or --rollback",
                    self->name, self->name);
    recovery_check_access(&recovery, self->site, findings);
    if (findings->blockers->len > 0)
        return fail(error, ERROR_CONFLICT, "%s", (char *)findings->blockers->pdata[0]);
    return check_state(domain, request->stop, error) && check_disks(self, domain, error);
}

/* ---- Steps */

/* Somebody may have started it since it was looked at, in a run that was interrupted long ago. */
static bool step_stop(void *context, GError **error)
{
    const struct over *self = context;
    AUTO(domain) domain = own_domain(self, error);

    return domain && check_state(domain, self->stop, error) && domain_destroy(domain, error);
}

static bool step_grant(void *context, GError **error)
{
    const struct over *self = context;
    struct qemu_user user = host_qemu_user(self->host);

    return overlay_grant(self->origin, &user, error);
}

static bool step_overlay(void *context, GError **error)
{
    const struct over *self = context;
    struct qemu_user user = host_qemu_user(self->host);

    return overlay_create(self->dir, self->dir, self->origin, &user, error);
}

/* Only when the VM has its old definition for sure: the new one needs the overlays, and the old one may be nowhere
 * but here. */
static bool undo_overlay(void *context, GError **error)
{
    const struct over *self = context;

    return self->stuck ? fail(error, ERROR_CONFLICT,
                              "%s stays, because VM %s may need it: `drctl restore %s --rollback`",
                              self->dir, self->name, self->name)
                       : tree_remove(self->dir, error);
}

/* As it was when the run began, not when it is repeated. */
static bool step_keep(void *context, GError **error)
{
    const struct over *self = context;
    g_autofree char *path = before_path(self);
    AUTO(domain) domain = NULL;
    g_autofree char *text = NULL;

    if (g_file_test(path, G_FILE_TEST_EXISTS))
        return true;
    domain = own_domain(self, error);
    text = domain ? domain_xml(domain, DOMAIN_XML_INACTIVE, error) : NULL;
    /* It may hold secrets. */
    return text && file_write(path, text, strlen(text), 0600, error);
}

static bool define_before(const struct over *self, GError **error)
{
    g_autofree char *path = before_path(self);
    g_autofree char *text = NULL;
    AUTO(domain) domain = NULL;

    if (!file_read(path, BEFORE_MAX_BYTES, &text, NULL, error))
        return false;
    domain = host_define(self->host, text, error);
    return domain != NULL;
}

static void free_texts(void *texts)
{
    g_strfreev(texts);
}

static char *new_definition(const struct over *self, const char *text, GError **error)
{
    const struct origin *origin = self->origin;
    AUTO(xml) xml = xml_parse(text, BEFORE_NAME, error);
    g_autofree struct placement_disk *disks = g_new0(struct placement_disk, origin->disks->len);
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) chains = g_ptr_array_new_with_free_func(free_texts);
    g_autofree char *nvram = NULL;
    struct placement placement = {.disks = disks,
                                  .n_disks = origin->disks->len,
                                  .keep_owners = host_manages_owners(self->host)};

    if (!xml)
        return NULL;
    /* One disk alone says nothing about the firmware. */
    nvram = self->all && origin->nvram ? overlay_nvram_path(self->dir)
                                       : xml_string(xml_root(xml), "os/nvram/text()");
    placement.nvram = nvram;
    for (unsigned i = 0; i < origin->disks->len; i++) {
        const struct origin_disk *disk = origin->disks->pdata[i];
        char *path = overlay_path(self->dir, disk->target);
        char **chain = overlay_chain(self->dir, disk);

        g_ptr_array_add(paths, path);
        g_ptr_array_add(chains, chain);
        disks[i] = (struct placement_disk){disk->target, path, (const char *const *)chain};
    }
    rewrite_place(xml_root(xml), &placement);
    return xml_dump(xml);
}

static bool step_replace(void *context, GError **error)
{
    const struct over *self = context;
    g_autofree char *path = before_path(self);
    g_autofree char *before = NULL;
    g_autofree char *text = NULL;
    AUTO(domain) domain = own_domain(self, error);
    AUTO(domain) defined = NULL;

    /* Somebody may have started it meanwhile. */
    if (!domain || !check_state(domain, false, error) ||
        !file_read(path, BEFORE_MAX_BYTES, &before, NULL, error))
        return false;
    text = new_definition(self, before, error);
    defined = text ? host_define(self->host, text, error) : NULL;
    return defined != NULL;
}

static bool undo_replace(void *context, GError **error)
{
    struct over *self = context;

    self->stuck = !define_before(self, error);
    return !self->stuck;
}

static bool step_start(void *context, GError **error)
{
    struct over *self = context;
    AUTO(domain) domain = own_domain(self, error);
    enum domain_state state;

    self->begun_start = true;
    if (!domain || !domain_state(domain, &state, error))
        return false;
    return state != DOMAIN_OFF || domain_start(domain, error);
}

static const struct step steps[] = {
    {.name = "stop", .run = step_stop},
    {.name = "grant", .run = step_grant},
    {.name = "overlay", .run = step_overlay, .undo = undo_overlay},
    {.name = "keep", .run = step_keep},
    {.name = "replace", .run = step_replace, .undo = undo_replace},
    {.name = "start", .run = step_start},
};
#define START_STEPS 1 /* at the end */

/* ---- The run */

static bool do_steps(struct over *self, struct run *run, size_t n_steps, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (run_steps(run, self->name, steps, n_steps, self, &cause))
        return true;
    /* One that could not be started is there all the same, and its guest may have written. */
    if (!error_is(cause, ERROR_CANCELLED) && !self->begun_start)
        run_undo(run, self->name, steps, n_steps, self, NULL);
    if (self->stuck)
        progress_note(self->site->progress,
                      "VM %s may have the one or the other definition; what it was before is kept: "
                      "`drctl restore %s --rollback`",
                      self->name, self->name);
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}

static struct run *begin(const struct over *self, const struct restore_request *request,
                         size_t n_steps, GError **error)
{
    const struct run_subject todo = {self->name, steps, n_steps};
    json_auto_t *json = request_plan(request, self->origin);
    AUTO(run) run = NULL;

    json_set_string(json, "host", host_uri(self->host));
    run = run_begin(self->site->catalog, RESTORE_KIND, self->name, json, error);
    return run && run_declare(run, &todo, 1, error) ? g_steal_pointer(&run) : NULL;
}

static void tell(const struct over *self, struct restore_result *result)
{
    const GPtrArray *disks = self->origin->disks;

    result->vm = g_strdup(self->name);
    result->uuid = g_strdup(self->uuid);
    result->point = g_strdup(self->origin->manifest->point);
    result->paths = g_new0(char *, disks->len + 1);
    for (unsigned i = 0; i < disks->len; i++)
        result->paths[i] =
            overlay_path(self->dir, ((const struct origin_disk *)disks->pdata[i])->target);
}

static bool execute(struct over *self, const struct restore_request *request, struct run *old,
                    struct restore_result *result, GError **error)
{
    size_t n_steps = G_N_ELEMENTS(steps) - (request->start ? 0 : START_STEPS);
    AUTO(run) run = NULL;

    if (!old && !check(self, request, error))
        return false;
    if (!old)
        old = run = begin(self, request, n_steps, error);
    if (!old)
        return false;
    result->run = g_strdup(run_id(old));
    self->dir = overlay_dir(self->site->config->images, self->name, self->uuid, result->run);
    if (!do_steps(self, old, n_steps, error))
        return request_fail(old, error);
    tell(self, result);
    return request_done(old, self->origin, result, error);
}

bool restore_over(const struct site *site, const struct restore_request *request,
                  struct restore_result *result, GError **error)
{
    AUTO(manifest) newest = origin_find_vm(site, request->vm, error);
    AUTO(domain) domain = newest ? find_domain(site, newest->uuid, error) : NULL;
    AUTO(run) run = domain ? request_resume(site, request, domain_name(domain), error) : NULL;
    AUTO(origin) origin = NULL;
    AUTO_OVER self = {.site = site, .all = !request->disks, .stop = request->stop};

    if (!domain || *error)
        return false;
    origin = run ? request_origin_again(site, run_plan(run), error)
                 : request_origin(site, request, error);
    if (!origin)
        return false;
    self.origin = origin;
    self.host = site_host(site, host_uri(domain_host(domain)), error);
    self.name = g_strdup(domain_name(domain));
    self.uuid = g_strdup(domain_uuid(domain));
    return self.host && execute(&self, request, run, result, error);
}

/* ---- Deciding */

/* The restore that has made the directory must have come to its end, or is ended now: nobody is to go on with what
 * is taken back. */
static bool end_run(const struct over *self, bool commit, GError **error)
{
    const char *id = overlay_run(self->dir);
    g_autoptr(GError) cause = NULL;
    AUTO(run) run = NULL;
    bool ended = true;

    if (id && !run_has_ended(self->site->catalog, id, &ended, &cause) &&
        !error_is(cause, ERROR_NOT_FOUND)) { /* the catalog may be a new one */
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    if (ended)
        return true;
    if (commit)
        return fail(error, ERROR_CONFLICT,
                    "run %s, which restores VM %s, has not ended: `drctl run resume %s` ends it, "
                    "`drctl restore %s --rollback` takes it back",
                    id, self->name, id, self->name);
    run = run_resume(self->site->catalog, id, error);
    return run && run_finish(run, RUN_CANCELLED, NULL, error);
}

static bool has_file(const struct xml_node *domain, const char *path)
{
    g_autoptr(GPtrArray) disks = xml_find_all(domain, "devices/disk");

    for (unsigned i = 0; i < disks->len; i++) {
        g_autofree char *file = xml_string(disks->pdata[i], "source/@file | source/@dev");

        if (g_strcmp0(file, path) == 0)
            return true;
    }
    return false;
}

/* Nobody but its owner can say that nothing else lies upon a file, so none is removed. */
static void name_disk(const struct over *self, const struct xml_node *disk,
                      const struct xml_node *present)
{
    g_autofree char *path = xml_string(disk, "source/@file | source/@dev");
    g_autofree char *target = xml_string(disk, "target/@dev");
    g_autofree char *now = target ? overlay_path(self->dir, target) : NULL;

    if (path && now && g_file_test(now, G_FILE_TEST_EXISTS) && !has_file(present, path))
        progress_note(
            self->site->progress,
            "%s was disk %s of VM %s, which does not need it any more: remove it when you like",
            path, target, self->name);
}

static bool forget_before(const struct over *self, GError **error)
{
    g_autofree char *path = before_path(self);
    g_autofree char *text = NULL;
    AUTO(domain) domain = own_domain(self, error);
    g_autofree char *now = domain ? domain_xml(domain, DOMAIN_XML_INACTIVE, error) : NULL;
    AUTO(xml) present = now ? xml_parse(now, self->name, error) : NULL;
    AUTO(xml) before = NULL;
    g_autoptr(GPtrArray) disks = NULL;

    if (!present || !file_read(path, BEFORE_MAX_BYTES, &text, NULL, error) ||
        !(before = xml_parse(text, path, error)))
        return false;
    disks = xml_find_all(xml_root(before), "devices/disk");
    for (unsigned i = 0; i < disks->len; i++)
        name_disk(self, disks->pdata[i], xml_root(present));
    return tree_remove(path, error);
}

static bool go_back(const struct over *self, GError **error)
{
    AUTO(domain) domain = own_domain(self, error);

    return domain && check_state(domain, false, error) && end_run(self, false, error) &&
           define_before(self, error) && tree_remove(self->dir, error);
}

bool restore_decide(const struct site *site, const char *vm, bool commit, GError **error)
{
    AUTO(manifest) newest = origin_find_vm(site, vm, error);
    AUTO(domain) domain = newest ? find_domain(site, newest->uuid, error) : NULL;
    AUTO_OVER self = {.site = site};

    if (!domain)
        return false;
    self.host = site_host(site, host_uri(domain_host(domain)), error);
    self.name = g_strdup(domain_name(domain));
    self.uuid = g_strdup(domain_uuid(domain));
    self.dir = find_undecided(site, self.uuid);
    if (!self.host)
        return false;
    if (!self.dir)
        return fail(error, ERROR_NOT_FOUND, "no disks of an earlier time are kept of VM %s",
                    self.name);
    return commit ? end_run(&self, true, error) && forget_before(&self, error)
                  : go_back(&self, error);
}
