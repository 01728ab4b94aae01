/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/guard.h"
#include "drctl/output.h"
#include "drctl/ownership.h"
#include "drctl/pool.h"
#include "drctl/replication.h"

static void made_point_free(void *data)
{
    struct made_point *made = data;

    g_free(made->vm_uuid);
    g_free(made);
}

void replication_init(struct replication *replication, struct context *context)
{
    *replication = (struct replication){
        .context = context,
        .stores =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)store_free),
        .owners = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                        (GDestroyNotify)g_ptr_array_unref),
        .store_errors =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_error_free),
        .results = json_array(),
        .made = g_ptr_array_new_with_free_func(made_point_free),
    };
}

void replication_clear(struct replication *replication)
{
    g_clear_pointer(&replication->vms, g_ptr_array_unref);
    g_clear_pointer(&replication->all, g_ptr_array_unref);
    g_clear_pointer(&replication->vapps, g_ptr_array_unref);
    g_clear_pointer(&replication->stores, g_hash_table_unref);
    g_clear_pointer(&replication->owners, g_hash_table_unref);
    g_clear_pointer(&replication->store_errors, g_hash_table_unref);
    g_clear_pointer(&replication->made, g_ptr_array_unref);
    run_free(replication->run);
    json_decref(replication->results);
    g_clear_error(&replication->first_error);
    g_clear_error(&replication->aside_error);
}

/* --- destinations ---------------------------------------------------------------------------- */

/* A broken vApp file must not stop the points: it is told, and the run is not a success. */
static struct store *metadata_failed(struct replication *replication, struct store *store,
                                     GError **failure)
{
    if (error_is(*failure, ERROR_NETWORK)) {
        store_free(store);
        return NULL;
    }
    progress_note(replication->context->progress, "%s", (*failure)->message);
    g_clear_error(&replication->aside_error);
    replication->aside_error = g_steal_pointer(failure);
    return store;
}

/* The store of DESTINATION, opened at its first use; the pool metadata goes first, so that no point
 * is there without what is needed to start it. */
static struct store *destination_store(struct replication *replication, const char *destination,
                                       bool with_metadata, GError **error)
{
    struct context *context = replication->context;
    struct store *store = g_hash_table_lookup(replication->stores, destination);
    const GError *before = g_hash_table_lookup(replication->store_errors, destination);
    GError *failure = NULL;

    if (store)
        return store;
    if (before) {
        g_propagate_error(error, g_error_copy(before));
        return NULL;
    }
    store = context_open(context, destination, &failure);
    if (store && with_metadata &&
        !pool_publish(context, destination, store, replication->all, replication->vapps, &failure))
        store = metadata_failed(replication, store, &failure);
    if (!store) {
        g_hash_table_insert(replication->store_errors, g_strdup(destination),
                            g_error_copy(failure));
        g_propagate_error(error, failure);
        return NULL;
    }
    g_hash_table_insert(replication->stores, g_strdup(destination), store);
    return store;
}

struct store *replication_store(struct replication *replication, const char *destination,
                                GError **error)
{
    return destination_store(replication, destination, true, error);
}

/* A link that broke under one VM must not fail the next one: it is opened anew. */
static void forget_broken_store(struct replication *replication, const char *destination,
                                const GError *error)
{
    if (error_is(error, ERROR_NETWORK))
        g_hash_table_remove(replication->stores, destination);
}

/* --- one VM ---------------------------------------------------------------------------------- */

struct vm_job {
    struct replication *replication;
    const struct protected_vm *vm;
    struct domain *domain;
    struct point_request request;
    struct point_result result;
};

/* The program that runs now, also if another version has taken its place meanwhile. */
static const char *const watchdog[] = {"/proc/self/exe", "thaw-watchdog", NULL};

struct known_vm {
    const char *name;
    char uuid[37]; /* "" as long as it is not found */
};

static bool is_known_vm(const char *key, json_t *record, void *data)
{
    struct known_vm *vm = data;

    if (g_strcmp0(json_get_string(record, "vm"), vm->name) == 0)
        g_strlcpy(vm->uuid, key, sizeof vm->uuid);
    return !*vm->uuid;
}

