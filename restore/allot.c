/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/allot.h"

#include <string.h>

#include "common/common.h"

enum answer { NOT_ASKED, YES, NO };

/* VMs that go to one host: those that shall be together, or one. */
struct unit {
    GArray *members; /* of unsigned */
    uint64_t memory_bytes;
    unsigned cpus; /* of the largest */
    unsigned cpus_sum;
    bool optional; /* all of it */
    const char *host;
};

struct attempt {
    const struct allot *allot;
    GHashTable *index;      /* name of a VM -> its index + 1 */
    GHashTable **rivals;    /* for each VM the indices + 1 of those that it shall be apart from */
    unsigned char *answers; /* enum answer, of (vm, host) */
    bool tight;             /* the fullest host first, instead of the emptiest */
    uint64_t *memory_left;  /* of each host */
    unsigned *cpus_used;    /* likewise */
    int *at;                /* host of each VM */
};

/* How bad a host would be; compared from the top. */
struct cost {
    unsigned rivals; /* VMs there that it should be apart from */
    unsigned networks;
    bool few_cpus;
    double load;
};

static void unit_free(void *data)
{
    struct unit *unit = data;

    g_array_unref(unit->members);
    g_free(unit);
}

/* ---- Who belongs together, who apart */

static int find(const struct attempt *attempt, const char *name)
{
    return (int)GPOINTER_TO_UINT(g_hash_table_lookup(attempt->index, name)) - 1;
}

static void add_rival(const struct attempt *attempt, unsigned vm, unsigned other)
{
    if (!attempt->rivals[vm])
        attempt->rivals[vm] = g_hash_table_new(NULL, NULL);
    g_hash_table_add(attempt->rivals[vm], GUINT_TO_POINTER(other + 1));
}

/* Whoever of the two says it. */
static void find_rivals(const struct attempt *attempt)
{
    for (unsigned i = 0; i < attempt->allot->n_vms; i++) {
        const char *const *names = attempt->allot->vms[i].apart;

        for (; names && *names; names++) {
            int other = find(attempt, *names);

            if (other < 0 || (unsigned)other == i)
                continue;
            add_rival(attempt, i, (unsigned)other);
            add_rival(attempt, (unsigned)other, i);
        }
    }
}

static unsigned root_of(unsigned *parents, unsigned i)
{
    while (parents[i] != i) {
        parents[i] = parents[parents[i]];
        i = parents[i];
    }
    return i;
}

static void add_member(const struct allot *allot, struct unit *unit, unsigned i)
{
    const struct allot_vm *vm = &allot->vms[i];

    g_array_append_val(unit->members, i);
    unit->memory_bytes += vm->memory_bytes;
    unit->cpus = MAX(unit->cpus, vm->cpus);
    unit->cpus_sum += vm->cpus;
    unit->optional = unit->optional && vm->optional;
    if (vm->host)
        unit->host = vm->host;
    if (vm->fixed != ALLOT_NOWHERE)
        unit->host = allot->hosts[vm->fixed].name;
}

static struct unit *unit_new(void)
{
    struct unit *unit = g_new0(struct unit, 1);

    unit->members = g_array_new(false, false, sizeof(unsigned));
    unit->optional = true;
    return unit;
}

/* The large ones first, as they fit at few places; those that can be done without last. */
static int compare_units(const void *a, const void *b)
{
    const struct unit *const *left = a, *const *right = b;

    if ((*left)->optional != (*right)->optional)
        return (*left)->optional ? 1 : -1;
    if (!(*left)->host != !(*right)->host)
        return (*left)->host ? -1 : 1;
    return ((*left)->memory_bytes < (*right)->memory_bytes) -
           ((*left)->memory_bytes > (*right)->memory_bytes);
}

