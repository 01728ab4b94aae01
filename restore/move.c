/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/move.h"

#include <string.h>

#include "restore/inventory.h"

/* ---- What is moved */

static void move_vm_free(void *data)
{
    struct move_vm *vm = data;

    g_free(vm->name);
    g_free(vm->uuid);
    g_free(vm->copy);
    g_free(vm);
}

void move_free(struct move *move)
{
    if (!move)
        return;
    g_free(move->vapp);
    g_free(move->site);
    g_free(move->resumes);
    g_ptr_array_unref(move->vms);
    g_free(move);
}

static struct move_vm *add_vm(struct move *move, const char *name, const char *uuid)
{
    struct move_vm *vm = g_new0(struct move_vm, 1);

    vm->name = g_strdup(name);
    vm->uuid = g_strdup(uuid);
    g_ptr_array_add(move->vms, vm);
    return vm;
}

static const char *kind_of(const struct move *move)
{
    return move->back ? FAILBACK_KIND : PLANNED_KIND;
}

/* What is left of the VM here; it must not run. */
static bool look_for_copy(const struct inventory *inventory, const struct move *move,
                          struct move_vm *vm, GError **error)
{
    AUTO(domain) domain = NULL;
    struct recovered mark;
    enum domain_state state;

    if (!inventory_find(inventory, vm->name, vm->uuid, &domain, &mark, error))
        return false;
    recovered_clear(&mark);
    if (!domain)
        return true;
    if (strcmp(domain_uuid(domain), vm->uuid) != 0)
        return fail_stranger(domain, vm->name, error);
    if (!domain_state(domain, &state, error))
        return false;
    if (state != DOMAIN_OFF)
        return fail(error, ERROR_CONFLICT,
                    "VM %s is %s here and runs at %s too: stop the one whose writes do not count, "
                    "now (drctl fence %s, at that site); its disks stay as they are",
                    vm->name, domain_state_name(state), move->site, vm->name);
    vm->copy = g_strdup(domain_state_name(state));
    return true;
}

static bool plan_vm(const struct inventory *inventory, struct move *move, const json_t *entry,
                    GError **error)
{
    const char *name = json_get_string(entry, "vm"), *state = json_get_string(entry, "state"),
               *uuid = json_get_string(entry, "uuid");

    if (g_strcmp0(state, domain_state_name(DOMAIN_RUNNING)) != 0)
        return fail(
            error, ERROR_CONFLICT,
            "VM %s is %s at %s; a vApp is moved while all of it runs: start it there (drctl "
            "vapp start %s), or if that site is lost: drctl failover %s",
            name, state, move->site, move->vapp, move->vapp);
    if (!uuid || !uuid_is_valid(uuid))
        return fail(error, ERROR_INTEGRITY, "%s does not tell the UUID of VM %s", move->site, name);
    return look_for_copy(inventory, move, add_vm(move, name, uuid), error);
}

static bool plan_vms(const struct site *site, struct move *move, struct store *peer, GError **error)
{
    json_auto_t *list = peer_status(peer, move->vapp, error);
    AUTO(inventory) inventory = list ? inventory_new(site->hosts, error) : NULL;
    const json_t *entry;
    size_t i;

    if (!inventory)
        return false;
    json_array_foreach(list, i, entry) if (!plan_vm(inventory, move, entry, error)) return false;
    return move->vms->len > 0 ||
           fail(error, ERROR_NOT_FOUND, "%s has no VMs at %s", move->vapp, move->site);
}

static bool read_site(struct move *move, const struct site *site, struct store *peer,
                      GError **error)
{
    struct store_info info = {0};

    if (!store_info(peer, &info, error))
        return false;
    move->site = g_steal_pointer(&info.site);
    store_info_clear(&info);
    return strcmp(move->site, site->config->site) != 0 ||
           fail(error, ERROR_CONFIG, "%s is this site itself", peer->label);
}

/* ---- In the journal: {vapp, site, vms: [{vm, uuid}]} */

static json_t *move_json(const struct move *move)
{
    json_t *json = json_object(), *vms = json_array();

    json_set_string(json, "vapp", move->vapp);
    json_set_string(json, "site", move->site);
    for (unsigned i = 0; i < move->vms->len; i++) {
        const struct move_vm *vm = move->vms->pdata[i];
        json_t *entry = json_object();

        json_set_string(entry, "vm", vm->name);
        json_set_string(entry, "uuid", vm->uuid);
        json_array_append_new(vms, entry);
    }
    json_object_set_new(json, "vms", vms);
    return json;
}