/* A VM that is not there has had points under this name; its UUID tells what it is called now. */
static void explain_missing_vm(const struct context *context, const char *name, GError **error)
{
    struct known_vm vm = {.name = name};

    if (!error_is(*error, ERROR_NOT_FOUND) ||
        !catalog_each(context->catalog, CATALOG_REPLICATION, "", is_known_vm, &vm, NULL) ||
        !*vm.uuid)
        return;
    AUTO(domain) domain = find_domain(context->hosts, vm.uuid, NULL);

    if (!domain)
        return;
    g_clear_error(error);
    fail(
        error, ERROR_NOT_FOUND,
        "VM %s is called %s now; write that name into %s, and its points go on from where they are",
        name, domain_name(domain), context->config->path);
}

/* What DESTINATION knows of owners, asked for once; borrowed. */
static const GPtrArray *destination_owners(struct replication *replication, const char *destination,
                                           struct store *store, GError **error)
{
    GPtrArray *owners = g_hash_table_lookup(replication->owners, destination);

    if (owners)
        return owners;
    owners = store_owners(store, error);
    if (owners)
        g_hash_table_insert(replication->owners, g_strdup(destination), owners);
    return owners;
}

/* The point is of this site's VM, also by what the destination knows; and it is guarded from the first one on. */
static bool check_owner(struct vm_job *job, GError **error)
{
    struct replication *replication = job->replication;
    const struct config *config = replication->context->config;
    struct store *store = job->request.destination;
    const GPtrArray *owners =
        destination_owners(replication, job->vm->protection->destination, store, error);
    g_autoptr(GError) why = NULL;

    if (!owners || !ownership_agree(config, job->domain, store, owners, &job->request.epoch, error))
        return false;
    if (!guard_watch(config, job->domain, &why))
        progress_note(replication->context->progress, "%s is not guarded: %s", job->vm->vm,
                      why->message);
    return true;
}

static bool prepare_vm(struct vm_job *job, bool with_metadata, GError **error)
{
    struct replication *replication = job->replication;
    struct context *context = replication->context;
    const struct protection *protection = job->vm->protection;
    uint64_t epoch = 0;

    job->domain = find_domain(context->hosts, job->vm->vm, error);
    if (!job->domain) {
        explain_missing_vm(context, job->vm->vm, error);
        return false;
    }
    if (!ownership_known(context->config, job->domain, &epoch, error))
        return false;
    job->request = (struct point_request){
        .domain = job->domain,
        .destination =
            destination_store(replication, protection->destination, with_metadata, error),
        .catalog = context->catalog,
        .site = context->config->site,
        .epoch = epoch,
        .run_dir = context->config->run_dir,
        .scratch_dir = context->config->scratch,
        .quiesce = protection->quiesce,
        .quiesce_timeout_s = protection->quiesce_timeout_s,
        .watchdog = watchdog,
        .compression = protection->compression,
        .force_full = option_set(context, "full"),
        .progress = context->progress,
    };
    return job->request.destination && (!with_metadata || check_owner(job, error));
}

static bool take_point(void *data, GError **error)
{
    struct vm_job *job = data;
    struct hydration *paused;
    bool taken;

    if (!interrupt_check(error) || !prepare_vm(job, true, error))
        return false;
    paused = hydration_pause(job->domain);
    taken = snapshot_take_point(&job->request, &job->result, error);
    hydration_unpause(paused);
    return taken;
}

/* The step's name is journaled. */
static const struct step point_step = {"point", take_point, NULL};

static json_t *disks_json(const GPtrArray *disks)
{
    json_t *json = json_array();

    for (unsigned i = 0; i < disks->len; i++) {
        const struct point_disk *disk = disks->pdata[i];
        json_t *entry = json_object();

        json_set_string(entry, "target", disk->target);
        json_set_string(entry, "mode", disk_mode_name(disk->mode));
        json_set_u64(entry, "read_bytes", disk->read_bytes);
        json_set_u64(entry, "changed_bytes", disk->changed_bytes);
        json_array_append_new(json, entry);
    }
    return json;
}

