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

/* What people are shown of it must be words. */
static bool check_status(const struct store *peer, const json_t *entry, GError **error)
{
    const char *vm = json_get_string(entry, "vm"), *state = json_get_string(entry, "state");

    return (vm && vm_name_is_valid(vm) && state &&
            strspn(state, "abcdefghijklmnopqrstuvwxyz- ") == strlen(state)) ||
           fail(error, ERROR_INTEGRITY, "%s: its status names a VM or a state wrongly",
                peer->label);
}

json_t *peer_status(struct store *peer, const char *vapp, GError **error)
{
    const char *const args[] = {"vapp", "status", vapp, NULL};
    json_auto_t *result = NULL;
    const json_t *entry;
    json_t *list;
    size_t i;

    if (!peer_command(peer, args, NULL, &result, error))
        return NULL;
    list = json_array_get(result, 0);
    if (!json_is_array(list)) {
        fail(error, ERROR_INTEGRITY, "%s: its status of %s is no list", peer->label, vapp);
        return NULL;
    }
    json_array_foreach(list, i, entry) if (!check_status(peer, entry, error)) return NULL;
    return json_incref(list);
}

static bool check_off(const struct move *move, const struct move_vm *vm, const json_t *entry,
                      GError **error)
{
    const char *state = json_get_string(entry, "state");

    if (entry && strcmp(state, domain_state_name(DOMAIN_OFF)) != 0)
        return fail(error, ERROR_CONFLICT, "VM %s is %s at %s, it must be off", vm->name, state,
                    move->site);
    return g_strcmp0(json_get_string(entry, "uuid"), vm->uuid) == 0 ||
           fail(error, ERROR_CONFLICT, "%s has other VMs at %s than when this began", move->vapp,
                move->site);
}

/* A single one that runs, or of which it is not known, would go on writing. */
static bool check_all_off(const struct moving *moving, GError **error)
{
    const struct move *move = moving->move;
    json_auto_t *list = peer_status(moving->peer, move->vapp, error);

    if (!list)
        return false;
    if (json_array_size(list) != move->vms->len)
        return check_off(move, move->vms->pdata[0], NULL, error);
    for (unsigned i = 0; i < move->vms->len; i++) {
        const struct move_vm *vm = move->vms->pdata[i];

        if (!check_off(move, vm, json_find(list, "vm", vm->name), error))
            return false;
    }
    return true;
}

static bool has_vm(const struct move *move, const char *uuid)
{
    for (unsigned i = 0; i < move->vms->len; i++)
        if (strcmp(((const struct move_vm *)move->vms->pdata[i])->uuid, uuid) == 0)
            return true;
    return false;
}

