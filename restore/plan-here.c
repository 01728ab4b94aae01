/* SPDX-License-Identifier: Apache-2.0 */
/* What of a VM is here already, before it is planned to bring it up. */
#include <string.h>

#include "restore/move.h"
#include "restore/planner.h"

#define MOVED_TEXT "it runs at another site until now"

/* The point may be gone by now; the VM does not need to know. */
static void take_marked_point(const struct planner *planner, struct failover_vm *vm,
                              const struct recovered *mark)
{
    g_autofree char *dir = store_point_dir(planner->site->config->store, vm->uuid, mark->point);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    AUTO(manifest) manifest = name_is_safe(mark->point) ? manifest_load(path, NULL) : NULL;

    if (manifest) {
        failover_vm_take_point(vm, manifest);
        return;
    }
    vm->point = g_strdup(mark->point);
    point_id_parse(mark->point, &vm->point_time_ms);
}

/* It has its host; what runs there has its memory, too. */
static void count_adopted(const struct planner *planner, struct planned *planned,
                          struct domain *domain, enum domain_state state)
{
    g_autofree char *text =
        state == DOMAIN_OFF ? domain_xml(domain, DOMAIN_XML_INACTIVE, NULL) : NULL;
    AUTO(xml) xml = text ? xml_parse(text, domain_name(domain), NULL) : NULL;

    for (unsigned i = 0; i < planner->platforms->len; i++)
        if (((const struct platform *)planner->platforms->pdata[i])->host == domain_host(domain))
            planned->fixed = (int)i;
    if (!xml)
        return;
    planned->memory_bytes = definition_memory_bytes(xml_root(xml));
    planned->cpus = definition_cpus(xml_root(xml));
}

/* Was the copy brought up since the VM is this site's? OWNER says that it is. */
static bool is_since(const struct recovered *mark, const struct owner *owner)
{
    return mark->run && owner->run && !run_is_before(mark->run, owner->run);
}

/* Has a move here made the VM this site's that has not started it yet? It goes on by a plain failover, too. */
static bool is_moving(const struct site *site, const struct owner *owner)
{
    json_auto_t *run = owner->run ? run_head(site->catalog, owner->run, NULL) : NULL;
    const char *kind = json_get_string(run, "kind");

    return g_strcmp0(json_get_string(run, "state"), run_state_name(RUN_INTERRUPTED)) == 0 &&
           (g_strcmp0(kind, PLANNED_KIND) == 0 || g_strcmp0(kind, FAILBACK_KIND) == 0);
}

static char *stale_here(const struct planner *planner, const struct recovered *mark,
                        const struct owner *owner)
{
    if (is_since(mark, owner))
        return NULL;
    if (planner->moved || is_moving(planner->site, owner))
        return g_strdup(MOVED_TEXT);
    return run_is_before(mark->run, owner->run)
               ? g_strdup_printf("run %s has made the VM this site's anew since", owner->run)
               : NULL;
}

/* Why is this copy older than what the VM has written elsewhere since? NULL: it is not known to be. MARK is of a
 * run that has brought it up here, or empty. g_free. */
static char *stale_text(const struct planner *planner, struct domain *domain,
                        const struct recovered *mark)
{
    const struct config *config = planner->site->config;
    AUTO(owner) owner = NULL;
    g_autofree char *text = NULL;

    /* A record that cannot be read is replaced by the failover; what it said is lost. */
    if (!owner_read(config->store, domain_uuid(domain), &owner, NULL) || !owner)
        return planner->moved ? g_strdup(MOVED_TEXT) : NULL;
    if (strcmp(owner->site, config->site) == 0)
        return stale_here(planner, mark, owner);
    text = owner_text(owner);
    return planner->moved ? g_strdup(MOVED_TEXT)
                          : g_strdup_printf("the VM belongs to site %s", text);
}

/* It makes room if it is off, see `aside` in recovery.c. */
static bool put_aside(struct planner *planner, struct planned *planned, struct domain *domain,
                      const char *why, GError **error)
{
    enum domain_state state;

    if (!domain_state(domain, &state, error))
        return false;
    if (state != DOMAIN_OFF) {
        block(planned->findings,
              "a copy of it is %s here that is old: %s" REMEDY
              "if what it writes does not count: drctl fence %s, then again",
              domain_state_name(state), why, domain_name(domain));
        return true;
    }
    planner_look_silent(planner, planned, true);
    planned->stale = domain_xml(domain, DOMAIN_XML_INACTIVE, error);
    remark(planned->findings,
           "the copy that is here is old (%s): it is put aside, and its disks stay where they are",
           why);
    return planned->stale != NULL;
}

/* It was brought up by an earlier run: go on from there, its overlay may hold new data. */
static bool adopt(struct planner *planner, struct planned *planned, struct domain *domain,
                  const struct recovered *mark, GError **error)
{
    struct failover_vm *vm = planned->vm;
    enum domain_state state;

    if (strcmp(mark->vm, vm->uuid) != 0)
        return fail_stranger(domain, vm->name, error);
    if (!domain_state(domain, &state, error))
        return false;
    planner->running += state != DOMAIN_OFF;
    if (state == DOMAIN_OFF)
        planner_look_silent(planner, planned, true);
    remark(planned->findings, "run %s brought it up already, it is %s%s", mark->run,
           domain_state_name(state), state == DOMAIN_OFF ? " and will be started as it is" : "");
    count_adopted(planner, planned, domain, state);
    take_marked_point(planner, vm, mark);
    vm->host = g_strdup(host_uri(domain_host(domain)));
    vm->recovery = g_new0(struct recovery, 1);
    vm->recovery->name = g_strdup(domain_name(domain));
    vm->recovery->uuid = g_strdup(domain_uuid(domain));
    vm->recovery->uri = g_strdup(vm->host);
    vm->recovery->adopted = g_strdup(mark->run);
    return true;
}

static bool look_at(struct planner *planner, struct planned *planned, struct domain *domain,
                    const struct recovered *mark, bool *adopted, GError **error)
{
    const struct failover_vm *vm = planned->vm;
    bool is_it = strcmp(domain_uuid(domain), vm->uuid) == 0;
    g_autofree char *stale = is_it ? stale_text(planner, domain, mark) : NULL;

    if (stale)
        return put_aside(planner, planned, domain, stale, error);
    if (!mark->run)
        return fail_stranger(domain, vm->name, error);
    *adopted = adopt(planner, planned, domain, mark, error);
    return *adopted;
}

bool planner_look_here(struct planner *planner, struct planned *planned, bool *adopted,
                       GError **error)
{
    const struct failover_vm *vm = planned->vm;
    AUTO(domain) domain = NULL;
    struct recovered mark;
    bool good;

    *adopted = false;
    if (!inventory_find(planner->inventory, vm->name, vm->uuid, &domain, &mark, error))
        return false;
    if (!domain) {
        planner_look_silent(planner, planned, false);
        return true;
    }
    good = look_at(planner, planned, domain, &mark, adopted, error);
    recovered_clear(&mark);
    return good;
}
