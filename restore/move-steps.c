/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/move.h"

#include <string.h>

/* ---- The other site */

bool peer_command(struct store *peer, const char *const *args, struct progress *progress,
                  json_t **result, GError **error)
{
    struct reconnect line = {.store = peer};

    for (;;) {
        json_auto_t *answer = NULL;
        GError *why = NULL;

        if (store_command(peer, args, progress, &answer, &why)) {
            if (result)
                *result = g_steal_pointer(&answer);
            return true;
        }
        if (!reconnect_after(&line, why, false, error))
            return false;
    }
}

json_t *peer_status(struct store *peer, const char *vapp, GError **error)
{
    const char *const args[] = {"vapp", "status", vapp, NULL};
    json_auto_t *result = NULL;
    json_t *list;

    if (!peer_command(peer, args, NULL, &result, error))
        return NULL;
    list = json_array_get(result, 0);
    if (!json_is_array(list)) {
        fail(error, ERROR_INTEGRITY, "%s: its status of %s is no list", peer->label, vapp);
        return NULL;
    }
    return json_incref(list);
}

/* A single one that runs, or of which it is not known, would go on writing. */
static bool check_all_off(const struct moving *moving, GError **error)
{
    const struct move *move = moving->move;
    json_auto_t *list = peer_status(moving->peer, move->vapp, error);
    const json_t *entry;
    size_t i;

    if (!list)
        return false;
    if (json_array_size(list) != move->vms->len)
        return fail(error, ERROR_CONFLICT, "%s has other VMs at %s than when this began",
                    move->vapp, move->site);
    json_array_foreach(list, i, entry)
    {
        const char *state = json_get_string(entry, "state");

        if (g_strcmp0(state, domain_state_name(DOMAIN_OFF)) != 0)
            return fail(error, ERROR_CONFLICT, "VM %s is %s at %s, it must be off",
                        json_get_string(entry, "vm"), state ? state : "unknown", move->site);
    }
    return true;
}

static bool has_vm(const struct move *move, const char *name)
{
    for (unsigned i = 0; i < move->vms->len; i++)
        if (strcmp(((const struct move_vm *)move->vms->pdata[i])->name, name) == 0)
            return true;
    return false;
}

/* ---- What is here already */

/* Has this run kept what is here of the VM already? */
static bool is_adopted(const struct moving *moving, const struct move_vm *vm, bool *adopted,
                       GError **error)
{
    g_autoptr(GPtrArray) points = store_points(moving->site->store, vm->uuid, error);

    *adopted = false;
    for (unsigned i = 0; points && i < points->len; i++) {
        const struct manifest *point = points->pdata[i];

        *adopted |= g_strcmp0(point->label, MANIFEST_DIVERGED) == 0 &&
                    point->time_ms >= run_started_ms(moving->run);
    }
    return points != NULL;
}

static bool keep_as_point(const struct moving *moving, const struct move_vm *vm,
                          struct domain *domain, GError **error)
{
    const struct site *site = moving->site;
    struct point_request request = {
        .domain = domain,
        .destination = site->store,
        .catalog = site->catalog,
        .site = site->config->site,
        .run_dir = site->config->run_dir,
        .scratch_dir = site->config->scratch,
        .quiesce = QUIESCE_OFF,
        .compression = 1,
        .label = MANIFEST_DIVERGED,
        .progress = site->progress,
    };
    struct point_result result = {0};
    g_autoptr(GError) why = NULL;

    if (snapshot_take_point(&request, &result, &why)) {
        progress_note(site->progress, "%s: what it has written here is kept as point %s (%s)",
                      vm->name, result.manifest->point, MANIFEST_DIVERGED);
        point_result_clear(&result);
        return true;
    }
    g_propagate_prefixed_error(
        error, g_steal_pointer(&why),
        "what %s has written here cannot be kept as a point (to come home without that, its disks "
        "stay as they are: drctl failover --planned %s): ",
        vm->name, moving->move->vapp);
    return false;
}

/* The path of a disk of DOMAIN that is not there, or NULL; g_free. */
static char *missing_disk(struct domain *domain)
{
    g_autofree char *text = domain_xml(domain, DOMAIN_XML_INACTIVE, NULL);
    AUTO(xml) xml = text ? xml_parse(text, "definition", NULL) : NULL;
    g_autoptr(GPtrArray) sources =
        xml ? xml_find_all(xml_root(xml), "devices/disk[@device='disk']/source") : NULL;

    for (unsigned i = 0; sources && i < sources->len; i++) {
        g_autofree char *path = xml_string(sources->pdata[i], "@file | @dev");

        if (path && !g_file_test(path, G_FILE_TEST_EXISTS))
            return g_steal_pointer(&path);
    }
    return NULL;
}

static bool keep_copy(const struct moving *moving, const struct move_vm *vm, struct domain *domain,
                      GError **error)
{
    g_autofree char *missing = missing_disk(domain);

    if (!missing)
        return keep_as_point(moving, vm, domain, error);
    progress_note(
        moving->site->progress,
        "%s: its old disk %s is not here any more, so nothing is kept as a point, and all "
        "of it is sent",
        vm->name, missing);
    return true;
}