static bool read_move(struct move *move, const json_t *plan, GError **error)
{
    const char *from, *name, *uuid;
    const json_t *entry;
    json_t *vms;
    size_t i;

    if (!json_need_string(plan, "site", &from, error) || !json_need_array(plan, "vms", &vms, error))
        return false;
    if (strcmp(from, move->site) != 0)
        return fail(error, ERROR_CONFLICT, "it moves %s from %s, not from %s", move->vapp, from,
                    move->site);
    json_array_foreach(vms, i, entry)
    {
        if (!json_need_string(entry, "vm", &name, error) ||
            !json_need_string(entry, "uuid", &uuid, error))
            return false;
        add_vm(move, name, uuid);
    }
    return true;
}

static bool resume_plan(const struct site *site, struct move *move, GError **error)
{
    json_auto_t *record = run_show(site->catalog, move->resumes, error);
    json_t *plan;

    if (record && json_need_object(record, "plan", &plan, error) && read_move(move, plan, error))
        return true;
    g_prefix_error(error, "run %s was interrupted: ", move->resumes);
    return false;
}

/* Two ways to move one vApp must not be mixed. */
static bool check_others(const struct site *site, const struct move *move, GError **error)
{
    static const char *const kinds[] = {FAILOVER_KIND, PLANNED_KIND, FAILBACK_KIND};

    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *run = NULL;

        if (!run_find_interrupted(site->catalog, kinds[i], move->vapp, &run, error))
            return false;
        if (run && strcmp(kinds[i], kind_of(move)) != 0 && !move->resumes)
            return fail(error, ERROR_CONFLICT,
                        "run %s (%s) of %s was interrupted and goes on first: drctl %s %s", run,
                        kinds[i], move->vapp,
                        strcmp(kinds[i], PLANNED_KIND) == 0 ? "failover --planned" : kinds[i],
                        move->vapp);
    }
    return true;
}

struct move *move_new(const struct site *site, const char *vapp, struct store *peer, bool back,
                      GError **error)
{
    AUTO(move) move = g_new0(struct move, 1);

    move->vms = g_ptr_array_new_with_free_func(move_vm_free);
    move->vapp = g_strdup(vapp);
    move->back = back;
    if (!read_site(move, site, peer, error) ||
        !run_find_interrupted(site->catalog, kind_of(move), vapp, &move->resumes, error) ||
        !check_others(site, move, error) ||
        !(move->resumes ? resume_plan(site, move, error) : plan_vms(site, move, peer, error)))
        return NULL;
    return g_steal_pointer(&move);
}

/* ---- Execution */

void move_result_clear(struct move_result *result)
{
    failover_result_clear(&result->started);
    failover_plan_free(result->plan);
    g_free(result->run);
    *result = (struct move_result){0};
}

/* The journal's record of STEP, or NULL; borrowed from SHOWN. */
static const json_t *step_record(const json_t *shown, const char *step)
{
    return json_find(json_object_get(shown, "steps"), "step", step);
}

/* Is the way back closed: has this run made a VM this site's, and is it that still? If that cannot be told it is. */
static bool is_claimed(const struct moving *moving)
{
    const char *run = run_id(moving->run);
    json_auto_t *shown = run_show(moving->site->catalog, run, NULL);

    /* What was declared has a record, too. */
    return !shown ||
           (json_get_string(step_record(shown, "claim"), "started") && move_owns(moving, run));
}

static bool take_back(struct moving *moving, GError *why, GError **error)
{
    const struct move *move = moving->move;
    enum run_state state = error_is(why, ERROR_CANCELLED) ? RUN_CANCELLED : RUN_FAILED;
    g_autoptr(GError) problem = NULL;
    bool undone;

    interrupt_forget();
    undone = run_undo(moving->run, move->vapp, move_steps, move_n_before_claim, moving, &problem);
    if (!run_finish(moving->run, state, NULL, error)) {
        g_error_free(why);
        return false;
    }
    moving->result->state = state;
    if (undone)
        g_prefix_error(&why, "%s stays at %s: ", move->vapp, move->site);
    else
        g_prefix_error(
            &why,
            "%s IS NOT MOVED, AND MAY NOT RUN: start it at %s (drctl vapp start %s, there), "
            "as that failed from here (%s). Why it was not moved: ",
            move->vapp, move->site, move->vapp, problem->message);
    g_propagate_error(error, why);
    return false;
}