static json_t *result_json(const struct vm_job *job, const GError *error)
{
    json_t *json = json_object();
    const struct manifest *manifest = job->result.manifest;

    json_set_string(json, "point", manifest ? manifest->point : NULL);
    json_set_string(json, "vm", job->vm->vm);
    json_set_string(json, "destination", job->vm->protection->destination);
    json_set_string(json, "protection", job->vm->protection->name);
    json_set_string(json, "host", job->domain ? host_uri(domain_host(job->domain)) : NULL);
    if (error) {
        json_set_string(json, "error", error->message);
        json_set_string(json, "kind", error_kind_name(error_kind_of(error)));
        return json;
    }
    json_set_string(json, "base", manifest->base);
    json_set_string(json, "consistency", consistency_name(manifest->consistency));
    json_set_u64(json, "changed_bytes", job->result.changed_bytes);
    json_set_u64(json, "sent_bytes", job->result.sent_bytes);
    json_set_real(json, "seconds", job->result.seconds);
    json_set_string(json, "reason", manifest->reason);
    json_object_set_new(json, "disks", disks_json(job->result.disks));
    return json;
}

/* How long the last points took, which tells how early the next one has to begin. */
static void note_took(json_t *record, const json_t *before, double seconds)
{
    json_t *took = json_array();
    const json_t *old = json_object_get(before, "took");

    for (size_t i = 0; i + 1 < RPO_TOOK && i < json_array_size(old); i++)
        json_array_append(took, json_array_get(old, i));
    json_array_insert_new(took, 0, json_real(seconds));
    json_object_set_new(record, "took", took);
}

/* What this point achieved, which is told when it is gone, and RECORD. */
static void remember_point(const struct vm_job *job, const struct catalog_entry *record)
{
    struct context *context = job->replication->context;
    const struct manifest *manifest = job->result.manifest;
    const struct protection *protection = job->vm->protection;
    int64_t now_ms = time_now_ms();
    struct stretch point = {
        .vm_uuid = manifest->uuid,
        .destination = protection->destination,
        .vm = manifest->vm,
        .protection = protection->name,
        .rpo_ms = protection->rpo_ms,
        .from_ms = manifest->time_ms,
        .from_committed_ms = now_ms,
        .to_ms = manifest->time_ms,
        .to_committed_ms = now_ms,
        .points = 1,
        .bytes = MAX(job->result.sent_bytes, manifest_stored_bytes(manifest)),
        .seconds = job->result.seconds,
    };
    g_autoptr(GError) why = NULL;

    if (!history_add(context->catalog, &point, record, &why))
        progress_note(context->progress,
                      "the catalog lacks what point %s of %s achieved, and when it was taken: %s",
                      manifest->point, manifest->vm, why->message);
}

/* What BEFORE, the record of the point before this one, and this point tell together. */
static void note_habits(const struct vm_job *job, const json_t *before, json_t *record)
{
    const struct manifest *manifest = job->result.manifest;
    const char *time = json_get_string(before, "time");
    int64_t rpo_ms = job->vm->protection->rpo_ms, before_ms = 0;
    bool late =
        rpo_ms && time && time_parse(time, &before_ms, NULL) && time_now_ms() - before_ms > rpo_ms;
    json_int_t violations = json_integer_value(json_object_get(before, "violations"));

    note_took(record, before, job->result.seconds);
    json_set_u64(record, "violations", (uint64_t)violations + late);
    json_object_set_new(record, "pace",
                        pace_next(json_object_get(before, "pace"), manifest->time_ms,
                                  job->result.changed_bytes, !manifest->base));
}

/* For `drctl status` and the daemon: a failure keeps what is known of the last success. */
static void remember(const struct vm_job *job, const GError *error)
{
    struct catalog *catalog = job->replication->context->catalog;
    json_auto_t *record = NULL;
    g_autofree char *now = time_format(time_now_ms());
    g_autofree char *key = NULL;

    /* What the user broke off says nothing about the protection. */
    if (!job->domain || error_is(error, ERROR_CANCELLED))
        return;
    key = replication_key(domain_uuid(job->domain), job->vm->protection->destination);
    if (!catalog_get(catalog, CATALOG_REPLICATION, key, &record, NULL))
        return;
    if (!error || !record) {
        json_auto_t *before = record;

        record = result_json(job, error);
        if (!error)
            note_habits(job, before, record);
    }
    if (!error) {
        g_autofree char *time = time_format(job->result.manifest->time_ms);

        json_set_string(record, "time", time);
        json_set_string(record, "checkpoint", job->result.manifest->checkpoint);
    }
    json_set_string(record, error ? "failed" : "finished", now);
    json_set_string(record, "error", error ? error->message : NULL);
    if (error)
        catalog_put(catalog, CATALOG_REPLICATION, key, record, NULL);
    else
        remember_point(job, &(struct catalog_entry){CATALOG_REPLICATION, key, record});
}