static bool adopt_vm(const struct moving *moving, const struct move_vm *vm, GError **error)
{
    AUTO(domain) domain = NULL;
    struct recovered mark;
    enum domain_state state;
    bool adopted;

    if (!site_find_domain(moving->site, vm->name, vm->uuid, &domain, &mark, error))
        return false;
    recovered_clear(&mark);
    if (!is_adopted(moving, vm, &adopted, error))
        return false;
    if (!domain)
        progress_note(moving->site->progress, "%s: nothing of it is here, all of it is sent",
                      vm->name);
    if (!domain || adopted)
        return true;
    if (!domain_state(domain, &state, error))
        return false;
    if (state != DOMAIN_OFF)
        return fail(error, ERROR_CONFLICT, "VM %s is %s here, it must be off", vm->name,
                    domain_state_name(state));
    return keep_copy(moving, vm, domain, error);
}

static bool step_adopt(void *context, GError **error)
{
    const struct moving *moving = context;

    for (unsigned i = 0; moving->move->back && i < moving->move->vms->len; i++)
        if (!interrupt_check(error) || !adopt_vm(moving, moving->move->vms->pdata[i], error))
            return false;
    return true;
}

/* ---- Points */

static bool replicate(const struct moving *moving, json_t **result, GError **error)
{
    const struct move *move = moving->move;
    const char *const args[] = {"replicate", "--to", moving->site->config->site, move->vapp, NULL};

    return peer_command(moving->peer, args, moving->site->progress, result, error);
}

/* Who owns what, as the other site knows it: its points are refused here otherwise. */
static bool learn_owners(const struct moving *moving, GError **error)
{
    g_autoptr(GPtrArray) owners = store_owners(moving->peer, error);

    for (unsigned i = 0; owners && i < owners->len; i++) {
        const struct owner *owner = owners->pdata[i];
        g_autoptr(GError) why = NULL;

        /* What is known here already is no news. */
        if (has_vm(moving->move, owner->vm) && !store_put_owner(moving->site->store, owner, &why) &&
            !error_is(why, ERROR_CONFLICT)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
    }
    return owners != NULL;
}

static bool step_points(void *context, GError **error)
{
    const struct moving *moving = context;

    return learn_owners(moving, error) && replicate(moving, NULL, error);
}

/* The point of VM in the RESULT of a replicate, or NULL. */
static const char *point_of(const json_t *result, const char *vm)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(result, i, entry) if (g_strcmp0(json_get_string(entry, "vm"), vm) ==
                                             0) return json_get_string(entry, "point");
    return NULL;
}

static bool note_finals(struct moving *moving, const json_t *result, GError **error)
{
    g_hash_table_remove_all(moving->finals);
    for (unsigned i = 0; i < moving->move->vms->len; i++) {
        const struct move_vm *vm = moving->move->vms->pdata[i];
        const char *point = point_of(result, vm->name);

        if (!point)
            return fail(error, ERROR_FAILED, "%s has sent no last point of VM %s",
                        moving->move->site, vm->name);
        g_hash_table_insert(moving->finals, g_strdup(vm->name), g_strdup(point));
    }
    return true;
}

/* Off before and after: nobody has written in between. */
static bool step_final(void *context, GError **error)
{
    struct moving *moving = context;
    json_auto_t *result = NULL;

    return check_all_off(moving, error) && replicate(moving, &result, error) &&
           note_finals(moving, result, error) && check_all_off(moving, error);
}

/* ---- Stop and start there */

static bool command(const struct moving *moving, const char *verb, GError **error)
{
    const char *const args[] = {"vapp", verb, moving->move->vapp, NULL};

    return peer_command(moving->peer, args, moving->site->progress, NULL, error);
}

static bool step_stop(void *context, GError **error)
{
    return command(context, "stop", error);
}

bool move_owns(const struct moving *moving)
{
    const struct config *config = moving->site->config;

    for (unsigned i = 0; i < moving->move->vms->len; i++) {
        const struct move_vm *vm = moving->move->vms->pdata[i];
        AUTO(owner) owner = NULL;

        if (!owner_read(config->store, vm->uuid, &owner, NULL) ||
            (owner && strcmp(owner->site, config->site) == 0))
            return true;
    }
    return false;
}

/* A guest that was asked to shut down looks as if it ran, and is off a moment later: what was begun is
 * ended first. Whatever comes of that, all are to run. But a plain failover may have brought the vApp up here
 * since this was interrupted. */
static bool undo_stop(void *context, GError **error)
{
    const struct moving *moving = context;
    g_autoptr(GError) why = NULL;

    if (move_owns(moving))
        return true;
    progress_note(moving->site->progress, "%s is started again at %s", moving->move->vapp,
                  moving->move->site);
    if (!command(moving, "stop", &why))
        progress_note(moving->site->progress, "%s", why->message);
    return command(moving, "start", error);
}

/* ---- The failover here */

/* As if it were executed now. */
static struct failover_plan *plan_now(const struct moving *moving, GError **error)
{
    struct failover_request request = {.name = moving->move->vapp, .moved = true, .afresh = true};