/* Somebody may have moved them to a third site meanwhile. */
static bool check_owners(const struct moving *moving, GError **error)
{
    g_autoptr(GPtrArray) owners = store_owners(moving->peer, error);

    for (unsigned i = 0; owners && i < owners->len; i++) {
        const struct owner *owner = owners->pdata[i];
        g_autofree char *text = owner_text(owner);

        if (has_vm(moving->move, owner->uuid) && strcmp(owner->site, moving->move->site) != 0 &&
            strcmp(owner->site, moving->site->config->site) != 0)
            return fail(error, ERROR_CONFLICT, "VM %s belongs to site %s by now", owner->vm, text);
    }
    return owners != NULL;
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

static bool step_points(void *context, GError **error)
{
    const struct moving *moving = context;

    return check_owners(moving, error) && replicate(moving, NULL, error);
}

static bool note_finals(struct moving *moving, const json_t *result, GError **error)
{
    g_hash_table_remove_all(moving->finals);
    for (unsigned i = 0; i < moving->move->vms->len; i++) {
        const struct move_vm *vm = moving->move->vms->pdata[i];
        const char *point = json_get_string(json_find(result, "vm", vm->name), "point");
        int64_t ms;

        if (!point || !point_id_parse(point, &ms))
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

bool move_owns(const struct moving *moving, const char *run)
{
    const struct config *config = moving->site->config;

    for (unsigned i = 0; i < moving->move->vms->len; i++) {
        const struct move_vm *vm = moving->move->vms->pdata[i];
        AUTO(owner) owner = NULL;

        if (!owner_read(config->store, vm->uuid, &owner, NULL) ||
            (owner && strcmp(owner->site, config->site) == 0 &&
             (!run || g_strcmp0(owner->run, run) == 0)))
            return true;
    }
    return false;
}

/* A guest that was asked to shut down looks as if it ran, and is off a moment later: what was begun is
 * ended first. Whatever comes of that, all are to run. But a plain failover may have brought the vApp up here,
 * or at a third site, since this was interrupted. */
static bool undo_stop(void *context, GError **error)
{
    const struct moving *moving = context;
    g_autoptr(GError) why = NULL;

    if (move_owns(moving, NULL))
        return true;
    if (!check_owners(moving, error))
        return false;
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

        if (vm->blocked || !vm->recovery)
            return fail(error, ERROR_CONFLICT, "VM %s cannot start here: %s", vm->name,
                        vm->findings->len ? (char *)vm->findings->pdata[vm->findings->len - 1]
                                          : "it was not planned");
        same = same && has_vm(move, vm->uuid);
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

static bool check_point(const struct failover_vm *vm, const char *last, GError **error)
{
    return g_strcmp0(vm->point, last) == 0 ||
           fail(error, ERROR_INTEGRITY,
                "VM %s would start from point %s, its last one is %s (what is wrong with that one: "
                "drctl points %s)",
                vm->name, vm->point ? vm->point : "none", last ? last : "unknown", vm->name);
}

/* It starts from the points that hold everything, or not at all. */
static bool check_finals(const struct moving *moving, const struct failover_plan *plan,
                         GError **error)
{
    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];

        if (!check_point(vm, g_hash_table_lookup(moving->finals, vm->name), error))
            return false;
    }
    return true;
}

static bool step_check(void *context, GError **error)
{
    const struct moving *moving = context;
    AUTO(failover_plan) plan = plan_now(moving, error);

    return plan && check_plan(moving, plan, error) && check_finals(moving, plan, error);
}

/* ---- From here on there is no way back */

static bool check_before_claim(const struct moving *moving, GError **error)
{
    if (check_all_off(moving, error) && check_owners(moving, error))
        return true;
    if (move_owns(moving, run_id(moving->run)))
        g_prefix_error(error,
                       "%s is this site's already, and what it writes at %s does not come here "
                       "(drctl fence %s, there): ",
                       moving->move->vapp, moving->move->site, moving->move->vapp);
    return false;
}

/* Of two that move one VM away from a site, the one that this site does not take at its word stops. */
static bool tell_peer(const struct moving *moving, const GPtrArray *owners, GError **error)
{
    struct reconnect line = {.store = moving->peer};

    for (;;) {
        g_autoptr(GPtrArray) refused = owner_refusals_new();
        GError *why = NULL;

        if (store_put_owners(moving->peer, owners, refused, &why) &&
            owner_refused_none(refused, &why))
            return true;
        if (!reconnect_after(&line, why, false, error))
            return false;
    }
}

/* What the other site knows came with its points, so the epoch is newer than that. Once one VM is claimed, what
 * fails is repeated. */
static bool step_claim(void *context, GError **error)
{
    const struct moving *moving = context;
    g_autoptr(GPtrArray) owners = NULL;
    AUTO(claim) claim = NULL;

    if (!check_before_claim(moving, error))
        return false;
    claim = claim_new(moving->site, run_id(moving->run));
    for (unsigned i = 0; i < moving->move->vms->len; i++) {
        const struct move_vm *vm = moving->move->vms->pdata[i];

        claim_add(claim, vm->uuid, vm->name);
    }
    return claim_take(claim, &owners, error) && tell_peer(moving, owners, error);
}

/* The VMs were off there a moment ago, and their site knows that they are this one's: when the link is lost now they
 * start here nevertheless. */
static bool step_fence(void *context, GError **error)
{
    const struct moving *moving = context;
    const struct move *move = moving->move;
    const char *const args[] = {"fence", move->vapp, NULL};
    GError *why = NULL;
    bool lost;

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
    lost = error_is(why, ERROR_NETWORK);
    g_error_free(why);
    return lost || check_all_off(moving, error);
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

/* If its last point cannot be used any more, somebody has to decide about an older one. Newer ones, until the claim,
 * are of the VM that is off. The process that has seen the last one may be gone; the newest one is as good. */
static bool check_not_older(const struct moving *moving, const struct failover_vm *vm,
                            GError **error)
{
    const char *last = g_hash_table_lookup(moving->finals, vm->name);
    g_autoptr(GPtrArray) points = last ? NULL : store_points(moving->site->store, vm->uuid, error);

    if (!last && !points)
        return false;
    if (!last && points->len > 0)
        last = ((const struct manifest *)points->pdata[0])->point;
    return (vm->point && last && strcmp(vm->point, last) >= 0) || check_point(vm, last, error);
}

static bool check_start(const struct moving *moving, const struct failover_plan *plan,
                        GError **error)
{
    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];

        if (!vm->blocked && vm->recovery && !vm->recovery->adopted &&
            !check_not_older(moving, vm, error))
            return false;
    }
    return true;
}

/* A start that was begun before is gone on with. */
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
    if (!plan->resumes && !check_start(moving, plan, error))
        return false;
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