/* What one destination says to all VMs is said once. */
static void note_failure(struct replication *replication, const struct protected_vm *vm,
                         const GError *error)
{
    const GError *first = replication->first_error;

    if (first && g_str_equal(first->message, error->message))
        progress_note(replication->context->progress, "%s: the same", vm->vm);
    else
        progress_note(replication->context->progress, "%s", error->message);
}

/* Takes ERROR, NULL for a point. */
static void conclude(struct vm_job *job, GError *error)
{
    struct replication *replication = job->replication;

    if (error) {
        replication->failed++;
        note_failure(replication, job->vm, error);
        forget_broken_store(replication, job->vm->protection->destination, error);
    } else {
        struct made_point *made = g_new0(struct made_point, 1);

        made->protection = job->vm->protection;
        made->vm_uuid = g_strdup(job->result.manifest->uuid);
        g_ptr_array_add(replication->made, made);
    }
    /* Other sites do this themselves. */
    if (!error && g_str_equal(job->vm->protection->destination, "local"))
        store_heal_vm(job->request.destination, domain_uuid(job->domain), job->request.progress);
    json_array_append_new(replication->results, result_json(job, error));
    remember(job, error);
    if (error && !replication->first_error)
        replication->first_error = error;
    else
        g_clear_error(&error);
    point_result_clear(&job->result);
    domain_free(job->domain);
}

struct point_plan *replication_plan(struct replication *replication, const struct protected_vm *vm,
                                    GError **error)
{
    struct vm_job job = {.replication = replication, .vm = vm};
    struct point_plan *plan = NULL;

    if (prepare_vm(&job, false, error))
        plan = snapshot_plan_point(&job.request, error);
    domain_free(job.domain);
    return plan;
}

static void replicate_vm(struct replication *replication, const struct protected_vm *vm)
{
    struct vm_job job = {.replication = replication, .vm = vm};
    g_autofree char *subject = g_strdup_printf("%s@%s", vm->vm, vm->protection->destination);
    GError *error = NULL;

    run_again(replication->run, subject, &point_step, &job, &error);
    conclude(&job, error);
}

/* --- several VMs at one instant -------------------------------------------------------------- */

/* The VMs of one protection. */
struct batch {
    struct replication *replication;
    const struct protection *protection;
    struct vm_job *jobs;
    struct round_vm *vms; /* as jobs */
    unsigned n;
};

static bool prepare_batch(struct batch *batch, GError **error)
{
    for (unsigned i = 0; i < batch->n; i++) {
        struct vm_job *job = &batch->jobs[i];

        if (!interrupt_check(error))
            return false;
        if (!prepare_vm(job, true, error)) {
            g_prefix_error(error, "%s cannot take part in the round: ", job->vm->vm);
            return false;
        }
        batch->vms[i].request = job->request;
    }
    return true;
}

/* What the journal keeps of a round that has failed for some VM; the results tell the rest. */
static bool fail_round(const struct batch *batch, GError **error)
{
    for (unsigned i = 0; i < batch->n; i++) {
        if (!batch->vms[i].error)
            continue;
        g_propagate_error(error, g_error_copy(batch->vms[i].error));
        return false;
    }
    return true;
}

static bool take_round(void *data, GError **error)
{
    struct batch *batch = data;
    g_autofree struct hydration **paused = g_new0(struct hydration *, batch->n);

    for (unsigned i = 0; i < batch->n; i++)
        paused[i] = hydration_pause(batch->jobs[i].domain);
    snapshot_take_round(batch->vms, batch->n, batch->protection->group);
    for (unsigned i = 0; i < batch->n; i++) {
        batch->jobs[i].result = batch->vms[i].result;
        hydration_unpause(paused[i]);
    }
    return fail_round(batch, error);
}