    return failover_plan_make(moving->site, &request, error);
}

static bool check_plan(const struct moving *moving, const struct failover_plan *plan,
                       GError **error)
{
    const struct move *move = moving->move;
    bool same = plan->vms->len == move->vms->len;

    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];

        same = same && has_vm(move, vm->name);
        if (vm->blocked || !vm->recovery)
            return fail(error, ERROR_CONFLICT, "VM %s cannot start here: %s", vm->name,
                        vm->findings->len ? (char *)vm->findings->pdata[vm->findings->len - 1]
                                          : "it was not planned");
    }
    return same ||
           fail(error, ERROR_CONFLICT,
                "%s consists of other VMs here than at %s: see to it that the recovery plan "
                "or vApp of that name is the same at both sites (drctl plan show, drctl "
                "vapp show)",
                move->vapp, move->site);
}

static bool step_preflight(void *context, GError **error)
{
    const struct moving *moving = context;
    AUTO(failover_plan) plan = plan_now(moving, error);

    return plan && check_plan(moving, plan, error);
}

/* It starts from the points that hold everything, or not at all. */
static bool check_points(const struct moving *moving, const struct failover_plan *plan,
                         GError **error)
{
    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];
        const char *final = g_hash_table_lookup(moving->finals, vm->name);

        if (g_strcmp0(vm->point, final) != 0)
            return fail(error, ERROR_INTEGRITY,
                        "VM %s would start from point %s, its last one is %s", vm->name,
                        vm->point ? vm->point : "none", final ? final : "unknown");
    }
    return true;
}

static bool step_check(void *context, GError **error)
{
    const struct moving *moving = context;
    AUTO(failover_plan) plan = plan_now(moving, error);

    return plan && check_plan(moving, plan, error) && check_points(moving, plan, error);
}

/* ---- From here on there is no way back */

/* What the other site knows was learnt before, so the epoch is newer than that. Once one VM is claimed, what
 * fails is repeated. */
static bool step_claim(void *context, GError **error)
{
    const struct moving *moving = context;
    AUTO(claim) claim = NULL;

    if (!check_all_off(moving, error))
        return false;
    claim = claim_new(moving->site, run_id(moving->run));
    for (unsigned i = 0; i < moving->move->vms->len; i++) {
        const struct move_vm *vm = moving->move->vms->pdata[i];

        if (!claim_vm(claim, vm->uuid, vm->name, NULL, error))
            return false;
    }
    return true;
}

/* The VMs are off there, and owned by this site: what cannot be reached must not keep them from starting. */
static bool step_fence(void *context, GError **error)
{
    const struct moving *moving = context;
    const struct move *move = moving->move;
    const char *const args[] = {"fence", move->vapp, NULL};
    GError *why = NULL;

    if (peer_command(moving->peer, args, moving->site->progress, NULL, &why))
        return true;
    if (error_is(why, ERROR_CANCELLED)) {
        g_propagate_error(error, why);
        return false;
    }
    progress_note(moving->site->progress,
                  "%s could not be fenced at %s: see to it that it does not start there (drctl "
                  "fence %s, there): %s",
                  move->vapp, move->site, move->vapp, why->message);
    g_error_free(why);
    return true;
}

/* A plain failover may have gone on with what was interrupted here. */
static bool all_run_here(const struct moving *moving)
{
    for (unsigned i = 0; i < moving->move->vms->len; i++) {
        const struct move_vm *vm = moving->move->vms->pdata[i];
        AUTO(domain) domain = NULL;
        struct recovered mark;
        enum domain_state state;

        if (!site_find_domain(moving->site, vm->name, vm->uuid, &domain, &mark, NULL))
            return false;
        recovered_clear(&mark);
        if (!domain || !domain_state(domain, &state, NULL) || state != DOMAIN_RUNNING)
            return false;
    }
    return true;
}

/* From the newest points, which are the last ones: nobody may add any since the claim. A start that was begun
 * before is gone on with. */
static bool step_start(void *context, GError **error)
{
    struct moving *moving = context;
    struct move_result *result = moving->result;
    struct failover_request request = {.name = moving->move->vapp, .moved = true};
    AUTO(failover_plan) plan = failover_plan_make(moving->site, &request, error);

    if (!plan)
        return false;
    if (!plan->resumes && all_run_here(moving))
        return true;
    result->plan = g_steal_pointer(&plan);
    return failover_execute(moving->site, result->plan, moving->report, moving->report_context,
                            &result->started, error);
}

/* ---- */

const struct step move_steps[] = {
    {.name = "adopt", .run = step_adopt},
    {.name = "points", .run = step_points},
    {.name = "preflight", .run = step_preflight},
    {.name = "stop", .run = step_stop, .undo = undo_stop},
    {.name = "final", .run = step_final},
    {.name = "check", .run = step_check},
    {.name = "claim", .run = step_claim},
    {.name = "fence", .run = step_fence},
    {.name = "start", .run = step_start},
};
const unsigned move_n_steps = G_N_ELEMENTS(move_steps);
const unsigned move_n_before_claim = 6;