static double down_seconds(const struct moving *moving)
{
    json_auto_t *shown = run_show(moving->site->catalog, run_id(moving->run), NULL);
    const json_t *stop = shown ? step_record(shown, "stop") : NULL;
    const char *started = stop ? json_get_string(stop, "started") : NULL;
    int64_t ms;

    return started && time_parse(started, &ms, NULL) ? (double)(time_now_ms() - ms) / 1000 : 0;
}

static json_t *vms_json(const struct move_result *result)
{
    json_t *vms = json_array();

    for (unsigned i = 0; result->started.vms && i < result->started.vms->len; i++) {
        const struct vapp_result *one = result->started.vms->pdata[i];
        const struct failover_vm *vm = result->plan->vms->pdata[i];
        json_t *json = json_object();

        json_set_string(json, "vm", one->vm->name);
        json_set_string(json, "state", vapp_vm_state_name(one->state));
        json_set_string(json, "point", vm->point);
        json_set_string(json, "error", one->error);
        json_array_append_new(vms, json);
    }
    return vms;
}

/* The last step is over: of the start here, all or some VMs are up, or none. */
static bool finish(struct moving *moving, enum run_state state, GError **error)
{
    struct move_result *result = moving->result;
    json_auto_t *json = json_object();

    result->state = state;
    result->down_seconds = down_seconds(moving);
    json_set_string(json, "state", run_state_name(state));
    json_set_string(json, "failover", result->started.run);
    json_set_real(json, "down_seconds", result->down_seconds);
    json_object_set_new(json, "vms", vms_json(result));
    return run_finish(moving->run, state, json, error);
}

/* Nothing but the start can be short of its goal, and that of some VMs. */
static bool end_claimed(struct moving *moving, GError *why, GError **error)
{
    struct move_result *result = moving->result;
    bool ended = result->started.vms && !error_is(why, ERROR_CANCELLED);

    result->state = RUN_INTERRUPTED;
    if (!ended)
        g_prefix_error(
            &why,
            "run %s stopped after %s had become this site's, drctl run resume %s goes on "
            "with it: ",
            result->run, moving->move->vapp, result->run);
    else if (!finish(moving, result->started.state, error)) {
        g_error_free(why);
        return false;
    }
    g_propagate_error(error, why);
    return false;
}

/* Also what was done by a process that was killed, as far as there is a way back: VMs may have been started and
 * stopped since, or have been moved by others, and each step is safe to repeat. */
static bool do_steps(struct moving *moving, GError **error)
{
    for (unsigned i = is_claimed(moving) ? move_n_before_claim : 0; i < move_n_steps; i++)
        if (!run_again(moving->run, moving->move->vapp, &move_steps[i], moving, error))
            return false;
    return true;
}

static bool execute(struct moving *moving, GError **error)
{
    GError *why = NULL;

    if (do_steps(moving, &why))
        return finish(moving, RUN_DONE, error);
    return is_claimed(moving) ? end_claimed(moving, why, error) : take_back(moving, why, error);
}

static struct file_lock *lock_vapp(const struct site *site, const char *vapp, GError **error)
{
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, vapp, -1);
    g_autofree char *name = g_strdup_printf("move-%.16s.lock", hash);
    g_autofree char *path = g_build_filename(catalog_lock_dir(site->catalog), name, NULL);
    g_autofree char *what = g_strdup_printf("cannot move %s now: its move", vapp);

    return file_lock_take(path, what, error);
}

static struct run *begin(const struct site *site, const struct move *move, GError **error)
{
    struct run_subject all = {move->vapp, move_steps, move_n_steps};
    json_auto_t *json = NULL;
    AUTO(run) run = NULL;

    if (move->resumes)
        return run_resume(site->catalog, move->resumes, error);
    json = move_json(move);
    run = run_begin(site->catalog, kind_of(move), move->vapp, json, error);
    return run && run_declare(run, &all, 1, error) ? g_steal_pointer(&run) : NULL;
}

bool move_execute(const struct site *site, const struct move *move, struct store *peer,
                  void (*report)(void *context, const struct vapp_result *result), void *context,
                  struct move_result *result, GError **error)
{
    AUTO(file_lock) lock = lock_vapp(site, move->vapp, error);
    AUTO(run) run = lock ? begin(site, move, error) : NULL;
    g_autoptr(GHashTable) finals = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    struct moving moving = {.site = site,
                            .move = move,
                            .peer = peer,
                            .run = run,
                            .report = report,
                            .report_context = context,
                            .finals = finals,
                            .result = result};

    if (!run)
        return false;
    result->run = g_strdup(run_id(run));
    return execute(&moving, error);
}