static GPtrArray *make_units(const struct attempt *attempt)
{
    const struct allot *allot = attempt->allot;
    g_autofree unsigned *parents = g_new(unsigned, allot->n_vms);
    g_autofree struct unit **of_root = g_new0(struct unit *, allot->n_vms);
    GPtrArray *units = g_ptr_array_new_with_free_func(unit_free);

    for (unsigned i = 0; i < allot->n_vms; i++)
        parents[i] = i;
    for (unsigned i = 0; i < allot->n_vms; i++) {
        const char *const *names = allot->vms[i].together;

        for (; names && *names; names++) {
            int other = find(attempt, *names);

            if (other >= 0)
                parents[root_of(parents, (unsigned)other)] = root_of(parents, i);
        }
    }
    for (unsigned i = 0; i < allot->n_vms; i++) {
        unsigned root = root_of(parents, i);

        if (!of_root[root]) {
            of_root[root] = unit_new();
            g_ptr_array_add(units, of_root[root]);
        }
        add_member(allot, of_root[root], i);
    }
    g_ptr_array_sort(units, compare_units);
    return units;
}

/* ---- One unit, one host */

static bool runs(const struct attempt *attempt, unsigned vm, unsigned host)
{
    const struct allot *allot = attempt->allot;
    unsigned char *answer = &attempt->answers[vm * allot->n_hosts + host];

    if (allot->vms[vm].fixed == (int)host)
        return true;
    if (*answer == NOT_ASKED)
        *answer = allot->runs(allot->context, vm, host) ? YES : NO;
    return *answer == YES;
}

static bool has_memory(const struct attempt *attempt, const struct unit *unit, unsigned host)
{
    return attempt->memory_left[host] == UINT64_MAX ||
           unit->memory_bytes <= attempt->memory_left[host];
}

static bool all_run(const struct attempt *attempt, const struct unit *unit, unsigned host)
{
    for (unsigned k = 0; k < unit->members->len; k++)
        if (!runs(attempt, g_array_index(unit->members, unsigned, k), host))
            return false;
    return true;
}

static unsigned rivals_at(const struct attempt *attempt, unsigned vm, unsigned host)
{
    GHashTable *rivals = attempt->rivals[vm];
    unsigned count = 0;
    GHashTableIter iter;
    void *key;

    if (!rivals)
        return 0;
    g_hash_table_iter_init(&iter, rivals);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        count += attempt->at[GPOINTER_TO_UINT(key) - 1] == (int)host;
    return count;
}

static double share(double used, double all)
{
    return all > 0 ? used / all : 0;
}

/* The larger of the shares of memory and CPUs that are taken with it. */
static double load_with(const struct attempt *attempt, const struct unit *unit, unsigned host)
{
    const struct allot_host *at = &attempt->allot->hosts[host];
    double memory = 0;
    double cpus = share(attempt->cpus_used[host] + unit->cpus_sum, at->cpus);

    if (at->memory_bytes != UINT64_MAX)
        memory = share((double)(at->memory_bytes - attempt->memory_left[host] + unit->memory_bytes),
                       (double)at->memory_bytes);
    return MAX(memory, cpus);
}

static struct cost cost_of(const struct attempt *attempt, const struct unit *unit, unsigned host)
{
    const struct allot *allot = attempt->allot;
    struct cost cost = {.load = load_with(attempt, unit, host)};

    for (unsigned k = 0; k < unit->members->len; k++) {
        unsigned vm = g_array_index(unit->members, unsigned, k);

        cost.rivals += rivals_at(attempt, vm, host);
        cost.networks += allot->lacks ? allot->lacks(allot->context, vm, host) : 0;
    }
    cost.few_cpus = allot->hosts[host].cpus > 0 && unit->cpus > allot->hosts[host].cpus;
    if (attempt->tight)
        cost.load = -cost.load;
    return cost;
}

static int compare_costs(const struct cost *a, const struct cost *b)
{
    if (a->rivals != b->rivals)
        return a->rivals < b->rivals ? -1 : 1;
    if (a->networks != b->networks)
        return a->networks < b->networks ? -1 : 1;
    if (a->few_cpus != b->few_cpus)
        return b->few_cpus ? -1 : 1;
    return (a->load > b->load) - (a->load < b->load);
}

