/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/vapp-status.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "drctl/output.h"

/* In a table. */
#define PROBLEM_MAX 60

/* --- one vApp -------------------------------------------------------------------------------- */

static bool is_unknown(const json_t *json, const char *key)
{
    const json_t *value = json_object_get(json, key);

    return !value || json_is_null(value);
}

static void take(json_t *vapp, const json_t *vm, const char *key)
{
    json_object_set(vapp, key, json_object_get(vm, key));
}

/* Of numbers the least or the greatest; of times, too, as they are written. */
static bool is_before(const json_t *a, const json_t *b)
{
    return json_is_string(a) ? strcmp(json_string_value(a), json_string_value(b)) < 0
                             : json_number_value(a) < json_number_value(b);
}

static void take_least(json_t *vapp, const json_t *vm, const char *key)
{
    if (is_unknown(vm, key))
        return;
    if (is_unknown(vapp, key) || is_before(json_object_get(vm, key), json_object_get(vapp, key)))
        take(vapp, vm, key);
}

static enum rpo_state state_of(const json_t *json)
{
    enum rpo_state state = RPO_VIOLATED;

    while (state > RPO_OK &&
           g_strcmp0(json_get_string(json, "rpo_state"), rpo_state_name(state)) != 0)
        state--;
    return state;
}

static void take_worst_state(json_t *vapp, const json_t *vm)
{
    if (is_unknown(vm, "rpo_state"))
        return;
    if (is_unknown(vapp, "rpo_state") || state_of(vm) > state_of(vapp))
        take(vapp, vm, "rpo_state");
}

/* Whatever VM is furthest behind is what a failover of all of them would show. */
static void take_oldest_point(json_t *vapp, const json_t *vm)
{
    if (is_unknown(vm, "time") ||
        (!is_unknown(vapp, "time") &&
         !is_before(json_object_get(vm, "time"), json_object_get(vapp, "time"))))
        return;
    take(vapp, vm, "age_seconds");
    take(vapp, vm, "point");
    take(vapp, vm, "time");
    if (!is_unknown(vm, "consistency"))
        take(vapp, vm, "consistency");
}

/* That of all of them, or null: they are at several sites. */
static void take_owner(json_t *vapp, const char *owner, bool first)
{
    if (!first && g_strcmp0(json_get_string(vapp, "owner"), owner) != 0)
        owner = NULL;
    json_set_string(vapp, "owner", owner);
}

static const char *owner_of(const json_t *status, const json_t *own, const json_t *received)
{
    const char *owner = json_get_string(own ? own : received, "owner");

    if (owner)
        return owner;
    return own ? json_get_string(status, "site") : json_get_string(received, "site");
}

/* All have been proven only if the one that was tested last was, too. */
static void take_test(json_t *vapp, const json_t *received, bool first)
{
    const char *tested = received && json_get_string(received, "proven")
                             ? json_get_string(received, "tested")
                             : NULL;
    const char *before = json_get_string(vapp, "tested");

    if (first || !tested || (before && strcmp(tested, before) < 0))
        json_set_string(vapp, "tested", first || before ? tested : NULL);
}

/* Of each destination that NAME has. */
static void take_protected(json_t *vapp, const json_t *list, const char *name)
{
    const json_t *own;
    size_t i;

    json_array_foreach(list, i, own)
    {
        if (g_strcmp0(json_get_string(own, "vm"), name) != 0)
            continue;
        take_oldest_point(vapp, own);
        take_least(vapp, own, "rpo_seconds");
        take_worst_state(vapp, own);
        take_least(vapp, own, "next");
    }
}

/* False: nothing is known here of the VM. */
static bool take_vm(json_t *vapp, const json_t *status, const char *name)
{
    const json_t *protected = json_object_get(status, "protected");
    const json_t *own = json_find(protected, "vm", name);
    const json_t *received = json_find(json_object_get(status, "received"), "vm", name);
    json_t *vms = json_object_get(vapp, "vms");
    bool first = json_array_size(vms) == 0;

    if (!own && !received)
        return false;
    json_array_append_new(vms, json_string(name));
    take_owner(vapp, owner_of(status, own, received), first);
    take_test(vapp, received, first);
    if (received)
        take_oldest_point(vapp, received);
    take_protected(vapp, protected, name);
    return true;
}

static bool lacks_point(const json_t *list, const char *name)
{
    const json_t *own;
    size_t i;

    json_array_foreach(list, i, own)
    {
        if (g_strcmp0(json_get_string(own, "vm"), name) == 0 && is_unknown(own, "age_seconds"))
            return true;
    }
    return false;
}

/* The oldest point is none where one of them has none; LACKS: one that is not known here has none. */
static void forget_point(json_t *vapp, const json_t *status, bool lacks)
{
    static const char *const keys[] = {"point", "time", "age_seconds", "consistency"};
    const json_t *vm;
    size_t i;

    json_array_foreach(json_object_get(vapp, "vms"), i, vm)
    {
        lacks |= lacks_point(json_object_get(status, "protected"), json_string_value(vm));
    }
    for (unsigned k = 0; lacks && k < G_N_ELEMENTS(keys); k++)
        json_set_string(vapp, keys[k], NULL);
}