static const struct step round_step = {"round", take_round, NULL};

/* One of them cannot even be looked at: the others need not wait for it. */
static void take_one_by_one(struct batch *batch, const GError *why)
{
    progress_note(batch->replication->context->progress, "%s: each VM by itself: %s",
                  batch->protection->name, why->message);
    for (unsigned i = 0; i < batch->n; i++) {
        domain_free(batch->jobs[i].domain);
        replicate_vm(batch->replication, batch->jobs[i].vm);
    }
}

static void run_round(struct batch *batch)
{
    g_autofree char *subject =
        g_strdup_printf("%s@%s", batch->protection->name, batch->protection->destination);
    g_autoptr(GError) unfit = NULL; /* the round itself has not been taken */

    if (!prepare_batch(batch, &unfit) && batch->protection->group == GROUP_TRY &&
        !error_is(unfit, ERROR_CANCELLED)) {
        take_one_by_one(batch, unfit);
        return;
    }
    if (!unfit)
        run_again(batch->replication->run, subject, &round_step, batch, &unfit);
    for (unsigned i = 0; i < batch->n; i++) {
        bool has_point = batch->jobs[i].result.manifest != NULL;

        conclude(&batch->jobs[i], has_point             ? NULL
                                  : batch->vms[i].error ? batch->vms[i].error
                                                        : g_error_copy(unfit));
    }
}

static void replicate_batch(struct replication *replication, unsigned first, unsigned n)
{
    g_autofree struct vm_job *jobs = g_new0(struct vm_job, n);
    g_autofree struct round_vm *vms = g_new0(struct round_vm, n);
    struct batch batch = {.replication = replication, .jobs = jobs, .vms = vms, .n = n};

    for (unsigned i = 0; i < n; i++)
        jobs[i] =
            (struct vm_job){.replication = replication, .vm = replication->vms->pdata[first + i]};
    batch.protection = jobs[0].vm->protection;
    run_round(&batch);
}

/* How many VMs from FIRST on are caught together? */
static unsigned batch_size(const struct replication *replication, unsigned first)
{
    const GPtrArray *vms = replication->vms;
    const struct protection *protection = ((struct protected_vm *)vms->pdata[first])->protection;
    unsigned n = 1;

    while (protection->group != GROUP_OFF && first + n < vms->len &&
           ((struct protected_vm *)vms->pdata[first + n])->protection == protection)
        n++;
    return n;
}

/* --- what comes before and after ------------------------------------------------------------- */

static bool drop_older(struct replication *replication, const struct made_point *made,
                       GError **error)
{
    struct store *store = replication_store(replication, made->protection->destination, error);

    return store && drop_points(store, made->vm_uuid, &made->protection->keep,
                                replication->context->progress, error);
}

/* When all points are made: dropping may take a while, and must not keep a VM from its next point. */
void replication_drop_older(struct replication *replication)
{
    for (unsigned i = 0; i < replication->made->len; i++) {
        GError *failure = NULL;

        if (drop_older(replication, replication->made->pdata[i], &failure))
            continue;
        progress_note(replication->context->progress, "no older points are dropped: %s",
                      failure->message);
        if (replication->aside_error)
            g_error_free(failure);
        else
            replication->aside_error = failure;
    }
}

void replication_begin_round(struct replication *replication)
{
    json_array_clear(replication->results);
    g_hash_table_remove_all(replication->owners);
    g_hash_table_remove_all(replication->store_errors);
    g_ptr_array_set_size(replication->made, 0);
    replication->failed = 0;
    g_clear_error(&replication->first_error);
    g_clear_error(&replication->aside_error);
}

void replication_take_points(struct replication *replication)
{
    for (unsigned i = 0, n; i < replication->vms->len; i += n) {
        n = batch_size(replication, i);
        if (n > 1)
            replicate_batch(replication, i, n);
        else
            replicate_vm(replication, replication->vms->pdata[i]);
    }
}