struct candidate {
    unsigned host;
    struct cost cost;
};

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *left = a, *right = b;
    int by_cost = compare_costs(&left->cost, &right->cost);

    return by_cost ? by_cost : (left->host > right->host) - (left->host < right->host);
}

/* Hosts that UNIT may get and that have the memory, the best first; of struct candidate. */
static GArray *find_candidates(const struct attempt *attempt, const struct unit *unit)
{
    const struct allot *allot = attempt->allot;
    GArray *candidates = g_array_new(false, false, sizeof(struct candidate));

    for (unsigned host = 0; host < allot->n_hosts; host++) {
        struct candidate candidate = {.host = host};

        if ((unit->host && strcmp(unit->host, allot->hosts[host].name) != 0) ||
            !has_memory(attempt, unit, host))
            continue;
        candidate.cost = cost_of(attempt, unit, host);
        g_array_append_val(candidates, candidate);
    }
    g_array_sort(candidates, compare_candidates);
    return candidates;
}

static void put(struct attempt *attempt, const struct unit *unit, unsigned host)
{
    for (unsigned k = 0; k < unit->members->len; k++)
        attempt->at[g_array_index(unit->members, unsigned, k)] = (int)host;
    if (attempt->memory_left[host] != UINT64_MAX)
        attempt->memory_left[host] -= unit->memory_bytes;
    attempt->cpus_used[host] += unit->cpus_sum;
}

static bool place_unit(struct attempt *attempt, const struct unit *unit)
{
    g_autoptr(GArray) candidates = find_candidates(attempt, unit);

    for (unsigned i = 0; i < candidates->len; i++) {
        unsigned host = g_array_index(candidates, struct candidate, i).host;

        if (!all_run(attempt, unit, host))
            continue;
        put(attempt, unit, host);
        return true;
    }
    return false;
}

/* No host takes all of it: each member by itself. */
static void place_apart(struct attempt *attempt, const struct unit *unit)
{
    for (unsigned k = 0; k < unit->members->len; k++) {
        struct unit *single = unit_new();

        add_member(attempt->allot, single, g_array_index(unit->members, unsigned, k));
        place_unit(attempt, single);
        unit_free(single);
    }
}

/* ---- All of them */

/* What is there already is there, and counts for those that shall be apart from it. */
static void put_fixed(struct attempt *attempt)
{
    for (unsigned i = 0; i < attempt->allot->n_vms; i++)
        attempt->at[i] = attempt->allot->vms[i].fixed;
}

/* How many of the VMs that are not optional, and how many at all, found no place? */
static unsigned left_out(const struct attempt *attempt)
{
    unsigned count = 0;

    for (unsigned i = 0; i < attempt->allot->n_vms; i++)
        if (attempt->at[i] == ALLOT_NOWHERE)
            count += attempt->allot->vms[i].optional ? 1 : attempt->allot->n_vms;
    return count;
}

static unsigned try_all(struct attempt *attempt, const GPtrArray *units, bool tight)
{
    const struct allot *allot = attempt->allot;

    attempt->tight = tight;
    for (unsigned host = 0; host < allot->n_hosts; host++) {
        attempt->memory_left[host] = allot->hosts[host].memory_bytes;
        attempt->cpus_used[host] = allot->hosts[host].cpus_used;
    }
    put_fixed(attempt);
    for (unsigned i = 0; i < units->len; i++) {
        const struct unit *unit = units->pdata[i];

        if (!place_unit(attempt, unit) && unit->members->len > 1)
            place_apart(attempt, unit);
    }
    return left_out(attempt);
}

/* ---- What is told about it */