static bool is_about(const struct problem *problem, const json_t *vapp)
{
    const json_t *vm;
    size_t i;

    json_array_foreach(json_object_get(vapp, "vms"), i, vm)
    {
        g_autofree char *subject = g_strdup_printf("VM %s", json_string_value(vm));

        if (g_str_equal(problem->subject, subject))
            return true;
    }
    return g_str_has_prefix(problem->subject, "plan ") &&
           g_str_equal(problem->subject + strlen("plan "), json_get_string(vapp, "vapp"));
}

static void set_problem(json_t *vapp, enum problem_severity severity, const char *text,
                        const char *remedy)
{
    json_set_string(vapp, "problem", text);
    json_set_string(vapp, "severity", problem_severity_name(severity));
    json_set_string(vapp, "remedy", remedy);
}

/* The worst comes first. KNOWN: there is a critical one already. */
static void take_problem(json_t *vapp, const GPtrArray *problems, bool known)
{
    for (unsigned i = 0; i < problems->len; i++) {
        const struct problem *problem = problems->pdata[i];

        if (!is_about(problem, vapp))
            continue;
        g_autofree char *text = g_strdup_printf("%s: %s", problem->subject, problem->text);

        if (!known || problem->severity == PROBLEM_CRITICAL)
            set_problem(vapp, problem->severity, text, problem->remedy);
        return;
    }
}

/* A failover of all of them would lack it. */
static void take_missing(json_t *vapp, const char *name)
{
    g_autofree char *text =
        g_strdup_printf("VM %s: no protection covers it, and there is no point of it here", name);
    g_autofree char *remedy = g_strdup_printf("drctl protect %s, where it runs", name);

    set_problem(vapp, PROBLEM_CRITICAL, text, remedy);
    json_set_string(vapp, "tested", NULL);
}

/* NULL: none of its VMs is known here. */
static json_t *vapp_json(const struct vapp *vapp, const json_t *status, const GPtrArray *problems)
{
    static const char *const keys[] = {"owner", "rpo_seconds", "rpo_state",   "point",
                                       "time",  "age_seconds", "consistency", "tested",
                                       "next",  "problem",     "severity",    "remedy"};
    json_auto_t *json = json_object();
    const char *missing = NULL;

    json_set_string(json, "vapp", vapp->name);
    json_object_set_new(json, "vms", json_array());
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++)
        json_set_string(json, keys[i], NULL);
    for (unsigned i = 0; i < vapp->vms->len; i++) {
        const char *name = ((const struct vapp_vm *)vapp->vms->pdata[i])->name;

        if (!take_vm(json, status, name))
            missing = name;
    }
    forget_point(json, status, missing != NULL);
    if (missing)
        take_missing(json, missing);
    take_problem(json, problems, missing != NULL);
    return json_array_size(json_object_get(json, "vms")) > 0 ? json_incref(json) : NULL;
}

json_t *vapps_json(struct context *context, const json_t *status, const GPtrArray *problems,
                   GError **error)
{
    struct site site;
    g_autoptr(GPtrArray) vapps =
        context_site(context, false, &site, error) ? site_vapps(&site, error) : NULL;
    json_t *list = vapps ? json_array() : NULL;

    for (unsigned i = 0; vapps && i < vapps->len; i++) {
        json_t *vapp = vapp_json(vapps->pdata[i], status, problems);

        if (vapp)
            json_array_append_new(list, vapp);
    }
    return list;
}

bool vapps_have(const json_t *vapps, const char *vm)
{
    const json_t *vapp, *name;
    size_t i, k;

    json_array_foreach(vapps, i, vapp)
        json_array_foreach(json_object_get(vapp, "vms"), k,
                           name) if (g_str_equal(json_string_value(name), vm)) return true;
    return false;
}

/* --- for people ------------------------------------------------------------------------------ */

static char *ago_text(const json_t *json, const char *key, bool ahead)
{
    const char *time = json_get_string(json, key);
    g_autofree char *text = NULL;
    int64_t ms;

    if (!time || !time_parse(time, &ms, NULL))
        return NULL;
    ms = ahead ? ms - time_now_ms() : time_now_ms() - ms;
    if (ahead && ms <= 0)
        return g_strdup("now");
    text = duration_format((double)ms / 1000);
    return g_strconcat(ahead ? "in " : "", text, NULL);
}

void vapps_print(const json_t *vapps)
{
    static const char *const headers[] = {"VAPP",        ">VMS",   "OWNER", "RPO",     ">AGE",
                                          "CONSISTENCY", "PROVEN", "NEXT",  "PROBLEM", NULL};
    AUTO(table) table = table_new(headers);
    const json_t *vapp;
    size_t i;

    puts("vApps (of several VMs the worst counts):\n");
    json_array_foreach(vapps, i, vapp)
    {
        const char *problem = json_get_string(vapp, "problem");
        g_autofree char *count =
            g_strdup_printf("%zu", json_array_size(json_object_get(vapp, "vms")));
        g_autofree char *rpo = rpo_text(vapp);
        g_autofree char *age = seconds_text(vapp, "age_seconds");
        g_autofree char *tested = ago_text(vapp, "tested", false);
        g_autofree char *next = ago_text(vapp, "next", true);
        g_autofree char *words = problem ? text_harmless(problem, PROBLEM_MAX) : g_strdup("");

        table_row(table, (const char *[]){
                             json_get_string(vapp, "vapp"), count, json_get_string(vapp, "owner"),
                             rpo, age, json_get_string(vapp, "consistency"), tested, next, words});
    }
    table_print(table);
}