static void note(struct allot_vm *vm, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void note(struct allot_vm *vm, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (vm->notes)
        g_ptr_array_add(vm->notes, g_strdup_vprintf(format, args));
    va_end(args);
}

static void note_wishes(const struct attempt *attempt, unsigned i)
{
    struct allot_vm *vm = &attempt->allot->vms[i];

    for (const char *const *name = vm->apart; name && *name; name++) {
        int other = find(attempt, *name);

        if (other >= 0 && attempt->at[other] == attempt->at[i])
            note(vm, "it should be apart from %s, but no other host takes it: both get %s", *name,
                 attempt->allot->hosts[attempt->at[i]].name);
    }
    for (const char *const *name = vm->together; name && *name; name++) {
        int other = find(attempt, *name);

        if (other >= 0 && attempt->at[other] != ALLOT_NOWHERE &&
            attempt->at[other] != attempt->at[i])
            note(vm, "it should be together with %s, but no host takes both: that one gets %s",
                 *name, attempt->allot->hosts[attempt->at[other]].name);
    }
}

/* "4 GiB of memory; left are 1 GiB at a, 512 MiB at b" */
static char *refusal_of(const struct attempt *attempt, unsigned i)
{
    const struct allot *allot = attempt->allot;
    const struct allot_vm *vm = &allot->vms[i];
    g_autofree char *needs = bytes_format(vm->memory_bytes);
    g_autoptr(GString) text = g_string_new(NULL);
    bool found = false;

    g_string_append_printf(text, "it needs %s of memory; left for it is", needs);
    for (unsigned host = 0; host < allot->n_hosts; host++) {
        g_autofree char *has = attempt->memory_left[host] == UINT64_MAX
                                   ? g_strdup("enough")
                                   : bytes_format(attempt->memory_left[host]);

        if (vm->host && strcmp(vm->host, allot->hosts[host].name) != 0)
            continue;
        g_string_append_printf(text, "%s %s at %s", found ? "," : "", has, allot->hosts[host].name);
        if (attempt->memory_left[host] >= vm->memory_bytes)
            g_string_append(text, ", which cannot run it");
        found = true;
    }
    if (!found)
        return g_strdup_printf("its host %s is none of this site", vm->host);
    return g_strdup(text->str);
}

static void tell(const struct attempt *attempt)
{
    for (unsigned i = 0; i < attempt->allot->n_vms; i++) {
        struct allot_vm *vm = &attempt->allot->vms[i];

        vm->at = attempt->at[i];
        if (vm->at == ALLOT_NOWHERE)
            vm->refusal = refusal_of(attempt, i);
        else
            note_wishes(attempt, i);
    }
}

static void free_rivals(const struct attempt *attempt)
{
    for (unsigned i = 0; i < attempt->allot->n_vms; i++)
        if (attempt->rivals[i])
            g_hash_table_unref(attempt->rivals[i]);
}

void allot(struct allot *allot)
{
    g_autoptr(GHashTable) index = g_hash_table_new(g_str_hash, g_str_equal);
    g_autofree GHashTable **rivals = g_new0(GHashTable *, allot->n_vms);
    g_autofree unsigned char *answers = g_new0(unsigned char, allot->n_vms * allot->n_hosts);
    g_autofree uint64_t *memory_left = g_new0(uint64_t, allot->n_hosts);
    g_autofree unsigned *cpus_used = g_new0(unsigned, allot->n_hosts);
    g_autofree int *at = g_new0(int, allot->n_vms);
    struct attempt attempt = {.allot = allot,
                              .index = index,
                              .rivals = rivals,
                              .answers = answers,
                              .memory_left = memory_left,
                              .cpus_used = cpus_used,
                              .at = at};
    g_autoptr(GPtrArray) units = NULL;
    unsigned spread;

    for (unsigned i = 0; i < allot->n_vms; i++)
        g_hash_table_insert(index, (char *)allot->vms[i].name, GUINT_TO_POINTER(i + 1));
    find_rivals(&attempt);
    units = make_units(&attempt);
    spread = try_all(&attempt, units, false);
    if (spread > 0 && try_all(&attempt, units, true) >= spread)
        try_all(&attempt, units, false);
    tell(&attempt);
    free_rivals(&attempt);
}
